//! Notifies shards of events: those that may have a subscriber for one, and those that would fall
//! too far behind.

use std::{
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst, fence},
    },
};

use foldhash::fast::FixedState;
use tokio::sync::broadcast;

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
    /// Subscribers by the hash of each exact topic in their interest.
    wanted: Box<[AtomicU32]>,
    /// Subscribers whose interest is more than exact topics.
    wanting_more: AtomicU32,
}

impl Doorbell {
    /// A doorbell without listeners.
    #[must_use]
    pub(crate) fn new(stats: Arc<ShardStats>) -> Self {
        let wanted = std::iter::repeat_with(AtomicU32::default).take(COUNTERS).collect();
        let (rings, _) = broadcast::channel(RINGS);
        Self { rings, stats, wanted, wanting_more: AtomicU32::default() }
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
    /// for events appended at the same time. Either the shard finds such an event there, or the
    /// sequencer sees these counters and rings.
    pub(crate) fn want(&self, interest: &Interest) {
        self.each_counter(interest, |counter| {
            counter.fetch_add(1, SeqCst);
        });
        fence(SeqCst);
    }

    /// Undoes one [`Doorbell::want`].
    pub(crate) fn unwant(&self, interest: &Interest) {
        self.each_counter(interest, |counter| {
            counter.fetch_sub(1, SeqCst);
        });
    }

    fn each_counter(&self, interest: &Interest, change: impl Fn(&AtomicU32)) {
        match interest.exact_topics() {
            Some(topics) => topics.iter().for_each(|topic| change(self.counter(topic))),
            None => change(&self.wanting_more),
        }
    }

    fn counter(&self, topic: &Topic) -> &AtomicU32 {
        let hash = FixedState::default().hash_one(topic);
        let at = usize::try_from(hash % COUNTERS as u64);
        &self.wanted[at.expect("a remainder by a usize fits a usize")]
    }

    /// Rings for `events`, the newest in a tail of `capacity` bytes, if the shard needs to know.
    /// `passed` is the weight of all events that went through the tail.
    pub(super) fn ring(&self, events: &[Arc<Event>], passed: u64, capacity: usize) {
        let Some(newest) = events.last() else { return };
        let is_wanted = 0 < self.wanting_more.load(SeqCst)
            || events
                .iter()
                .flat_map(|event| &event.update.topics)
                .any(|topic| 0 < self.counter(topic).load(SeqCst));
        let untold = UNTOLD.min(capacity as u64 / UNTOLD_PART);
        if is_wanted || untold <= self.stats.lag(passed) {
            // Fails while there is no listener: a shard listens only from its first subscriber on.
            let _ = self.rings.send(newest.position);
        }
    }
}
