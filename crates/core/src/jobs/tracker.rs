//! The tracker of jobs: what others ask of it, and its state.

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
    Change, Job, JobError, JobOptions, Now, OnEnd, Outcome, Refusal, Report,
    agenda::{Agenda, Look},
    announced::Announced,
    table::{Cell, Place, Table},
};
use crate::{
    clock::Clock,
    hub::{Hub, PublishError},
};

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
// Only 1 and 2 may be held across an `await`, and neither while the task waits for what the history
// announces. Code that holds `table` may only try to lock a job. So a task that changes a job gets
// the locks of the ended jobs that are forgotten for it (`Room`) without waiting.
#[derive(Debug)]
pub(super) struct TrackerCore {
    pub(super) hub: Hub,
    pub(super) options: JobOptions,
    clock: Clock,
    table: Mutex<Table>,
    /// What the history has announced of jobs, and how much of it is in the table.
    pub(super) announced: Announced,
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
        // Before the stored jobs are read, so that no change of another process is missed.
        let announced = Announced::by(&hub);
        let tracker = Self(Arc::new(TrackerCore {
            clock,
            table: Mutex::new(Table::new(&options)),
            announced,
            hub,
            options,
            runtime: runtime.handle().clone(),
            looks: Mutex::default(),
            earlier_look: Notify::new(),
            on_end,
            lost_leases: Mutex::default(),
            run_times: Mutex::default(),
        }));
        let keys = tracker.restore()?;
        let looking = tracker.clone();
        let work = async move {
            let following = looking.clone();
            tokio::join!(
                looking.mend_keys(keys),
                following.follow(),
                looking.clone().look_at_what_is_due()
            );
        };
        thread::Builder::new()
            .name("tidegate-jobs".to_owned())
            .spawn(move || runtime.block_on(work))?;
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

    /// Returns the cell of a job. If there seems to be none, first looks at what the history has
    /// stored meanwhile.
    pub(super) async fn find(&self, id: &str) -> Result<Arc<Cell>, JobError> {
        match self.cell(id) {
            Err(_) if self.was_behind().await? => self.cell(id),
            found => found,
        }
    }

    /// Returns the cell of a job in the table.
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
        Ok(self.find(id).await?.job.lock().await.clone())
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
        let cell = self.find(id).await?;
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

    /// Returns the place of a job in the queue, if it can be claimed now.
    ///
    /// # Errors
    /// If there is no such job.
    pub async fn place(&self, id: &str) -> Result<Option<Place>, JobError> {
        let cell = self.find(id).await?;
        Ok(self.table().place(&cell, Instant::now()))
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
        self.change_by_id(id, move |job, now| job.report(&lease, report.clone(), now)).await
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
        self.change_by_id(id, move |job, now| job.complete(&lease, outcome.clone(), now)).await
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
        self.change_by_id(id, move |job, now| job.fail(&lease, problem.clone(), is_retryable, now))
            .await
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
        self.change_by_id(id, |job, _| job.retry()).await
    }

    pub(super) async fn change_by_id(
        &self,
        id: &str,
        change: impl Fn(&mut Job, Now) -> Result<Change, Refusal> + Send + Sync + 'static,
    ) -> Result<Job, JobError> {
        let cell = self.find(id).await?;
        let tracker = self.clone();
        self.carry_out(async move { tracker.change(&cell, change).await }).await
    }

    /// Runs `work` to completion, even if the caller does not wait for it.
    pub(super) async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, JobError>> + Send + 'static,
    ) -> Result<T, JobError> {
        let done = self.0.runtime.spawn(work).await;
        done.unwrap_or(Err(JobError::Publish(PublishError::Stopped)))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn agenda(cell: &Cell) -> MutexGuard<'_, Agenda> {
    lock(&cell.agenda)
}
