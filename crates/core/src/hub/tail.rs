//! The newest part of the history, in memory, shared by all subscribers.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use crate::{
    event::{Event, Position},
    history::Meter,
    matching::Interest,
};

/// Number of newest events that a lookup of a position tries first.
const NEAR: usize = 16;

/// The events after a floor, up to the newest. Limited in bytes; older events are read from the
/// history.
#[derive(Debug)]
pub struct Tail {
    capacity: usize,
    events: RwLock<Events>,
}

#[derive(Debug)]
struct Events {
    queue: VecDeque<Entry>,
    /// All events after this position are in the queue.
    floor: Position,
    newest: Position,
    /// The weight of all events that ever went through.
    passed: u64,
}

#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    /// `Events::passed` before this event.
    passed: u64,
}

/// The result of a search in the tail.
#[derive(Debug)]
pub(crate) enum Found {
    /// The first event for the interest.
    Event(Arc<Event>),
    /// Nothing up to the requested position.
    Nothing,
    /// The tail no longer reaches back so far, or the history's index is faster.
    AskHistory,
    /// Nothing up to this position. The caller yields before it searches on.
    NothingYet(Position),
}

impl Tail {
    /// Creates a tail that continues a history after `newest`. It holds at most `capacity` bytes,
    /// but always at least one event.
    #[must_use]
    pub fn new(capacity: usize, newest: Position) -> Self {
        let events = Events { queue: VecDeque::new(), floor: newest, newest, passed: 0 };
        Self { capacity, events: RwLock::new(events) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Events> {
        self.events.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends committed events, and returns the weight of all events so far. Called only by the
    /// sequencer, in the order of positions.
    pub fn push(&self, committed: &[Arc<Event>]) -> u64 {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        for event in committed {
            let passed = events.passed;
            events.passed += event.weight() as u64;
            events.newest = event.position;
            events.queue.push_back(Entry { event: event.clone(), passed });
        }
        while 1 < events.queue.len()
            && events
                .queue
                .front()
                .is_some_and(|it| self.capacity as u64 <= events.passed - it.passed)
            && let Some(entry) = events.queue.pop_front()
        {
            events.floor = entry.event.position;
        }
        events.passed
    }

    /// Forgets all events: readers of anything up to `position` have to ask the history.
    pub(super) fn restart(&self, position: Position) {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        events.queue.clear();
        (events.floor, events.newest) = (position, position);
    }

    /// The position of the newest event.
    #[must_use]
    pub fn newest(&self) -> Position {
        self.read().newest
    }

    /// The limit on the bytes in the tail.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The weight of all events that ever went through. Lag is measured against it.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.read().passed
    }

    /// Returns at most `limit` events after `after`, and the weight of all events up to the last of
    /// them. `None` if the tail no longer reaches back so far.
    #[must_use]
    pub fn batch_after(&self, after: Position, limit: usize) -> Option<(Vec<Arc<Event>>, u64)> {
        let events = self.read();
        if after < events.floor {
            return None;
        }
        let first = events.first_behind(after);
        let end = events.queue.len().min(first + limit);
        let batch = events.queue.range(first..end).map(|it| it.event.clone()).collect();
        let passed = events.queue.get(end).map_or(events.passed, |next| next.passed);
        Some((batch, passed))
    }

    /// The first event after `after` and up to `end` that `interest` covers, within the limits of
    /// `meter`. When the meter is spent, exact topics are left to the history, whose index finds
    /// them.
    #[must_use]
    pub(crate) fn find(
        &self,
        after: Position,
        end: Position,
        interest: &Interest,
        meter: &mut Meter,
    ) -> Found {
        if end <= after {
            return Found::Nothing;
        }
        let events = self.read();
        if after < events.floor {
            return Found::AskHistory;
        }
        let mut looked_at = after;
        for entry in events.queue.range(events.first_behind(after)..) {
            if meter.is_spent() {
                break;
            }
            meter.spend(&entry.event.update);
            if end < entry.event.position {
                return Found::Nothing;
            }
            if interest.covers(&entry.event.update, entry.event.position) {
                return Found::Event(entry.event.clone());
            }
            looked_at = entry.event.position;
        }
        if end <= looked_at || events.newest <= looked_at {
            return Found::Nothing;
        }
        // The meter is spent.
        if interest.exact_topics().is_some() {
            return Found::AskHistory;
        }
        Found::NothingYet(looked_at)
    }
}

impl Events {
    /// The offset of the first event after `after`. Most callers are close to the newest.
    fn first_behind(&self, after: Position) -> usize {
        let is_before = |entry: &Entry| entry.event.position <= after;
        let near = self.queue.len().saturating_sub(NEAR);
        match self.queue.get(near) {
            Some(entry) if is_before(entry) => {
                let others = self.queue.range(near..);
                near + others.take_while(|entry| is_before(entry)).count()
            }
            _ => self.queue.partition_point(is_before),
        }
    }
}
