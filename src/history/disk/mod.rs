//! The history on disk: what was committed is there after a crash.
//!
//! Batches come in on the sequencer's thread, each one transaction of an embedded store; pages go out through a few
//! threads that read snapshots, so a reader waits for no writer. After an error the store is closed and opened again.
//! If then nobody knows whether a batch was stored, it is taken back, so what publishers were told holds in the end.

mod codec;
mod create;
#[cfg(test)]
mod damage_tests;
mod export;
mod migrate;
mod open;
mod options;
mod read;
mod readers;
mod reading;
mod recent;
mod seal;
pub mod store;
mod tables;
#[cfg(test)]
mod tests;
mod trim;
mod write;
mod writing;

use std::{
    future::ready,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use redb::{Database, Error, ReadableDatabase as _, ReadableTable as _};
use tracing::{error, info};

use self::{
    codec::micros,
    open::{Opened, guarded, open},
    readers::Readers,
    reading::{Reading, Trouble},
    recent::Shared,
    seal::{Place, seal_numbers},
    tables::{NUMBERS, REPLIES, number, shelf, shelf_name},
    write::prepare_sorting,
    writing::Writer,
};
pub use self::{
    open::DiskError,
    options::{DiskOptions, Durability, Rule},
};
use super::{
    Answer, Batch, Budget, History, HistoryError, Located, Page, Record, Shelf, Start, TokenKey,
};
use crate::{
    clock::Clock,
    event::{Event, Position},
    hub::Interest,
};

/// The wait between two tries to open the store again, and between two looks at what is to be dropped.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Events that are dropped at a time while nobody publishes; few, because a publish may come.
const SLICE: usize = 256;

/// A history in a directory.
#[derive(Debug)]
pub struct Disk {
    options: DiskOptions,
    clock: Clock,
    token_key: TokenKey,
    reading: Arc<Reading>,
    readers: Readers,
    writer: Mutex<Writer>,
}

impl Disk {
    /// Opens the store of a directory, or makes one.
    ///
    /// # Errors
    /// If it is in use, damaged, newer than this program, or out of reach.
    pub fn open(options: DiskOptions, clock: Clock) -> Result<Self, DiskError> {
        let Opened { database, log, lost, token_key, is_to_be_sorted } = open(&options)?;
        let refused = |error: &Error| DiskError::new(&open::file(&options.path), error);
        let readers = Readers::start(options.readers).map_err(|error| refused(&error.into()))?;
        let last = AtomicU64::new(log.last.0);
        let (database, lost) = (RwLock::new(Some(database)), RwLock::new(lost));
        let (shared, trouble) = (Shared::default(), Mutex::default());
        let reading = Arc::new(Reading { database, lost, shared, last, trouble });
        let mut writer = Writer {
            log,
            is_closed: false,
            uncertain: None,
            looked_after: Instant::now(),
            unsynced_since: None,
        };
        if is_to_be_sorted {
            info!("the rules of the history have changed; all events are sorted anew");
            let sort = |database: &Database| prepare_sorting(database, &options, &writer.log);
            let sorted = reading.with(sort).and_then(|prepared| {
                let log = prepared.log.clone();
                reading.commit(prepared, true).map(|()| log)
            });
            writer.log = sorted.map_err(|error| refused(&error))?;
        }
        Ok(Self { options, clock, token_key, reading, readers, writer: Mutex::new(writer) })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for Disk {
    fn commit(&self, batch: Batch) -> Result<Vec<Arc<Event>>, HistoryError> {
        Ok(self.store(&mut self.writer(), batch, 0)?.0)
    }

    fn commits_at_once(&self) -> bool {
        false
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        let (reading, interest) = (self.reading.clone(), interest.clone());
        self.readers.run(move || {
            reading.snapshot(|snapshot, lost| snapshot.page(after, &interest, budget, lost))
        })
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        if start == Start::Now {
            // Whoever wants nothing of what was needs no disk, and comes in even if there is trouble with it.
            let n_dropped = self.reading.n_dropped();
            let located = Located { after: self.last(), missing: None, n_dropped };
            return Box::pin(ready(Ok(located)));
        }
        let (reading, interest) = (self.reading.clone(), interest.clone());
        self.readers.run(move || {
            reading.snapshot(|snapshot, lost| snapshot.locate(&start, &interest, lost))
        })
    }

    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>> {
        let (reading, key) = (self.reading.clone(), key.to_owned());
        self.readers.run(move || {
            let found = reading.with(|database| {
                let replies = database.begin_read()?.open_table(REPLIES)?;
                let Some(reply) = replies.get(&*key)? else { return Ok(None) };
                let (number, sealed) = reply.value();
                Ok(Some(codec::decode_reply(&key, number, sealed)?.1.into()))
            });
            found.map_err(|error| reading.unreadable(&error))
        })
    }

    fn records(&self, of: Shelf) -> Result<Vec<Record>, HistoryError> {
        let found = self.reading.with(|database| {
            let table = database.begin_read()?.open_table(shelf(of))?;
            let records = table.iter()?.map(|entry| {
                let (key, value) = entry?;
                let value = Place::new(shelf_name(of), key.value()).unseal(value.value())?.into();
                Ok(Record { shelf: of, key: key.value().into(), value: Some(value) })
            });
            records.collect()
        });
        found.map_err(|error| self.reading.unreadable(&error))
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn tend(&self) -> bool {
        let mut writer = self.writer();
        if writer.is_closed {
            return false;
        }
        if let Durability::Interval(interval) = self.options.durability
            && writer.unsynced_since.is_some_and(|since| interval <= since.elapsed())
        {
            self.sync(&mut writer);
        }
        if writer.looked_after.elapsed() < LOOK_AFTER {
            return false;
        }
        match self.reading.in_trouble() {
            Some(Trouble { is_damage: false, .. }) => self.mend(&mut writer),
            Some(_) => {}
            None => {
                // Nothing is written if nothing is to go.
                let now = micros(self.clock.now());
                let is_due = |database: &Database| trim::is_due(database, &self.options, now);
                let is_due = self.reading.with(is_due).unwrap_or(false);
                let slice = |writer: &mut Writer| self.store(writer, Batch::default(), SLICE);
                if is_due && slice(&mut writer).is_ok_and(|(_, is_over)| is_over) {
                    return true;
                }
            }
        }
        writer.looked_after = Instant::now();
        false
    }

    fn n_read(&self) -> u64 {
        self.reading.shared.n_read()
    }

    fn trouble(&self) -> Option<String> {
        self.reading.in_trouble().map(|it| it.reason)
    }

    fn close(&self) {
        let mut writer = self.writer();
        writer.is_closed = true;
        let settle = |database: &Database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert(number::UNSYNCED, 0)?;
            seal_numbers(&mut numbers)?;
            drop(numbers);
            Ok(transaction.commit()?)
        };
        if self.options.durability != Durability::Sync
            && let Err(error) = self.reading.with(settle)
        {
            error!(%error, "the newest events may not have reached the disk");
        }
        let mut slot = self.reading.database.write().unwrap_or_else(PoisonError::into_inner);
        let closed = slot.take().map(|it| guarded(|| Ok(it.close()?)));
        if let Some(Err(error)) = closed {
            error!(%error, "the store was not closed in order");
        }
    }

    fn last(&self) -> Position {
        Position(self.reading.last.load(Relaxed))
    }

    fn token_key(&self) -> &TokenKey {
        &self.token_key
    }
}
