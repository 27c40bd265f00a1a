//! A timing wheel: a single timer for all deadlines of a shard. A deadline is three numbers in its
//! subscriber's entry, so setting and cancelling one allocates nothing.

use std::time::{Duration, Instant};

/// Resolution of deadlines. One fires at the end of its tick: at most this late, and never early.
const TICK: Duration = Duration::from_millis(50);

/// Number of buckets. A deadline beyond the last one, about 51 seconds ahead, fires early and is
/// rescheduled.
const BUCKETS: u32 = 1024;

/// The end of a bucket's list.
const NONE: u32 = u32::MAX;

/// A time in ticks since the wheel's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u32);

impl Tick {
    /// The first tick at whose end `time` has passed, whenever in this tick it began.
    pub(super) fn after(self, time: Duration) -> Self {
        let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
        Self(self.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }
}

/// At most one deadline for each subscriber, in buckets by the tick in which it fires.
#[derive(Debug)]
pub(super) struct Wheel {
    origin: Instant,
    /// The last tick whose deadlines have fired.
    fired: u32,
    /// No deadline fires before this tick.
    earliest: u32,
    /// The first subscriber of each bucket.
    heads: Box<[u32]>,
    /// The links by subscriber number.
    links: Vec<Link>,
    scheduled: usize,
}

/// A subscriber's link in the list of its bucket.
#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    /// When it fires; 0 without a deadline.
    tick: u32,
}

impl Link {
    const UNSCHEDULED: Self = Self { next: NONE, previous: NONE, tick: 0 };
}

impl Wheel {
    pub(super) fn new(origin: Instant) -> Self {
        let heads = vec![NONE; BUCKETS as usize].into();
        Self { origin, fired: 0, earliest: 1, heads, links: Vec::new(), scheduled: 0 }
    }

    /// The tick that contains `time`.
    pub(super) fn tick_at(&self, time: Instant) -> Tick {
        let elapsed = time.saturating_duration_since(self.origin);
        Tick(u32::try_from(elapsed.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX))
    }

    /// Makes `subscriber` fire when the tick `due` has passed, or earlier if that is beyond the
    /// wheel's horizon. Replaces the subscriber's previous deadline.
    pub(super) fn schedule(&mut self, subscriber: u32, due: Tick) {
        self.cancel(subscriber);
        let at = subscriber as usize;
        if self.links.len() <= at {
            self.links.resize(at + 1, Link::UNSCHEDULED);
        }
        let tick = due.0.saturating_add(1).clamp(self.fired + 1, self.fired + BUCKETS - 1);
        let head = &mut self.heads[Self::bucket(tick)];
        let next = std::mem::replace(head, subscriber);
        self.links[at] = Link { next, previous: NONE, tick };
        self.earliest = self.earliest.min(tick);
        if let Some(next) = self.links.get_mut(next as usize) {
            next.previous = subscriber;
        }
        self.scheduled += 1;
    }

    /// Cancels a subscriber's deadline, if it has one.
    pub(super) fn cancel(&mut self, subscriber: u32) {
        let Some(link) = self.links.get_mut(subscriber as usize) else { return };
        let Link { next, previous, tick } = std::mem::replace(link, Link::UNSCHEDULED);
        if tick == 0 {
            return;
        }
        match self.links.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.heads[Self::bucket(tick)] = next,
        }
        if let Some(next) = self.links.get_mut(next as usize) {
            next.previous = previous;
        }
        self.scheduled -= 1;
    }

    /// When the next deadline fires.
    pub(super) fn next(&mut self) -> Option<Instant> {
        if self.scheduled == 0 {
            return None;
        }
        let mut ticks = self.earliest.max(self.fired + 1)..self.fired + 1 + BUCKETS;
        self.earliest = ticks.find(|tick| self.heads[Self::bucket(*tick)] != NONE)?;
        Some(self.origin + TICK * self.earliest)
    }

    /// Removes and returns the subscribers whose deadlines have passed at `now`.
    pub(super) fn fire(&mut self, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        let last = self.tick_at(now).0;
        // After a long pause, one pass over all buckets is enough.
        let first = (self.fired + 1).max((last + 1).saturating_sub(BUCKETS));
        for tick in first..=last {
            let mut subscriber = std::mem::replace(&mut self.heads[Self::bucket(tick)], NONE);
            while let Some(link) = self.links.get_mut(subscriber as usize) {
                due.push(subscriber);
                subscriber = std::mem::replace(link, Link::UNSCHEDULED).next;
            }
        }
        self.fired = self.fired.max(last);
        self.scheduled -= due.len();
        due
    }

    fn bucket(tick: u32) -> usize {
        (tick % BUCKETS) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn due(wheel: &Wheel, origin: Instant, milliseconds: u64) -> Tick {
        wheel.tick_at(origin + Duration::from_millis(milliseconds))
    }

    #[test]
    fn deadlines_fire_at_their_tick_and_not_before() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        wheel.schedule(1, due(&wheel, origin, 120));
        wheel.schedule(2, due(&wheel, origin, 990));
        assert!(wheel.fire(origin + Duration::from_millis(119)).is_empty());
        let next = wheel.next().expect("a deadline is scheduled");
        assert!(origin + Duration::from_millis(120) <= next);
        assert_eq!(wheel.fire(next), [1]);
        assert_eq!(wheel.fire(origin + Duration::from_secs(2)), [2]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_fires_within_it() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        wheel.schedule(7, due(&wheel, origin, 5000 * 50));
        let next = wheel.next().expect("a deadline is scheduled");
        assert!(next < origin + TICK * BUCKETS);
        assert_eq!(wheel.fire(next), [7]);
    }

    #[test]
    fn a_long_pause_fires_everything() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        for it in 1..=1000_u32 {
            wheel.schedule(it, due(&wheel, origin, u64::from(it) * 50));
        }
        assert_eq!(wheel.fire(origin + TICK * 100_000).len(), 1000);
    }

    proptest! {
        #[test]
        fn each_subscriber_has_its_last_deadline_and_no_other(
            steps in prop::collection::vec((0_u32..8, prop::option::of(0_u32..900)), 1..60),
            until in 0_u32..1000,
        ) {
            let origin = Instant::now();
            let mut wheel = Wheel::new(origin);
            let mut model = BTreeMap::new();
            for (subscriber, deadline) in steps {
                match deadline {
                    Some(tick) => {
                        wheel.schedule(subscriber, Tick(tick));
                        model.insert(subscriber, tick);
                    }
                    None => {
                        wheel.cancel(subscriber);
                        model.remove(&subscriber);
                    }
                }
            }
            let mut fired = wheel.fire(origin + TICK * until);
            fired.sort_unstable();
            let passed: Vec<u32> =
                model.iter().filter(|(_, tick)| **tick < until).map(|(it, _)| *it).collect();
            prop_assert_eq!(&fired, &passed);
            let mut rest = wheel.fire(origin + TICK * 2000);
            rest.sort_unstable();
            model.retain(|it, _| !passed.contains(it));
            prop_assert_eq!(rest, model.into_keys().collect::<Vec<_>>());
            prop_assert_eq!(wheel.scheduled, 0);
        }
    }
}
