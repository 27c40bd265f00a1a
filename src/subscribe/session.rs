//! Sessions of long polls: what makes the polls of one client one subscriber.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::gateway::random_text;

/// The sessions that are alive: polling, or between two polls and within the lease.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lease: Duration,
    capacity: usize,
    alive: Mutex<HashMap<String, Session>>,
}

#[derive(Debug)]
struct Session {
    /// When it dies if no poll comes; `None` while one waits.
    expires: Option<Instant>,
    /// Tells the poll that waits from those before it.
    turn: u64,
    /// Dropped in order to end the poll that waits: a client that polls anew has given up on it.
    waiting: Option<oneshot::Sender<()>>,
}

/// A poll of a session; dropping it begins the lease.
#[derive(Debug)]
pub(super) struct Turn {
    sessions: Sessions,
    id: String,
    turn: u64,
    replaced: oneshot::Receiver<()>,
}

impl Sessions {
    /// No sessions yet; each will live for `lease` after its last poll, and at most `capacity` at once.
    #[must_use]
    pub fn new(lease: Duration, capacity: usize) -> Self {
        Self(Arc::new(Inner { lease, capacity, alive: Mutex::default() }))
    }

    fn alive(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are alive.
    #[must_use]
    pub fn count(&self) -> usize {
        let mut alive = self.alive();
        forget_expired(&mut alive);
        alive.len()
    }

    /// Begins a poll: of the session that the client names if it is alive, else of a new one. `None` if there are too
    /// many.
    pub(super) fn begin(&self, named: Option<&str>) -> Option<Turn> {
        let mut alive = self.alive();
        let (waiting, replaced) = oneshot::channel();
        if let Some(id) = named
            && let Some(session) = alive.get_mut(id)
        {
            session.turn += 1;
            session.expires = None;
            session.waiting = Some(waiting);
            return Some(Turn {
                sessions: self.clone(),
                id: id.to_owned(),
                turn: session.turn,
                replaced,
            });
        }
        if self.0.capacity <= alive.len() {
            forget_expired(&mut alive);
            if self.0.capacity <= alive.len() {
                return None;
            }
        }
        let id = random_text();
        alive.insert(id.clone(), Session { expires: None, turn: 0, waiting: Some(waiting) });
        Some(Turn { sessions: self.clone(), id, turn: 0, replaced })
    }
}

fn forget_expired(alive: &mut HashMap<String, Session>) {
    let now = Instant::now();
    alive.retain(|_, session| session.expires.is_none_or(|expires| now < expires));
}

impl Turn {
    /// The name of the session.
    pub(super) fn session(&self) -> &str {
        &self.id
    }

    /// Returns when another poll of the same session has begun.
    pub(super) async fn replaced(&mut self) {
        // The sender is only ever dropped.
        let _ = (&mut self.replaced).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut alive = self.sessions.alive();
        if let Some(session) = alive.get_mut(&self.id)
            && session.turn == self.turn
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
        let mut first = sessions.begin(None).expect("there is room");
        let second = sessions.begin(Some(first.session())).expect("it is alive");
        first.replaced().await;
        assert_eq!(first.session(), second.session());
        drop(first);
        assert_eq!(sessions.count(), 1);
    }

    #[test]
    fn sessions_are_bounded_and_die_after_their_lease() {
        let sessions = Sessions::new(Duration::ZERO, 1);
        let turn = sessions.begin(Some("made up")).expect("there is room");
        assert_ne!(turn.session(), "made up");
        assert!(sessions.begin(None).is_none());
        drop(turn);
        assert!(sessions.begin(None).is_some());
    }
}
