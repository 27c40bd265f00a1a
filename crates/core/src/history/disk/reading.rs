//! The parts of an open store that readers and the writer share: the store itself, what it has
//! lost, and its trouble.

use std::sync::{
    Mutex, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use redb::{Database, Error, ReadableDatabase as _, WriteTransaction};
use tracing::error;

use super::{
    codec,
    damage::{guarded, is_damage},
    place::Misplaced,
    read::Snapshot,
    recent::Shared,
    tables::REPLIES,
    write::{Drops, Log},
};
use crate::{
    event::Position,
    history::{HistoryError, Located, Page, lost::Lost},
};

/// The shared state of a store.
#[derive(Debug)]
pub(super) struct Reading {
    /// `None` while the store is closed, after an error or for good.
    pub(super) database: RwLock<Option<Database>>,
    pub(super) lost: RwLock<Lost>,
    pub(super) shared: Shared,
    /// The position of the newest event whose commit is final. The store may briefly have newer
    /// events. They may be rolled back, so readers do not receive them.
    pub(super) last: AtomicU64,
    /// The number of the next reply, likewise limited to final commits.
    pub(super) next_reply: AtomicU64,
    /// Set while the file is not in its place.
    pub(super) misplaced: Mutex<Option<Misplaced>>,
    pub(super) trouble: Mutex<Option<Trouble>>,
}

/// The trouble of a store.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) reason: String,
    /// Whether opening the store again does not help.
    pub(super) is_damage: bool,
}

impl Reading {
    fn read<T>(&self, look: impl FnOnce(&Option<Database>) -> T) -> T {
        look(&self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn n_dropped(&self) -> u64 {
        self.lost.read().unwrap_or_else(PoisonError::into_inner).n_dropped()
    }

    /// Shows a final commit to readers.
    pub(super) fn confirm(&self, log: &Log) {
        self.last.store(log.last.0, Relaxed);
        self.next_reply.store(log.next_reply, Relaxed);
    }

    pub(super) fn last(&self) -> Position {
        Position(self.last.load(Relaxed))
    }

    /// Removes events from a page that may still be rolled back.
    pub(super) fn confirmed(&self, after: Position, mut page: Page) -> Page {
        let last = self.last().max(after);
        if last < page.scanned_to {
            page.events.retain(|it| it.position <= last);
            page.scanned_to = last;
            page.more = false;
        }
        page
    }

    /// Keeps subscribers from starting after events that may still be rolled back.
    pub(super) fn confirmed_start(&self, located: Located) -> Located {
        Located { after: located.after.min(self.last()), ..located }
    }

    /// Returns the reply under a key. Fails if the reply may still be rolled back.
    pub(super) fn reply(&self, key: &str) -> Result<Option<Box<[u8]>>, HistoryError> {
        let found = self.with(|database| {
            let replies = database.begin_read()?.open_table(REPLIES)?;
            let Some(reply) = replies.get(key)? else { return Ok(None) };
            let (number, sealed) = reply.value();
            Ok(Some((number, Box::from(codec::decode_reply(key, number, sealed)?.1))))
        });
        match found.map_err(|error| self.unreadable(&error))? {
            Some((number, _)) if self.next_reply.load(Relaxed) <= number => {
                let reason = "the outcome of a request with this key is not known yet".to_owned();
                Err(HistoryError::Unavailable(reason))
            }
            found => Ok(found.map(|(_, reply)| reply)),
        }
    }

    pub(super) fn misplaced(&self) -> Option<Misplaced> {
        self.misplaced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_open(&self) -> bool {
        self.read(Option::is_some)
    }

    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.read(|database| match database {
            Some(database) => guarded(|| work(database)),
            None => Err(Error::DatabaseClosed),
        })
    }

    /// Commits a transaction. Notes its drops first, so that subscribers can be notified of them.
    pub(super) fn commit(
        &self,
        mut transaction: WriteTransaction,
        drops: &Drops,
        is_synced: bool,
    ) -> Result<(), Error> {
        let mut lost = self.lost.write().unwrap_or_else(PoisonError::into_inner);
        for (position, remembered) in drops {
            remembered.note_in(&mut lost, *position);
        }
        drop(lost);
        // `with` keeps the database from being closed meanwhile.
        self.with(|_| {
            if is_synced {
                // Quick repair makes the next start fast, even after a crash.
                transaction.set_quick_repair(true);
            } else {
                transaction.set_durability(redb::Durability::None)?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// Runs `look` on a snapshot, with the answer of `ask` about lost events. Commits wait for
    /// `ask`, but not for `look`.
    pub(super) fn snapshot<A, T>(
        &self,
        ask: impl FnOnce(&Lost) -> A,
        look: impl FnOnce(&Snapshot<'_>, A) -> Result<T, Error>,
    ) -> Result<T, HistoryError> {
        let found = self.with(|database| {
            let snapshot = Snapshot::of(database, &self.shared)?;
            // `ask` runs after the snapshot is taken, so that everything missing from it is known
            // to be lost.
            let answer = ask(&self.lost.read().unwrap_or_else(PoisonError::into_inner));
            look(&snapshot, answer)
        });
        found.map_err(|error| self.unreadable(&error))
    }

    pub(super) fn unreadable(&self, error: &Error) -> HistoryError {
        if !matches!(error, Error::DatabaseClosed) {
            error!(%error, "the store cannot be read");
            self.trouble(error);
        }
        let trouble = self.in_trouble().filter(|it| it.is_damage && is_damage(error));
        HistoryError::Unavailable(trouble.map_or_else(|| error.to_string(), |it| it.reason))
    }

    pub(super) fn trouble(&self, error: &Error) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_damage = is_damage(error);
        if trouble.as_ref().is_none_or(|it| !it.is_damage) {
            let mut reason = error.to_string();
            if is_damage {
                reason = format!(
                    "the store is damaged ({reason}); stop the gateway and run `tidegate store verify`"
                );
            }
            *trouble = Some(Trouble { reason, is_damage });
        }
    }

    /// Notes that the store cannot be written to.
    pub(super) fn freeze(&self, reason: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = Some(Trouble { reason, is_damage: false });
    }

    pub(super) fn clear_trouble(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.take_if(|it| !it.is_damage);
    }

    pub(super) fn in_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
