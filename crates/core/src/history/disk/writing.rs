//! Writing to a store that may fail. After an error the store is opened again, and a commit with an
//! unknown outcome is rolled back.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use redb::{Database, Error};
use tracing::{error, info, warn};

use super::{
    DiskCore, DiskOptions, Durability,
    codec::micros,
    damage::guarded,
    inspect::Inspection,
    open::{self, Opened, open_claimed, put_away},
    place::Identity,
    reading::Reading,
    records::Undo,
    tables::BYTES,
    write::{Log, Prepared, Written, prepare, prepare_rewind, prepare_sorting},
};
use crate::history::{Batch, HistoryError, sequencer::Commit};

/// Bytes that must be written successfully before the trouble counts as resolved.
const PROBE: usize = 256 << 10;

/// How far the clock may be behind the newest event without a warning, in microseconds.
const CLOCK_LAG: i64 = 60_000_000;

/// The time between two warnings about the clock.
const WARN_AFTER: Duration = Duration::from_secs(3600);

/// The state that only the writer uses.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) is_closed: bool,
    /// Whether the store was opened without write access.
    pub(super) is_frozen: bool,
    /// A commit that may or may not have reached the disk.
    pub(super) uncertain: Option<Uncertain>,
    pub(super) looked_after: Instant,
    /// The time of the oldest commit that is not synced.
    pub(super) unsynced_since: Option<Instant>,
    /// The identity of the open file, if one is open.
    pub(super) identity: Option<Identity>,
    /// How much of the store has been inspected since the start.
    pub(super) inspection: Inspection,
    /// The time of the last warning about the clock.
    pub(super) warned_of_clock: Option<Instant>,
}

impl Writer {
    /// Warns if the clock is far behind the newest event, as after it ran ahead for a while.
    fn check_clock(&mut self, now: i64) {
        if let Some(seconds) = self.clock_lag(now) {
            warn!(
                seconds,
                "the clock is behind the newest event; events get the time of that one until the clock has passed it"
            );
        }
    }

    /// Returns by how many seconds the clock is behind the newest event, if a warning is due.
    fn clock_lag(&mut self, now: i64) -> Option<i64> {
        let lag = self.log.accepted.saturating_sub(now);
        let was_said = self.warned_of_clock.is_some_and(|it| it.elapsed() < WARN_AFTER);
        if lag <= CLOCK_LAG || was_said {
            return None;
        }
        self.warned_of_clock = Some(Instant::now());
        Some(lag / 1_000_000)
    }
}

#[derive(Debug)]
pub(super) struct Uncertain {
    /// The log that the store has if it contains the commit.
    pub(super) stored: Log,
    pub(super) undo: Vec<Undo>,
}

impl DiskCore {
    /// Commits submissions. Returns what was stored, and whether more events must be dropped.
    pub(super) fn store(
        &self,
        writer: &mut Writer,
        submissions: impl Iterator<Item = Batch>,
        extra: usize,
    ) -> Result<(Commit, bool), HistoryError> {
        self.check_writable(writer)?;
        let now = micros(self.clock.now());
        writer.check_clock(now);
        let measuring = self.pace.begin();
        let prepared = self.reading.with(|database| {
            prepare(database, &self.options, &writer.log, submissions, now, extra)
        });
        let Prepared { transaction, written, is_over } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                drop(measuring);
                self.stumble(writer, &error);
                return Err(HistoryError::Unavailable(error.to_string()));
            }
        };
        if written.is_nothing() {
            // Dropping the transaction leaves the store as it was, without a sync.
            drop(measuring);
            return Ok((written.commit, is_over));
        }
        let Written { log, commit, drops, undo } = written;
        let is_synced = self.options.durability == Durability::Sync;
        if let Err(error) = self.reading.commit(transaction, &drops, is_synced) {
            drop(measuring);
            writer.uncertain = Some(Uncertain { stored: log.clone(), undo });
            let found = self.stumble(writer, &error);
            let reason = error.to_string();
            match found {
                Some(commits) if commits == log.commits => {}
                Some(_) => return Err(HistoryError::Unavailable(reason)),
                None => return Err(HistoryError::Unknown(reason)),
            }
        } else {
            measuring.end();
            self.reading.clear_trouble();
            // The next process would not find this commit, so it must not be acknowledged or
            // delivered.
            if let Some(misplaced) = self.misplaced(writer) {
                writer.uncertain = Some(Uncertain { stored: log, undo });
                return Err(HistoryError::Unknown(misplaced.to_owned()));
            }
        }
        if !is_synced {
            writer.unsynced_since.get_or_insert_with(Instant::now);
        }
        self.reading.confirm(&log);
        writer.log = log;
        Ok((commit, is_over))
    }

    /// Checks whether the store's file is in its place and open for writing.
    fn check_writable(&self, writer: &mut Writer) -> Result<(), HistoryError> {
        if self.is_away(writer)
            && let Some(misplaced) = self.reading.misplaced()
        {
            return Err(HistoryError::Unavailable(misplaced.reason.to_owned()));
        }
        if writer.is_frozen || !self.reading.is_open() {
            let trouble = self.reading.in_trouble().map(|it| it.reason);
            return Err(HistoryError::Unavailable(trouble.unwrap_or("it is closed".to_owned())));
        }
        Ok(())
    }

    /// Opens the store again after an error, because it refuses further use. Returns the number of
    /// its last commit, or `None` if it cannot be opened.
    pub(super) fn stumble(&self, writer: &mut Writer, error: &Error) -> Option<i64> {
        error!(%error, path = %self.options.path.display(), "the store does not take what is written");
        self.reading.trouble(error);
        let found = self.reopen(writer, false);
        if found.is_some() {
            // The outcome is known now.
            writer.uncertain = None;
        }
        found
    }

    /// Closes the store and opens it again. With `rewind`, the uncertain commit is rolled back.
    pub(super) fn reopen(&self, writer: &mut Writer, rewind: bool) -> Option<i64> {
        if self.misplaced(writer).is_some() {
            // The file may have no name any more. Closing it would then delete it.
            return None;
        }
        let mut slot = self.reading.database.write().unwrap_or_else(PoisonError::into_inner);
        put_away(slot.take());
        writer.identity = None;
        let opened = match open_claimed(&self.options) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(%error, "the store cannot be opened again");
                return None;
            }
        };
        if !self.is_same(writer, &opened) {
            return None;
        }
        let mut log = opened.log;
        let commits = log.commits;
        let uncertain = writer.uncertain.as_ref();
        if let Some(uncertain) = uncertain.filter(|it| it.stored.commits == commits && rewind) {
            match self.take_back(&opened.database, &log, &writer.log, uncertain) {
                Ok(rewound) => log = rewound,
                Err(error) => {
                    warn!(%error, "a batch that no reader was told of cannot be taken back yet");
                    return None;
                }
            }
        }
        *self.reading.lost.write().unwrap_or_else(PoisonError::into_inner) = opened.lost;
        self.reading.shared.clear();
        self.reading.confirm(&log);
        *slot = Some(opened.database);
        writer.log = log;
        writer.unsynced_since = None;
        writer.identity = Some(opened.identity);
        info!("the store is open again");
        Some(commits)
    }

    /// Whether the opened store is the former one, with every acknowledged commit.
    fn is_same(&self, writer: &Writer, opened: &Opened) -> bool {
        if opened.cursor_key.as_bytes() != self.cursor_key.as_bytes() {
            error!("the store is another one now; start the gateway anew");
            return false;
        }
        if self.options.durability == Durability::Sync && opened.log.commits < writer.log.commits {
            error!("the store is an older copy of itself now; start the gateway anew");
            return false;
        }
        true
    }

    /// Rolls back a commit that no reader has seen.
    fn take_back(
        &self,
        database: &Database,
        stored: &Log,
        before: &Log,
        uncertain: &Uncertain,
    ) -> Result<Log, Error> {
        guarded(|| {
            let Prepared { mut transaction, written, .. } =
                prepare_rewind(database, &self.options, stored, before, &uncertain.undo)?;
            transaction.set_quick_repair(true);
            transaction.commit()?;
            Ok(written.log)
        })
    }

    /// Checks whether the open file has the store's name. Returns the reason for publishers if not.
    fn misplaced(&self, writer: &Writer) -> Option<&'static str> {
        let path = open::file(&self.options.path);
        let found = writer.identity.as_ref()?.is_at(&path).err()?;
        let reason = found.reason;
        let mut known = self.reading.misplaced.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&found) {
            error!("nothing can be published: {}", found.advice);
            *known = Some(found);
        }
        Some(reason)
    }

    /// Whether the file is not in its place. When it is back, rolls back the uncertain commit and
    /// resumes.
    pub(super) fn is_away(&self, writer: &mut Writer) -> bool {
        if self.misplaced(writer).is_some() {
            return true;
        }
        if self.reading.misplaced().is_none() {
            return false;
        }
        if let Some(uncertain) = writer.uncertain.take() {
            // Readers must not keep events that are rolled back.
            let slot = self.reading.database.write().unwrap_or_else(PoisonError::into_inner);
            let database = slot.as_ref().ok_or(Error::DatabaseClosed);
            let rewound = database
                .and_then(|it| self.take_back(it, &uncertain.stored, &writer.log, &uncertain));
            self.reading.shared.clear();
            drop(slot);
            match rewound {
                Ok(log) => {
                    self.reading.confirm(&log);
                    writer.log = log;
                }
                Err(error) => {
                    warn!(%error, "a batch that no reader was told of cannot be taken back yet");
                    writer.uncertain = Some(uncertain);
                    self.reading.trouble(&error);
                    if self.reopen(writer, true).is_none() {
                        return true;
                    }
                    writer.uncertain = None;
                }
            }
        }
        *self.reading.misplaced.lock().unwrap_or_else(PoisonError::into_inner) = None;
        info!("the store's file is in its place again");
        false
    }

    /// Tries to open a frozen store for writing. Readers wait meanwhile.
    pub(super) fn thaw(&self, writer: &mut Writer) {
        let mut slot = self.reading.database.write().unwrap_or_else(PoisonError::into_inner);
        put_away(slot.take());
        writer.identity = None;
        let opened = match open_claimed(&self.options) {
            Ok(opened) if self.is_same(writer, &opened) => opened,
            _ => {
                // Readers are served from a frozen store until writing is possible.
                match open::freeze(&self.options, String::new()) {
                    Ok(Opened { database, identity, .. }) => {
                        *slot = Some(database);
                        writer.identity = Some(identity);
                    }
                    Err(error) => warn!(%error, "the store cannot be read any more"),
                }
                return;
            }
        };
        *self.reading.lost.write().unwrap_or_else(PoisonError::into_inner) = opened.lost;
        *slot = Some(opened.database);
        drop(slot);
        self.reading.confirm(&opened.log);
        writer.log = opened.log;
        writer.identity = Some(opened.identity);
        writer.is_frozen = false;
        if opened.is_to_be_sorted
            && let Err(error) = sort(&self.reading, &self.options, writer)
        {
            self.stumble(writer, &error);
            return;
        }
        self.mend(writer);
    }

    /// Checks whether the trouble is resolved: opens the store again if it is closed, and writes a
    /// probe.
    pub(super) fn mend(&self, writer: &mut Writer) {
        if !self.reading.is_open() {
            if self.reopen(writer, true).is_none() {
                return;
            }
            writer.uncertain = None;
        }
        let probe = |value: Option<&[u8]>| {
            self.reading.with(|database| {
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                {
                    let mut table = transaction.open_table(BYTES)?;
                    match value {
                        Some(value) => table.insert("probe", value)?.map(drop),
                        None => table.remove("probe")?.map(drop),
                    };
                }
                Ok(transaction.commit()?)
            })
        };
        match probe(Some(&vec![1; PROBE])).and_then(|()| probe(None)) {
            Ok(()) => {
                info!("the store takes what is written again");
                self.reading.clear_trouble();
            }
            Err(error) => {
                self.stumble(writer, &error);
            }
        }
    }

    /// Syncs all commits that were made without a sync.
    pub(super) fn sync(&self, writer: &mut Writer) {
        let measuring = self.pace.begin();
        let synced = self.reading.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            Ok(transaction.commit()?)
        });
        match synced {
            Ok(()) => {
                measuring.end();
                writer.unsynced_since = None;
            }
            Err(error) => {
                drop(measuring);
                self.stumble(writer, &error);
            }
        }
    }
}

/// Sorts all events again, by the present rules.
pub(super) fn sort(
    reading: &Reading,
    options: &DiskOptions,
    writer: &mut Writer,
) -> Result<(), Error> {
    info!("the rules of the history have changed; all events are sorted anew");
    let prepared = reading.with(|database| prepare_sorting(database, options, &writer.log))?;
    let Prepared { transaction, written, .. } = prepared;
    reading.commit(transaction, &written.drops, true)?;
    writer.log = written.log;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        clock::Clock,
        event::Position,
        history::{
            Budget, Disk, History as _, KeyedReply,
            disk::{
                place::Misplaced,
                tests::{commit, options, update},
            },
            sequencer::Local as _,
        },
        matching::{Interest, Matcher, Matchers, Rights},
    };

    /// The data lengths of all events.
    fn lengths(disk: &Disk) -> Vec<usize> {
        let everything = Matchers::new([Matcher::Everything]);
        let interest = Arc::new(Interest::new(everything, None, Rights::Everything));
        let budget = Budget { events: 99, bytes: usize::MAX };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let page = runtime.block_on(disk.read_after(Position::START, &interest, budget));
        page.expect("readable").events.iter().map(|it| it.update.data.len()).collect()
    }

    #[test]
    fn a_clock_far_behind_the_newest_event_is_said_once_an_hour() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::open(options(directory.path()), Clock::system()).expect("opened");
        let mut writer = disk.core.writer();
        writer.log.accepted = 100_000_000;
        assert_eq!(writer.clock_lag(40_000_000), None, "a minute");
        assert_eq!(writer.clock_lag(39_000_000), Some(61));
        assert_eq!(writer.clock_lag(39_000_000), None, "it was said");
        writer.warned_of_clock = Instant::now().checked_sub(WARN_AFTER);
        assert_eq!(writer.clock_lag(39_000_000), Some(61));
    }

    #[test]
    fn a_commit_to_a_file_without_its_name_is_never_seen_and_taken_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::open(options(directory.path()), Clock::system()).expect("opened");
        commit(&disk, vec![update(&[0], 1, 1)].into()).expect("stored");
        let mut batch = Batch::from(vec![update(&[0], 2, 2)]);
        batch.replies.push(KeyedReply { key: "key".to_owned(), value: Box::new([1]) });
        {
            // The file disappears during the commit.
            let mut writer = disk.core.writer();
            let prepared = disk.core.reading.with(|database| {
                let now = micros(disk.core.clock.now());
                prepare(database, &disk.core.options, &writer.log, std::iter::once(batch), now, 0)
            });
            let Prepared { transaction, written, .. } = prepared.expect("prepared");
            let Written { log: stored, drops, undo, .. } = written;
            disk.core.reading.commit(transaction, &drops, true).expect("committed");
            writer.uncertain = Some(Uncertain { stored, undo });
            let misplaced = Misplaced { reason: "gone", advice: "put it back".to_owned() };
            *disk.core.reading.misplaced.lock().expect("no panic") = Some(misplaced);
        }
        assert_eq!(lengths(&disk), [1]);
        assert!(disk.core.reading.reply("key").is_err(), "its outcome is not known");
        assert_eq!(disk.trouble().as_deref(), Some("put it back"));
        disk.core.tend();
        assert_eq!(disk.trouble(), None);
        assert_eq!(disk.core.reading.reply("key").expect("readable"), None);
        commit(&disk, vec![update(&[0], 3, 3)].into()).expect("stored");
        assert_eq!(lengths(&disk), [1, 3]);
    }
}
