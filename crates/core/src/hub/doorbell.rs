//! Notifies shards of events: those that may have a subscriber for one, and those that would fall
//! too far behind.

use std::{hash::BuildHasher as _, iter::once, sync::Arc};

use foldhash::fast::FixedState;
use tokio::sync::broadcast;

use super::wanted::Wanted;
use crate::{
    event::{Event, Position, Topic},
    hub::ShardStats,
    matching::Interest,
};

/// Capacity of the ring channel. A shard reads the tail however many rings it missed, so few are
/// enough.
const RINGS: usize = 16;

/// Number of topic counters. Topics that share one may cause an unnecessary ring.
const COUNTERS: usize = 4096;

/// The counter of subscribers whose interest is more than exact topics. Those of topics precede it.
const MORE: usize = COUNTERS;

/// How far a shard may lag behind the tail without a ring, in bytes. About sixty small events, but
/// at most an eighth of the tail.
const UNTOLD: u64 = 32 * 1024;
const UNTOLD_PART: u64 = 8;

/// A shard's doorbell, a tokio broadcast channel of positions. A ring says that there are new
/// events; the shard reads them from the tail.
#[derive(Debug)]
pub(crate) struct Doorbell {
    rings: broadcast::Sender<Position>,
    stats: Arc<ShardStats>,
    /// Subscribers by the hash of each exact topic in their interest, and those that want more.
    wanted: Wanted,
}

impl Doorbell {
    /// A doorbell without listeners.
    #[must_use]
    pub(crate) fn new(stats: Arc<ShardStats>) -> Self {
        let (rings, _) = broadcast::channel(RINGS);
        Self { rings, stats, wanted: Wanted::new(COUNTERS + 1) }
    }

    /// The shard's counters.
    #[must_use]
    pub(crate) fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// Subscribes to the rings from now on.
    #[must_use]
    pub(crate) fn listen(&self) -> broadcast::Receiver<Position> {
        self.rings.subscribe()
    }

    /// Rings for events of `interest` from now on. Afterwards the shard has to read the tail once,
    /// for events appended at the same time.
    pub(crate) fn want(&self, interest: &Interest) {
        self.wanted.add(counters(interest));
    }

    /// Undoes one [`Doorbell::want`].
    pub(crate) fn unwant(&self, interest: &Interest) {
        self.wanted.remove(counters(interest));
    }

    /// Rings for `events`, the newest in a tail of `capacity` bytes, if the shard needs to know.
    /// `passed` is the weight of all events that went through the tail.
    pub(super) fn ring(&self, events: &[Arc<Event>], passed: u64, capacity: usize) {
        let Some(newest) = events.last() else { return };
        let topics = events.iter().flat_map(|event| &event.update.topics);
        let is_wanted = self.wanted.is_any(once(MORE).chain(topics.map(counter)));
        let untold = UNTOLD.min(capacity as u64 / UNTOLD_PART);
        if is_wanted || untold <= self.stats.lag(passed) {
            // Fails while there is no listener: a shard listens only from its first subscriber on.
            let _ = self.rings.send(newest.position);
        }
    }

    /// Rings whatever the shard's subscribers want.
    pub(super) fn ring_for(&self, newest: Position) {
        let _ = self.rings.send(newest);
    }
}

/// The counters of an interest.
fn counters(interest: &Interest) -> impl Iterator<Item = usize> {
    let topics = interest.exact_topics();
    let more = topics.is_none().then_some(MORE);
    topics.unwrap_or_default().iter().map(counter).chain(more)
}

/// The counter of a topic.
fn counter(topic: &Topic) -> usize {
    let hash = FixedState::default().hash_one(topic);
    usize::try_from(hash % COUNTERS as u64).expect("a remainder by a usize fits a usize")
}
