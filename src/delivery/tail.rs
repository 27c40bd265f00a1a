//! The newest part of the history, in memory, shared by all subscribers.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use crate::{
    event::{Event, Position},
    history::Meter,
    hub::Interest,
};

/// How close to the newest event a position is looked for first.
const NEAR: usize = 16;

/// The events behind a floor, up to the newest; bounded in bytes, so that what falls off is read from the history.
#[derive(Debug)]
pub struct Tail {
    capacity: usize,
    events: RwLock<Events>,
}

#[derive(Debug)]
struct Events {
    queue: VecDeque<Entry>,
    /// Everything behind this position is in the queue.
    floor: Position,
    newest: Position,
    /// The weight of everything that ever went through.
    passed: u64,
}

#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    /// What had passed through the tail before this event.
    passed: u64,
}

/// What a search in the tail found.
#[derive(Debug)]
pub enum Found {
    /// The first event that interests.
    Event(Arc<Event>),
    /// Nothing up to the position that was asked for.
    Nothing,
    /// The tail no longer reaches back so far, or the history's index is the shorter way.
    AskHistory,
    /// Nothing up to this position. The search goes on behind it when others have had their turn.
    NothingYet(Position),
}

impl Tail {
    /// A tail of at most `capacity` bytes, but always of one event, that continues a history after `newest`.
    #[must_use]
    pub fn new(capacity: usize, newest: Position) -> Self {
        let events = Events { queue: VecDeque::new(), floor: newest, newest, passed: 0 };
        Self { capacity, events: RwLock::new(events) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Events> {
        self.events.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends committed events, and tells what has passed with them. Only the sequencer calls this, in the order of
    /// positions.
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

    /// The position of the newest event.
    #[must_use]
    pub fn newest(&self) -> Position {
        self.read().newest
    }

    /// The bytes that the tail may hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The weight of everything that ever went through, the measure of how far behind somebody is.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.read().passed
    }

    /// At most `limit` events behind `after`, and what had passed at the end of them; `None` if the tail no longer
    /// reaches back so far.
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

    /// The first event behind `after` and not behind `end` that `interest` covers, as far as `meter` allows.
    /// For exact topics it looks at no more, because the history finds them by index.
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
            if interest.covers(&entry.event.update) {
                return Found::Event(entry.event.clone());
            }
            looked_at = entry.event.position;
        }
        if end <= looked_at || events.newest <= looked_at {
            return Found::Nothing;
        }
        if interest.exact_topics().is_some() {
            return Found::AskHistory;
        }
        Found::NothingYet(looked_at)
    }
}

impl Events {
    /// The offset of the first event behind `after`. Whoever asks is mostly close to the newest.
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
