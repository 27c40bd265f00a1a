//! Opening a store: who has it, whether it can be read, and the state that it records.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use redb::{
    Builder, Database, Error, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableError, TableHandle as _, backends::FileBackend,
};
use tracing::debug;

use super::{
    DiskOptions, Durability,
    codec::{Remembered, time},
    create::{create, tighten},
    damage::{damaged, guarded},
    error::DiskError,
    migrate,
    overlay::Overlay,
    place::{Claim, Identity, Waiting},
    seal::{Place, check_numbers, seal_numbers, totals_checksum},
    tables::{
        BYTES, DROPPED, FORMAT, FORMAT_WITHOUT_CHECKSUMS, NAMES, NUMBERS, TOTALS, Tables, bytes,
        number, shelf, shelf_name, shelves,
    },
    write::Log,
};
use crate::{
    event::Position,
    history::{
        CursorKey, Shelf,
        lost::{Dropped, Lost},
        reach::Reach,
    },
};

/// The name of the store's file in its directory.
const FILE: &str = "tidegate.redb";

/// Positions skipped after a crash that may have lost events which subscribers have seen.
const LEAP: u64 = 1 << 32;

/// An opened store and its recorded state.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) log: Log,
    pub(super) lost: Lost,
    pub(super) cursor_key: CursorKey,
    /// Whether events must be sorted again, because the rules have changed.
    pub(super) is_to_be_sorted: bool,
    pub(super) identity: Identity,
    /// The reason why nothing can be written to the store. What the library had to write is only in
    /// memory.
    pub(super) frozen: Option<String>,
}

/// The path of the store's file.
pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Claims a directory and opens its store. Creates the directory and the store if they are missing.
pub(super) fn open(options: &DiskOptions) -> Result<(Claim, Opened), DiskError> {
    let path = file(&options.path);
    let refused = |error: io::Error| DiskError::refused(&options.path, &error);
    make_directory(&options.path).map_err(refused)?;
    let mut waiting = Waiting::new(&path, options.patience);
    let claim = Claim::on(&options.path, &mut waiting)?;
    if !path.exists() {
        let filled = |database: &Database| {
            let prepared = guarded(|| prepare_new(database, options));
            prepared.map_err(|error| DiskError::new(&path, &error))
        };
        wait_for(&mut waiting, || create(options, &path, filled))?;
    }
    let opened = wait_for(&mut waiting, || open_claimed(options))?;
    Ok((claim, opened))
}

/// Opens the store of a directory like [`open`]. A store that exists but cannot be written to is
/// opened frozen.
pub(super) fn open_or_freeze(options: &DiskOptions) -> Result<(Claim, Opened), DiskError> {
    let refused = match open(options) {
        Err(error) if error.forbids_writing().is_some() => error,
        outcome => return outcome,
    };
    let mut waiting = Waiting::new(&file(&options.path), options.patience);
    let Ok(claim) = Claim::on(&options.path, &mut waiting) else { return Err(refused) };
    let reason = refused.forbids_writing().unwrap_or_default();
    match freeze(
        options,
        format!("nothing can be written to it: {reason}; this is tried every second"),
    ) {
        Ok(opened) => Ok((claim, opened)),
        Err(error) => {
            debug!(%error, "the store cannot be read either");
            Err(refused)
        }
    }
}

/// Opens the existing store of a claimed directory.
pub(super) fn open_claimed(options: &DiskOptions) -> Result<Opened, DiskError> {
    let path = file(&options.path);
    let (database, identity) = open_checked(&path, options)?;
    let opened = guarded(|| read(database, identity, options));
    opened.map_err(|error| DiskError::new(&path, &error))
}

/// Opens an existing store, and migrates it to the format of this program. Writes nothing else.
pub(super) fn open_checked(
    path: &Path,
    options: &DiskOptions,
) -> Result<(Database, Identity), DiskError> {
    let (mut database, identity) = open_file(path, options)?;
    match guarded(|| check_format(&mut database, true)) {
        Ok(None) => Ok((database, identity)),
        Ok(Some(found)) => Err(DiskError::Newer { path: path.to_owned(), found }),
        Err(error) => {
            put_away(Some(database));
            Err(DiskError::new(path, &error))
        }
    }
}

/// Checks that a store has all required parts. Returns its format if this program does not know it.
fn check_format(database: &mut Database, may_write: bool) -> Result<Option<i64>, Error> {
    let found = stored_format(database)?;
    match found {
        None => return Err(damaged("it does not say which format it has")),
        Some(FORMAT_WITHOUT_CHECKSUMS..=FORMAT) => {}
        Some(found) => return Ok(Some(found)),
    }
    // A missing table would be created again, and its contents would be lost silently.
    let transaction = database.begin_read()?;
    let names: Vec<String> = transaction.list_tables()?.map(|it| it.name().to_owned()).collect();
    drop(transaction);
    let shelves = shelves(found.unwrap_or(FORMAT)).iter().copied().map(shelf_name);
    let mut needed = NAMES.into_iter().chain(shelves);
    if let Some(missing) = needed.find(|it| names.iter().all(|name| name != it)) {
        return Err(damaged(&format!("it has no table {missing}")));
    }
    if found == Some(FORMAT_WITHOUT_CHECKSUMS) || migrate::is_under_way(database)? {
        if !may_write {
            // A migration in memory would not be bounded.
            let reason = "it has the format of an earlier version, and cannot be changed";
            return Err(Error::Io(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, reason)));
        }
        migrate::add_checksums(database)?;
    }
    if found != Some(FORMAT) {
        migrate::add_shelves(database)?;
    }
    check_numbers(&database.begin_read()?.open_table(NUMBERS)?)?;
    Ok(None)
}

/// Closes a store. This writes, and may meet damage again.
pub(super) fn put_away(database: Option<Database>) {
    let closed = guarded(|| {
        drop(database);
        Ok(())
    });
    if let Err(error) = closed {
        debug!(%error, "the store was not closed in order");
    }
}

/// Opens the store of a claimed directory without writing to it.
pub(super) fn freeze(options: &DiskOptions, reason: String) -> Result<Opened, DiskError> {
    let path = file(&options.path);
    let failed = |error: Error| DiskError::new(&path, &error);
    let file = fs::File::open(&path).map_err(|error| failed(error.into()))?;
    check_length(&path, &file)?;
    let identity = Identity::of(&file).map_err(|error| failed(error.into()))?;
    let overlay = Overlay::over(file).map_err(|error| failed(error.into()))?;
    let database = guarded(|| {
        Ok(Builder::new().set_cache_size(options.cache_bytes).create_with_backend(overlay)?)
    });
    let mut database = database.map_err(failed)?;
    if let Some(found) = guarded(|| check_format(&mut database, false)).map_err(failed)? {
        return Err(DiskError::Newer { path, found });
    }
    let opened = guarded(|| read(database, identity, options)).map_err(failed)?;
    Ok(Opened { frozen: Some(reason), ..opened })
}

/// Runs `open` until the store is no longer in use by another process.
pub(super) fn wait_for<T>(
    waiting: &mut Waiting,
    open: impl Fn() -> Result<T, DiskError>,
) -> Result<T, DiskError> {
    loop {
        match open() {
            Err(DiskError::InUse { .. }) => waiting.go_on()?,
            outcome => return outcome,
        }
    }
}

/// Creates a directory that only its owner may read.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
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

/// Opens an existing file.
pub(super) fn open_file(
    path: &Path,
    options: &DiskOptions,
) -> Result<(Database, Identity), DiskError> {
    let failed = |error: io::Error| DiskError::new(path, &error.into());
    let file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    check_length(path, &file)?;
    tighten(path, &file).map_err(failed)?;
    let identity = Identity::of(&file).map_err(failed)?;
    let opened = guarded(|| {
        let backend = FileBackend::new(file)?;
        Ok(Builder::new().set_cache_size(options.cache_bytes).create_with_backend(backend)?)
    });
    Ok((opened.map_err(|error| DiskError::new(path, &error))?, identity))
}

/// Refuses an empty file, because the library would create a new store in it.
fn check_length(path: &Path, file: &fs::File) -> Result<(), DiskError> {
    let length = file.metadata().map_err(|error| DiskError::new(path, &error.into()))?.len();
    if 0 < length {
        return Ok(());
    }
    Err(DiskError::Damaged { path: path.to_owned(), reason: "its file is empty".to_owned() })
}

fn read(database: Database, identity: Identity, options: &DiskOptions) -> Result<Opened, Error> {
    let cursor_key = prepare(&database, options)?;
    let transaction = database.begin_read()?;
    let numbers = transaction.open_table(NUMBERS)?;
    let number = |name| Ok::<_, Error>(numbers.get(name)?.map_or(0, |it| it.value()));
    let mut lost = Lost::new(usize::try_from(options.remembered).unwrap_or(usize::MAX));
    let position = Position(number(number::FORGOTTEN)? as u64);
    if position != Position::START {
        // Earlier versions did not store the reach.
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
        let position = Position(position.value());
        Remembered::decode(position, remembered.value())?.note_in(&mut lost, position);
    }
    let mut totals = vec![(0, 0); options.rules.n_parts()];
    let stored = transaction.open_table(TOTALS)?;
    for (rule, total) in (0..).zip(&mut totals) {
        *total = stored.get(rule)?.map_or((0, 0), |it| it.value());
    }
    let rules = kept_bytes(&transaction.open_table(BYTES)?, bytes::RULES)?;
    let is_to_be_sorted = rules.unwrap_or_default() != options.rules.fingerprint();
    let checksum = numbers.get(number::TOTALS_CHECKSUM)?.map(|it| it.value());
    // After a change of the rules, all events are counted again.
    if !is_to_be_sorted && checksum.map_or(!stored.is_empty()?, |it| it != totals_checksum(&totals))
    {
        return Err(damaged("the totals of its rules are not what was written"));
    }
    let log = Log {
        last: Position(number(number::LAST)? as u64),
        accepted: number(number::ACCEPTED)?,
        commits: number(number::COMMITS)?,
        totals,
        next_reply: number(number::NEXT_REPLY)? as u64,
        reply_bytes: number(number::REPLY_BYTES)? as u64,
    };
    let frozen = None;
    Ok(Opened { database, log, lost, cursor_key, is_to_be_sorted, identity, frozen })
}

/// The format that a store claims to have.
pub(super) fn stored_format(database: &Database) -> Result<Option<i64>, Error> {
    match database.begin_read()?.open_table(NUMBERS) {
        Ok(numbers) => Ok(numbers.get(number::FORMAT)?.map(|it| it.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The value stored under a name.
fn kept_bytes(
    table: &impl redb::ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let Some(sealed) = table.get(name)? else { return Ok(None) };
    Ok(Some(Place::new("bytes", name.as_bytes()).unseal(sealed.value())?.to_vec()))
}

/// Creates the tables of a new store and its first entries.
pub(super) fn prepare_new(database: &Database, options: &DiskOptions) -> Result<(), Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        for it in Shelf::ALL {
            transaction.open_table(shelf(it))?;
        }
        let mut tables = Tables::open(&transaction)?;
        let mut kept = transaction.open_table(BYTES)?;
        let mut keep = |name: &str, value: Vec<u8>| {
            kept.insert(name, &*Place::new("bytes", name.as_bytes()).seal(value)).map(drop)
        };
        keep(bytes::TOKEN_KEY, CursorKey::random().as_bytes().to_vec())?;
        keep(bytes::RULES, options.rules.fingerprint())?;
        tables.numbers.insert(number::FORMAT, FORMAT)?;
        seal_numbers(&mut tables.numbers)?;
    }
    Ok(transaction.commit()?)
}

/// Notes that a gateway runs on a store. This writes immediately, so an unwritable store is found
/// here.
fn prepare(database: &Database, options: &DiskOptions) -> Result<CursorKey, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let cursor_key = {
        let known = kept_bytes(&transaction.open_table(BYTES)?, bytes::TOKEN_KEY)?;
        let known = known.and_then(|it| it.try_into().ok());
        let cursor_key = known.map(CursorKey::from_bytes);
        let cursor_key = cursor_key.ok_or_else(|| damaged("it has no key for cursor tokens"))?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        check_numbers(&numbers)?;
        let was_unsynced = numbers.get(number::UNSYNCED)?.is_some_and(|it| it.value() != 0);
        if was_unsynced {
            // Subscribers may have seen events that are lost. Their positions stay unused, and
            // these subscribers are notified of a gap.
            let last = numbers.get(number::LAST)?.map_or(0, |it| it.value()) + LEAP as i64;
            numbers.insert(number::LAST, last)?;
            numbers.insert(number::FORGOTTEN, last)?;
            let accepted = numbers.get(number::ACCEPTED)?.map_or(0, |it| it.value());
            numbers.insert(number::FORGOTTEN_ACCEPTED, accepted)?;
        }
        let is_unsynced = options.durability != Durability::Sync;
        numbers.insert(number::UNSYNCED, i64::from(is_unsynced))?;
        seal_numbers(&mut numbers)?;
        cursor_key
    };
    transaction.commit()?;
    Ok(cursor_key)
}
