//! Sessions of long polls, which make the polls of one client one subscriber.
//!
//! A session gets its name with a client's first poll, but is stored only with the second. A client
//! that polls just once leaves nothing behind. A name is a sealed number, so it cannot be forged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::history::Seal;

/// The live sessions: those with a poll in progress, or whose lease has not expired.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<SessionsCore>);

#[derive(Debug)]
struct SessionsCore {
    seal: Seal,
    lease: Duration,
    capacity: usize,
    alive: Mutex<Alive>,
}

#[derive(Debug, Default)]
struct Alive {
    by_number: HashMap<u64, Session>,
    /// The number of sessions at which expired ones are removed.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Session {
    /// When the lease expires; `None` during a poll.
    expires: Option<Instant>,
    /// The number of the current poll, to tell it from earlier ones.
    poll: u64,
    /// Dropped to end the current poll: a client that polls again has abandoned it.
    waiting: Option<oneshot::Sender<()>>,
}

/// A poll of a session. Dropping it starts the lease.
#[derive(Debug)]
pub struct SessionPoll {
    sessions: Sessions,
    number: u64,
    poll: u64,
    /// `None` for a first poll, which cannot be replaced.
    replaced: Option<oneshot::Receiver<()>>,
}

impl Sessions {
    /// Creates an empty set. A session lives for `lease` after its last poll; at most `capacity`
    /// are stored.
    #[must_use]
    pub fn new(lease: Duration, capacity: usize) -> Self {
        Self(Arc::new(SessionsCore {
            seal: Seal::random(),
            lease,
            capacity,
            alive: Mutex::default(),
        }))
    }

    fn alive(&self) -> MutexGuard<'_, Alive> {
        self.0.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of live sessions.
    #[must_use]
    pub fn count(&self) -> usize {
        let mut alive = self.alive();
        alive.sweep();
        alive.by_number.len()
    }

    /// Begins a poll: of the session named by the client, or the first one of a new session.
    pub fn begin(&self, named: Option<&str>) -> SessionPoll {
        match named.and_then(|name| self.0.seal.open(name)) {
            Some(number) => self.go_on(number),
            None => self.first(),
        }
    }

    fn first(&self) -> SessionPoll {
        SessionPoll { sessions: self.clone(), number: fastrand::u64(..), poll: 0, replaced: None }
    }

    fn go_on(&self, number: u64) -> SessionPoll {
        let mut alive = self.alive();
        if alive.sweep_at <= alive.by_number.len() {
            alive.sweep();
        }
        // Over the limit, polls still work, but each is a session of its own.
        if self.0.capacity <= alive.by_number.len() && !alive.by_number.contains_key(&number) {
            return self.first();
        }
        let (waiting, replaced) = oneshot::channel();
        let session = alive.by_number.entry(number).or_default();
        session.poll += 1;
        session.expires = None;
        session.waiting = Some(waiting);
        let poll = session.poll;
        SessionPoll { sessions: self.clone(), number, poll, replaced: Some(replaced) }
    }
}

impl Alive {
    fn sweep(&mut self) {
        const LEAST: usize = 1024;
        let now = Instant::now();
        self.by_number.retain(|_, session| session.expires.is_none_or(|expires| now < expires));
        self.sweep_at = LEAST.max(2 * self.by_number.len());
    }
}

impl SessionPoll {
    /// The number of the session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The name of the session.
    pub fn session(&self) -> String {
        self.sessions.0.seal.name(self.number)
    }

    /// Returns when another poll of the same session has begun.
    pub async fn replaced(&mut self) {
        match &mut self.replaced {
            Some(replaced) => {
                // Never sent to, only dropped.
                let _ = replaced.await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for SessionPoll {
    fn drop(&mut self) {
        let mut alive = self.sessions.alive();
        if let Some(session) = alive.by_number.get_mut(&self.number)
            && session.poll == self.poll
        {
            session.waiting = None;
            session.expires = Some(Instant::now() + self.sessions.0.lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_poll_of_a_session_replaces_the_first() {
        let sessions = Sessions::new(Duration::from_secs(60), 2);
        let newcomer = sessions.begin(None);
        assert_eq!(sessions.count(), 0, "nothing is kept of a first poll");
        let mut first = sessions.begin(Some(&newcomer.session()));
        let second = sessions.begin(Some(&newcomer.session()));
        first.replaced().await;
        assert_eq!(first.session(), second.session());
        drop(first);
        assert_eq!(sessions.count(), 1);
    }

    #[test]
    fn sessions_are_bounded_die_after_their_lease_and_cannot_be_made_up() {
        let sessions = Sessions::new(Duration::ZERO, 1);
        assert_ne!(sessions.begin(Some("made up")).session(), "made up");
        let (one, other) = (sessions.begin(None).session(), sessions.begin(None).session());
        let poll = sessions.begin(Some(&one));
        assert_eq!(poll.session(), one);
        assert_ne!(sessions.begin(Some(&other)).session(), other);
        drop(poll);
        assert_eq!(sessions.count(), 0);
        assert_eq!(sessions.begin(Some(&other)).session(), other);
    }
}
