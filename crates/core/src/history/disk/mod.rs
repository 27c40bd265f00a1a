//! The history on disk, which survives a crash.
//!
//! Batches come in on the sequencer's thread, each as one transaction of an embedded store. Pages
//! go out through a few threads that read snapshots, so readers never wait for a writer. After an
//! error the store is closed and opened again. If the outcome of a batch is then still unknown, the
//! batch is rolled back, in accordance with the error that its publishers received.

pub(super) mod codec;
mod create;
mod damage;
#[cfg(test)]
mod damage_tests;
mod error;
mod export;
mod inspect;
mod migrate;
mod open;
mod options;
mod overlay;
mod pace;
mod place;
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
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

use prometheus_client::metrics::histogram::Histogram;
use redb::{Database, Error, ReadableDatabase as _, ReadableTable as _};
use tracing::{error, warn};

use self::{
    codec::micros,
    damage::guarded,
    inspect::Inspection,
    open::{Opened, open_or_freeze},
    pace::Pace,
    place::Claim,
    readers::Readers,
    reading::{Reading, Trouble},
    recent::Shared,
    seal::{Place, seal_numbers},
    tables::{NUMBERS, number, shelf, shelf_name},
    writing::Writer,
};
pub use self::{
    error::DiskError,
    options::{DiskOptions, Durability, Rule},
};
use super::{
    Answer, Batch, Budget, CursorKey, History, HistoryError, Located, Page, Record, Search, Shelf,
    Start, lost::Begin,
};
use crate::{
    clock::Clock,
    event::{Event, Position},
    matching::Interest,
};

/// The interval between attempts to open the store again, and between checks for events to drop.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Events that are dropped at a time while there are no publishers; few, because a publish may
/// come.
const SLICE: usize = 256;

/// A history in a directory.
#[derive(Debug)]
pub struct Disk {
    options: DiskOptions,
    clock: Clock,
    cursor_key: CursorKey,
    reading: Arc<Reading>,
    readers: Readers,
    writer: Mutex<Writer>,
    pace: Pace,
    _claim: Claim,
}

impl Disk {
    /// Opens the store in a directory, or creates one.
    ///
    /// # Errors
    /// Fails if the store is in use, damaged, newer than this program, or not accessible.
    pub fn open(options: DiskOptions, clock: Clock) -> Result<Self, DiskError> {
        let (claim, opened) = open_or_freeze(&options)?;
        let Opened { database, log, lost, cursor_key, is_to_be_sorted, identity, frozen } = opened;
        let path = open::file(&options.path);
        let refused = |error: &Error| DiskError::new(&path, error);
        let readers = Readers::start(options.readers).map_err(|error| refused(&error.into()))?;
        let reading = Reading {
            database: RwLock::new(Some(database)),
            lost: RwLock::new(lost),
            shared: Shared::default(),
            last: AtomicU64::default(),
            next_reply: AtomicU64::default(),
            misplaced: Mutex::default(),
            trouble: Mutex::default(),
        };
        reading.confirm(&log);
        let mut writer = Writer {
            log,
            is_closed: false,
            is_frozen: frozen.is_some(),
            uncertain: None,
            looked_after: Instant::now(),
            unsynced_since: None,
            identity: Some(identity),
            inspection: Inspection::At(Position::START),
            warned_of_clock: None,
        };
        // A frozen store is not sorted, because sorting writes to it.
        if let Some(reason) = frozen {
            let path = path.display();
            warn!("nothing can be published; what is in the store {path} is served; {reason}");
            reading.freeze(reason);
        } else if is_to_be_sorted {
            writing::sort(&reading, &options, &mut writer).map_err(|error| refused(&error))?;
        }
        let (pace, reading) = (Pace::new(options.slow_commit), Arc::new(reading));
        let writer = Mutex::new(writer);
        Ok(Self { options, clock, cursor_key, reading, readers, writer, pace, _claim: claim })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for Disk {
    fn commit(&self, batch: Batch) -> Result<Vec<Arc<Event>>, HistoryError> {
        let mut writer = self.writer();
        Ok(self.store(&mut writer, batch, 0)?.0)
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
            let page = reading.snapshot(
                |lost| lost.concerning(Begin::Behind(after), &interest),
                |snapshot, n_dropped| snapshot.page(after, &interest, budget, n_dropped),
            )?;
            Ok(reading.confirmed(after, page))
        })
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        if start == Start::Now {
            // This start needs no disk, so the subscriber is admitted even if the disk has trouble.
            let n_dropped = self.reading.n_dropped();
            let located = Located { after: self.last(), missing: None, n_dropped };
            return Box::pin(ready(Ok(located)));
        }
        let (reading, interest) = (self.reading.clone(), interest.clone());
        self.readers.run(move || {
            let located = reading.snapshot(
                |_| (),
                |snapshot, ()| snapshot.locate(&start, &interest, &reading.lost),
            )?;
            Ok(reading.confirmed_start(located))
        })
    }

    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search> {
        let (reading, interest) = (self.reading.clone(), interest.clone());
        self.readers.run(move || {
            reading.snapshot(|_| (), |snapshot, ()| snapshot.step_back(search, &interest))
        })
    }

    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>> {
        let (reading, key) = (self.reading.clone(), key.to_owned());
        self.readers.run(move || reading.reply(&key))
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
        if self.is_away(&mut writer) {
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
            Some(Trouble { is_damage: false, .. }) if writer.is_frozen => self.thaw(&mut writer),
            Some(Trouble { is_damage: false, .. }) => self.mend(&mut writer),
            Some(_) => {}
            None => {
                // Without events to drop, nothing is written.
                let now = micros(self.clock.now());
                let is_due = |database: &Database| trim::is_due(database, &self.options, now);
                let is_due = self.reading.with(is_due).unwrap_or(false);
                let slice = |writer| self.store(writer, Batch::default(), SLICE);
                if is_due && slice(&mut writer).is_ok_and(|(_, is_over)| is_over) {
                    return true;
                }
                let inspection = writer.inspection;
                match self.reading.with(|database| inspection.go_on(database)) {
                    Ok(inspection) => writer.inspection = inspection,
                    Err(error) => drop(self.reading.unreadable(&error)),
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
        if let Some(misplaced) = self.reading.misplaced() {
            return Some(misplaced.advice);
        }
        if let Some(Trouble { reason, .. }) = self.reading.in_trouble() {
            let path = open::file(&self.options.path);
            return Some(format!("the store {}: {reason}", path.display()));
        }
        self.pace.trouble()
    }

    fn commit_times(&self) -> Option<Histogram> {
        Some(self.pace.times())
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
        self.reading.last()
    }

    fn cursor_key(&self) -> &CursorKey {
        &self.cursor_key
    }
}
