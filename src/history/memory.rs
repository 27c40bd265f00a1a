//! The history in memory: fast, bounded, gone with the process.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
    future::ready,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};

use super::{
    Answer, Batch, Budget, History, HistoryError, Located, Missing, Page, Start, TokenKey,
    lost::Lost,
};
use crate::{
    clock::Clock,
    event::{Event, EventId, Position, Topic, Update},
    hub::Interest,
};

/// Until when events are kept. Whatever is crossed first drops the oldest.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Bytes, as [`Update::weight`] counts them.
    pub bytes: usize,
    /// Number of events.
    pub events: usize,
    /// Time since acceptance.
    pub age: SignedDuration,
    /// Ids, and topics, of dropped events that are remembered in order to tell a late subscriber what it missed.
    pub remembered: usize,
}

/// A history that lives as long as its process.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    token_key: TokenKey,
    log: RwLock<Log>,
}

impl Memory {
    /// An empty history.
    #[must_use]
    pub fn new(retention: Retention, clock: Clock) -> Self {
        let log = Log {
            lost: Lost::new(retention.remembered),
            retention,
            last: Position::START,
            records: VecDeque::new(),
            weight: 0,
            by_topic: HashMap::default(),
            ids: BTreeSet::new(),
            remembered: VecDeque::new(),
            lost_until: Timestamp::MIN,
        };
        Self { clock, token_key: TokenKey::random(), log: RwLock::new(log) }
    }

    // A panic while the lock is held would be a bug; going on with what is there beats refusing everybody.
    fn read(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Log> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for Memory {
    fn commit(&self, batch: Batch) -> Result<Vec<Arc<Event>>, HistoryError> {
        let now = self.clock.now();
        let mut log = self.write();
        let events =
            batch.updates.into_iter().map(|update| log.append(Arc::new(update), now)).collect();
        log.trim(now);
        Ok(events)
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        Box::pin(ready(Ok(self.read().page(after, interest, budget))))
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        Box::pin(ready(Ok(self.read().locate(&start, interest))))
    }

    fn trim(&self) {
        let now = self.clock.now();
        self.write().trim(now);
    }

    fn last(&self) -> Position {
        self.read().last
    }

    fn token_key(&self) -> &TokenKey {
        &self.token_key
    }
}

#[derive(Debug)]
struct Record {
    position: Position,
    accepted_at: Timestamp,
    update: Arc<Update>,
}

impl Record {
    fn to_event(&self) -> Arc<Event> {
        Arc::new(Event::new(self.position, self.accepted_at, self.update.clone()))
    }
}

#[derive(Debug)]
struct Log {
    retention: Retention,
    last: Position,
    records: VecDeque<Record>,
    weight: usize,
    by_topic: HashMap<Topic, VecDeque<Position>, RandomState>,
    /// The ids of `records` and those `remembered`.
    ids: BTreeSet<(EventId, Position)>,
    remembered: VecDeque<(EventId, Position)>,
    lost: Lost,
    /// When the newest dropped event was accepted.
    lost_until: Timestamp,
}

impl Log {
    fn append(&mut self, update: Arc<Update>, now: Timestamp) -> Arc<Event> {
        let position = Position(self.last.0 + 1);
        // A clock that was set back must not make `since` unordered.
        let accepted_at = self.records.back().map_or(now, |newest| newest.accepted_at.max(now));
        self.last = position;
        self.weight += update.weight();
        self.ids.insert((update.id.clone(), position));
        for topic in &update.topics {
            let positions = self.by_topic.entry(topic.clone()).or_default();
            if positions.back() != Some(&position) {
                positions.push_back(position);
            }
        }
        let record = Record { position, accepted_at, update };
        let event = record.to_event();
        self.records.push_back(record);
        event
    }

    fn trim(&mut self, now: Timestamp) {
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
        let Some(Record { position, accepted_at, update }) = self.records.pop_front() else {
            return;
        };
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
        self.lost.note(position, &update);
        self.lost_until = accepted_at;
        self.remembered.push_back((update.id.clone(), position));
        if self.retention.remembered < self.remembered.len()
            && let Some(forgotten) = self.remembered.pop_front()
        {
            self.ids.remove(&forgotten);
        }
    }

    /// The number of records at or before `position`.
    fn offset_behind(&self, position: Position) -> usize {
        self.records.partition_point(|record| record.position <= position)
    }

    fn page(&self, after: Position, interest: &Interest, budget: Budget) -> Page {
        let torn = self.lost.may_concern(after, interest).then(|| self.lost.last());
        let mut page =
            Page { events: Vec::new(), scanned_to: self.last.max(after), more: false, torn };
        let mut bytes = 0;
        for record in self.records_for(after, interest) {
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

    /// The records behind `after` that may interest, oldest first.
    fn records_for<'a>(
        &'a self,
        after: Position,
        interest: &'a Interest,
    ) -> Box<dyn Iterator<Item = &'a Record> + 'a> {
        match interest.exact_topics() {
            None => Box::new(self.records.range(self.offset_behind(after)..)),
            Some(topics) => {
                let lists = topics.iter().filter_map(|topic| self.by_topic.get(topic));
                let tails = lists.map(|list| list.range(list.partition_point(|it| *it <= after)..));
                let positions = merge(tails.collect());
                Box::new(positions.filter_map(|it| self.record(it)))
            }
        }
    }

    fn record(&self, position: Position) -> Option<&Record> {
        let at = self.records.binary_search_by_key(&position, |record| record.position).ok()?;
        self.records.get(at)
    }

    fn locate(&self, start: &Start, interest: &Interest) -> Located {
        let oldest = self.lost.last();
        let from = |after| Located { after, missing: None };
        match start {
            Start::Now => from(self.last),
            Start::Earliest => from(oldest),
            Start::Unknown => Located { after: oldest, missing: Some(Missing::Unknown) },
            Start::Position(position) if self.last < *position => {
                self.locate(&Start::Unknown, interest)
            }
            Start::Position(position) => Located {
                after: oldest.max(*position),
                missing: self.lost.may_concern(*position, interest).then_some(Missing::Trimmed),
            },
            Start::Id(id) => {
                let start = self.position_of(id).map_or(Start::Unknown, Start::Position);
                self.locate(&start, interest)
            }
            Start::Last(count) => from(self.before_newest(*count, interest)),
            Start::Since(time) => {
                let offset = self.records.partition_point(|record| record.accepted_at < *time);
                let before = offset.checked_sub(1).and_then(|it| self.records.get(it));
                let is_torn =
                    *time <= self.lost_until && self.lost.may_concern(Position::START, interest);
                Located {
                    after: before.map_or(oldest, |record| record.position),
                    missing: is_torn.then_some(Missing::Trimmed),
                }
            }
        }
    }

    /// The first event with this id that is still there, else the last one that is remembered.
    fn position_of(&self, id: &EventId) -> Option<Position> {
        let first_kept = Position(self.lost.last().0 + 1);
        let with_id = (id.clone(), Position::START)..=(id.clone(), Position(u64::MAX));
        let kept =
            self.ids.range((id.clone(), first_kept)..=(id.clone(), Position(u64::MAX))).next();
        kept.or_else(|| self.ids.range(with_id).next_back()).map(|(_, position)| *position)
    }

    /// The position before the newest `count` events that interest.
    fn before_newest(&self, count: usize, interest: &Interest) -> Position {
        let Some(count) = count.checked_sub(1) else { return self.last };
        let oldest = self.lost.last();
        let nth_newest = match interest.exact_topics() {
            None => self
                .records
                .iter()
                .rev()
                .filter(|it| interest.covers(&it.update))
                .nth(count)
                .map(|it| it.position),
            Some(topics) => {
                let lists = topics.iter().filter_map(|topic| self.by_topic.get(topic));
                let newest = lists.flat_map(|list| list.iter().rev().take(count + 1).copied());
                let positions: BTreeSet<Position> = newest.collect();
                let mut records = positions.iter().rev().filter_map(|it| self.record(*it));
                records
                    .by_ref()
                    .filter(|it| interest.covers(&it.update))
                    .nth(count)
                    .map(|it| it.position)
            }
        };
        nth_newest.map_or(oldest, |position| Position(position.0 - 1))
    }
}

/// Merges ascending lists into one ascending list without repetitions.
fn merge<'a, I>(mut lists: Vec<I>) -> impl Iterator<Item = Position>
where
    I: Iterator<Item = &'a Position>,
{
    let mut heads: BinaryHeap<Reverse<(Position, usize)>> = BinaryHeap::new();
    for (at, list) in lists.iter_mut().enumerate() {
        heads.extend(list.next().map(|position| Reverse((*position, at))));
    }
    let mut previous = None;
    std::iter::from_fn(move || {
        loop {
            let Reverse((position, at)) = heads.pop()?;
            heads.extend(lists[at].next().map(|next| Reverse((*next, at))));
            if previous.replace(position) != Some(position) {
                return Some(position);
            }
        }
    })
}
