//! What handles and the writer share.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::{StateOptions, gathering::Gathering, table::Table};
use crate::{
    clock::Clock,
    event::Position,
    history::Shelf,
    hub::{Hub, PublishError},
};

/// The documents, and what is not told yet. The table may be locked while the gathering is, never
/// the other way round.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) hub: Hub,
    pub(super) options: StateOptions,
    clock: Clock,
    table: Arc<Mutex<Table>>,
    gathering: Mutex<Gathering>,
    /// Wakes the writer when something may be due earlier.
    pub(super) woken: Notify,
    /// Counts tellings of members.
    pub(super) told: watch::Sender<u64>,
}

// A panic while the lock is held would be a bug. Continuing with the present state beats refusing
// every request.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Reads the documents that the history has stored, and follows it from now on.
    pub(super) fn open(hub: Hub, options: StateOptions, clock: Clock) -> io::Result<Self> {
        let table = Arc::new(Mutex::new(Table::default()));
        {
            // The lock is held until the stored documents are there. What the history announces
            // meanwhile is applied after them, and has the same result if they have it already.
            let mut restored = lock(&table);
            let following = table.clone();
            hub.keep_table(
                &[Shelf::State],
                Box::new(move |records| lock(&following).learn(records.iter().copied())),
            );
            let stored = hub.history().records(Shelf::State).map_err(io::Error::other)?;
            restored.restore(&stored)?;
        }
        Ok(Self {
            gathering: Mutex::new(Gathering::new(options.interval)),
            hub,
            options,
            clock,
            table,
            woken: Notify::new(),
            told: watch::Sender::new(0),
        })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(super) fn gathering(&self) -> MutexGuard<'_, Gathering> {
        lock(&self.gathering)
    }

    /// The time in milliseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Waits until the table has everything that was stored before this call.
    pub(super) async fn catch_up(&self) -> Result<Position, PublishError> {
        Ok(self.hub.history().current().await?)
    }
}
