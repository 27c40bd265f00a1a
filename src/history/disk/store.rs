//! Looking after a store while no gateway runs on it: what is in it, whether all of it can be read, smaller files, and
//! its events and records as lines of JSON.

use std::{
    fs,
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use redb::{
    Database, Error, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
};
use serde::{Deserialize, Serialize};

use super::{
    DiskError, DiskOptions,
    codec::{decode, time},
    open::{self, guarded},
    place::Claim,
    tables::{BY_RULE, EVENTS, IDS, REPLIES, TOPICS, index_key, shelf},
    write::{Log, prepare_import},
};
use crate::{
    event::{ClientKey, Event, EventId, EventType, Position, Topic, Update},
    history::{Record, Shelf, hash::hash},
};

/// The version of what is exported.
const VERSION: u32 = 1;

/// Lines that are imported in one transaction.
const LINES: usize = 1000;

/// Why a store was not looked after.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is none.
    #[error("there is no store in {0}")]
    Missing(String),
    /// There is one where none may be.
    #[error("there is a store in {0} already; import into an empty directory (history.path)")]
    Exists(String),
    /// Input or output failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line that was not exported by this program.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Parts of it were left out.
    #[error("{0} damaged records were left out")]
    LeftOut(u64),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Version(u32),
    Event(EventLine),
    Record { shelf: String, key: String, value: String },
}

#[derive(Serialize, Deserialize)]
struct EventLine {
    position: u64,
    accepted_at: Timestamp,
    id: String,
    topics: Vec<String>,
    data: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<u64>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    except: Vec<String>,
}

/// What is in a store, in lines for people.
///
/// # Errors
/// If it cannot be read.
pub fn info(options: &DiskOptions) -> Result<String, StoreError> {
    let (_claim, opened, path) = existing(options)?;
    let text = guarded(|| describe(&opened.database, &opened.log))
        .map_err(|error| DiskError::new(&path, &error))?;
    let bytes = fs::metadata(&path)?.len();
    Ok(format!("file       {}, {bytes} bytes\n{text}", path.display()))
}

fn describe(database: &Database, log: &Log) -> Result<String, Error> {
    let transaction = database.begin_read()?;
    let events = transaction.open_table(EVENTS)?;
    let accepted = |record: &[u8]| super::codec::accepted(record).map(time);
    let oldest = events.first()?.map(|(_, record)| accepted(record.value())).transpose()?;
    let newest = events.last()?.map(|(_, record)| accepted(record.value())).transpose()?;
    let bytes: u64 = log.totals.iter().map(|it| it.1).sum();
    let shown = |time: Option<Timestamp>| time.map_or("-".to_owned(), |it| it.to_string());
    Ok(format!(
        "format     {}\nevents     {}, {bytes} bytes with their entries\noldest     {}\nnewest     {}\n\
         jobs       {}\nreplies    {}\n",
        super::tables::FORMAT,
        events.len()?,
        shown(oldest),
        shown(newest),
        transaction.open_table(shelf(Shelf::Jobs))?.len()?,
        transaction.open_table(REPLIES)?.len()?,
    ))
}

/// Reads all of a store, and says how much that was.
///
/// # Errors
/// If a part of it is damaged.
pub fn verify(options: &DiskOptions) -> Result<String, StoreError> {
    let (_claim, mut opened, path) = existing(options)?;
    let damaged = |reason: String| DiskError::Damaged { path: path.clone(), reason };
    let is_whole = guarded(|| Ok(opened.database.check_integrity()))
        .map_err(|error| damaged(error.to_string()))?;
    match is_whole {
        Ok(true) => {}
        Ok(false) => return Err(damaged("what it says of itself was not right".to_owned()).into()),
        Err(error) => return Err(damaged(error.to_string()).into()),
    }
    let n_events = guarded(|| read_all(&opened.database));
    let n_events = n_events.map_err(|error| damaged(error.to_string()))?;
    Ok(format!("{}: {n_events} events, all of them whole\n", path.display()))
}

fn read_all(database: &Database) -> Result<u64, Error> {
    let transaction = database.begin_read()?;
    let events = transaction.open_table(EVENTS)?;
    let (topics, ids) = (transaction.open_table(TOPICS)?, transaction.open_table(IDS)?);
    let lacks = |what: &str, position: u64| {
        Error::Corrupted(format!("the index of {what} lacks the event at position {position}"))
    };
    for entry in events.iter()? {
        let (position, record) = entry?;
        let position = Position(position.value());
        let event = decode(position, record.value())?;
        for topic in &event.update.topics {
            if topics.get(index_key(hash(topic.as_str()), position))?.is_none() {
                return Err(lacks("topics", position.0));
            }
        }
        if ids.get(index_key(hash(event.update.id.as_str()), position))?.is_none() {
            return Err(lacks("ids", position.0));
        }
    }
    if transaction.open_table(BY_RULE)?.len()? != events.len()? {
        return Err(Error::Corrupted("not every event has a rule".to_owned()));
    }
    for it in Shelf::ALL {
        for entry in transaction.open_table(shelf(it))?.iter()? {
            entry?;
        }
    }
    Ok(events.len()?)
}

/// Makes the file of a store as small as it can be.
///
/// # Errors
/// If it cannot be read or written.
pub fn compact(options: &DiskOptions) -> Result<String, StoreError> {
    let (_claim, mut opened, path) = existing(options)?;
    let before = fs::metadata(&path)?.len();
    let compacted = guarded(|| Ok(opened.database.compact()?));
    compacted.map_err(|error| DiskError::new(&path, &error))?;
    drop(opened);
    let after = fs::metadata(&path)?.len();
    Ok(format!("{}: {before} bytes before, {after} now\n", path.display()))
}

/// Writes events and records as lines of JSON; replies are left out. What is damaged is left out as well.
///
/// # Errors
/// If something was left out, or cannot be written.
pub fn export(options: &DiskOptions, output: &mut impl Write) -> Result<(), StoreError> {
    let path = open::file(&options.path);
    if !path.is_file() {
        return Err(StoreError::Missing(options.path.display().to_string()));
    }
    let database = open::open_file(&path, options.cache_bytes, options.patience)?;
    put(output, &Line::Version(VERSION))?;
    let mut n_damaged = 0;
    let mut after = Position::START;
    let behind = |after: Position| -> Result<Option<(Position, Option<Event>)>, Error> {
        let events = database.begin_read()?.open_table(EVENTS)?;
        let Some(entry) = events.range(after.0 + 1..)?.next() else { return Ok(None) };
        let (position, record) = entry?;
        let position = Position(position.value());
        Ok(Some((position, decode(position, record.value()).ok())))
    };
    loop {
        match guarded(|| behind(after)) {
            Ok(None) => break,
            Ok(Some((position, event))) => {
                after = position;
                match event {
                    Some(event) => put(output, &Line::Event(EventLine::of(&event)))?,
                    None => n_damaged += 1,
                }
            }
            // Behind a page that cannot be read nothing more is found in this table.
            Err(_) => {
                n_damaged += 1;
                break;
            }
        }
    }
    for it in Shelf::ALL {
        let exported = guarded(|| Ok(export_shelf(&database, it, output)));
        match exported {
            Ok(Ok(())) => {}
            Ok(Err(StoreError::Io(error))) => return Err(error.into()),
            Ok(Err(_)) | Err(_) => n_damaged += 1,
        }
    }
    if 0 < n_damaged { Err(StoreError::LeftOut(n_damaged)) } else { Ok(()) }
}

fn export_shelf(database: &Database, of: Shelf, output: &mut impl Write) -> Result<(), StoreError> {
    let failed = |error: Error| DiskError::new(Path::new(name(of)), &error);
    let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
    let table = transaction.open_table(shelf(of)).map_err(|error| failed(error.into()))?;
    for entry in table.iter().map_err(|error| failed(error.into()))? {
        let (key, value) = entry.map_err(|error| failed(error.into()))?;
        let (key, value) = (STANDARD.encode(key.value()), STANDARD.encode(value.value()));
        put(output, &Line::Record { shelf: name(of).to_owned(), key, value })?;
    }
    Ok(())
}

/// Makes a store of what was exported. Positions and times stay, so that ids are found; tokens of the old store are not
/// good for the new one.
///
/// # Errors
/// If there is a store already, or a line is not what was exported.
pub fn import(options: &DiskOptions, input: impl BufRead) -> Result<String, StoreError> {
    let path = open::file(&options.path);
    if path.exists() {
        return Err(StoreError::Exists(options.path.display().to_string()));
    }
    let (_claim, opened) = open::open(options)?;
    let mut log = opened.log;
    let (mut events, mut records) = (Vec::new(), Vec::new());
    let (mut n_events, mut n_records) = (0, 0);
    let mut write = |events: &mut Vec<Event>, records: &mut Vec<Record>| {
        let stored = guarded(|| {
            let (events, records) = (std::mem::take(events), std::mem::take(records));
            let prepared = prepare_import(&opened.database, options, &log, events, records)?;
            log = prepared.log;
            Ok(prepared.transaction.commit()?)
        });
        stored.map_err(|error| DiskError::new(&path, &error))
    };
    for (at, line) in input.lines().enumerate() {
        let failed = |reason: String| StoreError::Line { line: at + 1, reason };
        let line = serde_json::from_str(&line?).map_err(|error| failed(error.to_string()))?;
        match line {
            Line::Version(VERSION) if at == 0 => {}
            _ if at == 0 => return Err(failed("not an export of a version known here".to_owned())),
            Line::Version(_) => return Err(failed("a second beginning".to_owned())),
            Line::Event(event) => {
                let event = event.into_event().ok_or_else(|| failed("not a client key".to_owned()));
                events.push(event?);
                n_events += 1;
            }
            Line::Record { shelf, key, value } => {
                let record = record(&shelf, &key, &value);
                records.push(record.ok_or_else(|| failed("not a record".to_owned()))?);
                n_records += 1;
            }
        }
        if LINES <= events.len() + records.len() {
            write(&mut events, &mut records)?;
        }
    }
    write(&mut events, &mut records)?;
    Ok(format!("{}: {n_events} events and {n_records} records\n", path.display()))
}

fn put(output: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}

fn existing(options: &DiskOptions) -> Result<(Claim, open::Opened, PathBuf), StoreError> {
    let path = open::file(&options.path);
    if !path.is_file() {
        return Err(StoreError::Missing(options.path.display().to_string()));
    }
    let (claim, opened) = open::open(options)?;
    Ok((claim, opened, path))
}

fn name(shelf: Shelf) -> &'static str {
    match shelf {
        Shelf::Jobs => "jobs",
        Shelf::JobPayloads => "job_payloads",
        Shelf::JobLogs => "job_logs",
        Shelf::JobTombstones => "job_tombstones",
    }
}

fn record(shelf: &str, key: &str, value: &str) -> Option<Record> {
    Some(Record {
        shelf: Shelf::ALL.into_iter().find(|it| name(*it) == shelf)?,
        key: STANDARD.decode(key).ok()?.into(),
        value: Some(STANDARD.decode(value).ok()?.into()),
    })
}

impl EventLine {
    fn of(event: &Event) -> Self {
        let Update { topics, data, id, kind, retry, private, except } = &*event.update;
        Self {
            position: event.position.0,
            accepted_at: event.accepted_at,
            id: id.as_str().to_owned(),
            topics: topics.iter().map(|it| it.as_str().to_owned()).collect(),
            data: data.to_string(),
            kind: kind.as_ref().map(|it| it.as_str().to_owned()),
            retry: *retry,
            private: *private,
            except: except.iter().map(|it| STANDARD.encode(it.as_bytes())).collect(),
        }
    }

    fn into_event(self) -> Option<Event> {
        let except = self.except.iter().map(|it| {
            let bytes = STANDARD.decode(it).ok()?;
            Some(ClientKey::kept(bytes.try_into().ok()?))
        });
        let update = Update {
            topics: self.topics.iter().map(|it| Topic::kept(it)).collect(),
            data: self.data.into(),
            id: EventId::kept(&self.id),
            kind: self.kind.map(|it| EventType::kept(&it)),
            retry: self.retry,
            private: self.private,
            except: except.collect::<Option<_>>()?,
        };
        Some(Event::new(Position(self.position), self.accepted_at, Arc::new(update)))
    }
}
