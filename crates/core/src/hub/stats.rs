//! The counters of a shard. Each shard writes only its own, so counting shares no cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::transport::Transport;

/// The counters of one shard.
#[derive(Debug)]
pub(crate) struct ShardStats {
    /// The weight of all events that went through the tail up to the shard's position. The maximum
    /// before the shard runs and after it was dropped.
    seen: AtomicU64,
    opened: [AtomicU64; Transport::COUNT],
    closed: [AtomicU64; Transport::COUNT],
    deliveries: [AtomicU64; Transport::COUNT],
    gaps: AtomicU64,
}

/// The sums of several shards' counters.
#[derive(Debug, Default, Clone)]
pub struct Totals {
    /// Subscribers that joined, by transport.
    pub opened: [u64; Transport::COUNT],
    /// Current subscribers, by transport.
    pub open: [u64; Transport::COUNT],
    /// Events handed to subscribers, by transport.
    pub deliveries: [u64; Transport::COUNT],
    /// Gaps reported to subscribers.
    pub gaps: u64,
}

impl ShardStats {
    pub(crate) fn new() -> Self {
        Self {
            seen: AtomicU64::new(u64::MAX),
            opened: Default::default(),
            closed: Default::default(),
            deliveries: Default::default(),
            gaps: AtomicU64::new(0),
        }
    }

    pub(crate) fn saw(&self, passed: u64) {
        self.seen.store(passed, Relaxed);
    }

    /// The part of `passed` that this shard has not read yet, in bytes.
    #[must_use]
    pub(crate) fn lag(&self, passed: u64) -> u64 {
        passed.saturating_sub(self.seen.load(Relaxed))
    }

    pub(crate) fn opened(&self, transport: Transport) {
        self.opened[transport as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self, transport: Transport) {
        self.closed[transport as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn delivered(&self, transport: Transport, events: u64) {
        self.deliveries[transport as usize].fetch_add(events, Relaxed);
    }

    pub(crate) fn gap(&self) {
        self.gaps.fetch_add(1, Relaxed);
    }
}

impl Totals {
    /// Adds the counters of `stats`.
    pub(crate) fn add(&mut self, stats: &ShardStats) {
        for at in 0..Transport::COUNT {
            let closed = stats.closed[at].load(Relaxed);
            let opened = stats.opened[at].load(Relaxed);
            self.opened[at] += opened;
            self.open[at] += opened.saturating_sub(closed);
            self.deliveries[at] += stats.deliveries[at].load(Relaxed);
        }
        self.gaps += stats.gaps.load(Relaxed);
    }
}
