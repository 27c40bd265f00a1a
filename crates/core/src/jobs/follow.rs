//! The table follows the history: what another process has stored becomes the job here as well.

use std::sync::Arc;

use tracing::error;

use super::{Job, JobError, Tracker, announced::Waiting, record, table::Cell};
use crate::history::{Record, Revised, Shelf};

impl Tracker {
    /// Waits until the table has everything that the history had stored before this call.
    pub(super) async fn catch_up(&self) -> Result<(), JobError> {
        self.0.hub.history().current().await.map_err(|error| JobError::Publish(error.into()))?;
        self.0.announced.all_applied().await;
        Ok(())
    }

    /// Whether the table lacked something that the history had. It has that now.
    pub(super) async fn was_behind(&self) -> Result<bool, JobError> {
        let before = self.0.announced.applied();
        self.catch_up().await?;
        Ok(before < self.0.announced.applied())
    }

    /// Applies what the history announces, for as long as the process runs.
    pub(super) async fn follow(self) {
        let announced = &self.0.announced;
        loop {
            let Waiting { newest, jobs } = announced.take();
            for (number, records) in &jobs {
                self.apply(*number, records).await;
            }
            announced.apply(newest);
            announced.more().await;
        }
    }

    /// Applies the newest records of a job.
    async fn apply(&self, number: u64, change: &[Revised]) {
        let of = |shelf: Shelf| {
            let records = change.iter().map(|it| &it.record);
            records.filter(move |it| it.shelf == shelf && it.value.is_some())
        };
        let Some(written) = change.iter().find(|it| it.record.shelf == Shelf::Jobs) else { return };
        let (kept, revision) = (&written.record, written.revision);
        let mut log: Vec<Record> = of(Shelf::JobLogs).cloned().collect();
        log.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        loop {
            let known = {
                let mut table = self.table();
                if table.is_outdated(number, revision) {
                    return;
                }
                table.numbered(number)
            };
            let now = self.now();
            let Some(cell) = known else {
                if kept.value.is_some() {
                    let payload = of(Shelf::JobPayloads).next();
                    match record::restore(kept, payload, &log, &self.0.options, now) {
                        Ok(job) => self.take_over(&job.at(revision), now),
                        Err(error) => error!(%error, number, "a job of another process"),
                    }
                }
                return;
            };
            // A change of the job by this process holds the lock until it has its revision.
            let mut job = cell.job.lock().await;
            if !self.table().holds(&cell) {
                continue;
            }
            if revision <= job.revision {
                return;
            }
            if kept.value.is_none() {
                self.table().forget(&job, revision);
                return;
            }
            match record::followed(&job, kept, &log, &self.0.options, now) {
                Ok(next) => self.replace(&cell, &mut job, &next.at(revision), kept),
                Err(error) => error!(%error, number, "a change of another process"),
            }
            return;
        }
    }

    /// Puts a stored job in the place of the one that is known here.
    fn replace(&self, cell: &Arc<Cell>, job: &mut Job, next: &Job, kept: &Record) {
        let now = self.now();
        let before = std::mem::replace(job, next.clone());
        let mut table = self.table();
        table.weigh(next);
        table.shrink(before.weight());
        let has_asked_anew = before.open_question().map(|it| it.asked_at)
            != next.open_question().map(|it| it.asked_at);
        if before.state != next.state || before.attempt != next.attempt || has_asked_anew {
            table.moved(next, Some(before.state));
            if !next.state.is_final() {
                table.hold_key(cell);
            }
        }
        drop(table);
        if before.unanswered.is_some() && before.unanswered == kept.value {
            // This process made the change, but did not learn that it was stored.
            self.note_turn(&before, next, now);
        }
        cell.version.send_replace(next.version);
        self.plan(cell, next, now);
    }
}
