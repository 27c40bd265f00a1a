//! One part of the history in memory: a log of events with its own limits.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};

use super::{
    Budget, Located, Meter, Missing, Page, SAME_ID, Torn,
    hash::{Hash, hash},
    lost::{Begin, Dropped, Lost, Trace},
};
use crate::{
    event::{Event, EventId, Position, Topic, Update},
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
    pub(super) position: Position,
    accepted_at: Timestamp,
    pub(super) update: Arc<Update>,
    /// The event while it is in use, so that simultaneous readers share its encodings.
    event: Mutex<Weak<Event>>,
}

impl Record {
    fn to_event(&self) -> Arc<Event> {
        let mut shared = self.event.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = shared.upgrade() {
            return event;
        }
        let event = Arc::new(Event::new(self.position, self.accepted_at, self.update.clone()));
        *shared = Arc::downgrade(&event);
        event
    }
}

/// What is remembered of a dropped event.
#[derive(Debug)]
struct Remembered {
    id: Hash,
    position: Position,
    trace: Trace,
}

/// One part of the history in memory.
#[derive(Debug)]
pub(super) struct Part {
    retention: Retention,
    /// The newest position of this part.
    pub(super) last: Position,
    /// The time of acceptance of the newest event, even after the event was dropped.
    accepted: Timestamp,
    records: VecDeque<Record>,
    weight: usize,
    by_topic: HashMap<Topic, VecDeque<Position>, RandomState>,
    /// The ids in `records` and in `remembered`.
    ids: BTreeSet<(Hash, Position)>,
    /// Sorted by position.
    remembered: VecDeque<Remembered>,
    pub(super) lost: Lost,
}

impl Part {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            lost: Lost::new(retention.remembered),
            retention,
            last: Position::START,
            accepted: Timestamp::MIN,
            records: VecDeque::new(),
            weight: 0,
            by_topic: HashMap::default(),
            ids: BTreeSet::new(),
            remembered: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Appends an event. Its position must be after all others.
    pub(super) fn append(
        &mut self,
        position: Position,
        update: Arc<Update>,
        now: Timestamp,
    ) -> Arc<Event> {
        // A clock that was set back must not make `since` unordered.
        let accepted_at = self.accepted.max(now);
        self.last = position;
        self.accepted = accepted_at;
        self.weight += update.weight();
        self.ids.insert((hash(update.id.as_str()), position));
        for topic in &update.topics {
            let positions = self.by_topic.entry(topic.clone()).or_default();
            if positions.back() != Some(&position) {
                positions.push_back(position);
            }
        }
        let record = Record { position, accepted_at, update, event: Mutex::default() };
        let event = record.to_event();
        self.records.push_back(record);
        event
    }

    pub(super) fn trim(&mut self, now: Timestamp) {
        while let Some(oldest) = self.records.front() {
            let is_covered = self.weight <= self.retention.bytes
                && self.records.len() <= self.retention.events
                && now.duration_since(oldest.accepted_at) <= self.retention.age;
            if is_covered {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(record) = self.records.pop_front() else { return };
        let (position, update) = (record.position, &record.update);
        self.weight -= update.weight();
        for topic in &update.topics {
            let Some(positions) = self.by_topic.get_mut(topic) else { continue };
            if positions.front() == Some(&position) {
                positions.pop_front();
            }
            if positions.is_empty() {
                self.by_topic.remove(topic);
            }
        }
        let dropped = Dropped { position, accepted_at: record.accepted_at };
        let Some(trace) = Trace::of(update) else {
            self.ids.remove(&(hash(update.id.as_str()), position));
            return;
        };
        self.lost.note(dropped, &trace);
        self.remembered.push_back(Remembered { id: hash(update.id.as_str()), position, trace });
        if self.retention.remembered < self.remembered.len()
            && let Some(forgotten) = self.remembered.pop_front()
        {
            self.ids.remove(&(forgotten.id, forgotten.position));
        }
    }

    /// The number of records at or before `position`.
    fn offset_behind(&self, position: Position) -> usize {
        self.records.partition_point(|record| record.position <= position)
    }

    pub(super) fn page(&self, after: Position, interest: &Interest, budget: Budget) -> Page {
        let n_dropped = self.lost.concerning(Begin::Behind(after), interest);
        let torn = n_dropped.map(|n_dropped| Torn { begins: self.lost.last(), n_dropped });
        let mut page =
            Page { events: Vec::new(), scanned_to: self.last.max(after), more: false, torn };
        let mut meter = Meter::new(interest);
        let (mut bytes, mut scanned_to) = (0, after);
        for record in self.records_for(after, interest) {
            if meter.is_spent() {
                page.more = true;
                page.scanned_to = scanned_to;
                break;
            }
            scanned_to = record.position;
            meter.spend(&record.update);
            if !interest.covers(&record.update) {
                continue;
            }
            if budget.events <= page.events.len() || budget.bytes <= bytes {
                page.more = true;
                page.scanned_to = page.events.last().map_or(after, |it| it.position);
                break;
            }
            let event = record.to_event();
            bytes += event.weight();
            page.events.push(event);
        }
        page
    }

    /// The records after `after` that `interest` may cover, oldest first.
    fn records_for<'a>(
        &'a self,
        after: Position,
        interest: &'a Interest,
    ) -> Box<dyn Iterator<Item = &'a Record> + 'a> {
        match interest.exact_topics() {
            None => Box::new(self.records.range(self.offset_behind(after)..)),
            Some(topics) => {
                let lists = topics.iter().filter_map(|topic| self.by_topic.get(topic));
                let tails = lists
                    .map(|list| list.range(list.partition_point(|it| *it <= after)..).copied());
                let positions = merge(tails.collect());
                Box::new(positions.filter_map(|it| self.record(it)))
            }
        }
    }

    fn record(&self, position: Position) -> Option<&Record> {
        let at = self.records.binary_search_by_key(&position, |record| record.position).ok()?;
        self.records.get(at)
    }

    /// Locates a position that is not after the last one.
    pub(super) fn locate_position(&self, position: Position, interest: &Interest) -> Located {
        let torn = self.lost.may_concern(Begin::Behind(position), interest);
        let after = self.lost.last().max(position);
        Located {
            after,
            missing: torn.then_some(Missing::Trimmed),
            n_dropped: self.lost.n_dropped(),
        }
    }

    /// Locates the first event that was accepted at this time or later.
    pub(super) fn locate_time(&self, time: Timestamp, interest: &Interest) -> Located {
        let torn = self.lost.may_concern(Begin::Since(time), interest);
        let after = self.before(time).unwrap_or(self.lost.last());
        Located {
            after,
            missing: torn.then_some(Missing::Trimmed),
            n_dropped: self.lost.n_dropped(),
        }
    }

    /// The position of the newest event that was accepted before a time.
    pub(super) fn before(&self, time: Timestamp) -> Option<Position> {
        let offset = self.records.partition_point(|record| record.accepted_at < time);
        offset.checked_sub(1).and_then(|it| self.records.get(it)).map(|it| it.position)
    }

    /// The first kept event with this id, else the last remembered one. Events that the subscriber
    /// may not see are skipped, so that it does not learn which ids exist.
    pub(super) fn position_of(&self, id: &EventId, interest: &Interest) -> Option<Position> {
        let hash = hash(id.as_str());
        let all = self.ids.range((hash, Position::START)..=(hash, Position(u64::MAX)));
        let mut remembered = None;
        for (_, position) in all.take(SAME_ID) {
            match self.record(*position) {
                Some(record) if interest.may_know(&record.update) => return Some(*position),
                Some(_) => {}
                None => {
                    let at = self.remembered.binary_search_by_key(position, |it| it.position);
                    let trace = at.ok().and_then(|at| self.remembered.get(at));
                    if trace.is_none_or(|it| it.trace.may_be_known(interest)) {
                        remembered = Some(*position);
                    }
                }
            }
        }
        remembered
    }

    /// Whether `interest` covers one of the newest `count` events.
    pub(super) fn has_new_for(&self, interest: &Interest, count: usize) -> bool {
        self.records.iter().rev().take(count).any(|it| interest.covers(&it.update))
    }

    /// The records up to `last` that `interest` may cover, newest first.
    pub(super) fn newest_first<'a>(
        &'a self,
        last: Position,
        interest: &'a Interest,
    ) -> Box<dyn Iterator<Item = &'a Record> + 'a> {
        match interest.exact_topics() {
            None => Box::new(self.records.range(..self.offset_behind(last)).rev()),
            Some(topics) => {
                let lists = topics.iter().filter_map(|topic| self.by_topic.get(topic));
                let lists = lists.map(|list| {
                    let end = list.partition_point(|it| *it <= last);
                    list.range(..end).rev().copied().map(Reverse)
                });
                Box::new(merge(lists.collect()).filter_map(|Reverse(it)| self.record(it)))
            }
        }
    }
}

/// Merges ascending lists into one ascending list without repetitions.
fn merge<K: Ord + Copy>(mut lists: Vec<impl Iterator<Item = K>>) -> impl Iterator<Item = K> {
    let mut heads: BinaryHeap<Reverse<(K, usize)>> = BinaryHeap::new();
    for (at, list) in lists.iter_mut().enumerate() {
        heads.extend(list.next().map(|key| Reverse((key, at))));
    }
    let mut previous = None;
    std::iter::from_fn(move || {
        loop {
            let Reverse((key, at)) = heads.pop()?;
            heads.extend(lists[at].next().map(|next| Reverse((next, at))));
            if previous.replace(key) != Some(key) {
                return Some(key);
            }
        }
    })
}
