//! Exports events and records of a store as lines of JSON, and imports them into a new store.
//!
//! The last line counts the lines before it, so that a partial export is never mistaken for a
//! complete one. An import fills the new store under another name and renames it at the end, so a
//! partial store is never served.

#[cfg(test)]
mod tests;

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use redb::{Database, Error, ReadableDatabase as _};
use serde::{Deserialize, Serialize};

use super::{
    DiskError, DiskOptions,
    codec::decode,
    create::create,
    damage::{Unreadable, guarded},
    migrate,
    open::{self, prepare_new},
    place::{Claim, Waiting},
    records,
    seal::Place,
    store::{StoreError, contained, there},
    tables::{EVENTS, FORMAT, FORMAT_WITHOUT_CHECKSUMS, shelf, shelf_name, shelves},
    write::{Log, Prepared, prepare_import},
};
use crate::{
    event::{ClientKey, Event, EventId, EventType, Lane, Position, Topic, Update},
    history::{Record, Shelf},
};

/// The version of the export format.
const VERSION: u32 = 3;

/// The version whose events have no lane and no sender.
const WITHOUT_LANES: u32 = 2;

/// The version without a last line.
const WITHOUT_END: u32 = 1;

/// The limits of one transaction of an import: lines and their bytes.
const LINES: usize = 1000;
const BYTES: usize = 8 << 20;

/// The highest position that an import accepts. Positions after it, and leaps after a crash, are
/// far from the end of the numbers of a store, which have 63 bits.
const HIGHEST: Position = Position(1 << 62);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Version(u32),
    Event(EventLine),
    Record { shelf: String, key: String, value: String },
    End(End),
}

/// The contents of the lines before the last one.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    events: u64,
    records: u64,
    /// What could not be read: single records, and unreadable parts, each counted once whatever it
    /// held.
    left_out: u64,
    /// The checksum of all bytes before this line.
    crc32: u32,
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
    /// Absent in earlier versions, where the type says which lane it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lane: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

/// An export in progress.
struct Exporting<'o, W> {
    output: &'o mut W,
    hasher: crc32fast::Hasher,
    end: End,
}

impl<W: Write> Exporting<'_, W> {
    fn put(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hasher.update(&text);
        self.output.write_all(&text)
    }
}

/// Writes events and records as lines of JSON. Leaves out replies and everything that is damaged.
///
/// # Errors
/// Fails if damaged parts were left out, or if writing fails.
pub fn export(options: &DiskOptions, output: &mut impl Write) -> Result<(), StoreError> {
    let path = there(options)?;
    contained(&path, || {
        let mut waiting = Waiting::new(&path, options.patience);
        let _claim = Claim::on(&options.path, &mut waiting)?;
        let opened = open::wait_for(&mut waiting, || open::open_file(&path, options));
        let (database, _) = opened?;
        // A damaged store of an earlier format is exported as it is, without migration.
        let format = guarded(|| open::stored_format(&database)).ok().flatten().unwrap_or(FORMAT);
        let is_under_way = guarded(|| migrate::is_under_way(&database)).unwrap_or(false);
        let has_checksums = format != FORMAT_WITHOUT_CHECKSUMS && !is_under_way;
        let (hasher, end) = (crc32fast::Hasher::new(), End::default());
        let mut exporting = Exporting { output, hasher, end };
        exporting.put(&Line::Version(VERSION))?;
        export_events(&database, has_checksums, &mut exporting)?;
        for it in shelves(format) {
            export_shelf(&database, *it, has_checksums, &mut exporting)?;
        }
        exporting.end.crc32 = exporting.hasher.clone().finalize();
        let end = std::mem::take(&mut exporting.end);
        let left_out = end.left_out;
        let (events, records) = (end.events, end.records);
        exporting.put(&Line::End(end))?;
        exporting.output.flush()?;
        open::put_away(Some(database));
        if 0 < left_out {
            return Err(StoreError::LeftOut(format!(
                "{left_out} damaged records or parts were left out; {events} events and {records} records were exported"
            )));
        }
        Ok(())
    })
}

/// Returns a record with its checksum. A record of a store that is not migrated may lack one.
fn checked(has_checksums: bool, place: Place<'_>, stored: &[u8]) -> Result<Vec<u8>, Unreadable> {
    match place.unseal(stored) {
        Err(_) if !has_checksums => Ok(place.seal(stored.to_vec())),
        Err(error) => Err(error),
        Ok(_) => Ok(stored.to_vec()),
    }
}

fn export_events(
    database: &Database,
    has_checksums: bool,
    exporting: &mut Exporting<'_, impl Write>,
) -> io::Result<()> {
    let behind = |after: Position| -> Result<Option<(Position, Option<Event>)>, Error> {
        let events = database.begin_read()?.open_table(EVENTS)?;
        let Some(entry) = events.range(after.0 + 1..)?.next() else { return Ok(None) };
        let (position, record) = entry?;
        let position = Position(position.value());
        let key = position.0.to_be_bytes();
        let event = checked(has_checksums, Place::new("events", &key), record.value())
            .and_then(|sealed| decode(position, &sealed));
        Ok(Some((position, event.ok())))
    };
    let mut after = Position::START;
    loop {
        match guarded(|| behind(after)) {
            // A damaged key may name any position. Going backwards would never end.
            Ok(Some((position, event))) if after < position && position.0 < u64::MAX => {
                after = position;
                match event {
                    Some(event) => {
                        exporting.end.events += 1;
                        exporting.put(&Line::Event(EventLine::of(&event)))?;
                    }
                    None => exporting.end.left_out += 1,
                }
            }
            Ok(None) => return Ok(()),
            // After an unreadable page, the rest of this table cannot be found.
            Ok(Some(_)) | Err(_) => {
                exporting.end.left_out += 1;
                return Ok(());
            }
        }
    }
}

/// A key, and its value if that is readable.
type Entry = (Vec<u8>, Option<Vec<u8>>);

fn export_shelf(
    database: &Database,
    of: Shelf,
    has_checksums: bool,
    exporting: &mut Exporting<'_, impl Write>,
) -> io::Result<()> {
    let name = shelf_name(of);
    let behind = |after: Option<&[u8]>| -> Result<Option<Entry>, Error> {
        let table = database.begin_read()?.open_table(shelf(of))?;
        for entry in table.range(after.unwrap_or_default()..)? {
            let (key, value) = entry?;
            let key = key.value();
            if Some(key) == after {
                continue;
            }
            let value = match records::unseal(of, key, value.value()) {
                Ok((_, value)) => Some(value.to_vec()),
                Err(_) if !has_checksums => Some(value.value().to_vec()),
                Err(_) => None,
            };
            return Ok(Some((key.to_vec(), value)));
        }
        Ok(None)
    };
    let mut after: Option<Vec<u8>> = None;
    loop {
        match guarded(|| behind(after.as_deref())) {
            Ok(Some((key, value))) if after.as_ref().is_none_or(|it| *it < key) => {
                match value {
                    Some(value) => {
                        let shelf = name.to_owned();
                        let (key, value) = (STANDARD.encode(&key), STANDARD.encode(value));
                        exporting.end.records += 1;
                        exporting.put(&Line::Record { shelf, key, value })?;
                    }
                    None => exporting.end.left_out += 1,
                }
                after = Some(key);
            }
            Ok(None) => return Ok(()),
            Ok(Some(_)) | Err(_) => {
                exporting.end.left_out += 1;
                return Ok(());
            }
        }
    }
}

/// Creates a store from an export, completely or not at all. Positions and times stay the same, so
/// that ids are found. Cursor tokens of the old store are not valid for the new one. `without_end`
/// accepts the former format, which does not show whether it is complete.
///
/// # Errors
/// Fails if there is a store already, or if the input is not a valid export.
pub fn import(
    options: &DiskOptions,
    input: impl BufRead,
    without_end: bool,
) -> Result<String, StoreError> {
    let path = open::file(&options.path);
    if path.exists() {
        return Err(StoreError::Exists(options.path.display().to_string()));
    }
    open::make_directory(&options.path)?;
    let mut waiting = Waiting::new(&path, options.patience);
    let _claim = Claim::on(&options.path, &mut waiting)?;
    contained(&path, || {
        let end = create(options, &path, |database| {
            let prepared = guarded(|| prepare_new(database, options));
            prepared.map_err(|error| DiskError::new(&path, &error))?;
            Importing::new(database, options).all(input, without_end)
        })?;
        let left_out = match end.left_out {
            0 => String::new(),
            left_out => format!("; {left_out} had been left out of the export"),
        };
        let (events, records) = (end.events, end.records);
        Ok(format!("{}: {events} events and {records} records{left_out}\n", path.display()))
    })
}

struct Importing<'d> {
    database: &'d Database,
    options: &'d DiskOptions,
    log: Log,
    events: Vec<Event>,
    records: Vec<Record>,
    /// The bytes of the lines of `events` and `records`.
    bytes: usize,
    /// The counts of what was read so far.
    found: End,
}

impl<'d> Importing<'d> {
    fn new(database: &'d Database, options: &'d DiskOptions) -> Self {
        let log = Log { totals: vec![(0, 0); options.rules.n_parts()], ..Log::default() };
        let (events, records) = (Vec::new(), Vec::new());
        Self { database, options, log, events, records, bytes: 0, found: End::default() }
    }

    fn all(mut self, mut input: impl BufRead, without_end: bool) -> Result<End, StoreError> {
        let mut hasher = crc32fast::Hasher::new();
        let (mut text, mut n_lines, mut version, mut end) = (Vec::new(), 0, 0, None);
        while 0 < input.read_until(b'\n', &mut text)? {
            n_lines += 1;
            let failed = |reason: String| StoreError::Line { line: n_lines, reason };
            if text.last() != Some(&b'\n') {
                return Err(StoreError::Cut { lines: n_lines });
            }
            if end.is_some() {
                return Err(failed("there is more after the last line".to_owned()));
            }
            let line = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
            match line {
                Line::Version(found @ (VERSION | WITHOUT_LANES | WITHOUT_END)) if n_lines == 1 => {
                    version = found
                }
                _ if n_lines == 1 => {
                    return Err(failed("not an export of a version known here".to_owned()));
                }
                Line::Version(_) => return Err(failed("a second beginning".to_owned())),
                Line::Event(event) => {
                    let event = event.into_event().map_err(failed)?;
                    self.check_position(event.position).map_err(failed)?;
                    self.events.push(event);
                    self.found.events += 1;
                }
                Line::Record { shelf, key, value } => {
                    let record = record(&shelf, &key, &value);
                    self.records.push(record.ok_or_else(|| failed("not a record".to_owned()))?);
                    self.found.records += 1;
                }
                Line::End(said) => {
                    // The checksum covers only the lines before this one.
                    self.found.crc32 = hasher.clone().finalize();
                    end = Some(said);
                }
            }
            hasher.update(&text);
            self.bytes += text.len();
            text.clear();
            if LINES <= self.events.len() + self.records.len() || BYTES <= self.bytes {
                self.write()?;
            }
        }
        self.write()?;
        match end {
            None if version == WITHOUT_END && without_end => Ok(self.found),
            None if version == WITHOUT_END => Err(StoreError::WithoutEnd),
            None => Err(StoreError::Cut { lines: n_lines }),
            Some(end) => {
                self.found.left_out = end.left_out;
                if self.found == end { Ok(end) } else { Err(miscounted(&end, &self.found)) }
            }
        }
    }

    fn check_position(&self, position: Position) -> Result<(), String> {
        let previous = self.events.last().map_or(self.log.last, |it| it.position);
        if position <= previous {
            return Err("its position is not behind the one before".to_owned());
        }
        if HIGHEST < position {
            return Err(format!(
                "its position is {}; at most {} is possible",
                position.0, HIGHEST.0
            ));
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let (events, records) =
            (std::mem::take(&mut self.events), std::mem::take(&mut self.records));
        let stored = guarded(|| {
            let Prepared { mut transaction, written, .. } =
                prepare_import(self.database, self.options, &self.log, events, &records)?;
            transaction.set_quick_repair(true);
            transaction.commit()?;
            Ok(written.log)
        });
        let path = open::file(&self.options.path);
        self.log = stored.map_err(|error| DiskError::new(&path, &error))?;
        Ok(())
    }
}

fn miscounted(said: &End, found: &End) -> StoreError {
    let counts = (said.events, said.records) == (found.events, found.records);
    StoreError::Miscounted(if counts {
        "its checksum is another one".to_owned()
    } else {
        format!(
            "{} events and {} records, but there are {} and {}",
            said.events, said.records, found.events, found.records
        )
    })
}

fn record(shelf: &str, key: &str, value: &str) -> Option<Record> {
    Some(Record {
        shelf: Shelf::ALL.into_iter().find(|it| shelf_name(*it) == shelf)?,
        key: STANDARD.decode(key).ok()?.into(),
        value: Some(STANDARD.decode(value).ok()?.into()),
    })
}

impl EventLine {
    fn of(event: &Event) -> Self {
        let Update { topics, data, id, kind, retry, private, except, lane, from } = &*event.update;
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
            lane: Some(lane.as_str().to_owned()),
            from: from.as_ref().map(|it| it.to_string()),
        }
    }

    /// Converts to an event. Returns what is wrong if no gateway would have accepted it.
    fn into_event(self) -> Result<Event, String> {
        let except = self.except.iter().map(|it| {
            let bytes = STANDARD.decode(it).ok()?;
            Some(ClientKey::kept(bytes.try_into().ok()?))
        });
        let except: Option<_> = except.collect();
        let kind = self.kind.map(|it| EventType::kept(&it));
        let lane = match &self.lane {
            None => Lane::of_stored(kind.as_ref()),
            Some(name) => {
                Lane::from_name(name).ok_or_else(|| format!("`{name}` is not a lane known here"))?
            }
        };
        let update = Update {
            lane,
            from: self.from.map(Into::into),
            topics: self.topics.iter().map(|it| Topic::kept(it)).collect(),
            data: self.data.into(),
            id: EventId::kept(&self.id),
            kind,
            retry: self.retry,
            private: self.private,
            except: except.ok_or("not a client key")?,
        };
        update.check().map_err(|error| error.to_string())?;
        Ok(Event::new(Position(self.position), self.accepted_at, Arc::new(update)))
    }
}
