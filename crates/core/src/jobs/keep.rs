//! Persistence of jobs: each change is committed with its event, and the next process resumes from
//! there.

use std::{collections::HashMap, io, sync::Arc};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{Job, JobError, Now, Tracker, record, table::Cell};
use crate::{
    event::Update,
    history::{Batch, HistoryError, KeyedReply, Record, Shelf},
};

impl Tracker {
    /// Commits a new or changed job together with its event and the reply to store.
    pub(super) async fn commit(
        &self,
        before: Option<&Job>,
        after: &Job,
        event: Option<Update>,
        reply: Option<KeyedReply>,
        now: Now,
    ) -> Result<(), JobError> {
        let mut batch = Batch { updates: event.into_iter().collect(), ..Batch::default() };
        if self.0.hub.history().outlives_process() {
            let unwritable = |error| HistoryError::Unavailable(format!("a job as JSON: {error}"));
            batch.records = record::changed(before, after, now)
                .map_err(|error| JobError::Publish(unwritable(error).into()))?;
            batch.replies.extend(reply);
        }
        self.commit_batch(batch).await
    }

    /// Commits the records of forgotten jobs. If that fails, they go with the next change.
    pub(super) async fn write_forgotten(&self) {
        if let Err(error) = self.commit_batch(Batch::default()).await {
            warn!(%error, "a forgotten job is still in the store");
        }
    }

    /// Stores the reply to a request whose job existed already.
    pub(super) async fn keep_reply(&self, reply: Option<KeyedReply>) -> Result<(), JobError> {
        self.commit_batch(Batch { replies: reply.into_iter().collect(), ..Batch::default() }).await
    }

    /// Commits a batch together with the unwritten records of forgotten jobs.
    async fn commit_batch(&self, mut batch: Batch) -> Result<(), JobError> {
        let unwritten = self.table().take_unwritten();
        batch.records.extend_from_slice(&unwritten);
        if batch.updates.is_empty() && batch.records.is_empty() && batch.replies.is_empty() {
            return Ok(());
        }
        let outcome = self.0.hub.commit(batch).await;
        if outcome.is_err() {
            self.table().put_back(unwritten);
        }
        Ok(outcome?)
    }

    /// Restores the jobs that the previous process left.
    pub(super) fn restore(&self) -> io::Result<()> {
        let history = self.0.hub.history();
        let load = |shelf| history.records(shelf).map_err(io::Error::other);
        let now = self.now();
        let number = |it: &Record| record::number(&it.key).map_err(io::Error::other);
        let mut payloads: HashMap<u64, Record> = HashMap::new();
        for payload in load(Shelf::JobPayloads)? {
            payloads.insert(number(&payload)?, payload);
        }
        let mut logs: HashMap<u64, Vec<Record>> = HashMap::new();
        for block in load(Shelf::JobLogs)? {
            logs.entry(number(&block)?).or_default().push(block);
        }
        for tombstone in load(Shelf::JobTombstones)? {
            let number = number(&tombstone)?;
            let id = tombstone.value.unwrap_or_default().into_vec();
            let id = String::from_utf8_lossy(&id).into_owned();
            self.table().bury(number, id);
        }
        let mut n_jobs = 0;
        for kept in load(Shelf::Jobs)? {
            let number = number(&kept)?;
            let log = logs.remove(&number).unwrap_or_default();
            let payload = payloads.remove(&number);
            let restored = record::restore(&kept, payload.as_ref(), &log, &self.0.options, now);
            self.take_over(&restored.map_err(io::Error::other)?, now);
            n_jobs += 1;
        }
        if 0 < n_jobs {
            info!(n_jobs, "jobs go on from where they were");
        }
        Ok(())
    }

    fn take_over(&self, job: &Job, now: Now) {
        let cell = Arc::new(Cell::new(job));
        let mut table = self.table();
        // Accepted jobs are restored even if `jobs.max_bytes` has been lowered since.
        table.weigh(job);
        table.insert(&cell);
        table.moved(job, None);
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
            job: tokio::sync::Mutex::new(job.clone()),
        }
    }
}
