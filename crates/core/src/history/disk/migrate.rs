//! Migrations of stores of earlier formats.
//!
//! A store without checksums gets them step by step. Each step is one transaction that also records
//! the progress. If the process is killed, the next one resumes, and older programs refuse the
//! store. The size of a step bounds the memory.

use redb::{
    Database, Error, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
};
use tracing::info;

use super::{
    codec::encode_reply,
    damage::damaged,
    seal::{Place, check_numbers, seal_numbers, totals_checksum},
    tables::{
        BYTES, DROPPED, EVENTS, FORMAT, FORMAT_WITHOUT_REVISIONS, NUMBERS, REPLIES, REPLY_ORDER,
        TOTALS, bytes, number, shelf, shelf_name,
    },
};
use crate::history::Shelf;

/// The limits of a step: records and bytes.
const RECORDS: usize = 5000;
const BYTES_PER_STEP: usize = 8 << 20;

/// The name of the progress in [`BYTES`]: a part, and the last migrated key in it.
const PROGRESS: &str = "migration";

/// The parts to migrate, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Events,
    Dropped,
    Replies,
    Shelf(Shelf),
}

const PARTS: [Part; 7] = [
    Part::Events,
    Part::Dropped,
    Part::Replies,
    Part::Shelf(Shelf::ALL[0]),
    Part::Shelf(Shelf::ALL[1]),
    Part::Shelf(Shelf::ALL[2]),
    Part::Shelf(Shelf::ALL[3]),
];

/// Whether records still lack checksums.
pub(super) fn is_under_way(database: &Database) -> Result<bool, Error> {
    Ok(database.begin_read()?.open_table(BYTES)?.get(PROGRESS)?.is_some())
}

/// Adds the shelves that a store of an earlier format lacks, which makes it one of [`FORMAT`]. The
/// records of [`FORMAT_WITHOUT_REVISIONS`] stay as they are: they are recognized, and have no
/// revision until they are written again.
pub(super) fn add_shelves(database: &Database) -> Result<(), Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        for it in Shelf::ALL {
            transaction.open_table(shelf(it))?;
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        check_numbers(&numbers)?;
        numbers.insert(number::FORMAT, FORMAT)?;
        seal_numbers(&mut numbers)?;
    }
    transaction.commit()?;
    info!("the store has format {FORMAT} now; older programs refuse it");
    Ok(())
}

/// Adds checksums to all records. The store has [`FORMAT_WITHOUT_REVISIONS`] afterwards.
pub(super) fn add_checksums(database: &mut Database) -> Result<(), Error> {
    // This is the last chance to notice earlier damage: page checksums are verified only when all
    // pages are read.
    if !database.check_integrity()? {
        return Err(damaged("what it says of itself is not right"));
    }
    let n_events = database.begin_read()?.open_table(EVENTS)?.len()?;
    info!(n_events, "the store was written before records had checksums; they get them now");
    if !is_under_way(database)? {
        begin(database)?;
    }
    let mut n_records = 0;
    while let Some(done) = step(database)? {
        n_records += done;
        info!(n_records, "records with checksums");
    }
    Ok(())
}

/// Adds checksums to the few values that every commit writes.
pub(super) fn begin(database: &Database) -> Result<(), Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut kept = transaction.open_table(BYTES)?;
        for name in [bytes::TOKEN_KEY, bytes::RULES] {
            let value = kept.get(name)?.map(|it| it.value().to_vec());
            if let Some(value) = value {
                kept.insert(name, &*Place::new("bytes", name.as_bytes()).seal(value))?;
            }
        }
        kept.remove("probe")?;
        kept.insert(PROGRESS, &[0_u8][..])?;
        let mut totals = Vec::new();
        for entry in transaction.open_table(TOTALS)?.iter()? {
            totals.push(entry?.1.value());
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(number::FORMAT, FORMAT_WITHOUT_REVISIONS)?;
        if !totals.is_empty() {
            numbers.insert(number::TOTALS_CHECKSUM, totals_checksum(&totals))?;
        }
        seal_numbers(&mut numbers)?;
    }
    Ok(transaction.commit()?)
}

/// Runs one step. Returns the number of its records, or `None` if the migration is complete.
pub(super) fn step(database: &Database) -> Result<Option<usize>, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let done = {
        let mut kept = transaction.open_table(BYTES)?;
        let progress = kept.get(PROGRESS)?.map(|it| it.value().to_vec());
        let Some((part, after)) = progress.as_deref().and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        let Some(current) = PARTS.get(usize::from(*part)) else {
            return Err(damaged("how far the checksums came is not known"));
        };
        let (last, done) = match current {
            Part::Events => positions(&mut transaction.open_table(EVENTS)?, "events", after)?,
            Part::Dropped => positions(&mut transaction.open_table(DROPPED)?, "dropped", after)?,
            Part::Replies => {
                let order = transaction.open_table(REPLY_ORDER)?;
                replies(&mut transaction.open_table(REPLIES)?, &order, after)?
            }
            Part::Shelf(it) => {
                records(&mut transaction.open_table(shelf(*it))?, shelf_name(*it), after)?
            }
        };
        // A step that found nothing ends its part.
        let next = match last {
            Some(last) => Some([&[*part], &*last].concat()),
            None if usize::from(*part) + 1 < PARTS.len() => Some(vec![*part + 1]),
            None => None,
        };
        match next {
            Some(next) => kept.insert(PROGRESS, &*next)?.map(drop),
            None => kept.remove(PROGRESS)?.map(drop),
        };
        done
    };
    transaction.commit()?;
    Ok(Some(done))
}

/// The last key of a step, or `None` if it found none, and the number of its records.
type Step = (Option<Vec<u8>>, usize);

fn is_full<T>(found: &[T], weight: usize) -> bool {
    RECORDS <= found.len() || BYTES_PER_STEP <= weight
}

fn positions(
    table: &mut redb::Table<'_, u64, &'static [u8]>,
    name: &'static str,
    after: &[u8],
) -> Result<Step, Error> {
    let from = after.try_into().map_or(0, |it| u64::from_be_bytes(it).saturating_add(1));
    let (mut found, mut weight) = (Vec::new(), 0);
    for entry in table.range(from..)? {
        let (position, record) = entry?;
        let position = position.value();
        let place = position.to_be_bytes();
        let sealed = Place::new(name, &place).seal(record.value().to_vec());
        weight += sealed.len();
        found.push((position, sealed));
        if is_full(&found, weight) {
            break;
        }
    }
    for (position, sealed) in &found {
        table.insert(position, &**sealed)?;
    }
    Ok((found.last().map(|it| it.0.to_be_bytes().to_vec()), found.len()))
}

fn records(
    table: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    name: &'static str,
    after: &[u8],
) -> Result<Step, Error> {
    let (mut found, mut weight) = (Vec::new(), 0);
    for entry in table.range(after..)? {
        let (key, value) = entry?;
        let key = key.value();
        // No record has an empty key, because each key begins with the number of a job.
        if key == after {
            continue;
        }
        let sealed = Place::new(name, key).seal(value.value().to_vec());
        weight += sealed.len();
        found.push((key.to_vec(), sealed));
        if is_full(&found, weight) {
            break;
        }
    }
    for (key, sealed) in &found {
        table.insert(&**key, &**sealed)?;
    }
    Ok((found.last().map(|it| it.0.clone()), found.len()))
}

fn replies(
    table: &mut redb::Table<'_, &'static str, (u64, &'static [u8])>,
    order: &redb::Table<'_, u64, (i64, &'static str, u64)>,
    after: &[u8],
) -> Result<Step, Error> {
    let after = std::str::from_utf8(after).unwrap_or_default();
    let (mut found, mut weight) = (Vec::new(), 0);
    for entry in table.range(after..)? {
        let (key, reply) = entry?;
        let (key, (number, value)) = (key.value(), reply.value());
        // No reply has an empty key.
        if key == after {
            continue;
        }
        let given = order.get(number)?.map(|it| it.value().0);
        let given = given.ok_or_else(|| damaged("a reply is not in the order of replies"))?;
        let sealed = encode_reply(key, number, given, value);
        weight += sealed.len();
        found.push((key.to_owned(), number, sealed));
        if is_full(&found, weight) {
            break;
        }
    }
    for (key, number, sealed) in &found {
        table.insert(&**key, (*number, &**sealed))?;
    }
    Ok((found.last().map(|it| it.0.clone().into_bytes()), found.len()))
}
