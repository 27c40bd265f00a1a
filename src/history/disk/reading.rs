//! What readers and the writer share of an open store: the store itself, what it has lost, what is wrong with it.

use std::sync::{Mutex, PoisonError, RwLock, atomic::AtomicU64};

use redb::{Database, Error};
use tracing::error;

use super::{
    open::{guarded, is_damage},
    read::Snapshot,
    recent::Shared,
    write::Prepared,
};
use crate::history::{HistoryError, lost::Lost};

/// What readers need.
#[derive(Debug)]
pub(super) struct Reading {
    /// `None` while the store is closed because of an error, or for good.
    pub(super) database: RwLock<Option<Database>>,
    pub(super) lost: RwLock<Lost>,
    pub(super) shared: Shared,
    pub(super) last: AtomicU64,
    pub(super) trouble: Mutex<Option<Trouble>>,
}

/// What is wrong.
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

    /// Commits, after those who may miss what it drops can be told.
    pub(super) fn commit(&self, prepared: Prepared, is_synced: bool) -> Result<(), Error> {
        let Prepared { mut transaction, drops, .. } = prepared;
        let mut lost = self.lost.write().unwrap_or_else(PoisonError::into_inner);
        for (position, remembered) in drops {
            remembered.note_in(&mut lost, position);
        }
        drop(lost);
        // The database must not be closed meanwhile.
        self.with(|_| {
            if is_synced {
                // So that the next start is quick, even after a crash.
                transaction.set_quick_repair(true);
            } else {
                transaction.set_durability(redb::Durability::None)?;
            }
            Ok(transaction.commit()?)
        })
    }

    pub(super) fn snapshot<T>(
        &self,
        look: impl FnOnce(&Snapshot<'_>, &Lost) -> Result<T, Error>,
    ) -> Result<T, HistoryError> {
        let found = self.with(|database| {
            let snapshot = Snapshot::of(database, &self.shared)?;
            // Behind the snapshot, so that whatever it lacks is known to be lost.
            let lost = self.lost.read().unwrap_or_else(PoisonError::into_inner);
            look(&snapshot, &lost)
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

    pub(super) fn clear_trouble(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.take_if(|it| !it.is_damage);
    }

    pub(super) fn in_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
