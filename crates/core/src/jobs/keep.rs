//! Jobs over a restart: the next process resumes from where the previous one ended.

use std::{collections::HashMap, io, sync::Arc};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{Job, Now, Tracker, held_key, record, table::Cell};
use crate::{
    history::{Batch, Committed, Record, Revised, Shelf, Write},
    hub::PublishError,
};

impl Tracker {
    /// Restores the jobs that the previous process left. Returns corrections of the stored keys.
    pub(super) fn restore(&self) -> io::Result<Vec<Write>> {
        let history = self.0.hub.history();
        let load = |shelf| history.records(shelf).map_err(io::Error::other);
        let now = self.now();
        let number = |it: &Record| record::number(&it.key).map_err(io::Error::other);
        let mut payloads: HashMap<u64, Record> = HashMap::new();
        for Revised { record: payload, .. } in load(Shelf::JobPayloads)? {
            payloads.insert(number(&payload)?, payload);
        }
        let mut logs: HashMap<u64, Vec<Record>> = HashMap::new();
        for Revised { record: block, .. } in load(Shelf::JobLogs)? {
            logs.entry(number(&block)?).or_default().push(block);
        }
        for Revised { record: tombstone, .. } in load(Shelf::JobTombstones)? {
            let number = number(&tombstone)?;
            let id = tombstone.value.unwrap_or_default().into_vec();
            let id = String::from_utf8_lossy(&id).into_owned();
            self.table().bury(number, id);
        }
        let mut holders: HashMap<u64, Record> = HashMap::new();
        for Revised { record: key, .. } in load(Shelf::JobKeys)? {
            holders.insert(held_key::holder(&key), key);
        }
        let (mut n_jobs, mut corrections) = (0, Vec::new());
        for Revised { record: kept, revision } in load(Shelf::Jobs)? {
            let number = number(&kept)?;
            let log = logs.remove(&number).unwrap_or_default();
            let payload = payloads.remove(&number);
            let restored = record::restore(&kept, payload.as_ref(), &log, &self.0.options, now);
            let job = restored.map_err(io::Error::other)?.at(revision);
            // Earlier versions kept no keys.
            if !job.state.is_final() && holders.remove(&number).is_none() {
                corrections.extend(held_key::hold(&job));
            }
            self.take_over(&job, now);
            n_jobs += 1;
        }
        corrections.extend(holders.values().map(held_key::gone));
        if 0 < n_jobs {
            info!(n_jobs, "jobs go on from where they were");
        }
        Ok(corrections)
    }

    /// Writes corrections of the stored keys.
    pub(super) async fn mend_keys(&self, corrections: Vec<Write>) {
        const AT_A_TIME: usize = 1000;
        for some in corrections.chunks(AT_A_TIME) {
            match self.write(some).await {
                // A key was taken meanwhile. The others are written one by one.
                Ok(Committed::Conflict(_)) => {
                    for one in some.chunks(1) {
                        if let Err(error) = self.write(one).await {
                            warn!(%error, "the key of a job is not stored");
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "the keys of some jobs are not stored"),
            }
        }
    }

    async fn write(&self, records: &[Write]) -> Result<Committed, PublishError> {
        self.0.hub.submit(Batch { records: records.to_vec(), ..Batch::default() }).await
    }

    /// Puts a stored job into the table.
    pub(super) fn take_over(&self, job: &Job, now: Now) {
        let cell = Arc::new(Cell::new(job));
        let mut table = self.table();
        // Accepted jobs are there even beyond `jobs.max_bytes`.
        table.weigh(job);
        table.insert(&cell);
        table.moved(job, None);
        if !job.state.is_final() {
            table.hold_key(&cell);
        }
        drop(table);
        self.plan(&cell, job, now);
    }
}

impl Cell {
    /// Creates the cell of a job that is not in the table yet.
    pub(super) fn new(job: &Job) -> Self {
        Self {
            id: job.id.clone(),
            number: job.number,
            kind: job.kind.clone(),
            key: job.key.clone(),
            created_at: job.created_at,
            version: watch::Sender::new(job.version),
            agenda: std::sync::Mutex::default(),
            job: Arc::new(tokio::sync::Mutex::new(job.clone())),
        }
    }
}
