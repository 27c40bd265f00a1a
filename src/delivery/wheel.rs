//! A timing wheel: one cheap timer for all deadlines of a shard.

use std::time::{Duration, Instant};

/// How finely deadlines are told apart. They fire late by at most this, never early.
const TICK: Duration = Duration::from_millis(50);

/// Buckets; a deadline further away than all of them fires early, to be scheduled again.
const BUCKETS: usize = 1024;

/// Deadlines by the tick in which they fire.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    origin: Instant,
    /// The last tick whose deadlines have fired.
    fired: u64,
    buckets: Box<[Vec<T>]>,
    scheduled: usize,
}

impl<T> Wheel<T> {
    pub(super) fn new(origin: Instant) -> Self {
        let buckets = std::iter::repeat_with(Vec::new).take(BUCKETS).collect();
        Self { origin, fired: 0, buckets, scheduled: 0 }
    }

    /// Has `ticket` fire at `due`, or earlier if that is beyond the wheel's horizon.
    pub(super) fn schedule(&mut self, due: Instant, ticket: T) {
        let tick = self.tick_at(due) + 1;
        let tick = tick.clamp(self.fired + 1, self.fired + BUCKETS as u64 - 1);
        self.bucket(tick).push(ticket);
        self.scheduled += 1;
    }

    /// When the next ticket fires.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.scheduled == 0 {
            return None;
        }
        let mut ticks = self.fired + 1..self.fired + 1 + BUCKETS as u64;
        let tick = ticks.find(|tick| !self.buckets[Self::offset(*tick)].is_empty())?;
        Some(self.origin + TICK * u32::try_from(tick).unwrap_or(u32::MAX))
    }

    /// Takes out the tickets that are due at `now`.
    pub(super) fn fire(&mut self, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        let last = self.tick_at(now);
        // After a long pause one round over all buckets is enough.
        let first = (self.fired + 1).max((last + 1).saturating_sub(BUCKETS as u64));
        for tick in first..=last {
            due.append(self.bucket(tick));
        }
        self.fired = self.fired.max(last);
        self.scheduled -= due.len();
        due
    }

    fn tick_at(&self, time: Instant) -> u64 {
        let elapsed = time.saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX)
    }

    fn offset(tick: u64) -> usize {
        usize::try_from(tick % BUCKETS as u64).expect("a remainder by a usize fits a usize")
    }

    fn bucket(&mut self, tick: u64) -> &mut Vec<T> {
        &mut self.buckets[Self::offset(tick)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_fire_at_their_tick_and_not_before() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        wheel.schedule(origin + Duration::from_millis(120), "a");
        wheel.schedule(origin + Duration::from_millis(990), "b");
        assert!(wheel.fire(origin + Duration::from_millis(119)).is_empty());
        let next = wheel.next().expect("a ticket is scheduled");
        assert!(origin + Duration::from_millis(120) <= next);
        assert_eq!(wheel.fire(next), ["a"]);
        assert_eq!(wheel.fire(origin + Duration::from_secs(2)), ["b"]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_fires_within_it() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        wheel.schedule(origin + TICK * 5000, "far");
        let next = wheel.next().expect("a ticket is scheduled");
        assert!(next < origin + TICK * 1024);
        assert_eq!(wheel.fire(next), ["far"]);
    }

    #[test]
    fn a_long_pause_fires_everything() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        for it in 1..=1000_u32 {
            wheel.schedule(origin + TICK * it, it);
        }
        assert_eq!(wheel.fire(origin + TICK * 100_000).len(), 1000);
    }
}
