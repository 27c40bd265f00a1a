//! The current subscriptions, and the changes to announce.
//!
//! The list is changed and the announcement queued in one step, so joins and leaves are announced
//! in order. A subscriber that left still counts against the limit until its leave has been
//! announced. This bounds the queue.

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
use crate::matching::MatcherKind;

/// One matcher of a subscriber.
#[derive(Debug)]
pub struct Matched {
    /// The kind of its matcher.
    pub kind: MatcherKind,
    /// The text of its matcher.
    pub matcher: Box<str>,
    pub(super) payload: Option<Arc<RawValue>>,
}

/// The public part of a subscriber.
#[derive(Debug)]
pub(super) struct Member {
    /// A random `urn:uuid:`.
    pub(super) id: String,
    pub(super) client: Client,
    pub(super) matched: Box<[Matched]>,
}

/// A subscription on the list.
#[derive(Debug, Clone)]
pub struct Listed {
    member: Arc<Member>,
    at: u32,
}

impl Listed {
    /// The id of its subscriber.
    #[must_use]
    pub fn subscriber(&self) -> &str {
        &self.member.id
    }

    /// Its matcher.
    #[must_use]
    pub fn matched(&self) -> &Matched {
        &self.member.matched[self.at as usize]
    }
}

/// A subscriber's join or leave.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) member: Arc<Member>,
    pub(super) active: bool,
}

/// A handle to the list; clones share the same list.
#[derive(Debug, Clone)]
pub struct Registry(Arc<RegistryCore>);

#[derive(Debug)]
pub(super) struct RegistryCore {
    capacity: usize,
    /// How long a subscriber that left may take to return.
    grace: Duration,
    state: Mutex<RegistryState>,
    pub(super) changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct RegistryState {
    listed: BTreeMap<Box<str>, Listed>,
    /// Subscriptions that are listed, or whose end has not been announced.
    n_held: usize,
    /// Changes with every change of the list.
    version: u64,
    changes: VecDeque<Change>,
    /// Members that may still return, by the end of their grace period.
    leaving: BTreeMap<Due, Arc<Member>>,
    returning: HashMap<Client, Vec<Due>>,
    /// Members with possibly several connections, and the number of open ones.
    shared: HashMap<Client, (Arc<Member>, usize)>,
    n_left: u64,
}

/// A time, and a number that distinguishes equal times.
type Due = (Instant, u64);

/// The limit on subscriptions has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full(pub usize);

impl Registry {
    pub(super) fn new(capacity: usize, grace: Duration) -> Self {
        let changed = Arc::default();
        Self(Arc::new(RegistryCore { capacity, grace, state: Mutex::default(), changed }))
    }

    pub(super) fn core(&self) -> &Arc<RegistryCore> {
        &self.0
    }

    /// Lists a newcomer until its presence has been dropped and its grace period has ended.
    ///
    /// # Errors
    /// If there is no room.
    pub fn join(&self, newcomer: Newcomer) -> Result<Presence, Full> {
        let member = self.0.join(newcomer)?;
        Ok(Presence::new(self.clone(), member))
    }

    pub(super) fn leave(&self, member: &Arc<Member>) {
        self.0.leave(member, Instant::now());
    }

    /// Returns at most `limit` subscriptions whose keys begin with `prefix` and come after `after`,
    /// and whether there are more.
    pub fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<Listed>, bool) {
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
    pub fn get(&self, key: &str) -> Option<Listed> {
        self.0.state().listed.get(key).cloned()
    }

    /// The number of subscriptions whose keys begin with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        let state = self.0.state();
        let from = state
            .listed
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.take_while(|(key, _)| key.starts_with(prefix)).count()
    }

    /// A number that changes with every change of the list.
    pub fn version(&self) -> u64 {
        self.0.state().version
    }
}

impl RegistryCore {
    // A panic while holding the lock would be a bug. Continuing with the present state is better
    // than refusing all subscribers.
    fn state(&self) -> MutexGuard<'_, RegistryState> {
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
            // Members without a connection make room, once their leave has been announced.
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

    /// Removes members whose grace period has ended. Returns when the next one ends.
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

    /// Takes queued changes, until they have `limit` subscriptions in total.
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

    /// Makes room for new subscriptions, now that `changes` have been announced.
    pub(super) fn announced(&self, changes: &[Change]) {
        let gone = changes.iter().filter(|it| !it.active).map(|it| it.member.matched.len());
        let n_gone: usize = gone.sum();
        self.state().n_held -= n_gone;
    }
}

impl RegistryState {
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

    /// Removes the member whose grace period ends first. Returns how many subscriptions it had.
    fn remove_next(&mut self) -> Option<usize> {
        let (due, member) = self.leaving.pop_first()?;
        self.forget_return(&member.client, due);
        self.remove(&member);
        Some(member.matched.len())
    }

    /// Removes members in their grace period, until they had `count` subscriptions in total.
    fn give_up(&mut self, count: usize) {
        let mut n_given_up = 0;
        while n_given_up < count
            && let Some(n_had) = self.remove_next()
        {
            n_given_up += n_had;
        }
    }

    /// Keeps a member of a returning client, which was about to be removed.
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

impl Drop for RegistryCore {
    fn drop(&mut self) {
        // Ends the announcing thread.
        self.changed.notify_one();
    }
}
