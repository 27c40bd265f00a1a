//! Records of shelves, with their revisions.
//!
//! A record is its revision in 8 bytes, big-endian, and its value. Its checksum covers a name of
//! its own instead of the table's. That tells it from a record of [`FORMAT_WITHOUT_REVISIONS`],
//! which is the value alone under the table's name.
//!
//! [`FORMAT_WITHOUT_REVISIONS`]: super::tables::FORMAT_WITHOUT_REVISIONS

use redb::{Error, ReadableTable as _, WriteTransaction};

use super::{
    damage::Unreadable,
    seal::Place,
    tables::{shelf, shelf_name},
};
use crate::{
    event::Position,
    history::{Expect, Record, Revised, Shelf},
};

/// What undoes a change of a record.
pub(super) type Undo = Revised;

/// The name under which the checksum of a record with a revision is made.
fn name(of: Shelf) -> &'static str {
    match of {
        Shelf::Jobs => "revised jobs",
        Shelf::JobPayloads => "revised job_payloads",
        Shelf::JobLogs => "revised job_logs",
        Shelf::JobTombstones => "revised job_tombstones",
        Shelf::JobKeys => "revised job_keys",
        Shelf::State => "revised state",
        Shelf::Clients => "revised clients",
    }
}

fn seal(of: Shelf, key: &[u8], revision: Position, value: &[u8]) -> Vec<u8> {
    Place::new(name(of), key).seal([&revision.0.to_be_bytes(), value].concat())
}

/// Returns the revision and the value of a stored record. One that was stored without a revision
/// has [`Position::START`].
pub(super) fn unseal<'s>(
    of: Shelf,
    key: &[u8],
    sealed: &'s [u8],
) -> Result<(Position, &'s [u8]), Unreadable> {
    if let Ok(record) = Place::new(name(of), key).unseal(sealed) {
        let (revision, value) = record.split_first_chunk().ok_or(Unreadable::Damaged)?;
        return Ok((Position(u64::from_be_bytes(*revision)), value));
    }
    Ok((Position::START, Place::new(shelf_name(of), key).unseal(sealed)?))
}

/// A revision and the value that was written at it.
type Stored = (Position, Box<[u8]>);

/// Reads a record from a table.
fn read(
    table: &redb::Table<'_, &'static [u8], &'static [u8]>,
    of: Shelf,
    key: &[u8],
) -> Result<Option<Stored>, Error> {
    let Some(sealed) = table.get(key)? else { return Ok(None) };
    let (revision, value) = unseal(of, key, sealed.value())?;
    Ok(Some((revision, value.into())))
}

/// Checks what a writer expects of a record. Returns the revision of the record if it is another.
pub(super) fn conflict(
    transaction: &WriteTransaction,
    record: &Record,
    expect: Expect,
) -> Result<Option<Position>, Error> {
    if expect == Expect::Any {
        return Ok(None);
    }
    let table = transaction.open_table(shelf(record.shelf))?;
    let found = read(&table, record.shelf, &record.key)?.map(|it| it.0);
    Ok(expect.check(found).err())
}

/// Writes a record at a revision, or removes it. Returns what undoes this.
pub(super) fn write(
    transaction: &WriteTransaction,
    record: &Record,
    revision: Position,
) -> Result<Undo, Error> {
    let Record { shelf: of, key, value } = record;
    let mut table = transaction.open_table(shelf(*of))?;
    let before = read(&table, *of, key)?;
    match value {
        Some(value) => table.insert(&**key, &*seal(*of, key, revision, value))?.map(drop),
        None => table.remove(&**key)?.map(drop),
    };
    let (revision, value) = before.map_or((Position::START, None), |it| (it.0, Some(it.1)));
    Ok(Undo { revision, record: Record { shelf: *of, key: key.clone(), value } })
}

/// Undoes changes, the newest first.
pub(super) fn undo(transaction: &WriteTransaction, undo: &[Undo]) -> Result<(), Error> {
    for Undo { revision, record } in undo.iter().rev() {
        write(transaction, record, *revision)?;
    }
    Ok(())
}
