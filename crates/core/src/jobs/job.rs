//! One job: its state, and every change it can go through.
//!
//! The methods form the state machine. They read no clock, take no lock and publish nothing. Each
//! either refuses and changes nothing, or changes the job and returns what watchers are notified
//! of.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::{
    asked::Asked,
    change::Change,
    log::JobLog,
    outcome::Outcome,
    progress::{Progress, Report},
    rules::{Now, Rules},
    state::{JobState, Refusal},
};
use crate::event::Position;

/// A worker's right to report on a job.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Random. Its holder is the job's worker.
    pub token: String,
    /// The end of the lease, unless a report extends it.
    pub expires: Instant,
}

/// A long-running task and everything known about it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Unguessable: knowing it is the permission to see the job.
    pub id: String,
    /// Orders jobs by creation.
    pub number: u64,
    /// The type of the job.
    pub kind: String,
    /// The title for people.
    pub title: String,
    /// The input for the worker.
    pub payload: Option<Arc<RawValue>>,
    /// At most one unfinished job has this type and key.
    pub key: Option<String>,
    /// Whether its creator runs it in this process. No worker can ever claim it then.
    pub is_done_here: bool,
    /// The current state.
    pub state: JobState,
    /// The number of the current or last attempt; 0 before the first.
    pub attempt: u32,
    /// The number of the last attempt that the job gets.
    pub last_attempt: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the current attempt began.
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    pub ended_at: Option<Timestamp>,
    /// The progress of the current attempt.
    pub progress: Progress,
    /// The outcome, once the job has ended with one.
    pub outcome: Option<Outcome>,
    /// The log that the workers have written.
    pub log: JobLog,
    /// Counts the changes that clients can see.
    pub version: u64,
    /// The time before which the job cannot be claimed.
    pub not_before: Option<Instant>,
    /// The current or the last lease.
    pub lease: Option<Lease>,
    /// Whether the worker with the newest lease ended its attempt, but not the job.
    pub(super) was_handed_back: bool,
    /// In the order in which they were asked. Only the last one may lack an answer.
    pub(super) questions: Vec<Arc<Asked>>,
    /// When the open question ends without an answer.
    pub(super) question_ends: Option<Instant>,
    /// Whether there was an answer since the worker last reported.
    pub(super) is_unheard: bool,
    /// How long the attempt has waited for answers.
    pub(super) waited: Duration,
    pub(super) began: Option<Instant>,
    pub(super) ended: Option<Instant>,
    pub(super) passed: Passed,
    /// The revision of its record.
    pub(super) revision: Position,
    /// The record of a change whose outcome is unknown. If it was stored, it comes back from the
    /// history.
    pub(super) unanswered: Option<Box<[u8]>>,
    pub(super) rules: Rules,
}

/// Time that passed before this process began, which the monotonic clock does not cover.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    /// Since the attempt began.
    pub(super) run: Duration,
    /// Since the job ended.
    pub(super) since_end: Duration,
}

/// The parameters of a new job.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// See [`Job::kind`].
    pub kind: String,
    /// See [`Job::title`].
    pub title: String,
    /// See [`Job::payload`].
    pub payload: Option<Arc<RawValue>>,
    /// See [`Job::key`].
    pub key: Option<String>,
}

impl Job {
    /// Creates a queued job.
    #[must_use]
    pub fn new(
        id: String,
        number: u64,
        new: NewJob,
        rules: Rules,
        log_bytes: usize,
        now: Now,
    ) -> Self {
        Self {
            id,
            number,
            kind: new.kind,
            title: new.title,
            payload: new.payload,
            key: new.key,
            is_done_here: false,
            state: JobState::Queued,
            attempt: 0,
            last_attempt: rules.max_attempts,
            created_at: now.time,
            started_at: None,
            ended_at: None,
            progress: Progress::default(),
            outcome: None,
            log: JobLog::new(log_bytes),
            version: 1,
            not_before: None,
            lease: None,
            was_handed_back: false,
            questions: Vec::new(),
            question_ends: None,
            is_unheard: false,
            waited: Duration::ZERO,
            began: None,
            ended: None,
            passed: Passed::default(),
            revision: Position::START,
            unanswered: None,
            rules,
        }
    }

    /// Returns the job with the revision of its record.
    pub(super) fn at(self, revision: Position) -> Self {
        Self { revision, ..self }
    }

    /// Returns the bytes of memory that the job takes, counted against `jobs.max_bytes`.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Bytes of a job besides the texts below: its places in the table, progress, stage and
        /// message.
        const OVERHEAD: usize = 2048;
        let payload = self.payload.as_ref().map_or(0, |it| it.get().len());
        let outcome = match &self.outcome {
            None => 0,
            Some(Outcome::Inline(text) | Outcome::Problem(text)) => text.get().len(),
            Some(Outcome::Link(link)) => link.len(),
        };
        let log = usize::try_from(self.log.end() - self.log.start()).unwrap_or(usize::MAX);
        let questions: usize = self.questions().map(Asked::weight).sum();
        OVERHEAD + self.title.len() + payload + outcome + log + questions
    }

    /// Returns how long a worker may be silent.
    #[must_use]
    pub fn lease_term(&self) -> Duration {
        self.rules.lease
    }

    /// Returns when `time` will have passed since the end, if the job has ended.
    #[must_use]
    pub(crate) fn ended_for(&self, time: Duration) -> Option<Instant> {
        Some(self.ended? + time.saturating_sub(self.passed.since_end))
    }

    /// Returns how long the current or last attempt has run, without its waits for answers.
    #[must_use]
    pub fn run_time(&self, now: Instant) -> Option<Duration> {
        let here = self.ended.unwrap_or(now).saturating_duration_since(self.began?);
        Some((here + self.passed.run).saturating_sub(self.waited))
    }

    /// Whether a worker can claim the job now.
    #[must_use]
    pub(crate) fn is_claimable(&self, now: Instant) -> bool {
        self.state == JobState::Queued && self.not_before.is_none_or(|it| it <= now)
    }

    /// Gives the job to a worker.
    ///
    /// # Errors
    /// If the job cannot be claimed now.
    pub fn claim(&mut self, token: String, now: Now) -> Result<Change, Refusal> {
        if !self.is_claimable(now.instant) {
            return Err(Refusal::State(self.state));
        }
        self.state = JobState::Running;
        self.was_handed_back = false;
        self.attempt = self.attempt.saturating_add(1);
        self.not_before = None;
        self.started_at = Some(now.time);
        self.began = Some(now.instant);
        self.passed = Passed::default();
        self.waited = Duration::ZERO;
        self.progress = Progress::default();
        self.lease = Some(Lease { token, expires: now.instant + self.rules.lease });
        self.changed(Change::State)
    }

    /// Takes the job back from a worker that never received it.
    pub fn unclaim(&mut self, token: &str, now: Now) -> Change {
        if self.lease.as_ref().is_none_or(|it| it.token != token) {
            return Change::Nothing;
        }
        let change = match self.state {
            JobState::Running => {
                self.attempt -= 1;
                self.queue_again();
                self.lease = None;
                self.changed(Change::State)
            }
            JobState::Cancelling => self.end(JobState::Cancelled, None, now),
            _ => return Change::Nothing,
        };
        change.unwrap_or(Change::Nothing)
    }

    /// Checks the right to report.
    pub(super) fn check_lease(&self, token: &str) -> Result<(), Refusal> {
        const OTHER: &str = "it is not the one of the current attempt";
        match &self.lease {
            _ if self.state.is_final() => Err(Refusal::State(self.state)),
            Some(lease) if lease.token != token => Err(Refusal::StaleLease(OTHER)),
            Some(_) if self.was_handed_back => Err(Refusal::StaleLease("its attempt has ended")),
            Some(_) if self.state == JobState::Queued => Err(Refusal::StaleLease("it has expired")),
            Some(_) => Ok(()),
            None => Err(Refusal::StaleLease(OTHER)),
        }
    }

    /// Applies a report and extends the lease.
    ///
    /// # Errors
    /// If the lease is stale or the report is not newer than the last one.
    pub fn report(&mut self, token: &str, report: Report, now: Now) -> Result<Change, Refusal> {
        self.check_lease(token)?;
        let run_time = self.run_time(now.instant).unwrap_or_default();
        let is_new = self.progress.take(report, run_time)?;
        self.extend(now);
        if is_new { self.changed(Change::Progress) } else { Ok(Change::Nothing) }
    }

    /// Appends log text at an offset. For `log_grace` after the end, the last lease still allows
    /// it.
    ///
    /// # Errors
    /// If the lease is stale, or the text does not fit the log.
    pub fn append_log(
        &mut self,
        token: &str,
        offset: u64,
        text: &str,
        now: Now,
    ) -> Result<Change, Refusal> {
        let ended_lately =
            self.ended_for(self.rules.log_grace).is_some_and(|until| now.instant <= until);
        match &self.lease {
            Some(lease) if lease.token == token && ended_lately => {}
            _ => {
                self.check_lease(token)?;
                self.extend(now);
            }
        }
        let from = self.log.end();
        if self.log.append(offset, text)? {
            return self.changed(Change::Log(from));
        }
        Ok(Change::Nothing)
    }

    pub(super) fn extend(&mut self, now: Now) {
        self.is_unheard = false;
        if let Some(lease) = &mut self.lease {
            lease.expires = now.instant + self.rules.lease;
        }
    }

    /// Completes the job. A requested cancel changes nothing: the work is done.
    ///
    /// # Errors
    /// If the lease is stale, or the job has ended otherwise.
    pub fn complete(&mut self, token: &str, outcome: Outcome, now: Now) -> Result<Change, Refusal> {
        if self.is_repetition(token, JobState::Succeeded, &outcome) {
            return Ok(Change::Nothing);
        }
        self.check_lease(token)?;
        self.end(JobState::Succeeded, Some(outcome), now)
    }

    /// Ends an attempt with a failure. The job is retried if the failure is retryable and an
    /// attempt is left. If a cancel was requested, the job ends as cancelled.
    ///
    /// # Errors
    /// If the lease is stale, or the job has ended otherwise.
    pub fn fail(
        &mut self,
        token: &str,
        problem: Arc<RawValue>,
        is_retryable: bool,
        now: Now,
    ) -> Result<Change, Refusal> {
        if self.is_handed_back(token) {
            return Ok(Change::Nothing);
        }
        let outcome = Outcome::Problem(problem);
        if [JobState::Failed, JobState::Cancelled]
            .iter()
            .any(|it| self.is_repetition(token, *it, &outcome))
        {
            return Ok(Change::Nothing);
        }
        self.check_lease(token)?;
        if self.state == JobState::Cancelling {
            return self.end(JobState::Cancelled, Some(outcome), now);
        }
        if is_retryable && self.attempt < self.last_attempt {
            self.was_handed_back = true;
            return self.try_again(now);
        }
        self.end(JobState::Failed, Some(outcome), now)
    }

    /// Takes the job back from a worker that stops. This is no failure, so the attempt does not
    /// count against the limit.
    ///
    /// # Errors
    /// If the lease is stale.
    pub fn give_back(&mut self, token: &str, now: Now) -> Result<Change, Refusal> {
        if self.is_handed_back(token) {
            return Ok(Change::Nothing);
        }
        self.check_lease(token)?;
        self.was_handed_back = true;
        if self.state == JobState::Cancelling {
            return self.end(JobState::Cancelled, None, now);
        }
        self.last_attempt = self.last_attempt.saturating_add(1);
        // A job that waits for an answer goes on doing so, without a worker.
        if self.state != JobState::Waiting {
            self.queue_again();
        }
        self.changed(Change::State)
    }

    /// Whether the worker with this lease ended its attempt before, without ending the job.
    fn is_handed_back(&self, token: &str) -> bool {
        self.was_handed_back && self.lease.as_ref().is_some_and(|it| it.token == token)
    }

    /// Queues the job and clears what the last attempt has set.
    pub(super) fn queue_again(&mut self) {
        self.state = JobState::Queued;
        self.question_ends = None;
        self.is_unheard = false;
        self.began = None;
        self.started_at = None;
        self.not_before = None;
        self.progress = Progress::default();
    }

    fn is_repetition(&self, token: &str, state: JobState, outcome: &Outcome) -> bool {
        self.state == state
            && self.lease.as_ref().is_some_and(|it| it.token == token)
            && self.outcome.as_ref() == Some(outcome)
    }

    /// Ends the attempt if its lease has expired.
    pub fn expire(&mut self, now: Now) -> Change {
        if self.state == JobState::Waiting {
            return self.expire_wait(now).unwrap_or(Change::Nothing);
        }
        let is_expired = self.lease.as_ref().is_some_and(|it| it.expires <= now.instant);
        if self.state.is_final() || self.state == JobState::Queued || !is_expired {
            return Change::Nothing;
        }
        let change = if self.state == JobState::Cancelling {
            self.end(JobState::Cancelled, None, now)
        } else if self.is_unheard && !self.is_done_here {
            // The worker fell silent while the job waited.
            self.last_attempt = self.last_attempt.saturating_add(1);
            self.queue_again();
            self.not_before = Some(now.instant);
            self.changed(Change::State)
        } else if self.attempt < self.last_attempt {
            self.try_again(now)
        } else {
            self.end(JobState::Lost, None, now)
        };
        change.unwrap_or(Change::Nothing)
    }

    /// Requests that the job be stopped.
    ///
    /// # Errors
    /// If the job has ended otherwise.
    pub fn cancel(&mut self, now: Now) -> Result<Change, Refusal> {
        match self.state {
            JobState::Queued => self.end(JobState::Cancelled, None, now),
            JobState::Running => {
                self.state = JobState::Cancelling;
                self.changed(Change::State)
            }
            JobState::Waiting => self.cancel_wait(now),
            JobState::Cancelling | JobState::Cancelled => Ok(Change::Nothing),
            JobState::Succeeded | JobState::Failed | JobState::Lost => {
                Err(Refusal::State(self.state))
            }
        }
    }

    /// Whether [`Job::retry`] would queue the job again and a worker could claim it.
    #[must_use]
    pub fn can_be_retried(&self) -> bool {
        let has_ended_badly = self.state.is_final() && self.state != JobState::Succeeded;
        has_ended_badly && !self.is_done_here
    }

    /// Queues the job again after it ended without success, with as many attempts as a new one and
    /// without the answers so far.
    ///
    /// # Errors
    /// If the job has not ended, or has succeeded.
    pub fn retry(&mut self) -> Result<Change, Refusal> {
        if !matches!(self.state, JobState::Failed | JobState::Cancelled | JobState::Lost) {
            return Err(Refusal::State(self.state));
        }
        self.queue_again();
        self.last_attempt = self.attempt.saturating_add(self.rules.max_attempts);
        self.ended_at = None;
        self.ended = None;
        self.passed = Passed::default();
        self.outcome = None;
        self.lease = None;
        self.questions.clear();
        self.changed(Change::State)
    }

    fn try_again(&mut self, now: Now) -> Result<Change, Refusal> {
        let doublings = self.attempt.saturating_sub(1).min(16);
        let wait = self.rules.backoff.saturating_mul(1 << doublings).min(self.rules.max_backoff);
        self.queue_again();
        self.not_before = Some(now.instant + wait);
        self.changed(Change::State)
    }

    pub(super) fn end(
        &mut self,
        state: JobState,
        outcome: Option<Outcome>,
        now: Now,
    ) -> Result<Change, Refusal> {
        self.state = state;
        self.question_ends = None;
        self.outcome = outcome;
        self.ended_at = Some(now.time);
        self.ended = Some(now.instant);
        self.changed(Change::State)
    }

    pub(super) fn changed(&mut self, change: Change) -> Result<Change, Refusal> {
        self.version += 1;
        Ok(change)
    }
}
