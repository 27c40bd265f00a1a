//! The tracker: changes jobs, one change of a job at a time, and commits each with its event.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use serde_json::value::RawValue;
use tokio::{runtime::Handle, sync::Notify};

use super::{
    Change, Job, JobOptions, NewJob, Now, OnEnd, Outcome, Refusal, Report, Rules,
    agenda::{Agenda, Look},
    status::Status,
    table::{Cell, Table},
};
use crate::{
    clock::Clock,
    event::{EventId, EventType, Lane, Topic, Update},
    history::KeyedReply,
    hub::{Hub, PublishError},
    random::random_text,
    transport::json::script_safe,
};

/// Makes the reply to store for a request that creates a job, given the job's id.
pub type Keep = Box<dyn FnOnce(&str) -> KeyedReply + Send>;

/// The reason why a request about a job was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JobError {
    /// There is no such job.
    #[error("there is no such job")]
    Unknown,
    /// There was such a job, but it was forgotten some time after its end.
    #[error("the job has ended, and what was known of it was forgotten")]
    Gone,
    /// The job's state, progress or log, or the caller's lease, does not allow the change.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The job cannot be retried: its creator ran it, and no worker can.
    #[error("the program that created the job did it itself, and does not do it again")]
    DoneHere,
    /// Another unfinished job has the same type and key.
    #[error("another job of the same type and key is there")]
    KeyTaken,
    /// The limit of jobs is reached, and none of them has ended.
    #[error("there are {0} jobs that have not ended, which is the limit")]
    Full(usize),
    /// The jobs take as many bytes as allowed, and none of them has ended.
    #[error(
        "all jobs together take {0} bytes, which is the limit (jobs.max_bytes), and none has ended"
    )]
    Heavy(usize),
    /// The change was not stored.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// A handle to the tracker. Clones share one tracker.
#[derive(Debug, Clone)]
pub struct Tracker(pub(super) Arc<TrackerCore>);

// Order of the locks, from the first to the last. A later one may be taken while an earlier one is
// held, never the other way round:
//
// 1. `JobHandle::newest`, of a job that runs in this process.
// 2. `Cell::job`. Held while the change is committed.
// 3. `table` or `Cell::agenda`, never both at a time.
// 4. `looks`, with or without `Cell::agenda`; `lost_leases`; `run_times`.
//
// Only 1 and 2 may be held across an `await`. Code that holds `table` may only try to lock a job.
// A task holds the locks of two jobs only in `Tracker::add`. The new job is not in the table then,
// so no other task can wait for it.
#[derive(Debug)]
pub(super) struct TrackerCore {
    pub(super) hub: Hub,
    pub(super) options: JobOptions,
    clock: Clock,
    table: Mutex<Table>,
    /// Runs changes, so that each completes even if its requester goes away.
    pub(super) runtime: Handle,
    pub(super) looks: Mutex<BinaryHeap<Reverse<Look>>>,
    pub(super) earlier_look: Notify,
    pub(super) on_end: OnEnd,
    pub(super) lost_leases: Mutex<BTreeMap<String, u64>>,
    pub(super) run_times: Mutex<BTreeMap<String, (f64, u64)>>,
}

impl Tracker {
    /// Starts a tracker that publishes to `hub` and reports the end of each job to `on_end`.
    ///
    /// # Errors
    /// If its thread cannot be started, or the stored jobs cannot be read.
    pub fn start(hub: Hub, options: JobOptions, clock: Clock, on_end: OnEnd) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tracker = Self(Arc::new(TrackerCore {
            clock,
            table: Mutex::new(Table::new(
                options.tombstones,
                options.max_bytes,
                hub.history().outlives_process(),
            )),
            hub,
            options,
            runtime: runtime.handle().clone(),
            looks: Mutex::default(),
            earlier_look: Notify::new(),
            on_end,
            lost_leases: Mutex::default(),
            run_times: Mutex::default(),
        }));
        tracker.restore()?;
        let looking = tracker.clone();
        thread::Builder::new()
            .name("tidegate-jobs".to_owned())
            .spawn(move || runtime.block_on(looking.look_at_what_is_due()))?;
        Ok(tracker)
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { instant: Instant::now(), time: self.0.clock.now() }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a job, or finds the unfinished one of the same type and key. Returns whether it is
    /// new.
    ///
    /// ```
    /// # use tidegate_core::jobs::{JobError, NewJob, Tracker};
    /// # async fn create(tracker: Tracker) -> Result<(), JobError> {
    /// let (kind, title) = ("report".to_owned(), "Sales of May".to_owned());
    /// let key = Some("2026-05".to_owned());
    /// let (job, is_new) = tracker.create(NewJob { kind, title, payload: None, key }).await?;
    /// println!("/jobs/{} {}", job.id, if is_new { "was created" } else { "is being done" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a limit of jobs is reached, or the job could not be stored.
    pub async fn create(&self, new: NewJob) -> Result<(Job, bool), JobError> {
        self.create_and_keep(new, None).await
    }

    /// Creates a job like [`Tracker::create`], and stores the reply to the request with it.
    pub async fn create_and_keep(
        &self,
        new: NewJob,
        keep: Option<Keep>,
    ) -> Result<(Job, bool), JobError> {
        let rules = self.0.options.rules(&new.kind);
        let tracker = self.clone();
        self.carry_out(async move { tracker.add(new, rules, None, keep).await }).await
    }

    /// Creates a job that its creator runs itself, so that no worker can claim it. An existing job
    /// of the same key belongs to another creator, so it is returned without a lease.
    pub(super) async fn create_claimed(
        &self,
        new: NewJob,
    ) -> Result<(Job, Option<String>), JobError> {
        let rules = Rules { max_attempts: 1, ..self.0.options.rules(&new.kind) };
        let tracker = self.clone();
        let lease = random_text();
        let (job, is_new) = {
            let lease = lease.clone();
            self.carry_out(async move { tracker.add(new, rules, Some(lease), None).await }).await?
        };
        Ok((job, is_new.then_some(lease)))
    }

    async fn add(
        &self,
        new: NewJob,
        rules: Rules,
        lease: Option<String>,
        keep: Option<Keep>,
    ) -> Result<(Job, bool), JobError> {
        let now = self.now();
        let (id, number) = (random_text(), self.table().take_number());
        let mut job = Job::new(id, number, new, rules, self.0.options.log_bytes, now);
        if let Some(lease) = lease {
            job.is_done_here = true;
            let _ = job.claim(lease, now)?;
        }
        let cell = Arc::new(Cell::new(&job));
        // Locked before it enters the table, so that no reader sees it before its event is
        // committed.
        let locked = cell.job.lock().await;
        if let Some(existing) = self.enter(&cell, job.weight())? {
            let existing = existing.job.lock().await.clone();
            self.keep_reply(keep.map(|keep| keep(&existing.id))).await?;
            return Ok((existing, false));
        }
        let event = Some(status_event(&job, "job.state", now));
        let reply = keep.map(|keep| keep(&job.id));
        if let Err(error) = self.commit(None, &job, event, reply, now).await {
            self.table().remove(&job, false);
            return Err(error);
        }
        self.table().moved(&job, None);
        drop(locked);
        self.plan(&cell, &job, now);
        Ok((job, true))
    }

    /// Inserts a new job. If an unfinished job has the same type and key, returns that one instead.
    fn enter(&self, cell: &Arc<Cell>, weight: usize) -> Result<Option<Arc<Cell>>, JobError> {
        let mut table = self.table();
        if let Some(existing) = cell.key.as_ref().and_then(|key| table.with_key(&cell.kind, key)) {
            return Ok(Some(existing));
        }
        if self.0.options.max_jobs <= table.len() && !table.forget_oldest_ended() {
            return Err(JobError::Full(self.0.options.max_jobs));
        }
        if !table.grow(weight) {
            return Err(JobError::Heavy(self.0.options.max_bytes));
        }
        table.insert(cell);
        Ok(None)
    }

    /// Returns the cell of a job.
    pub(super) fn cell(&self, id: &str) -> Result<Arc<Cell>, JobError> {
        let table = self.table();
        match table.get(id) {
            Some(cell) => Ok(cell),
            None if table.is_gone(id) => Err(JobError::Gone),
            None => Err(JobError::Unknown),
        }
    }

    /// Returns a copy of a job.
    ///
    /// # Errors
    /// If there is no such job.
    pub async fn job(&self, id: &str) -> Result<Job, JobError> {
        Ok(self.cell(id)?.job.lock().await.clone())
    }

    /// Waits until `is_over` holds, `until` completes or the hub drains, and returns the job.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidegate_core::jobs::{Job, JobError, Tracker};
    /// # async fn wait(tracker: &Tracker, id: &str) -> Result<Job, JobError> {
    /// let a_minute = tokio::time::sleep(Duration::from_secs(60));
    /// let job = tracker.wait(id, a_minute, |job| job.state.is_final()).await?;
    /// # Ok(job)
    /// # }
    /// ```
    pub async fn wait(
        &self,
        id: &str,
        until: impl Future<Output = ()>,
        is_over: impl Fn(&Job) -> bool,
    ) -> Result<Job, JobError> {
        let cell = self.cell(id)?;
        let mut versions = cell.version.subscribe();
        let mut draining = self.0.hub.draining();
        let waiting = async {
            loop {
                let job = cell.job.lock().await.clone();
                if is_over(&job) {
                    return job;
                }
                tokio::select! {
                    changed = versions.changed() => if changed.is_err() { return job },
                    _ = draining.wait_for(|draining| *draining) => return job,
                }
            }
        };
        tokio::select! {
            biased;
            job = waiting => Ok(job),
            () = until => Ok(cell.job.lock().await.clone()),
        }
    }

    /// Whether a job exists.
    pub fn knows(&self, id: &str) -> bool {
        self.table().get(id).is_some()
    }

    /// Returns jobs that `is_wanted` accepts, the newest first. At most `limit` are returned, all
    /// created before the job `before`.
    pub async fn list(
        &self,
        before: Option<&str>,
        limit: usize,
        is_wanted: impl Fn(&Job) -> bool,
    ) -> Vec<Job> {
        let cells: Vec<Arc<Cell>> = {
            let table = self.table();
            let before = before.and_then(|id| table.get(id)).map_or(u64::MAX, |cell| cell.number);
            table.newest_first().filter(|cell| cell.number < before).cloned().collect()
        };
        let mut found = Vec::new();
        for cell in cells {
            if limit <= found.len() {
                break;
            }
            let job = cell.job.lock().await;
            if is_wanted(&job) {
                found.push(job.clone());
            }
        }
        found
    }

    /// Applies a worker's report and returns the job.
    ///
    /// # Errors
    /// If there is no such job, or the report is refused.
    pub async fn report(&self, id: &str, lease: String, report: Report) -> Result<Job, JobError> {
        self.change_by_id(id, move |job, now| job.report(&lease, report, now)).await
    }

    /// Appends to a job's log.
    ///
    /// # Errors
    /// If there is no such job, or the text is refused.
    pub async fn append_log(
        &self,
        id: &str,
        lease: String,
        offset: u64,
        text: String,
    ) -> Result<Job, JobError> {
        self.change_by_id(id, move |job, now| job.append_log(&lease, offset, &text, now)).await
    }

    /// Completes a job.
    ///
    /// # Errors
    /// If there is no such job, or the report is refused.
    pub async fn complete(
        &self,
        id: &str,
        lease: String,
        outcome: Outcome,
    ) -> Result<Job, JobError> {
        self.change_by_id(id, move |job, now| job.complete(&lease, outcome, now)).await
    }

    /// Ends an attempt with a failure.
    ///
    /// # Errors
    /// If there is no such job, or the report is refused.
    pub async fn fail(
        &self,
        id: &str,
        lease: String,
        problem: Arc<RawValue>,
        is_retryable: bool,
    ) -> Result<Job, JobError> {
        self.change_by_id(id, move |job, now| job.fail(&lease, problem, is_retryable, now)).await
    }

    /// Requests that a job be stopped.
    ///
    /// # Errors
    /// If there is no such job, or it has ended.
    pub async fn cancel(&self, id: &str) -> Result<Job, JobError> {
        self.change_by_id(id, |job, now| job.cancel(now)).await
    }

    /// Queues a job again.
    ///
    /// # Errors
    /// If there is no such job, its state or creator rules out a retry, or its key is taken.
    pub async fn retry(&self, id: &str) -> Result<Job, JobError> {
        if self.job(id).await?.is_done_here {
            return Err(JobError::DoneHere);
        }
        let cell = self.cell(id)?;
        // Another job of its type and key may be unfinished by now, and only one is allowed.
        if !self.table().reserve_key(&cell) {
            return Err(JobError::KeyTaken);
        }
        let retried = self.change_by_id(id, |job, _| job.retry()).await;
        if retried.is_err() {
            let job = cell.job.lock().await;
            self.table().release_key(&job);
        }
        retried
    }

    pub(super) async fn change_by_id(
        &self,
        id: &str,
        change: impl FnOnce(&mut Job, Now) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<Job, JobError> {
        let cell = self.cell(id)?;
        let tracker = self.clone();
        self.carry_out(async move { tracker.change(&cell, change).await }).await
    }

    /// Runs `work` to completion, even if the caller does not wait for it.
    async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, JobError>> + Send + 'static,
    ) -> Result<T, JobError> {
        let done = self.0.runtime.spawn(work).await;
        done.unwrap_or(Err(JobError::Publish(PublishError::Stopped)))
    }

    /// Changes a job: changes a copy, commits its event, and only then replaces the job with the
    /// copy.
    pub(super) async fn change(
        &self,
        cell: &Arc<Cell>,
        change: impl FnOnce(&mut Job, Now) -> Result<Change, Refusal>,
    ) -> Result<Job, JobError> {
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
                return Ok(next);
            }
            Change::Progress if self.is_to_wait(cell, now) => None,
            Change::Progress => Some(status_event(&next, "job.progress", now)),
            Change::Log(from) => Some(log_event(&next, from)),
            Change::State if next.state.is_final() => Some(status_event(&next, "job.done", now)),
            Change::State => Some(status_event(&next, "job.state", now)),
        };
        let is_told = event.is_some();
        let (old_weight, new_weight) = (job.weight(), next.weight());
        let growth = new_weight.saturating_sub(old_weight);
        if !self.table().grow(growth) {
            return Err(JobError::Heavy(self.0.options.max_bytes));
        }
        if let Err(error) = self.commit(Some(&job), &next, event, None, now).await {
            self.table().shrink(growth);
            return Err(error);
        }
        let before = std::mem::replace(&mut *job, next.clone());
        self.table().shrink(old_weight.saturating_sub(new_weight));
        if before.state != next.state || before.attempt != next.attempt {
            self.table().moved(&next, Some(before.state));
            self.note_end(&before, &next, now);
        }
        drop(job);
        if is_told {
            cell.version.send_replace(next.version);
        }
        self.plan(cell, &next, now);
        Ok(next)
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
    Update {
        topics: Box::new([Topic::of_job(&job.id)]),
        data: data.into(),
        id: EventId::random(),
        kind: Some(EventType::of_hub(kind)),
        retry: None,
        private: false,
        except: Box::new([]),
        lane: Lane::Ordinary,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn agenda(cell: &Cell) -> MutexGuard<'_, Agenda> {
    lock(&cell.agenda)
}
