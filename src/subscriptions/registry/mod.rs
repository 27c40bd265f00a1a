//! Who subscribes to what now, and the changes that have yet to be announced.
//!
//! A change of the list and its place in the queue are one step, so joins and leaves are announced in the order in which
//! they happened. The queue needs no bound of its own: who has left counts until that is announced.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::presence::{Client, Newcomer, Presence};
use crate::hub::MatcherKind;

/// One matcher of a subscriber.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(super) kind: MatcherKind,
    pub(super) matcher: Box<str>,
    pub(super) payload: Option<Arc<RawValue>>,
}

/// A subscriber, as everybody may know it.
#[derive(Debug)]
pub(super) struct Member {
    /// A random `urn:uuid:`.
    pub(super) id: String,
    pub(super) client: Client,
    pub(super) matched: Box<[Matched]>,
}

/// A subscription on the list.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    member: Arc<Member>,
    at: u32,
}

impl Listed {
    pub(super) fn subscriber(&self) -> &str {
        &self.member.id
    }

    pub(super) fn matched(&self) -> &Matched {
        &self.member.matched[self.at as usize]
    }
}

/// A subscriber that has come or gone.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) member: Arc<Member>,
    pub(super) active: bool,
}

/// A handle to the list; clones are the same list.
#[derive(Debug, Clone)]
pub(crate) struct Registry(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    capacity: usize,
    /// How long a subscriber that is gone may take to come back.
    grace: Duration,
    state: Mutex<State>,
    pub(super) changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    listed: BTreeMap<Box<str>, Listed>,
    /// Subscriptions that are listed, or whose end is not announced yet.
    n_held: usize,
    /// Changes whenever the list does.
    version: u64,
    changes: VecDeque<Change>,
    /// Those who are gone and may still come back, by the time when they no longer may.
    leaving: BTreeMap<Due, Arc<Member>>,
    returning: HashMap<Client, Vec<Due>>,
    /// Those of whom several connections may be open, and how many are.
    shared: HashMap<Client, (Arc<Member>, usize)>,
    n_left: u64,
}

/// A time, and a number that tells two of the same time apart.
type Due = (Instant, u64);

/// There are as many subscriptions as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) usize);

impl Registry {
    pub(super) fn new(capacity: usize, grace: Duration) -> Self {
        let changed = Arc::default();
        Self(Arc::new(Inner { capacity, grace, state: Mutex::default(), changed }))
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Lists a newcomer until the presence is dropped and its time to come back is over.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn join(&self, newcomer: Newcomer) -> Result<Presence, Full> {
        let member = self.0.join(newcomer)?;
        Ok(Presence::new(self.clone(), member))
    }

    pub(super) fn leave(&self, member: &Arc<Member>) {
        self.0.leave(member, Instant::now());
    }

    /// The subscriptions whose keys begin with `prefix` and come behind `after`, at most `limit`, and whether there are
    /// more.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<Listed>, bool) {
        let state = self.0.state();
        let from = after.filter(|it| prefix <= *it);
        let begin = match from {
            Some(after) => std::ops::Bound::Excluded(after),
            None => std::ops::Bound::Included(prefix),
        };
        let mut found: Vec<Listed> = state
            .listed
            .range::<str, _>((begin, std::ops::Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit.saturating_add(1))
            .map(|(_, listed)| listed.clone())
            .collect();
        let more = limit < found.len();
        found.truncate(limit);
        (found, more)
    }

    /// The subscription with this key.
    pub(super) fn get(&self, key: &str) -> Option<Listed> {
        self.0.state().listed.get(key).cloned()
    }

    /// How many subscriptions have keys that begin with `prefix`.
    pub(super) fn count(&self, prefix: &str) -> usize {
        let state = self.0.state();
        let from = state
            .listed
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.take_while(|(key, _)| key.starts_with(prefix)).count()
    }

    /// A number that changes whenever the list does.
    pub(super) fn version(&self) -> u64 {
        self.0.state().version
    }
}

impl Inner {
    // A panic while the lock is held would be a bug; going on with what is there beats refusing everybody.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, newcomer: Newcomer) -> Result<Arc<Member>, Full> {
        let Newcomer { client, matched } = newcomer;
        let mut state = self.state();
        if let Some((member, n_open)) = state.shared.get_mut(&client) {
            *n_open += 1;
            let member = member.clone();
            state.take_back(&client);
            return Ok(member);
        }
        if let Some(member) = state.take_back(&client) {
            return Ok(member);
        }
        if self.capacity < state.n_held.saturating_add(matched.len()) {
            // Those who have no connection make room first, once their leave is announced.
            state.give_up(matched.len());
            self.changed.notify_one();
            return Err(Full(self.capacity));
        }
        let id = uuid::Uuid::new_v4().urn().to_string();
        let member = Arc::new(Member { id, client, matched });
        state.add(&member);
        drop(state);
        self.changed.notify_one();
        Ok(member)
    }

    fn leave(&self, member: &Arc<Member>, now: Instant) {
        let mut state = self.state();
        let mut lease = Duration::ZERO;
        if let Some((_, n_open)) = state.shared.get_mut(&member.client) {
            *n_open -= 1;
            if 0 < *n_open {
                return;
            }
            lease = member.client.lease();
        }
        let patience = self.grace.max(lease);
        if patience.is_zero() {
            state.remove(member);
        } else {
            state.n_left += 1;
            let due = (now + patience, state.n_left);
            state.leaving.insert(due, member.clone());
            state.returning.entry(member.client.clone()).or_default().push(due);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes those off the list whose time to come back is over, and tells when that of the next one is.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        loop {
            let (due, _) = *state.leaving.first_key_value()?.0;
            if now < due {
                return Some(due);
            }
            state.remove_next();
        }
    }

    /// The next changes to be announced, until they have `limit` subscriptions in all.
    pub(super) fn take_changes(&self, limit: usize) -> Vec<Change> {
        let mut state = self.state();
        let mut taken = Vec::new();
        let mut n_taken = 0;
        while n_taken < limit
            && let Some(change) = state.changes.pop_front()
        {
            n_taken += change.member.matched.len();
            taken.push(change);
        }
        taken
    }

    /// Makes room for others, now that `changes` are announced.
    pub(super) fn announced(&self, changes: &[Change]) {
        let gone = changes.iter().filter(|it| !it.active).map(|it| it.member.matched.len());
        let n_gone: usize = gone.sum();
        self.state().n_held -= n_gone;
    }
}

impl State {
    fn add(&mut self, member: &Arc<Member>) {
        for (at, key) in (0..).zip(member.keys()) {
            self.listed.insert(key.into(), Listed { member: member.clone(), at });
        }
        if member.client.is_shared() {
            self.shared.insert(member.client.clone(), (member.clone(), 1));
        }
        self.n_held += member.matched.len();
        self.version += 1;
        self.changes.push_back(Change { member: member.clone(), active: true });
    }

    fn remove(&mut self, member: &Arc<Member>) {
        for key in member.keys() {
            self.listed.remove(&*key);
        }
        self.shared.remove(&member.client);
        self.version += 1;
        self.changes.push_back(Change { member: member.clone(), active: false });
    }

    /// Takes the one off the list whose time to come back is over first, and tells how many subscriptions it had.
    fn remove_next(&mut self) -> Option<usize> {
        let (due, member) = self.leaving.pop_first()?;
        self.forget_return(&member.client, due);
        self.remove(&member);
        Some(member.matched.len())
    }

    /// Takes those off the list who may still come back, until they have had `count` subscriptions.
    fn give_up(&mut self, count: usize) {
        let mut n_given_up = 0;
        while n_given_up < count
            && let Some(n_had) = self.remove_next()
        {
            n_given_up += n_had;
        }
    }

    /// Somebody who was about to be taken off the list, and is back.
    fn take_back(&mut self, client: &Client) -> Option<Arc<Member>> {
        let due = *self.returning.get(client)?.last()?;
        self.forget_return(client, due);
        self.leaving.remove(&due)
    }

    fn forget_return(&mut self, client: &Client, due: Due) {
        let Some(dues) = self.returning.get_mut(client) else { return };
        dues.retain(|it| *it != due);
        if dues.is_empty() {
            self.returning.remove(client);
        }
    }
}

impl Member {
    fn keys(&self) -> impl Iterator<Item = String> {
        self.matched.iter().map(|it| super::name::key(it.kind, &it.matcher, &self.id))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Ends the thread that announces.
        self.changed.notify_one();
    }
}
