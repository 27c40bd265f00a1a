//! Timed changes of jobs: leases and back-offs expire, progress is reported, ended jobs are
//! forgotten.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    Job, JobError, JobState, Now, Tracker,
    agenda::Look,
    commit::status_event,
    redact::Redacted,
    table::Cell,
    tracker::{agenda, lock},
};

/// The longest time to the next check of a job that waits for an answer. A check whose job is gone
/// stays scheduled, and most questions are answered long before their end.
const FAR: Duration = Duration::from_secs(3600);

/// The wait before a timed change is retried after the history refused it.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Tracker {
    /// Whether progress must wait because the last progress event is too recent. If so, its event
    /// is scheduled.
    pub(super) fn is_to_wait(&self, cell: &Cell, now: Now) -> bool {
        let mut agenda = agenda(cell);
        let due = agenda.told.map(|told| told + self.0.options.progress_interval);
        match due {
            Some(due) if now.instant < due => {
                agenda.tell = Some(due);
                true
            }
            _ => {
                agenda.told = Some(now.instant);
                agenda.tell = None;
                false
            }
        }
    }

    /// Offers a claimable job, and schedules the next check.
    pub(super) fn plan(&self, cell: &Arc<Cell>, job: &Job, now: Now) {
        if job.is_claimable(now.instant) {
            self.table().offer(cell.clone());
        }
        let mut agenda = agenda(cell);
        if job.state.is_final() {
            agenda.tell = None;
        }
        // While the job waits for an answer, the lease of a worker elsewhere does not expire.
        let is_leased = match job.state {
            JobState::Waiting => job.is_done_here,
            state => state.has_worker(),
        };
        let due = [
            agenda.tell,
            // After this time the job is queued, and nothing is due until a worker claims it.
            job.not_before.filter(|it| job.state == JobState::Queued && now.instant < *it),
            job.lease.as_ref().filter(|_| is_leased).map(|lease| lease.expires),
            job.question_ends.map(|ends| ends.min(now.instant + FAR)),
            self.forget_at(job),
        ];
        let Some(due) = due.into_iter().flatten().min() else { return };
        if agenda.next_look.is_none_or(|next| due < next || next <= now.instant) {
            agenda.next_look = Some(due);
            lock(&self.0.looks).push(Reverse(Look { due, id: cell.id.clone() }));
            self.0.earlier_look.notify_one();
        }
    }

    /// Returns when an ended job is forgotten.
    fn forget_at(&self, job: &Job) -> Option<Instant> {
        let retention = match job.state {
            JobState::Succeeded => self.0.options.succeeded_retention,
            _ => self.0.options.failed_retention,
        };
        job.ended_for(retention)
    }

    /// Runs the checks when they are due. Each has its own task, so that one commit delays no
    /// other.
    pub(super) async fn look_at_what_is_due(self) {
        loop {
            let next = lock(&self.0.looks).peek().map(|Reverse(look)| look.due);
            let due = async {
                match next {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.earlier_look.notified() => continue,
                () = due => {}
            }
            let now = Instant::now();
            loop {
                let look = {
                    let mut looks = lock(&self.0.looks);
                    match looks.peek() {
                        Some(Reverse(look)) if look.due <= now => looks.pop(),
                        _ => None,
                    }
                };
                let Some(Reverse(look)) = look else { break };
                let tracker = self.clone();
                tokio::spawn(async move { tracker.look_at(look).await });
            }
        }
    }

    /// Applies what is due: expires the lease, reports progress, offers the job again, or forgets
    /// it.
    async fn look_at(&self, look: Look) {
        let Ok(cell) = self.cell(&look.id) else { return };
        {
            let mut agenda = agenda(&cell);
            // Another check was scheduled since.
            if agenda.next_look != Some(look.due) {
                return;
            }
            agenda.next_look = None;
        }
        let outcome = self.change(&cell, |job, now| Ok(job.expire(now))).await;
        let told = match outcome {
            Ok(_) => self.tell_of_progress(&cell).await,
            Err(error) => Err(error),
        };
        let now = self.now();
        if let Err(error) = told {
            warn!(job = %Redacted(&look.id), %error, "a job could not be changed in time");
            self.look_again(&cell, now);
            return;
        }
        let job = cell.job.lock().await;
        let is_due = self.forget_at(&job).is_some_and(|due| due <= now.instant);
        let next = job.clone();
        drop(job);
        if !is_due {
            self.plan(&cell, &next, now);
        } else if let Err(error) = self.forget(&cell).await {
            warn!(job = %Redacted(&look.id), %error, "an ended job could not be forgotten");
            self.look_again(&cell, now);
        }
    }

    /// Schedules a check after something could not be stored.
    fn look_again(&self, cell: &Cell, now: Now) {
        let due = now.instant + TRY_AGAIN;
        agenda(cell).next_look = Some(due);
        lock(&self.0.looks).push(Reverse(Look { due, id: cell.id.clone() }));
    }

    async fn tell_of_progress(&self, cell: &Cell) -> Result<(), JobError> {
        // Under the lock, so that no progress is published after the end of the job.
        let job = cell.job.lock().await;
        let now = self.now();
        let is_due = agenda(cell).tell.is_some_and(|tell| tell <= now.instant);
        if !is_due {
            return Ok(());
        }
        self.0.hub.publish(vec![status_event(&job, "job.progress", now)]).await?;
        let mut agenda = agenda(cell);
        agenda.tell = None;
        agenda.told = Some(now.instant);
        cell.version.send_replace(job.version);
        Ok(())
    }
}
