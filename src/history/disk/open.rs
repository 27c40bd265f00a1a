//! Opening a store: whose it is, whether it can be read, what it says of itself.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use redb::{Builder, Database, Error, ReadableDatabase as _, ReadableTable as _, TableError};

use super::{
    DiskOptions, Durability,
    codec::{Remembered, time},
    tables::{BYTES, DROPPED, FORMAT, NUMBERS, TOTALS, Tables, bytes, number, shelf},
    write::Log,
};
use crate::{
    event::Position,
    history::{
        Shelf, TokenKey,
        lost::{Dropped, Lost, Reach},
    },
};

/// The store's file in its directory.
const FILE: &str = "tidegate.redb";

/// The wait between two looks whether another process has let go of the store.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Positions that are left out after a crash in which some may have been lost that subscribers have seen.
const LEAP: u64 = 1 << 32;

/// Why a store cannot be opened, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another process has it.
    #[error("the store {} is in use by another process; two gateways need two directories (history.path)", .0.display())]
    InUse(PathBuf),
    /// A newer program has written it.
    #[error("the store {} has format {found}, but this program knows only {FORMAT}; run the newer program, or move the store away", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It cannot be read.
    #[error("the store {} is damaged: {reason}; `tidegate store verify` looks at all of it, `tidegate store export` saves what can be read, and with the file moved away the gateway starts with an empty store", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system does not let it.
    #[error("the store {} cannot be used: {reason}", .path.display())]
    Refused {
        /// The file or the directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

impl DiskError {
    pub(super) fn new(path: &Path, error: &Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error {
            Error::DatabaseAlreadyOpen => Self::InUse(path),
            Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Refused { path, reason }
            }
            _ => Self::Damaged { path, reason },
        }
    }
}

/// A store, as it was found.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) log: Log,
    pub(super) lost: Lost,
    pub(super) token_key: TokenKey,
    /// Whether events were sorted by other rules.
    pub(super) is_to_be_sorted: bool,
}

/// The store's file.
pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Opens the store of a directory, or makes one.
pub(super) fn open(options: &DiskOptions) -> Result<Opened, DiskError> {
    let path = file(&options.path);
    let refused = |error: io::Error| DiskError::Refused {
        path: options.path.clone(),
        reason: error.to_string(),
    };
    make_directory(&options.path).map_err(refused)?;
    let is_new = !path.exists();
    let database = open_file(&path, options.cache_bytes, options.patience)?;
    if is_new {
        // Or a loss of power could take away the file's name, and all that is in it.
        sync_directory(&options.path).map_err(refused)?;
    }
    guarded(|| read(database, options, &path)).map_err(|error| DiskError::new(&path, &error))?
}

/// Only its owner may look into it.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Opens a file, for which another process may have to end first.
pub(super) fn open_file(
    path: &Path,
    cache_bytes: usize,
    patience: Duration,
) -> Result<Database, DiskError> {
    let deadline = Instant::now() + patience;
    loop {
        let opened = guarded(|| {
            let database = Builder::new().set_cache_size(cache_bytes).create(path);
            database.map_err(Error::from)
        });
        match opened {
            Err(Error::DatabaseAlreadyOpen) if Instant::now() < deadline => {
                thread::park_timeout(LOOK_AGAIN);
            }
            opened => return opened.map_err(|error| DiskError::new(path, &error)),
        }
    }
}

/// Runs something that may come across a damaged page, upon which the library sometimes panics.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::Corrupted("a page cannot be understood".to_owned())))
}

fn read(
    database: Database,
    options: &DiskOptions,
    path: &Path,
) -> Result<Result<Opened, DiskError>, Error> {
    if let Some(found) = stored_format(&database)?.filter(|it| *it != FORMAT) {
        return Ok(Err(DiskError::Newer { path: path.to_owned(), found }));
    }
    let token_key = prepare(&database, options)?;
    let transaction = database.begin_read()?;
    let numbers = transaction.open_table(NUMBERS)?;
    let number = |name| Ok::<_, Error>(numbers.get(name)?.map_or(0, |it| it.value()));
    let mut lost = Lost::new(usize::try_from(options.remembered).unwrap_or(usize::MAX));
    let position = Position(number(number::FORGOTTEN)? as u64);
    if position != Position::START {
        // What it had reached was not stored by earlier versions.
        let accepted_at = time(number(number::FORGOTTEN_ACCEPTED)?);
        lost.forget(Dropped { position, accepted_at }, &Reach::ALL);
    }
    for (name, reach) in number::FORGOTTEN_BY_REACH.into_iter().zip(Reach::ALL) {
        let position = Position(number(name)? as u64);
        if position != Position::START {
            let accepted_at = time(number(number::FORGOTTEN_BY_REACH_ACCEPTED[reach as usize])?);
            lost.forget(Dropped { position, accepted_at }, &[reach]);
        }
    }
    for entry in transaction.open_table(DROPPED)?.range(0..)? {
        let (position, remembered) = entry?;
        let remembered = Remembered::decode(remembered.value())?;
        remembered.note_in(&mut lost, Position(position.value()));
    }
    let mut totals = vec![(0, 0); options.rules.len() + 1];
    let stored = transaction.open_table(TOTALS)?;
    for (rule, total) in (0..).zip(&mut totals) {
        *total = stored.get(rule)?.map_or((0, 0), |it| it.value());
    }
    let rules = transaction.open_table(BYTES)?.get(bytes::RULES)?.map(|it| it.value().to_vec());
    let log = Log {
        last: Position(number(number::LAST)? as u64),
        accepted: number(number::ACCEPTED)?,
        commits: number(number::COMMITS)?,
        totals,
        next_reply: number(number::NEXT_REPLY)? as u64,
        reply_bytes: number(number::REPLY_BYTES)? as u64,
    };
    let is_to_be_sorted = rules.unwrap_or_default() != options.fingerprint();
    Ok(Ok(Opened { database, log, lost, token_key, is_to_be_sorted }))
}

fn stored_format(database: &Database) -> Result<Option<i64>, Error> {
    match database.begin_read()?.open_table(NUMBERS) {
        Ok(numbers) => Ok(numbers.get(number::FORMAT)?.map(|it| it.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes what a new store lacks, and notes that a gateway runs on it. This is written at once, so a store that cannot be
/// written to is found out here.
fn prepare(database: &Database, options: &DiskOptions) -> Result<TokenKey, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let token_key = {
        for it in Shelf::ALL {
            transaction.open_table(shelf(it))?;
        }
        let mut tables = Tables::open(&transaction)?;
        let mut kept = transaction.open_table(BYTES)?;
        let known = kept.get(bytes::TOKEN_KEY)?.and_then(|it| it.value().try_into().ok());
        let token_key = known.map_or_else(TokenKey::random, TokenKey::from_bytes);
        kept.insert(bytes::TOKEN_KEY, &token_key.as_bytes()[..])?;
        if known.is_none() {
            kept.insert(bytes::RULES, &*options.fingerprint())?;
        }
        let numbers = &mut tables.numbers;
        numbers.insert(number::FORMAT, FORMAT)?;
        let was_unsynced = numbers.get(number::UNSYNCED)?.is_some_and(|it| it.value() != 0);
        if was_unsynced {
            // Subscribers may have seen events that are gone: their places are left empty, and they are told.
            let last = numbers.get(number::LAST)?.map_or(0, |it| it.value()) + LEAP as i64;
            numbers.insert(number::LAST, last)?;
            numbers.insert(number::FORGOTTEN, last)?;
            let accepted = numbers.get(number::ACCEPTED)?.map_or(0, |it| it.value());
            numbers.insert(number::FORGOTTEN_ACCEPTED, accepted)?;
        }
        let is_unsynced = options.durability != Durability::Sync;
        numbers.insert(number::UNSYNCED, i64::from(is_unsynced))?;
        token_key
    };
    transaction.commit()?;
    Ok(token_key)
}

/// Whether the store itself is damaged, which no new try mends.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupted(_))
        || matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::InvalidData)
}
