//! Writing to a store that may fail: after an error it is opened again, and what nobody can know is taken back.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use redb::Error;
use tracing::{error, info, warn};

use super::{
    Disk, DiskOptions, Durability,
    codec::micros,
    open::{guarded, open},
    tables::BYTES,
    write::{Log, prepare, prepare_rewind},
};
use crate::{
    event::Event,
    history::{Batch, HistoryError, Record},
};

/// Bytes that have to find room before trouble is taken to be over.
const PROBE: usize = 256 << 10;

/// What only the writer knows.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) is_closed: bool,
    /// A commit of which nobody knows whether it reached the disk.
    pub(super) uncertain: Option<Uncertain>,
    pub(super) looked_after: Instant,
    /// When the oldest commit that is not synced was made.
    pub(super) unsynced_since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Uncertain {
    /// The number of the commit.
    pub(super) commit: i64,
    pub(super) undo: Vec<Record>,
}

impl Disk {
    /// Commits what was prepared. Returns whether more events are to be dropped.
    pub(super) fn store(
        &self,
        writer: &mut Writer,
        batch: Batch,
        extra: usize,
    ) -> Result<(Vec<Arc<Event>>, bool), HistoryError> {
        if !self.reading.is_open() {
            let trouble = self.reading.in_trouble().map(|it| it.reason);
            return Err(HistoryError::Unavailable(trouble.unwrap_or("it is closed".to_owned())));
        }
        let now = micros(self.clock.now());
        let prepared = self
            .reading
            .with(|database| prepare(database, &self.options, &writer.log, batch, now, extra));
        let mut prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.stumble(writer, &error);
                return Err(HistoryError::Unavailable(error.to_string()));
            }
        };
        let (log, events, is_over) =
            (prepared.log.clone(), std::mem::take(&mut prepared.events), prepared.is_over);
        let undo = std::mem::take(&mut prepared.undo);
        let is_synced = self.options.durability == Durability::Sync;
        if let Err(error) = self.reading.commit(prepared, is_synced) {
            writer.uncertain = Some(Uncertain { commit: log.commits, undo });
            let found = self.stumble(writer, &error);
            let reason = error.to_string();
            match found {
                Some(commits) if commits == log.commits => {}
                Some(_) => return Err(HistoryError::Unavailable(reason)),
                None => return Err(HistoryError::Unknown(reason)),
            }
        } else {
            self.reading.clear_trouble();
        }
        if !is_synced {
            writer.unsynced_since.get_or_insert_with(Instant::now);
        }
        self.reading.last.store(log.last.0, Relaxed);
        writer.log = log;
        Ok((events, is_over))
    }

    /// Opens the store again after an error, because it refuses further use. Returns the number of its last commit, or
    /// nothing if it cannot be opened.
    pub(super) fn stumble(&self, writer: &mut Writer, error: &Error) -> Option<i64> {
        error!(%error, path = %self.options.path.display(), "the store does not take what is written");
        self.reading.trouble(error);
        let found = self.reopen(writer, false);
        if found.is_some() {
            // It is known now.
            writer.uncertain = None;
        }
        found
    }

    /// Closes the store and opens it again; with `rewind`, what is uncertain is taken back.
    pub(super) fn reopen(&self, writer: &mut Writer, rewind: bool) -> Option<i64> {
        let mut slot = self.reading.database.write().unwrap_or_else(PoisonError::into_inner);
        let _ = guarded(|| Ok(drop(slot.take())));
        let options = DiskOptions { patience: Duration::ZERO, ..self.options.clone() };
        let opened = match open(&options) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(%error, "the store cannot be opened again");
                return None;
            }
        };
        if opened.token_key.as_bytes() != self.token_key.as_bytes() {
            error!("the store is another one now; start the gateway anew");
            return None;
        }
        let mut log = opened.log;
        let commits = log.commits;
        let uncertain = writer.uncertain.as_ref().filter(|it| it.commit == commits && rewind);
        if let Some(uncertain) = uncertain {
            let rewound = guarded(|| {
                let undo = uncertain.undo.clone();
                let prepared = prepare_rewind(&opened.database, &options, &log, &writer.log, undo)?;
                let log = prepared.log.clone();
                prepared.transaction.commit()?;
                Ok(log)
            });
            match rewound {
                Ok(rewound) => log = rewound,
                Err(error) => {
                    warn!(%error, "a batch that nobody was told of cannot be taken back yet");
                    return None;
                }
            }
        }
        *self.reading.lost.write().unwrap_or_else(PoisonError::into_inner) = opened.lost;
        self.reading.shared.clear();
        self.reading.last.store(log.last.0, Relaxed);
        *slot = Some(opened.database);
        writer.log = log;
        writer.unsynced_since = None;
        info!("the store is open again");
        Some(commits)
    }

    /// Tries whether trouble is over: the store is opened again if it is closed, and something is written.
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

    /// Makes everything safe that was committed without a sync.
    pub(super) fn sync(&self, writer: &mut Writer) {
        let synced = self.reading.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            Ok(transaction.commit()?)
        });
        match synced {
            Ok(()) => writer.unsynced_since = None,
            Err(error) => {
                self.stumble(writer, &error);
            }
        }
    }
}
