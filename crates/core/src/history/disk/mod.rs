//! The history on disk, which survives a crash.
//!
//! Batches come in on the sequencer's thread, each as one transaction of an embedded store. Pages
//! go out through a few threads that read snapshots, so readers never wait for a writer. After an
//! error the store is closed and opened again. If the outcome of a batch is then still unknown, the
//! batch is rolled back, in accordance with the error that its publishers received.

pub(super) mod codec;
mod create;
pub(super) mod damage;
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
mod records;
mod seal;
pub mod store;
pub(super) mod tables;
#[cfg(test)]
pub(super) mod tests;
mod trim;
mod write;
mod writing;

use std::{
    future::ready,
    io,
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
    seal::seal_numbers,
    tables::{NUMBERS, number, shelf},
    writing::Writer,
};
pub use self::{
    error::DiskError,
    options::{DiskOptions, Durability},
};
use super::{
    Answer, Batch, Budget, Committed, CursorKey, Follower, History, HistoryError, Located, Page,
    Record, Revised, Search, Shelf, Start,
    lost::Begin,
    sequencer::{Commit, Local, Sequencer},
};
use crate::{clock::Clock, event::Position, matching::Interest};

/// The interval between attempts to open the store again, and between checks for events to drop.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Events that are dropped at a time while there are no publishers; few, because a publish may
/// come.
const SLICE: usize = 256;

/// A history in a directory.
#[derive(Debug)]
pub struct Disk {
    core: Arc<DiskCore>,
    sequencer: Sequencer<DiskCore>,
}

#[derive(Debug)]
struct DiskCore {
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
        let core = Arc::new(DiskCore {
            options,
            clock,
            cursor_key,
            reading,
            readers,
            writer,
            pace,
            _claim: claim,
        });
        Ok(Self { sequencer: Sequencer::new(core.clone()), core })
    }
}

impl DiskCore {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Local for DiskCore {
    fn commit(&self, submissions: impl Iterator<Item = Batch>) -> Result<Commit, HistoryError> {
        let mut writer = self.writer();
        Ok(self.store(&mut writer, submissions, 0)?.0)
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
                let slice = |writer| self.store(writer, std::iter::empty(), SLICE);
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
}

impl History for Disk {
    fn submit(&self, batch: Batch) -> Answer<Committed> {
        self.sequencer.queue(batch)
    }

    fn current(&self) -> Answer<Position> {
        Box::pin(ready(Ok(self.last())))
    }

    fn follow(&self, follower: Follower) -> io::Result<()> {
        self.sequencer.follow(follower)
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        let (reading, interest) = (self.core.reading.clone(), interest.clone());
        self.core.readers.run(move || {
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
            let n_dropped = self.core.reading.n_dropped();
            let located = Located { after: self.last(), missing: None, n_dropped };
            return Box::pin(ready(Ok(located)));
        }
        let (reading, interest) = (self.core.reading.clone(), interest.clone());
        self.core.readers.run(move || {
            let located = reading.snapshot(
                |_| (),
                |snapshot, ()| snapshot.locate(&start, &interest, &reading.lost),
            )?;
            Ok(reading.confirmed_start(located))
        })
    }

    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search> {
        let (reading, interest) = (self.core.reading.clone(), interest.clone());
        self.core.readers.run(move || {
            reading.snapshot(|_| (), |snapshot, ()| snapshot.step_back(search, &interest))
        })
    }

    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>> {
        let (reading, key) = (self.core.reading.clone(), key.to_owned());
        self.core.readers.run(move || reading.reply(&key))
    }

    fn records(&self, of: Shelf) -> Result<Vec<Revised>, HistoryError> {
        let found = self.core.reading.with(|database| {
            let table = database.begin_read()?.open_table(shelf(of))?;
            let records = table.iter()?.map(|entry| {
                let (key, value) = entry?;
                let key = key.value();
                let (revision, value) = records::unseal(of, key, value.value())?;
                let record = Record { shelf: of, key: key.into(), value: Some(value.into()) };
                Ok(Revised { revision, record })
            });
            records.collect()
        });
        found.map_err(|error| self.core.reading.unreadable(&error))
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn n_read(&self) -> u64 {
        self.core.reading.shared.n_read()
    }

    fn trouble(&self) -> Option<String> {
        if !self.sequencer.is_running() {
            return Some(HistoryError::Stopped.to_string());
        }
        if let Some(misplaced) = self.core.reading.misplaced() {
            return Some(misplaced.advice);
        }
        if let Some(Trouble { reason, .. }) = self.core.reading.in_trouble() {
            let path = open::file(&self.core.options.path);
            return Some(format!("the store {}: {reason}", path.display()));
        }
        self.core.pace.trouble()
    }

    fn commit_times(&self) -> Option<Histogram> {
        Some(self.core.pace.times())
    }

    fn close(&self) {
        let mut writer = self.core.writer();
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
        if self.core.options.durability != Durability::Sync
            && let Err(error) = self.core.reading.with(settle)
        {
            error!(%error, "the newest events may not have reached the disk");
        }
        let mut slot = self.core.reading.database.write().unwrap_or_else(PoisonError::into_inner);
        let closed = slot.take().map(|it| guarded(|| Ok(it.close()?)));
        if let Some(Err(error)) = closed {
            error!(%error, "the store was not closed in order");
        }
    }

    fn last(&self) -> Position {
        self.core.reading.last()
    }

    fn cursor_key(&self) -> &CursorKey {
        &self.core.cursor_key
    }
}
