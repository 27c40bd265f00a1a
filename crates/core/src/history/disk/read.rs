//! Reading pages by interest, and locating where subscribers begin. Every read uses one snapshot of
//! the store.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, PoisonError, RwLock},
};

use redb::{Database, Error, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _};

use super::{
    codec::{self, Remembered, micros},
    damage::damaged,
    recent::Shared,
    seal::check_numbers,
    tables::{
        BUCKET, DROPPED, EVENTS, IDS, IndexKey, NUMBERS, TOPICS, index_key, index_parts, number,
    },
    write::next_bucket,
};
use crate::{
    event::{Event, EventId, Position},
    history::{
        Budget, Located, Meter, Missing, Page, SAME_ID, Search, Start, Torn,
        hash::{Hash, hash},
        lost::{Begin, Lost},
    },
    matching::Interest,
};

/// The store as it was at one time.
pub(super) struct Snapshot<'s> {
    events: ReadOnlyTable<u64, &'static [u8]>,
    topics: ReadOnlyTable<IndexKey, ()>,
    ids: ReadOnlyTable<IndexKey, ()>,
    dropped: ReadOnlyTable<u64, &'static [u8]>,
    last: Position,
    /// The position up to which all events have been dropped.
    floor: Position,
    shared: &'s Shared,
}

impl<'s> Snapshot<'s> {
    pub(super) fn of(database: &Database, shared: &'s Shared) -> Result<Self, Error> {
        let transaction = database.begin_read()?;
        let events = transaction.open_table(EVENTS)?;
        let numbers = transaction.open_table(NUMBERS)?;
        check_numbers(&numbers)?;
        let last = numbers.get(number::LAST)?.map_or(0, |it| it.value() as u64);
        let floor =
            events.first()?.map_or(last, |(position, _)| position.value().saturating_sub(1));
        Ok(Self {
            events,
            topics: transaction.open_table(TOPICS)?,
            ids: transaction.open_table(IDS)?,
            dropped: transaction.open_table(DROPPED)?,
            last: Position(last),
            floor: Position(floor),
            shared,
        })
    }

    fn event(&self, position: Position) -> Result<Option<Arc<Event>>, Error> {
        if let Some(event) = self.shared.get(position) {
            return Ok(Some(event));
        }
        let Some(record) = self.events.get(position.0)? else { return Ok(None) };
        self.read(position, record.value()).map(Some)
    }

    /// Returns the event at a position that the index of topics names.
    fn indexed(&self, position: Position, topic: Hash) -> Result<Arc<Event>, Error> {
        let event = self.event(position)?;
        let event = event.ok_or_else(|| damaged("a topic names an event that is not there"))?;
        if event.update.topics.iter().all(|it| hash(it.as_str()) != topic) {
            return Err(damaged("a topic names an event of other topics"));
        }
        Ok(event)
    }

    fn read(&self, position: Position, record: &[u8]) -> Result<Arc<Event>, Error> {
        self.shared.count_read();
        let event = Arc::new(codec::decode(position, record)?);
        self.shared.put(&event);
        Ok(event)
    }

    /// Returns the events after `after` that `interest` covers, as many as `budget` allows.
    pub(super) fn page(
        &self,
        after: Position,
        interest: &Interest,
        budget: Budget,
        n_dropped: Option<u64>,
    ) -> Result<Page, Error> {
        let torn = n_dropped.map(|n_dropped| Torn { begins: self.floor, n_dropped });
        let mut found = Found { events: Vec::new(), bytes: 0, budget };
        let from = after.max(self.floor);
        let stopped = match interest.exact_topics() {
            Some(topics) => self.by_topics(
                topics.iter().map(|it| hash(it.as_str())).collect(),
                from,
                interest,
                &mut found,
            )?,
            None => self.by_scan(from, interest, &mut found)?,
        };
        let scanned_to = stopped.unwrap_or(self.last.max(after));
        Ok(Page { events: found.events, scanned_to, more: stopped.is_some(), torn })
    }

    /// Merges the index entries of all topics. Returns the position up to which the result is
    /// complete, or `None` if that is the end.
    fn by_topics(
        &self,
        topics: Vec<Hash>,
        after: Position,
        interest: &Interest,
        found: &mut Found,
    ) -> Result<Option<Position>, Error> {
        let mut heads = BinaryHeap::new();
        for topic in topics {
            let first = next_of(&self.topics, topic, after)?;
            heads.extend(first.map(|position| Reverse((position, topic))));
        }
        let mut done = after;
        let mut meter = Meter::new(interest);
        while let Some(Reverse((position, topic))) = heads.pop() {
            // An event with several of the topics occurs once for each, but is read once.
            if done < position {
                if meter.is_spent() {
                    return Ok(Some(done));
                }
                let event = self.indexed(position, topic)?;
                meter.spend(&event.update);
                if let Some(event) = Some(event).filter(|it| interest.covers(&it.update, position))
                {
                    if found.is_full() {
                        return Ok(Some(done));
                    }
                    found.push(event);
                }
                done = position;
            }
            let next = next_of(&self.topics, topic, position)?;
            heads.extend(next.map(|position| Reverse((position, topic))));
        }
        Ok(None)
    }

    fn by_scan(
        &self,
        after: Position,
        interest: &Interest,
        found: &mut Found,
    ) -> Result<Option<Position>, Error> {
        let mut done = after;
        let mut meter = Meter::new(interest);
        for entry in self.events.range(after.0 + 1..)? {
            if meter.is_spent() || found.is_full() {
                return Ok(Some(done));
            }
            let (position, record) = entry?;
            let position = Position(position.value());
            let event = match self.shared.get(position) {
                Some(event) => event,
                None => self.read(position, record.value())?,
            };
            meter.spend(&event.update);
            if interest.covers(&event.update, position) {
                found.push(event);
            }
            done = position;
        }
        Ok(None)
    }

    /// The last index entry of a topic before a position.
    fn previous_of(&self, hash: Hash, before: Position) -> Result<Option<Position>, Error> {
        let mut to = before;
        while Position::START < to {
            // The key of `to` itself would not do: at the start of a bucket, other hashes of that
            // bucket precede it.
            let upto = index_key(hash, Position(to.0 - 1));
            let preceding = self.topics.range(..=upto)?.next_back().transpose()?;
            let Some((key, _)) = preceding else { return Ok(None) };
            let (found, position) = index_parts(key.value());
            if found == hash && position < to {
                return Ok(Some(position));
            }
            let behind = next_bucket(position);
            to = if behind < to { behind } else { Position((to.0 - 1) / BUCKET * BUCKET) };
        }
        Ok(None)
    }

    pub(super) fn locate(
        &self,
        start: &Start,
        interest: &Interest,
        lost: &RwLock<Lost>,
    ) -> Result<Located, Error> {
        // Locked for each call separately, because commits wait for it and the store may be slow.
        // Events dropped between two calls may be reported twice.
        let lost = || lost.read().unwrap_or_else(PoisonError::into_inner);
        let n_dropped = lost().n_dropped();
        let from = |after| Located { after, missing: None, n_dropped };
        let torn = |begin| lost().may_concern(begin, interest).then_some(Missing::Trimmed);
        let unknown = Located { after: self.floor, missing: Some(Missing::Unknown), n_dropped };
        Ok(match start {
            Start::Now => from(self.last),
            Start::Earliest => from(self.floor),
            Start::Unknown => unknown,
            Start::Position(position) if self.last < *position => unknown,
            Start::Position(position) => Located {
                after: self.floor.max(*position),
                missing: torn(Begin::Behind(*position)),
                n_dropped,
            },
            Start::Id(id) => match self.position_of(id, interest)? {
                Some(position) => Located {
                    after: self.floor.max(position),
                    missing: torn(Begin::Behind(position)),
                    n_dropped,
                },
                None => unknown,
            },
            Start::Since(time) => Located {
                after: self.before_time(micros(*time))?,
                missing: torn(Begin::Since(*time)),
                n_dropped,
            },
        })
    }

    /// The first kept event with this id, else the last remembered one. Events that the subscriber
    /// may not see are skipped, so that it does not learn which ids exist.
    fn position_of(&self, id: &EventId, interest: &Interest) -> Result<Option<Position>, Error> {
        let hash = hash(id.as_str());
        let mut remembered = None;
        let mut next = next_of(&self.ids, hash, Position::START)?;
        for _ in 0..SAME_ID {
            let Some(position) = next else { break };
            // The cache may have recently read events that the store has dropped.
            let is_kept = self.events.get(position.0)?.is_some();
            let event = if is_kept { self.event(position)? } else { None };
            if event.as_ref().is_some_and(|it| it.update.id != *id) {
                return Err(damaged("an id names an event of another id"));
            }
            match event {
                Some(event) if interest.may_know(&event.update) => return Ok(Some(position)),
                Some(_) => {}
                None => {
                    let trace = self.dropped.get(position.0)?;
                    let trace =
                        trace.ok_or_else(|| damaged("an id names an event that is not there"))?;
                    let trace = Remembered::decode(position, trace.value())?;
                    if trace.id != hash {
                        return Err(damaged("an id names a dropped event of another id"));
                    }
                    if trace.may_be_known(interest) {
                        remembered = Some(position);
                    }
                }
            }
            next = next_of(&self.ids, hash, position)?;
        }
        Ok(remembered)
    }

    /// Runs the next step of a search for the newest events.
    pub(super) fn step_back(
        &self,
        mut search: Search,
        interest: &Interest,
    ) -> Result<Search, Error> {
        let at_start = |search: Search| Search {
            after: self.floor.min(search.after),
            is_over: true,
            ..search
        };
        let mut meter = Meter::new(interest);
        let Some(topics) = interest.exact_topics() else {
            for entry in self.events.range(..=search.after.0)?.rev() {
                if search.has_to_rest(&meter) {
                    return Ok(search);
                }
                let (position, record) = entry?;
                let position = Position(position.value());
                self.shared.count_read();
                let event = codec::decode(position, record.value())?;
                meter.spend(&event.update);
                search.note(position, interest.covers(&event.update, position));
            }
            return Ok(if search.is_over { search } else { at_start(search) });
        };
        let behind = Position(search.after.0.saturating_add(1));
        let mut heads = BinaryHeap::new();
        for topic in topics.iter().map(|it| hash(it.as_str())) {
            heads.extend(self.previous_of(topic, behind)?.map(|it| (it, topic)));
        }
        let mut done = behind;
        while let Some((position, topic)) = heads.pop() {
            if position < done {
                if search.has_to_rest(&meter) {
                    return Ok(search);
                }
                let event = self.indexed(position, topic)?;
                meter.spend(&event.update);
                search.note(position, interest.covers(&event.update, position));
            }
            done = position;
            heads.extend(self.previous_of(topic, position)?.map(|it| (it, topic)));
        }
        if search.is_over {
            return Ok(search);
        }
        Ok(at_start(search))
    }

    /// The position before the first event that was accepted at this time or later. Times grow with
    /// positions.
    fn before_time(&self, time: i64) -> Result<Position, Error> {
        let (mut before, mut end) = (self.floor.0, self.last.0 + 1);
        // Events up to `before` are too old; events from `end` on are not.
        while before + 1 < end {
            let middle = before + (end - before) / 2;
            let Some(entry) = self.events.range(middle..end)?.next() else {
                end = middle;
                continue;
            };
            let (position, record) = entry?;
            if codec::accepted(Position(position.value()), record.value())? < time {
                before = position.value();
            } else {
                end = middle;
            }
        }
        Ok(Position(before))
    }
}

/// The first index entry of a hash after a position. If a bucket has none, the following entry
/// shows which bucket to search next. So empty buckets cost nothing.
fn next_of(
    index: &ReadOnlyTable<IndexKey, ()>,
    hash: Hash,
    after: Position,
) -> Result<Option<Position>, Error> {
    let mut from = Position(after.0 + 1);
    loop {
        let following = index.range(index_key(hash, from)..)?.next().transpose()?;
        let Some((key, _)) = following else { return Ok(None) };
        let (found, position) = index_parts(key.value());
        if found == hash && from <= position {
            return Ok(Some(position));
        }
        let bucket = Position(position.0 / BUCKET * BUCKET);
        from = if from < bucket { bucket } else { next_bucket(from) };
    }
}

/// The events of a page so far.
struct Found {
    events: Vec<Arc<Event>>,
    bytes: usize,
    budget: Budget,
}

impl Found {
    fn is_full(&self) -> bool {
        self.budget.events <= self.events.len() || self.budget.bytes <= self.bytes
    }

    fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push(event);
    }
}
