//! Changing a job: a copy is changed and submitted with its event, on the condition that the job is
//! still as it was. Only then it replaces the job.

use std::sync::Arc;

use super::{
    Change, Job, JobError, JobState, Now, Refusal, Tracker, held_key, record,
    status::Status,
    table::{Cell, Room},
};
use crate::{
    event::{Lane, Topic, Update},
    history::{Batch, Committed, HistoryError, KeyedReply},
    transport::json::script_safe,
};

/// How often a change is made again because another process was faster.
pub(super) const ATTEMPTS: usize = 8;

/// A new or changed job, with what is stored beside it.
pub(super) struct Submission<'a> {
    /// The job as it has to be still; `None` for a new one.
    pub(super) before: Option<&'a Job>,
    pub(super) after: &'a Job,
    pub(super) event: Option<Update>,
    pub(super) reply: Option<KeyedReply>,
    pub(super) room: &'a Room,
}

impl Tracker {
    /// Changes a job. `change` is called again if another process has changed the job meanwhile,
    /// and if it refuses a job that was not up to date.
    pub(super) async fn change(
        &self,
        cell: &Arc<Cell>,
        change: impl Fn(&mut Job, Now) -> Result<Change, Refusal>,
    ) -> Result<Job, JobError> {
        let mut cell = cell.clone();
        for _ in 0..ATTEMPTS {
            match self.try_change(&cell, &change).await {
                Ok(Some(job)) => return Ok(job),
                Ok(None) => self.catch_up().await?,
                Err(error) if error.may_be_outdated() && self.was_behind().await? => {}
                Err(error) => return Err(error),
            }
            cell = self.cell(&cell.id)?;
        }
        Err(JobError::Contended)
    }

    /// Tries to change a job once. Returns `None` if the job is not as it was any more.
    async fn try_change(
        &self,
        cell: &Arc<Cell>,
        change: impl Fn(&mut Job, Now) -> Result<Change, Refusal>,
    ) -> Result<Option<Job>, JobError> {
        // Held until the copy replaces the job, across the commit. See the order at `TrackerCore`.
        let mut job = cell.job.lock().await;
        // The job may have been forgotten while this waited for the lock.
        if !self.table().holds(cell) {
            return Err(JobError::Gone);
        }
        let now = self.now();
        let mut next = job.clone();
        let event = match change(&mut next, now)? {
            Change::Nothing => {
                // Watchers see no change, but the lease may have been extended.
                *job = next.clone();
                return Ok(Some(next));
            }
            Change::Progress if self.is_to_wait(cell, now) => None,
            Change::Progress => Some(status_event(&next, "job.progress", now)),
            Change::Log(from) => Some(log_event(&next, from)),
            _ if next.state.is_final() => Some(status_event(&next, "job.done", now)),
            Change::Asked => Some(status_event(&next, "job.asked", now)),
            Change::Answered => Some(status_event(&next, "job.answered", now)),
            Change::State => Some(status_event(&next, "job.state", now)),
        };
        let is_told = event.is_some();
        let is_revived = job.state.is_final() && !next.state.is_final();
        let (old_weight, new_weight) = (job.weight(), next.weight());
        let room = {
            let mut table = self.table();
            let room = match new_weight.saturating_sub(old_weight) {
                0 => Room::none(),
                growth => table.make_room(0, growth)?,
            };
            if next.state == JobState::Waiting && !table.may_wait(next.number) {
                table.leave_room(&room);
                return Err(JobError::TooManyWaiting(self.0.options.asking.waiting));
            }
            // Another job of its type and key may be unfinished by now, and only one is allowed.
            if is_revived && !table.reserve_key(cell) {
                table.leave_room(&room);
                return Err(JobError::KeyTaken);
            }
            room
        };
        let submission =
            Submission { before: Some(&job), after: &next, event, reply: None, room: &room };
        let outcome = self.submit(submission, now).await;
        let Ok(Committed::Stored(revision)) = outcome else {
            let mut table = self.table();
            table.leave_room(&room);
            table.release_key(&job);
            drop(table);
            if let Err(JobError::Publish(error)) = &outcome
                && error.may_be_stored()
            {
                job.unanswered = record::value(&next, now);
            }
            return outcome.map(|_| None);
        };
        next.revision = revision;
        let before = std::mem::replace(&mut *job, next.clone());
        let mut table = self.table();
        table.use_room(&room, revision);
        table.shrink(old_weight.saturating_sub(new_weight));
        if before.state != next.state || before.attempt != next.attempt {
            table.moved(&next, Some(before.state));
            drop(table);
            self.note_turn(&before, &next, now);
        } else {
            drop(table);
        }
        drop(job);
        if is_told {
            cell.version.send_replace(next.version);
        }
        self.plan(cell, &next, now);
        Ok(Some(next))
    }

    /// Submits a new or changed job with everything beside it.
    pub(super) async fn submit(
        &self,
        submission: Submission<'_>,
        now: Now,
    ) -> Result<Committed, JobError> {
        let Submission { before, after, event, reply, room } = submission;
        let unwritable = |error| HistoryError::Unavailable(format!("a job as JSON: {error}"));
        let mut records = record::changed(before, after, now)
            .map_err(|error| JobError::Publish(unwritable(error).into()))?;
        records.extend(held_key::changed(before, after));
        records.extend(room.forgotten.iter().flat_map(|job| record::forgotten(job)));
        let faded = self.table().take_faded();
        records.extend(faded.iter().copied().map(record::tombstone_gone));
        let (updates, replies) = (event.into_iter().collect(), reply.into_iter().collect());
        let outcome = self.0.hub.submit(Batch { updates, records, replies }).await;
        if !matches!(outcome, Ok(Committed::Stored(_))) {
            self.table().put_back_faded(faded);
        }
        Ok(outcome?)
    }

    /// Forgets an ended job, unless it has changed meanwhile.
    pub(super) async fn forget(&self, cell: &Arc<Cell>) -> Result<(), JobError> {
        let job = cell.job.lock().await;
        let records = record::forgotten(&job);
        let outcome = self.0.hub.submit(Batch { records, ..Batch::default() }).await?;
        if let Committed::Stored(revision) = outcome {
            self.table().forget(&job, revision);
        }
        Ok(())
    }
}

/// Makes an event with the job's status document.
pub(super) fn status_event(job: &Job, kind: &'static str, now: Now) -> Update {
    event(job, kind, script_safe(&Status::of(job, now.time)))
}

/// Makes an event with the log text from an offset on.
fn log_event(job: &Job, from: u64) -> Update {
    let (offset, text) = job.log.text_from(from);
    event(job, "job.log", script_safe(&serde_json::json!({ "offset": offset, "text": text })))
}

fn event(job: &Job, kind: &'static str, data: String) -> Update {
    Update::of_hub(Lane::Ordinary, Box::new([Topic::of_job(&job.id)]), kind, data)
}
