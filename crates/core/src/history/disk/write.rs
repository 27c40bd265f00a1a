//! Write transactions: they store events, records and replies, and drop what the retention no
//! longer covers.

use std::sync::Arc;

use redb::{Database, Error, ReadableTable as _, WriteTransaction};

use super::{
    DiskOptions,
    codec::{self, Remembered, micros, time},
    damage::damaged,
    seal::{Place, seal_numbers, totals_checksum},
    tables::{
        BUCKET, BYTES, Tables, bytes, count_key, count_position, count_range, index_key, number,
        shelf, shelf_name,
    },
};
use crate::{
    event::{Event, Position, Update},
    history::{Batch, KeyedReply, Record, hash::hash},
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
    /// The log after the commit.
    pub(super) log: Log,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) drops: Drops,
    /// The records that undo the batch's records.
    pub(super) undo: Vec<Record>,
    /// Whether more events must be dropped.
    pub(super) is_over: bool,
}

/// A transaction in progress.
pub(super) struct Session<'t, 'o> {
    pub(super) tables: Tables<'t>,
    pub(super) options: &'o DiskOptions,
    pub(super) log: Log,
    pub(super) drops: Drops,
}

/// Prepares a transaction that stores a batch and drops events beyond the retention. It drops at
/// most two events per update, and `extra` or [`DROPS_PER_COMMIT`] more, whichever is larger.
pub(super) fn prepare(
    database: &Database,
    options: &DiskOptions,
    log: &Log,
    batch: Batch,
    now: i64,
    extra: usize,
) -> Result<Prepared, Error> {
    let transaction = database.begin_write()?;
    let undo = write_records(&transaction, batch.records)?;
    let mut session = Session::open(&transaction, options, log.clone())?;
    let n_updates = batch.updates.len();
    let mut events = Vec::with_capacity(n_updates);
    for update in batch.updates {
        events.push(Arc::new(session.append(Arc::new(update), now)?));
    }
    for reply in batch.replies {
        session.keep_reply(&reply, now)?;
    }
    let is_over = session.trim(now, 2 * n_updates + extra.max(DROPS_PER_COMMIT))?;
    session.forget_replies(now)?;
    session.log.commits += 1;
    let (log, drops) = session.finish()?;
    Ok(Prepared { transaction, log, events, drops, undo, is_over })
}

/// Prepares a transaction that removes all events and replies after `log`, and writes the `undo`
/// records.
pub(super) fn prepare_rewind(
    database: &Database,
    options: &DiskOptions,
    stored: &Log,
    log: &Log,
    undo: Vec<Record>,
) -> Result<Prepared, Error> {
    let transaction = database.begin_write()?;
    write_records(&transaction, undo)?;
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
    session.log.commits += 1;
    let (log, drops) = session.finish()?;
    let (events, undo) = (Vec::new(), Vec::new());
    Ok(Prepared { transaction, log, events, drops, undo, is_over: false })
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
    session.log.totals = vec![(0, 0); options.rules.len() + 1];
    let mut after = Position::START;
    while let Some(event) = session.next_event(after)? {
        after = event.position;
        session.sort_in(&event)?;
    }
    let (log, drops) = session.finish()?;
    let rules = Place::new("bytes", bytes::RULES.as_bytes()).seal(options.fingerprint());
    transaction.open_table(BYTES)?.insert(bytes::RULES, &*rules)?;
    let (events, undo) = (Vec::new(), Vec::new());
    Ok(Prepared { transaction, log, events, drops, undo, is_over: false })
}

/// Prepares a transaction that stores records, and events with their own positions and times.
pub(super) fn prepare_import(
    database: &Database,
    options: &DiskOptions,
    log: &Log,
    events: Vec<Event>,
    records: Vec<Record>,
) -> Result<Prepared, Error> {
    let transaction = database.begin_write()?;
    write_records(&transaction, records)?;
    let mut session = Session::open(&transaction, options, log.clone())?;
    for event in events {
        session.log.last = session.log.last.max(Position(event.position.0.saturating_sub(1)));
        session.append(event.update, micros(event.accepted_at))?;
    }
    session.log.commits += 1;
    let (log, drops) = session.finish()?;
    let (events, undo) = (Vec::new(), Vec::new());
    Ok(Prepared { transaction, log, events, drops, undo, is_over: false })
}

/// Writes records. Returns the records that undo this.
fn write_records(
    transaction: &WriteTransaction,
    records: Vec<Record>,
) -> Result<Vec<Record>, Error> {
    let mut undo = Vec::with_capacity(records.len());
    for Record { shelf: of, key, value } in records {
        let mut table = transaction.open_table(shelf(of))?;
        let place = Place::new(shelf_name(of), &key);
        let before = match value {
            Some(value) => {
                let sealed = place.seal(value.into_vec());
                let before = table.insert(&*key, &*sealed)?;
                before.map(|it| place.unseal(it.value()).map(Into::into)).transpose()?
            }
            None => {
                let before = table.remove(&*key)?;
                before.map(|it| place.unseal(it.value()).map(Into::into)).transpose()?
            }
        };
        drop(table);
        undo.push(Record { shelf: of, key, value: before });
    }
    // The first of several values under one key replaced the original one, so it is undone last.
    undo.reverse();
    Ok(undo)
}

impl<'t, 'o> Session<'t, 'o> {
    fn open(
        transaction: &'t WriteTransaction,
        options: &'o DiskOptions,
        log: Log,
    ) -> Result<Self, Error> {
        Ok(Self { tables: Tables::open(transaction)?, options, log, drops: Vec::new() })
    }

    /// Writes the log and its checksums.
    fn finish(mut self) -> Result<(Log, Drops), Error> {
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
        Ok((log, self.drops))
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
        let rule = self.options.rule_of(&event.update);
        let (weight, accepted) = (weight(&event.update), micros(event.accepted_at));
        let entry = (u32::try_from(weight).unwrap_or(u32::MAX), accepted);
        self.tables.by_rule.insert((rule, event.position.0), entry)?;
        let total = &mut self.log.totals[rule as usize];
        *total = (total.0 + 1, total.1 + u64::from(entry.0));
        let limit = self.options.rule(rule).and_then(|it| it.events_per_topic);
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
        let rule = self.options.rule_of(&event.update);
        let entry = self.tables.by_rule.remove((rule, position.0))?.map(|it| it.value());
        let (weight, accepted) =
            entry.ok_or_else(|| damaged("an event has no entry by its rule"))?;
        if accepted != micros(event.accepted_at) {
            return Err(damaged("the time of an event by its rule is not its own"));
        }
        let total = &mut self.log.totals[rule as usize];
        *total = (total.0.saturating_sub(1), total.1.saturating_sub(u64::from(weight)));
        let is_counted = self.options.rule(rule).is_some_and(|it| it.events_per_topic.is_some());
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
