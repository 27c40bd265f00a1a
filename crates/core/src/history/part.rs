//! One part of the history in memory: a log of events with its own limits.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};

use super::{
    hash::Hash,
    lost::Trace,
    ordered::Ordered,
    rules::{Bounds, PartLimits},
};
use crate::{
    event::{Event, Position, Topic, Update},
    matching::Interest,
};

/// How much of the history is kept. Exceeding any of these limits drops the oldest events.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Bytes, as [`Update::weight`] counts them.
    pub bytes: usize,
    /// The number of events.
    pub events: usize,
    /// The time since acceptance.
    pub age: SignedDuration,
    /// Ids, and topics, of dropped events that are remembered to notify late subscribers of what
    /// they missed.
    pub remembered: usize,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) accepted_at: Timestamp,
    pub(super) update: Arc<Update>,
    /// The event while it is in use, so that simultaneous readers share its encodings.
    event: Mutex<Weak<Event>>,
}

impl Record {
    pub(super) fn to_event(&self, position: Position) -> Arc<Event> {
        let mut shared = self.event.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = shared.upgrade() {
            return event;
        }
        let event = Arc::new(Event::new(position, self.accepted_at, self.update.clone()));
        *shared = Arc::downgrade(&event);
        event
    }
}

/// What is remembered of a dropped event.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) id: Hash,
    pub(super) trace: Trace,
}

/// Records with their positions.
pub(super) type Records<'a> = Box<dyn Iterator<Item = (Position, &'a Record)> + 'a>;

/// One part of the history in memory.
#[derive(Debug)]
pub(super) struct Part {
    bounds: Bounds,
    events_per_topic: Option<u64>,
    pub(super) records: Ordered<Record>,
    weight: usize,
    by_topic: HashMap<Topic, VecDeque<Position>, RandomState>,
    /// The events of each first topic, if their number is limited.
    counted: HashMap<Topic, VecDeque<Position>, RandomState>,
    pub(super) remembered: Ordered<Remembered>,
}

impl Part {
    pub(super) fn new(bounds: Bounds, limits: &PartLimits) -> Self {
        // The oldest event of a topic may be in the middle.
        let has_holes = limits.events_per_topic.is_some();
        Self {
            bounds,
            events_per_topic: limits.events_per_topic,
            records: Ordered::new(has_holes),
            weight: 0,
            by_topic: HashMap::default(),
            counted: HashMap::default(),
            remembered: Ordered::new(has_holes),
        }
    }

    /// Appends an event. Its position must be after all others. Returns the position of an event
    /// that is one too many of its topic, too.
    pub(super) fn append(
        &mut self,
        position: Position,
        update: Arc<Update>,
        weight: usize,
        accepted_at: Timestamp,
    ) -> (Arc<Event>, Option<Position>) {
        self.weight += weight;
        for topic in &update.topics {
            let positions = self.by_topic.entry(topic.clone()).or_default();
            if positions.back() != Some(&position) {
                positions.push_back(position);
            }
        }
        let mut superfluous = None;
        if let (Some(limit), Some(topic)) = (self.events_per_topic, update.topics.first()) {
            let positions = self.counted.entry(topic.clone()).or_default();
            positions.push_back(position);
            let is_over = limit < positions.len() as u64;
            superfluous = positions.front().copied().filter(|_| is_over);
        }
        let record = Record { accepted_at, update, event: Mutex::default() };
        let event = record.to_event(position);
        self.records.insert(position, record);
        (event, superfluous)
    }

    /// The oldest event, if the part has to drop it. `now` is in microseconds since 1970.
    pub(super) fn superfluous(&self, now: i64) -> Option<Position> {
        let (position, oldest) = self.records.first()?;
        let age = now.saturating_sub(oldest.accepted_at.as_microsecond());
        let (events, bytes) = (self.records.len() as u64, self.weight as u64);
        self.bounds.are_exceeded(events, bytes, age).then_some(position)
    }

    /// Removes the event at a position: the oldest one, or the oldest of its topic. Returns its
    /// weight, too.
    pub(super) fn take(&mut self, position: Position) -> Option<(Record, usize)> {
        let record = self.records.remove(position)?;
        let weight = record.update.weight();
        self.weight -= weight;
        for topic in &record.update.topics {
            remove_from(&mut self.by_topic, topic, position);
        }
        if let (Some(_), Some(topic)) = (self.events_per_topic, record.update.topics.first()) {
            remove_from(&mut self.counted, topic, position);
        }
        Some((record, weight))
    }

    /// The records after `after` that `interest` may cover, oldest first.
    pub(super) fn records_for<'a>(
        &'a self,
        after: Position,
        interest: &'a Interest,
    ) -> Records<'a> {
        match interest.exact_topics() {
            None => self.records.after(after),
            Some(topics) => {
                let lists = topics.iter().filter_map(|topic| self.by_topic.get(topic));
                let tails = lists
                    .map(|list| list.range(list.partition_point(|it| *it <= after)..).copied());
                let positions = merge(tails.collect(), |it| *it);
                Box::new(positions.filter_map(|it| Some((it, self.records.get(it)?))))
            }
        }
    }

    /// The records up to `last` that `interest` may cover, newest first.
    pub(super) fn newest_first<'a>(
        &'a self,
        last: Position,
        interest: &'a Interest,
    ) -> Records<'a> {
        match interest.exact_topics() {
            None => self.records.up_to(last),
            Some(topics) => {
                let lists = topics.iter().filter_map(|topic| self.by_topic.get(topic));
                let lists = lists.map(|list| {
                    let end = list.partition_point(|it| *it <= last);
                    list.range(..end).rev().copied()
                });
                let positions = merge(lists.collect(), |it| Reverse(*it));
                Box::new(positions.filter_map(|it| Some((it, self.records.get(it)?))))
            }
        }
    }

    /// The position of the newest event that was accepted before a time.
    pub(super) fn before(&self, time: Timestamp) -> Option<Position> {
        self.records.last_before(|record| record.accepted_at < time)
    }
}

/// Removes a position from the list of a topic, where it nearly always is the first.
fn remove_from(
    lists: &mut HashMap<Topic, VecDeque<Position>, RandomState>,
    topic: &Topic,
    position: Position,
) {
    let Some(positions) = lists.get_mut(topic) else { return };
    if positions.front() == Some(&position) {
        positions.pop_front();
    } else if let Ok(at) = positions.binary_search(&position) {
        positions.remove(at);
    }
    if positions.is_empty() {
        lists.remove(topic);
    }
}

/// Merges lists that are sorted by `key` into one, without those that have the same key.
pub(super) fn merge<T, K: Ord + Copy>(
    mut lists: Vec<impl Iterator<Item = T>>,
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = T> {
    let mut heads: Vec<Option<T>> = lists.iter_mut().map(Iterator::next).collect();
    let first = heads.iter().enumerate();
    let first = first.filter_map(|(at, head)| Some(Reverse((key(head.as_ref()?), at))));
    let mut order: BinaryHeap<Reverse<(K, usize)>> = first.collect();
    let mut previous = None;
    std::iter::from_fn(move || {
        loop {
            let Reverse((found, at)) = order.pop()?;
            let next = lists[at].next();
            order.extend(next.as_ref().map(|next| Reverse((key(next), at))));
            let head = std::mem::replace(&mut heads[at], next);
            if previous.replace(found) != Some(found) {
                return head;
            }
        }
    })
}
