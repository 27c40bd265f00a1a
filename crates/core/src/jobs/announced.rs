//! What the history has announced of jobs, until the table has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::record;
use crate::{
    event::Position,
    history::{Revised, Shelf},
    hub::Hub,
};

/// The shelves that make up a job.
const SHELVES: &[Shelf] = &[Shelf::Jobs, Shelf::JobPayloads, Shelf::JobLogs];

/// What the history has announced of jobs, and how much of it is in the table.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
    /// The revision up to which the table has all changes.
    applied: watch::Sender<Position>,
}

/// Announced records that are not in the table yet. Only the newest state of each is kept, so they
/// take no more room than the jobs themselves.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The newest announced revision.
    pub(super) newest: Position,
    /// By the number of the job.
    pub(super) jobs: BTreeMap<u64, Vec<Revised>>,
}

impl Waiting {
    fn add(&mut self, revised: &Revised) {
        self.newest = revised.revision;
        let Ok(number) = record::number(&revised.record.key) else { return };
        let records = self.jobs.entry(number).or_default();
        let same = |it: &&mut Revised| {
            (it.record.shelf, &it.record.key) == (revised.record.shelf, &revised.record.key)
        };
        match records.iter_mut().find(same) {
            Some(older) => older.clone_from(revised),
            None => records.push(revised.clone()),
        }
    }
}

impl Announced {
    /// Listens to a hub from now on.
    pub(super) fn by(hub: &Hub) -> Self {
        let announced = Self {
            waiting: Arc::default(),
            more: Arc::default(),
            applied: watch::Sender::new(Position::START),
        };
        let learn = {
            let announced = announced.clone();
            move |records: &[&Revised]| {
                let mut waiting = announced.waiting();
                records.iter().for_each(|it| waiting.add(it));
                drop(waiting);
                announced.more.notify_one();
            }
        };
        hub.keep_table(SHELVES, Box::new(learn));
        announced
    }

    /// Takes what is to be applied.
    pub(super) fn take(&self) -> Waiting {
        let mut waiting = self.waiting();
        Waiting { newest: waiting.newest, jobs: std::mem::take(&mut waiting.jobs) }
    }

    /// Notes that the table has everything up to a revision.
    pub(super) fn apply(&self, newest: Position) {
        self.applied.send_replace(newest);
    }

    /// The revision up to which the table has all changes.
    pub(super) fn applied(&self) -> Position {
        *self.applied.borrow()
    }

    /// Waits until the table has everything that is announced by now.
    pub(super) async fn all_applied(&self) {
        let newest = self.waiting().newest;
        // The sender is beside the receiver, so this does not fail.
        let _ = self.applied.subscribe().wait_for(|applied| newest <= *applied).await;
    }

    /// Waits until there may be more to apply.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
