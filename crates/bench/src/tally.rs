//! Counters of a run, all used by one thread.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{ledger::Arrival, marker::Marker};

/// The longest latency that is recorded exactly. Longer ones are recorded as this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Significant digits of recorded latencies.
const DIGITS: u8 = 3;

/// Counters of all subscribers.
#[derive(Debug)]
pub(super) struct Tally {
    /// The instant that times in messages are relative to.
    origin: Instant,
    pub(super) connected: Cell<u32>,
    /// When the last subscriber was accepted.
    connected_at: Cell<Instant>,
    pub(super) refused: Cell<u32>,
    /// The reason for the first refusal.
    pub(super) refusal: RefCell<Option<String>>,
    pub(super) reconnections: Cell<u64>,
    /// Messages, each counted once per subscriber.
    pub(super) deliveries: Cell<u64>,
    pub(super) last_delivery: Cell<Instant>,
    pub(super) late: Cell<u64>,
    pub(super) again: Cell<u64>,
    pub(super) stray: Cell<u64>,
    /// Bytes that were read, including heads and framing.
    pub(super) bytes: Cell<u64>,
    pub(super) latencies: RefCell<Histogram<u64>>,
}

impl Tally {
    pub(super) fn new(origin: Instant) -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let mut latencies = Histogram::new_with_max(longest, DIGITS)
            .expect("constants: at least 2 ns, and at most 5 digits");
        latencies.auto(false);
        Self {
            origin,
            connected: Cell::new(0),
            connected_at: Cell::new(origin),
            refused: Cell::new(0),
            refusal: RefCell::new(None),
            reconnections: Cell::new(0),
            deliveries: Cell::new(0),
            last_delivery: Cell::new(origin),
            late: Cell::new(0),
            again: Cell::new(0),
            stray: Cell::new(0),
            bytes: Cell::new(0),
            latencies: RefCell::new(latencies),
        }
    }

    /// Returns how many subscribers have been accepted or refused.
    pub(super) fn settled(&self) -> u32 {
        self.connected.get() + self.refused.get()
    }

    pub(super) fn admit(&self) {
        add(&self.connected, 1);
        self.connected_at.set(Instant::now());
    }

    /// Returns how long it took until the last subscriber was accepted.
    pub(super) fn connecting(&self) -> Duration {
        self.connected_at.get() - self.origin
    }

    pub(super) fn refuse(&self, reason: String) {
        add(&self.refused, 1);
        self.refusal.borrow_mut().get_or_insert(reason);
    }

    /// Counts a message that was read at `now`.
    pub(super) fn count(&self, arrival: Arrival, marker: Marker, now: Instant) {
        match arrival {
            Arrival::InOrder => {}
            Arrival::Late => add(&self.late, 1),
            Arrival::Again => return add(&self.again, 1),
            Arrival::Stray => return add(&self.stray, 1),
        }
        add(&self.deliveries, 1);
        self.last_delivery.set(now);
        let sent = Duration::from_nanos(marker.sent);
        let latency = now.saturating_duration_since(self.origin).saturating_sub(sent);
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.borrow_mut().saturating_record(nanoseconds);
    }
}

/// Adds to a counter.
pub(super) fn add<T: Copy + std::ops::Add<Output = T>>(counter: &Cell<T>, count: T) {
    counter.set(counter.get() + count);
}
