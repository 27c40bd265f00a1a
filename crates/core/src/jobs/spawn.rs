//! Jobs as futures: workers inside the library.

use std::{fmt::Display, sync::Arc, time::Duration};

use serde_json::{json, value::to_raw_value};
use tidegate_client::{Answer, JobResult, Question};
use tracing::warn;

use super::{Job, JobError, JobState, NewJob, Outcome, Refusal, Report, Tracker, redact::Redacted};
use crate::hub::PublishError;

/// Reports per lease term. With 3, one late report does not end the lease.
const REPORTS_PER_LEASE: u32 = 3;

/// The time after which a wait begins anew.
const LONG: Duration = Duration::from_secs(3600);

/// The job has ended, or was taken from its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job is no longer this worker's")]
pub struct Stopped;

/// The reason why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The job has ended, was cancelled, or was taken from its worker.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The question cannot be asked.
    #[error("{0}")]
    Refused(String),
}

/// The handle with which a job's future reports.
///
/// ```
/// use tidegate_core::jobs::{JobHandle, Stopped};
///
/// async fn copy(job: &JobHandle, files: &[&str]) -> Result<(), Stopped> {
///     let total = Some(files.len() as f64);
///     for (n_copied, file) in files.iter().enumerate() {
///         job.progress(n_copied as f64, total, Some("Copying"), Some(file)).await?;
///         job.log(&format!("{file}\n")).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct JobHandle {
    tracker: Tracker,
    id: String,
    lease: String,
    newest: Arc<tokio::sync::Mutex<Option<Report>>>,
}

impl Tracker {
    /// Creates a job and runs `work` in this process. `work` gets a handle to report with, and its
    /// return value becomes the job's result. An error or a panic fails the job, without another
    /// attempt. If an unfinished job has the same type and key, that job is returned and `work` is
    /// dropped. Must be called within a tokio runtime.
    ///
    /// ```
    /// # use tidegate_core::jobs::{JobError, JobResult, NewJob, Tracker};
    /// # async fn sum(tracker: &Tracker) -> Result<(), JobError> {
    /// let new = NewJob { kind: "sum".into(), title: "A sum".into(), payload: None, key: None };
    /// let job = tracker.spawn(new, |_| async { JobResult::inline(&(1 + 1)) }).await?;
    /// println!("/jobs/{}", job.id);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the job cannot be created.
    pub async fn spawn<F, T, E>(
        &self,
        new: NewJob,
        work: impl FnOnce(JobHandle) -> F + Send + 'static,
    ) -> Result<Job, JobError>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<JobResult> + 'static,
        E: Display + 'static,
    {
        let tracker = self.clone();
        // A separate task: even if the caller is dropped, the job gets its worker.
        let spawning = tokio::spawn(async move {
            let (job, lease) = tracker.create_claimed(new).await?;
            if let Some(lease) = lease {
                let id = job.id.clone();
                let handle = JobHandle { tracker, id, lease, newest: Arc::default() };
                tokio::spawn(handle.carry_out(work, job.lease_term() / REPORTS_PER_LEASE));
            }
            Ok(job)
        });
        spawning.await.unwrap_or(Err(JobError::Publish(PublishError::Stopped)))
    }
}

impl JobHandle {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Reports progress: the amount done, the total if known, the current stage, and a message for
    /// people. A number that is negative or not finite counts as 0 (`done`) or unknown (`total`).
    ///
    /// # Errors
    /// If the job is no longer this worker's.
    pub async fn progress(
        &self,
        done: f64,
        total: Option<f64>,
        stage: Option<&str>,
        message: Option<&str>,
    ) -> Result<(), Stopped> {
        let mut newest = self.newest.lock().await;
        let seq = newest.as_ref().map_or(1, |it| it.seq + 1);
        let (stage, message) = (stage.map(str::to_owned), message.map(str::to_owned));
        // NaN does not equal itself, so the tracker could not recognize a repetition.
        let is_number = |it: &f64| it.is_finite() && 0.0 <= *it;
        let done = Some(done).filter(is_number).unwrap_or_default();
        let total = total.filter(is_number);
        let report = Report { seq, done, total, stage, message };
        *newest = Some(report.clone());
        self.check(self.tracker.report(&self.id, self.lease.clone(), report).await)
    }

    /// Appends to the job's log.
    ///
    /// # Errors
    /// If the job is no longer this worker's.
    pub async fn log(&self, text: &str) -> Result<(), Stopped> {
        let (lease, text) = (self.lease.clone(), text.to_owned());
        // Only this worker writes the log, so the text belongs at its current end. That holds even
        // if an earlier call failed or was dropped.
        let append = move |job: &mut Job, now| job.append_log(&lease, job.log.end(), &text, now);
        self.check(self.tracker.change_by_id(&self.id, append).await)
    }

    /// Asks a question on the job's page and waits for the answer. The job waits with its work: its
    /// lease is extended, and its time does not count as run time.
    ///
    /// ```
    /// use tidegate_core::jobs::{AskError, JobHandle, Question};
    ///
    /// async fn deploy(job: &JobHandle) -> Result<(), AskError> {
    ///     if job.ask(Question::confirm("Deploy to production?")).await?.is_confirmed() {
    ///         job.log("deploying\n").await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// If the question breaks a rule or a limit, the job is no longer this worker's, or it was
    /// cancelled.
    pub async fn ask(&self, question: Question) -> Result<Answer, AskError> {
        const AGAIN: Duration = Duration::from_secs(1);
        let name = question.name.clone();
        loop {
            let asked = self.tracker.ask(&self.id, self.lease.clone(), question.clone()).await;
            let job = match asked {
                Ok(job) => job,
                Err(error @ (JobError::Publish(_) | JobError::Contended)) => {
                    warn!(job = %Redacted(&self.id), %error, "a question was not taken");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(
                    JobError::Unknown
                    | JobError::Gone
                    | JobError::Refused(Refusal::StaleLease(_) | Refusal::State(_)),
                ) => return Err(Stopped.into()),
                Err(error) => return Err(AskError::Refused(error.to_string())),
            };
            if let Some(answer) = job.answered(&name) {
                return Ok(answer.for_worker());
            }
            if job.state != JobState::Waiting || self.tracker.0.hub.is_draining() {
                return Err(Stopped.into());
            }
            let waiting = tokio::time::sleep(LONG);
            let is_over = |job: &Job| job.state != JobState::Waiting;
            let _ = self.tracker.wait(&self.id, waiting, is_over).await;
        }
    }

    /// Completes when a cancel is requested, when the program shuts down, or when the job has
    /// ended. The work should then stop and return an error.
    pub async fn cancelled(&self) {
        loop {
            let goes_on = |job: &Job| matches!(job.state, JobState::Running | JobState::Waiting);
            let is_over = |job: &Job| !goes_on(job);
            let waited = self.tracker.wait(&self.id, tokio::time::sleep(LONG), is_over).await;
            match waited {
                // While the hub drains, `wait` returns at once.
                Ok(job) if goes_on(&job) && !self.tracker.0.hub.is_draining() => {}
                _ => return,
            }
        }
    }

    /// Runs the work and reports its end. Extends the lease meanwhile.
    async fn carry_out<F, T, E>(
        self,
        work: impl FnOnce(Self) -> F + Send + 'static,
        every: Duration,
    ) where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<JobResult> + 'static,
        E: Display + 'static,
    {
        let worker = self.clone();
        // A separate task, so that a panic is caught and does not end this one.
        let mut working = tokio::spawn(async move {
            work(worker).await.map(Into::into).map_err(|error| error.to_string())
        });
        let outcome = tokio::select! {
            done = &mut working => match done {
                Ok(outcome) => outcome,
                Err(error) if error.is_panic() => Err("the job's code panicked".to_owned()),
                Err(_) => Err("the job was stopped".to_owned()),
            },
            () = self.keep_alive(every) => {
                working.abort();
                return;
            }
        };
        tokio::select! {
            () = self.end(outcome) => {}
            () = self.keep_alive(every) => {}
        }
    }

    /// Extends the lease periodically. Returns when the lease is lost.
    async fn keep_alive(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let newest = self.newest.lock().await;
            let report = newest.clone().unwrap_or_default();
            let extended = self.tracker.report(&self.id, self.lease.clone(), report).await;
            drop(newest);
            if let Err(JobError::Refused(_) | JobError::Unknown | JobError::Gone) = extended {
                return;
            }
        }
    }

    fn check(&self, outcome: Result<Job, JobError>) -> Result<(), Stopped> {
        match outcome {
            Ok(_) => Ok(()),
            Err(JobError::Refused(_) | JobError::Unknown | JobError::Gone) => Err(Stopped),
            Err(error) => {
                // The next report may succeed; the work need not stop for this error.
                warn!(job = %Redacted(&self.id), %error, "a report of a job was not taken");
                Ok(())
            }
        }
    }

    /// Reports the end of the job. Retries while the end cannot be stored.
    async fn end(&self, outcome: Result<JobResult, String>) {
        const AGAIN: Duration = Duration::from_secs(1);
        loop {
            let lease = self.lease.clone();
            let ended = match outcome.clone() {
                Ok(JobResult::Inline(value)) => {
                    self.tracker.complete(&self.id, lease, Outcome::Inline(value)).await
                }
                Ok(JobResult::Link(path)) => {
                    self.tracker.complete(&self.id, lease, Outcome::Link(path)).await
                }
                Err(detail) => {
                    let problem =
                        to_raw_value(&json!({ "title": "The job failed", "detail": detail }));
                    let Ok(problem) = problem else { return };
                    self.tracker.fail(&self.id, lease, problem.into(), false).await
                }
            };
            match ended {
                Err(error @ (JobError::Publish(_) | JobError::Contended)) => {
                    warn!(job = %Redacted(&self.id), %error, "the end of a job was not taken");
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready};

    use jiff::SignedDuration;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::{
        clock::Clock,
        history::{Memory, Retention},
        hub::Hub,
        jobs::{JobOptions, OnEnd},
    };

    const DEADLINE: Duration = Duration::from_secs(20);

    const LEASE: Duration = Duration::from_secs(1);

    /// A tracker with short leases.
    fn tracker() -> Tracker {
        let retention = Retention {
            bytes: usize::MAX,
            events: usize::MAX,
            age: SignedDuration::MAX,
            remembered: 0,
        };
        let history = Memory::new(retention, Clock::system());
        let hub = Hub::start(Arc::new(history), 1 << 20, true).expect("a thread");
        let on_end = OnEnd::new(|_, _| ());
        let options = JobOptions::with_lease(LEASE);
        Tracker::start(hub, options, Clock::system(), on_end).expect("a tracker")
    }

    fn new_job() -> NewJob {
        NewJob { kind: "a".to_owned(), title: "A".to_owned(), payload: None, key: None }
    }

    fn done() -> Result<JobResult, Infallible> {
        Ok(JobResult::link("/"))
    }

    /// Waits for the end of the job and returns it.
    async fn end(tracker: &Tracker, id: &str) -> Job {
        let job =
            tracker.wait(id, sleep(DEADLINE), |job| job.state.is_final()).await.expect("a job");
        assert!(job.state.is_final(), "it is {}", job.state.as_str());
        job
    }

    #[tokio::test]
    async fn a_job_whose_creator_goes_away_is_done() {
        let tracker = &tracker();
        tokio::select! {
            biased;
            _ = tracker.spawn(new_job(), |_| async { done() }) => {}
            () = ready(()) => {}
        }
        let listed = async {
            loop {
                if let Some(job) = tracker.list(None, 1, |_| true).await.pop() {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        };
        let job = timeout(DEADLINE, listed).await.expect("the job is created all the same");
        assert_eq!(end(tracker, &job.id).await.state, JobState::Succeeded);
    }

    #[tokio::test]
    async fn the_work_is_told_at_once_that_it_is_to_stop() {
        let tracker = &tracker();
        let work = |job: JobHandle| async move {
            job.cancelled().await;
            Err::<JobResult, _>("stopped")
        };
        let cancelled = tracker.spawn(new_job(), work).await.expect("a job");
        let drained = tracker.spawn(new_job(), work).await.expect("a job");
        tracker.cancel(&cancelled.id).await.expect("it can be cancelled");
        assert_eq!(end(tracker, &cancelled.id).await.state, JobState::Cancelled);
        let running = tracker.job(&drained.id).await.expect("a job");
        assert_eq!(running.state, JobState::Running);

        let ended = async {
            while !tracker.job(&drained.id).await.expect("a job").state.is_final() {
                tokio::task::yield_now().await;
            }
        };
        tracker.0.hub.drain();
        timeout(DEADLINE, ended).await.expect("it ends with the program");
    }

    #[tokio::test]
    async fn the_log_goes_on_after_a_line_that_was_not_waited_for() {
        let tracker = &tracker();
        let work = |job: JobHandle| async move {
            tokio::select! {
                biased;
                _ = job.log("one\n") => {}
                () = ready(()) => {}
            }
            job.log("two\n").await.map(|()| JobResult::link("/"))
        };
        let job = tracker.spawn(new_job(), work).await.expect("a job");
        let job = end(tracker, &job.id).await;
        assert_eq!((job.state, &*job.log.tail(100)), (JobState::Succeeded, "one\ntwo\n"));
    }

    #[tokio::test]
    async fn a_lease_is_extended_whatever_was_reported() {
        let tracker = &tracker();
        let work = |done| {
            move |job: JobHandle| async move {
                if let Some(done) = done {
                    job.progress(done, Some(done), None, None).await.expect("it is taken");
                }
                sleep(3 * LEASE).await;
                self::done()
            }
        };
        let mut ids = Vec::new();
        for done in [None, Some(3.0), Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)] {
            ids.push(tracker.spawn(new_job(), work(done)).await.expect("a job").id);
        }
        for id in ids {
            assert_eq!(end(tracker, &id).await.state, JobState::Succeeded);
        }
        assert!(tracker.lost_leases().is_empty());
    }

    #[tokio::test]
    async fn a_panic_makes_a_failed_job_that_stays_so() {
        let tracker = &tracker();
        let new = || NewJob { key: Some("k".to_owned()), ..new_job() };
        let work = |job: JobHandle| async move {
            assert_eq!(job.id(), "another", "a broken promise");
            done()
        };
        let id = &tracker.spawn(new(), work).await.expect("a job").id;
        let job = end(tracker, id).await;
        let problem = "{\"detail\":\"the job's code panicked\",\"title\":\"The job failed\"}";
        let Some(Outcome::Problem(told)) = &job.outcome else { panic!("{:?}", job.outcome) };
        assert_eq!((job.state, told.get()), (JobState::Failed, problem));

        assert!(matches!(tracker.retry(id).await, Err(JobError::DoneHere)));
        let again = tracker.spawn(new(), |_| async { done() }).await.expect("a job");
        assert_eq!(end(tracker, &again.id).await.state, JobState::Succeeded);
    }
}
