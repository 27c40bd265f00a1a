//! Which shards are told of an event: those that may have a subscriber for it, and those that would fall behind.

use std::{
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst, fence},
    },
};

use foldhash::fast::FixedState;
use tokio::sync::broadcast;

use super::Interest;
use crate::{
    delivery::ShardStats,
    event::{Event, Position, Topic},
};

/// Rings that a shard may be behind. It reads the tail whatever their number, so few are enough.
const RINGS: usize = 16;

/// Topics are told apart by this many counters; a collision costs a ring for nothing.
const COUNTERS: usize = 4096;

/// How far a shard may be behind the tail without being told, in bytes: about sixty small events, and a small part of
/// the tail.
const UNTOLD: u64 = 32 * 1024;
const UNTOLD_PART: u64 = 8;

/// A shard's doorbell, a tokio broadcast channel of positions: it says that there is something, and the tail says what.
#[derive(Debug)]
pub struct Doorbell {
    rings: broadcast::Sender<Position>,
    stats: Arc<ShardStats>,
    /// Subscribers by the hash of each exact topic that they want.
    wanted: Box<[AtomicU32]>,
    /// Subscribers that want more than exact topics.
    wanting_more: AtomicU32,
}

impl Doorbell {
    /// The doorbell of a shard that nobody listens to.
    #[must_use]
    pub fn new(stats: Arc<ShardStats>) -> Self {
        let wanted = std::iter::repeat_with(AtomicU32::default).take(COUNTERS).collect();
        let (rings, _) = broadcast::channel(RINGS);
        Self { rings, stats, wanted, wanting_more: AtomicU32::default() }
    }

    /// What the shard counts.
    #[must_use]
    pub fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// The rings from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Position> {
        self.rings.subscribe()
    }

    /// Rings for what `interest` wants from now on. The shard has to look at the tail once after this, for what came
    /// at the same time: either it finds an event there, or whoever appended the event finds this.
    pub fn want(&self, interest: &Interest) {
        self.each_counter(interest, |counter| {
            counter.fetch_add(1, SeqCst);
        });
        fence(SeqCst);
    }

    /// Takes back one [`Doorbell::want`].
    pub fn unwant(&self, interest: &Interest) {
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

    /// Tells of `events`, the newest in a tail of `capacity` bytes, through which `passed` bytes have gone.
    pub(super) fn ring(&self, events: &[Arc<Event>], passed: u64, capacity: usize) {
        let Some(newest) = events.last() else { return };
        let is_wanted = 0 < self.wanting_more.load(SeqCst)
            || events
                .iter()
                .flat_map(|event| &event.update.topics)
                .any(|topic| 0 < self.counter(topic).load(SeqCst));
        let untold = UNTOLD.min(capacity as u64 / UNTOLD_PART);
        if is_wanted || untold <= self.stats.lag(passed) {
            // Before its first subscriber a shard does not listen.
            let _ = self.rings.send(newest.position);
        }
    }
}
