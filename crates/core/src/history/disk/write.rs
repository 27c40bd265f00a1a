//! Write transactions: they store events, records and replies, and drop what the retention no
//! longer covers.

use std::sync::Arc;

use redb::{Database, Error, ReadableTable as _, WriteTransaction};

use super::{
    DiskOptions,
    codec::{self, Remembered, micros, time},
    damage::damaged,
    records::{self, Undo},
    seal::{Place, seal_numbers, totals_checksum},
    tables::{
        BUCKET, BYTES, Tables, bytes, count_key, count_position, count_range, index_key, number,
    },
};
use crate::{
    event::{Event, Position, Update},
    history::{
        Batch, Committed, KeyedReply, Record, Revised, Write, hash::hash, sequencer::Commit,
    },
};

/// The approximate bytes that an event costs beside its record: table entries, and waste in pages.
const PER_EVENT: usize = 128;
const PER_TOPIC: usize = 40;

/// Events that every commit may drop, in addition to two for each event that it stores.
const DROPS_PER_COMMIT: usize = 64;

/// The writer's copy of the store's numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    pub(super) last: Position,
    /// The time of acceptance of the newest event.
    pub(super) accepted: i64,
    pub(super) commits: i64,
    /// The number and weight of the events of each rule.
    pub(super) totals: Vec<(u64, u64)>,
    pub(super) next_reply: u64,
    pub(super) reply_bytes: u64,
}

/// Dropped events, with what is needed to notify subscribers that may have missed them.
pub(super) type Drops = Vec<(Position, Remembered)>;

/// A transaction that is ready to be committed.
pub(super) struct Prepared {
    pub(super) transaction: WriteTransaction,
    pub(super) written: Written,
    /// Whether more events must be dropped.
    pub(super) is_over: bool,
}

/// What a transaction has written.
pub(super) struct Written {
    /// The log after the commit.
    pub(super) log: Log,
    pub(super) commit: Commit,
    pub(super) drops: Drops,
    /// What undoes the changes of records, in the order of the changes.
    pub(super) undo: Vec<Undo>,
}

impl Written {
    /// Whether the store is as it was before.
    pub(super) fn is_nothing(&self) -> bool {
        let is_refused = |it: &Committed| !matches!(it, Committed::Stored(_));
        self.commit.outcomes.iter().all(is_refused) && self.drops.is_empty()
    }
}

/// A transaction in progress.
pub(super) struct Session<'t, 'o> {
    transaction: &'t WriteTransaction,
    pub(super) tables: Tables<'t>,
    pub(super) options: &'o DiskOptions,
    pub(super) log: Log,
    pub(super) drops: Drops,
    commit: Commit,
    undo: Vec<Undo>,
}

/// Prepares a transaction that stores submissions and drops events beyond the retention. It drops
/// at most two events per update, and `extra` or [`DROPS_PER_COMMIT`] more, whichever is larger.
pub(super) fn prepare(
    database: &Database,
    options: &DiskOptions,
    log: &Log,
    submissions: impl Iterator<Item = Batch>,
    now: i64,
    extra: usize,
) -> Result<Prepared, Error> {
    let transaction = database.begin_write()?;
    let mut session = Session::open(&transaction, options, log.clone())?;
    for batch in submissions {
        let outcome = session.submit(batch, now)?;
        session.commit.outcomes.push(outcome);
    }
    let n_updates = session.commit.events.len();
    let is_over = session.trim(now, 2 * n_updates + extra.max(DROPS_PER_COMMIT))?;
    session.forget_replies(now)?;
    let written = session.finish()?;
    Ok(Prepared { transaction, written, is_over })
}

/// Prepares a transaction that removes all events and replies after `log`, and undoes the changes
/// of records.
pub(super) fn prepare_rewind(
    database: &Database,
    options: &DiskOptions,
    stored: &Log,
    log: &Log,
    undo: &[Undo],
) -> Result<Prepared, Error> {
    let transaction = database.begin_write()?;
    records::undo(&transaction, undo)?;
    let mut session = Session::open(&transaction, options, stored.clone())?;
    for position in log.last.0 + 1..=stored.last.0 {
        if let Some(event) = session.remove(Position(position))? {
            let id = hash(event.update.id.as_str());
            session.tables.ids.remove(index_key(id, event.position))?;
        }
    }
    for reply in log.next_reply..stored.next_reply {
        session.remove_reply(reply)?;
    }
    session.log.last = log.last;
    session.log.accepted = log.accepted;
    let written = session.finish()?;
    Ok(Prepared { transaction, written, is_over: false })
}

/// Prepares a transaction that sorts all events again, by the present rules.
pub(super) fn prepare_sorting(
    database: &Database,
    options: &DiskOptions,
    log: &Log,
) -> Result<Prepared, Error> {
    let transaction = database.begin_write()?;
    let mut session = Session::open(&transaction, options, log.clone())?;
    session.tables.by_rule.retain(|_, _| false)?;
    session.tables.counted.retain(|_, ()| false)?;
    session.tables.counts.retain(|_, _| false)?;
    session.tables.totals.retain(|_, _| false)?;
    session.log.totals = vec![(0, 0); options.rules.n_parts()];
    let mut after = Position::START;
    while let Some(event) = session.next_event(after)? {
        after = event.position;
        session.sort_in(&event)?;
    }
    let written = session.finish()?;
    let rules = Place::new("bytes", bytes::RULES.as_bytes()).seal(options.rules.fingerprint());
    transaction.open_table(BYTES)?.insert(bytes::RULES, &*rules)?;
    Ok(Prepared { transaction, written, is_over: false })
}

/// Prepares a transaction that stores records, and events with their own positions and times.
pub(super) fn prepare_import(
    database: &Database,
    options: &DiskOptions,
    log: &Log,
    events: Vec<Event>,
    records: &[Record],
) -> Result<Prepared, Error> {
    let transaction = database.begin_write()?;
    for record in records {
        records::write(&transaction, record, Position::START)?;
    }
    let mut session = Session::open(&transaction, options, log.clone())?;
    for event in events {
        session.log.last = session.log.last.max(Position(event.position.0.saturating_sub(1)));
        session.append(event.update, micros(event.accepted_at))?;
    }
    let written = session.finish()?;
    Ok(Prepared { transaction, written, is_over: false })
}

impl<'t, 'o> Session<'t, 'o> {
    fn open(
        transaction: &'t WriteTransaction,
        options: &'o DiskOptions,
        log: Log,
    ) -> Result<Self, Error> {
        let tables = Tables::open(transaction)?;
        let (drops, commit, undo) = (Vec::new(), Commit::default(), Vec::new());
        Ok(Self { transaction, tables, options, log, drops, commit, undo })
    }

    /// Stores a batch, or refuses it. Every condition is checked before anything is written.
    fn submit(&mut self, batch: Batch, now: i64) -> Result<Committed, Error> {
        for reply in &batch.replies {
            if let Some(reply) = self.reply(&reply.key, now)? {
                return Ok(Committed::Already(reply));
            }
        }
        for Write { record, expect } in &batch.records {
            if let Some(revision) = records::conflict(self.transaction, record, *expect)? {
                return Ok(Committed::Conflict(revision));
            }
        }
        if batch.updates.is_empty() && !batch.records.is_empty() {
            self.log.last = Position(self.log.last.0 + 1);
        }
        for update in batch.updates {
            let event = Arc::new(self.append(Arc::new(update), now)?);
            self.commit.events.push(event);
        }
        let revision = self.log.last;
        for Write { record, .. } in batch.records {
            self.undo.push(records::write(self.transaction, &record, revision)?);
            self.commit.records.push(Revised { revision, record });
        }
        for reply in batch.replies {
            self.keep_reply(&reply, now)?;
        }
        Ok(Committed::Stored(revision))
    }

    /// Returns the reply under a key, unless it is too old.
    fn reply(&self, key: &str, now: i64) -> Result<Option<Box<[u8]>>, Error> {
        let Some(stored) = self.tables.replies.get(key)? else { return Ok(None) };
        let (number, sealed) = stored.value();
        let (given, value) = codec::decode_reply(key, number, sealed)?;
        let is_kept = now.saturating_sub(given) <= self.options.age_of_replies();
        Ok(is_kept.then(|| value.into()))
    }

    /// Writes the log and its checksums.
    fn finish(mut self) -> Result<Written, Error> {
        self.log.commits += 1;
        let log = self.log;
        let numbers = &mut self.tables.numbers;
        numbers.insert(number::LAST, log.last.0 as i64)?;
        numbers.insert(number::ACCEPTED, log.accepted)?;
        numbers.insert(number::COMMITS, log.commits)?;
        numbers.insert(number::NEXT_REPLY, log.next_reply as i64)?;
        numbers.insert(number::REPLY_BYTES, log.reply_bytes as i64)?;
        for (rule, total) in (0..).zip(&log.totals) {
            self.tables.totals.insert(rule, total)?;
        }
        numbers.insert(number::TOTALS_CHECKSUM, totals_checksum(&log.totals))?;
        seal_numbers(numbers)?;
        Ok(Written { log, commit: self.commit, drops: self.drops, undo: self.undo })
    }

    fn append(&mut self, update: Arc<Update>, now: i64) -> Result<Event, Error> {
        let position = Position(self.log.last.0 + 1);
        // A clock that was set back must not make `since` unordered.
        let accepted = self.log.accepted.max(now);
        let record = codec::encode(position, accepted, &update);
        self.tables.events.insert(position.0, &*record)?;
        self.tables.ids.insert(index_key(hash(update.id.as_str()), position), ())?;
        for topic in &update.topics {
            self.tables.topics.insert(index_key(hash(topic.as_str()), position), ())?;
        }
        let event = Event::new(position, time(accepted), update);
        self.log.last = position;
        self.log.accepted = accepted;
        self.sort_in(&event)?;
        Ok(event)
    }

    /// Adds an event to the tables of its rule. Drops the oldest one of its topic above the limit.
    fn sort_in(&mut self, event: &Event) -> Result<(), Error> {
        let rule = self.options.part_of(&event.update);
        let (weight, accepted) = (weight(&event.update), micros(event.accepted_at));
        let entry = (u32::try_from(weight).unwrap_or(u32::MAX), accepted);
        self.tables.by_rule.insert((rule, event.position.0), entry)?;
        let total = &mut self.log.totals[rule as usize];
        *total = (total.0 + 1, total.1 + u64::from(entry.0));
        let limit = self.options.events_per_topic(rule);
        if let (Some(limit), Some(topic)) = (limit, event.update.topics.first()) {
            let topic = hash(topic.as_str());
            self.tables.counted.insert(count_key(rule, topic, event.position), ())?;
            let count = self.tables.counts.get((rule, topic))?.map_or(0, |it| it.value()) + 1;
            self.tables.counts.insert((rule, topic), count)?;
            if limit < count {
                let oldest = self.tables.counted.range(count_range(rule, topic))?.next();
                let oldest = oldest.transpose()?.map(|(key, _)| count_position(key.value()));
                if let Some(oldest) = oldest {
                    self.drop_event(oldest)?;
                }
            }
        }
        Ok(())
    }

    fn next_event(&self, after: Position) -> Result<Option<Event>, Error> {
        let next = self.tables.events.range(after.0 + 1..)?.next().transpose()?;
        let decode = |position: u64, record: &[u8]| codec::decode(Position(position), record);
        Ok(next.map(|(position, record)| decode(position.value(), record.value())).transpose()?)
    }

    /// Removes an event from all tables except the index of ids.
    pub(super) fn remove(&mut self, position: Position) -> Result<Option<Event>, Error> {
        let event = match self.tables.events.remove(position.0)? {
            None => return Ok(None),
            Some(record) => codec::decode(position, record.value())?,
        };
        for topic in &event.update.topics {
            self.tables.topics.remove(index_key(hash(topic.as_str()), position))?;
        }
        let rule = self.options.part_of(&event.update);
        let entry = self.tables.by_rule.remove((rule, position.0))?.map(|it| it.value());
        let (weight, accepted) =
            entry.ok_or_else(|| damaged("an event has no entry by its rule"))?;
        if accepted != micros(event.accepted_at) {
            return Err(damaged("the time of an event by its rule is not its own"));
        }
        let total = &mut self.log.totals[rule as usize];
        *total = (total.0.saturating_sub(1), total.1.saturating_sub(u64::from(weight)));
        let is_counted = self.options.events_per_topic(rule).is_some();
        if let (true, Some(topic)) = (is_counted, event.update.topics.first()) {
            let topic = hash(topic.as_str());
            self.tables.counted.remove(count_key(rule, topic, position))?;
            let count = self.tables.counts.get((rule, topic))?.map_or(0, |it| it.value());
            match count {
                0 | 1 => self.tables.counts.remove((rule, topic))?.map(|it| it.value()),
                _ => self.tables.counts.insert((rule, topic), count - 1)?.map(|it| it.value()),
            };
        }
        Ok(Some(event))
    }

    fn keep_reply(&mut self, reply: &KeyedReply, now: i64) -> Result<(), Error> {
        let before = self.tables.replies.get(&*reply.key)?.map(|it| it.value().0);
        if let Some(before) = before {
            self.remove_reply(before)?;
        }
        let number = self.log.next_reply;
        let weight = (2 * reply.key.len() + reply.value.len()) as u64;
        let record = codec::encode_reply(&reply.key, number, now, &reply.value);
        self.tables.replies.insert(&*reply.key, (number, &*record))?;
        self.tables.reply_order.insert(number, (now, &*reply.key, weight))?;
        self.log.next_reply += 1;
        self.log.reply_bytes += weight;
        Ok(())
    }

    pub(super) fn remove_reply(&mut self, number: u64) -> Result<(), Error> {
        if let Some(entry) = self.tables.reply_order.remove(number)? {
            let (given, key, weight) = entry.value();
            let reply = self.tables.replies.get(key)?;
            let reply = reply.ok_or_else(|| damaged("a reply is not where its order says"))?;
            let (found, record) = reply.value();
            let (found_given, value) = codec::decode_reply(key, found, record)?;
            if (found, found_given) != (number, given)
                || weight != (2 * key.len() + value.len()) as u64
            {
                return Err(damaged("the order of replies is not theirs"));
            }
            drop(reply);
            self.log.reply_bytes = self.log.reply_bytes.saturating_sub(weight);
            self.tables.replies.remove(key)?;
        }
        Ok(())
    }
}

/// The approximate bytes of the file that an event uses.
pub(super) fn weight(update: &Update) -> usize {
    let topics: usize = update.topics.iter().map(|it| it.as_str().len() + PER_TOPIC).sum();
    let kind = update.kind.as_ref().map_or(0, |it| it.as_str().len());
    PER_EVENT
        + topics
        + kind
        + update.id.as_str().len()
        + update.data.len()
        + 16 * update.except.len()
}

/// The first position of the next bucket.
pub(super) fn next_bucket(position: Position) -> Position {
    Position((position.0 / BUCKET + 1).saturating_mul(BUCKET))
}
