//! The history in memory: fast, bounded, gone with the process.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
    future::ready,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};

use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};

use super::{
    Answer, Batch, Budget, History, HistoryError, Located, Missing, Page, Record as KeptRecord,
    Shelf, Start, TokenKey, Torn,
    hash::{Hash, hash},
    lost::{Begin, Dropped, Lost, topic_hash},
};
use crate::{
    clock::Clock,
    event::{Event, EventId, Position, Topic, Update},
    hub::Interest,
};

/// Records looked at under one lock, so that whoever asks for little among much holds up nobody.
const SCAN: usize = 4096;

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

    fn commits_at_once(&self) -> bool {
        true
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

    fn reply(&self, _key: &str) -> Answer<Option<Box<[u8]>>> {
        Box::pin(ready(Ok(None)))
    }

    fn records(&self, _shelf: Shelf) -> Result<Vec<KeptRecord>, HistoryError> {
        Ok(Vec::new())
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn tend(&self) -> bool {
        let now = self.clock.now();
        self.write().trim(now);
        false
    }

    fn n_read(&self) -> u64 {
        0
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn close(&self) {}

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
    /// The event while anybody has it, so that those who read it at the same time share what is encoded.
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

#[derive(Debug)]
struct Log {
    retention: Retention,
    last: Position,
    records: VecDeque<Record>,
    weight: usize,
    by_topic: HashMap<Topic, VecDeque<Position>, RandomState>,
    /// The ids of `records` and those `remembered`.
    ids: BTreeSet<(Hash, Position)>,
    remembered: VecDeque<(Hash, Position)>,
    lost: Lost,
}

impl Log {
    fn append(&mut self, update: Arc<Update>, now: Timestamp) -> Arc<Event> {
        let position = Position(self.last.0 + 1);
        // A clock that was set back must not make `since` unordered.
        let accepted_at = self.records.back().map_or(now, |newest| newest.accepted_at.max(now));
        self.last = position;
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
        self.lost.note(dropped, update.topics.iter().map(topic_hash));
        self.remembered.push_back((hash(update.id.as_str()), position));
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
        let n_dropped = self.lost.concerning(Begin::Behind(after), interest);
        let torn = n_dropped.map(|n_dropped| Torn { begins: self.lost.last(), n_dropped });
        let mut page =
            Page { events: Vec::new(), scanned_to: self.last.max(after), more: false, torn };
        let (mut bytes, mut scanned_to) = (0, after);
        for (n_scanned, record) in self.records_for(after, interest).enumerate() {
            if SCAN <= n_scanned {
                page.more = true;
                page.scanned_to = scanned_to;
                break;
            }
            scanned_to = record.position;
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

    fn locate(&self, start: &Start, interest: &Interest) -> Located {
        let oldest = self.lost.last();
        let n_dropped = self.lost.n_dropped();
        let from = |after| Located { after, missing: None, n_dropped };
        let torn = |begin| self.lost.may_concern(begin, interest).then_some(Missing::Trimmed);
        match start {
            Start::Now => from(self.last),
            Start::Earliest => from(oldest),
            Start::Unknown => Located { after: oldest, missing: Some(Missing::Unknown), n_dropped },
            Start::Position(position) if self.last < *position => {
                self.locate(&Start::Unknown, interest)
            }
            Start::Position(position) => Located {
                after: oldest.max(*position),
                missing: torn(Begin::Behind(*position)),
                n_dropped,
            },
            Start::Id(id) => {
                let start = self.position_of(id).map_or(Start::Unknown, Start::Position);
                self.locate(&start, interest)
            }
            Start::Last(count) => from(self.before_newest(*count, interest)),
            Start::Since(time) => {
                let offset = self.records.partition_point(|record| record.accepted_at < *time);
                let before = offset.checked_sub(1).and_then(|it| self.records.get(it));
                Located {
                    after: before.map_or(oldest, |record| record.position),
                    missing: torn(Begin::Since(*time)),
                    n_dropped,
                }
            }
        }
    }

    /// The first event with this id that is still there, else the last one that is remembered.
    fn position_of(&self, id: &EventId) -> Option<Position> {
        let hash = hash(id.as_str());
        let first_kept = Position(self.lost.last().0 + 1);
        let kept = self.ids.range((hash, first_kept)..=(hash, Position(u64::MAX))).next();
        let any =
            || self.ids.range((hash, Position::START)..=(hash, Position(u64::MAX))).next_back();
        kept.or_else(any).map(|(_, position)| *position)
    }

    /// The position before the newest `count` events that interest.
    fn before_newest(&self, count: usize, interest: &Interest) -> Position {
        let Some(count) = count.checked_sub(1) else { return self.last };
        let oldest = self.lost.last();
        let newest_first: Box<dyn Iterator<Item = &Record>> = match interest.exact_topics() {
            None => Box::new(self.records.iter().rev()),
            Some(topics) => {
                let lists = topics.iter().filter_map(|topic| self.by_topic.get(topic));
                let lists = lists.map(|list| list.iter().rev().copied().map(Reverse));
                Box::new(merge(lists.collect()).filter_map(|Reverse(it)| self.record(it)))
            }
        };
        let mut covered = newest_first.filter(|record| interest.covers(&record.update));
        let nth_newest = covered.nth(count).map(|record| record.position);
        nth_newest.map_or(oldest, |position| Position(position.0 - 1))
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
