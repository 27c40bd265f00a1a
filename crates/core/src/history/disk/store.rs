//! Maintenance of a store while no gateway uses it: showing its contents, verifying it, and
//! compacting its file.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use redb::{
    Database, Error, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
};

pub use super::export::{export, import};
use super::{
    DiskError, DiskOptions,
    codec::{self, Remembered, decode, time},
    damage::{self, guarded},
    open,
    place::{Claim, Waiting},
    records,
    seal::check_numbers,
    tables::{
        BY_RULE, DROPPED, EVENTS, IDS, NUMBERS, REPLIES, REPLY_ORDER, TOPICS, index_key, shelf,
    },
    write::Log,
};
use crate::{
    event::Position,
    history::{Shelf, hash::hash},
};

/// The reason why maintenance of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be opened or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no store.
    #[error("there is no store in {0} (history.path)")]
    Missing(String),
    /// There is already a store.
    #[error("there is a store in {0} already; import into an empty directory (history.path)")]
    Exists(String),
    /// Input or output failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line that this program did not export.
    #[error("line {line}: {reason}")]
    Line {
        /// The line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Parts of the store were left out.
    #[error("{0}")]
    LeftOut(String),
    /// The library met a page that it cannot parse.
    #[error(
        "the store {0} is damaged: a page cannot be understood; `tidegate store export` saves what can be read"
    )]
    Incomprehensible(String),
    /// The input ends before its last line.
    #[error(
        "the export is cut: it has no last line that counts what it holds, so parts of it are missing after line {lines}; nothing was imported"
    )]
    Cut {
        /// The number of lines found.
        lines: usize,
    },
    /// The input does not match its last line.
    #[error("the export is not what its last line says: {0}; nothing was imported")]
    Miscounted(String),
    /// The input was exported before exports ended with a line that counts.
    #[error(
        "this is an export of format 1, which has no last line, so whether it is whole cannot be told; `tidegate store import --without-end` takes it"
    )]
    WithoutEnd,
}

/// Describes the contents of a store in lines for operators.
///
/// # Errors
/// Fails if the store cannot be read.
pub fn info(options: &DiskOptions) -> Result<String, StoreError> {
    let path = there(options)?;
    contained(&path, || {
        let (_claim, opened) = open::open(options)?;
        let text = guarded(|| describe(&opened.database, &opened.log))
            .map_err(|error| DiskError::new(&path, &error))?;
        let bytes = fs::metadata(&path)?.len();
        Ok(format!("file       {}, {bytes} bytes\n{text}", path.display()))
    })
}

fn describe(database: &Database, log: &Log) -> Result<String, Error> {
    let transaction = database.begin_read()?;
    let events = transaction.open_table(EVENTS)?;
    let accepted = |position, record: &[u8]| codec::accepted(Position(position), record).map(time);
    let oldest = events.first()?.map(|(at, it)| accepted(at.value(), it.value())).transpose()?;
    let newest = events.last()?.map(|(at, it)| accepted(at.value(), it.value())).transpose()?;
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

/// Reads all of a store, and reports how many events it has.
///
/// # Errors
/// Fails if a part of the store is damaged.
pub fn verify(options: &DiskOptions) -> Result<String, StoreError> {
    let path = there(options)?;
    contained(&path, || {
        let damaged = |reason: String| DiskError::Damaged { path: path.clone(), reason };
        // Opening it as a gateway does would write, and so give damaged content on those pages a
        // new checksum.
        let mut waiting = Waiting::new(&path, options.patience);
        let _claim = Claim::on(&options.path, &mut waiting)?;
        let opened = open::wait_for(&mut waiting, || open::open_checked(&path, options));
        let (mut database, _) = opened?;
        let is_whole = guarded(|| Ok(database.check_integrity()?));
        let found = is_whole.and_then(|is_whole| {
            if is_whole {
                guarded(|| read_all(&database))
            } else {
                Err(damage::damaged("what it says of itself was not right"))
            }
        });
        let n_events = found.map_err(|error| damaged(error.to_string()))?;
        Ok(format!("{}: {n_events} events, all of them whole\n", path.display()))
    })
}

fn read_all(database: &Database) -> Result<u64, Error> {
    let transaction = database.begin_read()?;
    check_numbers(&transaction.open_table(NUMBERS)?)?;
    let events = transaction.open_table(EVENTS)?;
    let (topics, ids) = (transaction.open_table(TOPICS)?, transaction.open_table(IDS)?);
    let lacks = |what: &str, position: u64| {
        damage::damaged(&format!("the index of {what} lacks the event at position {position}"))
    };
    let mut n_topics = 0;
    for entry in events.iter()? {
        let (position, record) = entry?;
        let position = Position(position.value());
        let event = decode(position, record.value())?;
        let mut hashes: Vec<_> = event.update.topics.iter().map(|it| hash(it.as_str())).collect();
        hashes.sort_unstable();
        hashes.dedup();
        n_topics += hashes.len() as u64;
        for topic in hashes {
            if topics.get(index_key(topic, position))?.is_none() {
                return Err(lacks("topics", position.0));
            }
        }
        if ids.get(index_key(hash(event.update.id.as_str()), position))?.is_none() {
            return Err(lacks("ids", position.0));
        }
    }
    let dropped = transaction.open_table(DROPPED)?;
    for entry in dropped.iter()? {
        let (position, record) = entry?;
        let position = Position(position.value());
        let id = Remembered::decode(position, record.value())?.id;
        if ids.get(index_key(id, position))?.is_none() {
            return Err(lacks("ids", position.0));
        }
    }
    // Each index has all required entries, so its length shows any others.
    if topics.len()? != n_topics {
        return Err(damage::damaged("the index of topics has entries of no event"));
    }
    if ids.len()? != events.len()? + dropped.len()? {
        return Err(damage::damaged("the index of ids has entries of no event"));
    }
    let by_rule = transaction.open_table(BY_RULE)?;
    if by_rule.len()? != events.len()? {
        return Err(damage::damaged("not every event has a rule"));
    }
    for entry in by_rule.iter()? {
        let (key, entry) = entry?;
        let (position, accepted) = (Position(key.value().1), entry.value().1);
        let record = events.get(position.0)?;
        let record =
            record.ok_or_else(|| damage::damaged("a rule has an event that is not there"))?;
        if codec::accepted(position, record.value())? != accepted {
            return Err(damage::damaged("the time of an event by its rule is not its own"));
        }
    }
    check_replies(&transaction)?;
    for it in Shelf::ALL {
        for entry in transaction.open_table(shelf(it))?.iter()? {
            let (key, value) = entry?;
            records::unseal(it, key.value(), value.value())?;
        }
    }
    Ok(events.len()?)
}

fn check_replies(transaction: &redb::ReadTransaction) -> Result<(), Error> {
    let replies = transaction.open_table(REPLIES)?;
    let order = transaction.open_table(REPLY_ORDER)?;
    for entry in replies.iter()? {
        let (key, reply) = entry?;
        let (number, sealed) = reply.value();
        let (given, _) = codec::decode_reply(key.value(), number, sealed)?;
        let found = order.get(number)?.map(|it| (it.value().0, it.value().1.to_owned()));
        if found != Some((given, key.value().to_owned())) {
            return Err(damage::damaged("a reply is not in the order of replies"));
        }
    }
    if replies.len()? != order.len()? {
        return Err(damage::damaged("the order of replies names some that are not there"));
    }
    Ok(())
}

/// Makes the file of a store as small as possible.
///
/// # Errors
/// Fails if the file cannot be read or written.
pub fn compact(options: &DiskOptions) -> Result<String, StoreError> {
    let path = there(options)?;
    contained(&path, || {
        let (_claim, mut opened) = open::open(options)?;
        let before = fs::metadata(&path)?.len();
        let compacted = guarded(|| Ok(opened.database.compact()?));
        compacted.map_err(|error| DiskError::new(&path, &error))?;
        drop(opened);
        let after = fs::metadata(&path)?.len();
        Ok(format!("{}: {before} bytes before, {after} now\n", path.display()))
    })
}

/// The path of an existing store's file.
pub(super) fn there(options: &DiskOptions) -> Result<PathBuf, StoreError> {
    let path = open::file(&options.path);
    if path.is_file() {
        Ok(path)
    } else {
        Err(StoreError::Missing(options.path.display().to_string()))
    }
}

/// Runs a maintenance task, and turns a panic into an error for the operator. Reading or closing a
/// damaged store may panic.
pub(super) fn contained<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Incomprehensible(path.display().to_string())))
}
