//! One job: its state, and every way in which it changes.
//!
//! The methods here are the state machine; they read no clock, lock nothing and publish nothing. Each either refuses and
//! changes nothing, or changes the job and says what watchers should be told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::{
    log::JobLog,
    progress::{Progress, Report},
    state::{Refusal, State},
};

/// The time now, by both clocks: the monotonic one measures leases, the other one is for people.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// The time of day.
    pub time: Timestamp,
}

/// The rules that a job's type sets.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long a worker may be silent.
    pub lease: Duration,
    /// How many tries a job gets.
    pub max_attempts: u32,
    /// The wait before the second try; each further one is twice as long.
    pub backoff: Duration,
    /// The longest such wait.
    pub max_backoff: Duration,
    /// How long log lines are taken after the end.
    pub log_grace: Duration,
}

/// A worker's right to report.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Random; who has it is the worker.
    pub token: String,
    /// Until when, unless a report extends it.
    pub expires: Instant,
}

/// What a job came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A small result.
    Inline(Arc<RawValue>),
    /// The address of the result.
    Link(String),
    /// Why there is none: a problem document.
    Problem(Arc<RawValue>),
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(a), Self::Inline(b)) | (Self::Problem(a), Self::Problem(b)) => {
                a.get() == b.get()
            }
            (Self::Link(a), Self::Link(b)) => a == b,
            _ => false,
        }
    }
}

/// What watchers are told after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// Nothing; the request was a repetition.
    Nothing,
    /// New progress, which may wait a moment for more.
    Progress,
    /// New log text from this offset.
    Log(u64),
    /// A new state.
    State,
}

/// A long task and everything that is known of it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Unguessable; to know it is the right to see the job.
    pub id: String,
    /// Orders jobs by creation.
    pub number: u64,
    /// What kind of work it is.
    pub kind: String,
    /// What people read.
    pub title: String,
    /// What the worker gets.
    pub payload: Option<Arc<RawValue>>,
    /// Jobs of one type and key are one job while it lives.
    pub key: Option<String>,
    /// Whether its creator does it, in this program: then nobody else can, now or later.
    pub is_done_here: bool,
    /// Where it is.
    pub state: State,
    /// The try that is running, or the last one; 0 before the first.
    pub attempt: u32,
    /// The try after which it is over.
    pub last_attempt: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the current try began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How far the current try has come.
    pub progress: Progress,
    /// What it came to.
    pub outcome: Option<Outcome>,
    /// What the worker has written.
    pub log: JobLog,
    /// Counts the changes that clients can see.
    pub version: u64,
    /// Not to be claimed before this.
    pub not_before: Option<Instant>,
    /// The current or the last lease.
    pub lease: Option<Lease>,
    /// Whether the worker of the newest lease has ended its try, but not the job.
    pub(super) was_handed_back: bool,
    pub(super) began: Option<Instant>,
    pub(super) ended: Option<Instant>,
    pub(super) passed: Passed,
    rules: Rules,
}

/// Time that passed before this process began, which its monotonic clock does not know.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    /// Since the try began.
    pub(super) run: Duration,
    /// Since the end.
    pub(super) since_end: Duration,
}

/// What a new job is made of.
#[derive(Debug)]
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
    /// A queued job.
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
            state: State::Queued,
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
            began: None,
            ended: None,
            passed: Passed::default(),
            rules,
        }
    }

    /// Bytes of memory that it takes, counted against `jobs.max_bytes`.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// What a job takes without any text: its places in the table, progress, stage and message.
        const OVERHEAD: usize = 2048;
        let payload = self.payload.as_ref().map_or(0, |it| it.get().len());
        let outcome = match &self.outcome {
            None => 0,
            Some(Outcome::Inline(text) | Outcome::Problem(text)) => text.get().len(),
            Some(Outcome::Link(link)) => link.len(),
        };
        let log = usize::try_from(self.log.end() - self.log.start()).unwrap_or(usize::MAX);
        OVERHEAD + self.title.len() + payload + outcome + log
    }

    /// How long a worker may be silent.
    #[must_use]
    pub fn lease_term(&self) -> Duration {
        self.rules.lease
    }

    /// When a time since its end will have passed, if it has ended.
    #[must_use]
    pub fn ended_for(&self, time: Duration) -> Option<Instant> {
        Some(self.ended? + time.saturating_sub(self.passed.since_end))
    }

    /// How long the current or last try has taken.
    #[must_use]
    pub fn run_time(&self, now: Instant) -> Option<Duration> {
        let here = self.ended.unwrap_or(now).saturating_duration_since(self.began?);
        Some(here + self.passed.run)
    }

    /// Whether a worker can have it now.
    #[must_use]
    pub fn is_claimable(&self, now: Instant) -> bool {
        self.state == State::Queued && self.not_before.is_none_or(|it| it <= now)
    }

    /// Gives it to a worker.
    ///
    /// # Errors
    /// If it is not there to be taken.
    pub fn claim(&mut self, token: String, now: Now) -> Result<Change, Refusal> {
        if !self.is_claimable(now.instant) {
            return Err(Refusal::State(self.state));
        }
        self.state = State::Running;
        self.was_handed_back = false;
        self.attempt += 1;
        self.not_before = None;
        self.started_at = Some(now.time);
        self.began = Some(now.instant);
        self.passed = Passed::default();
        self.progress = Progress::default();
        self.lease = Some(Lease { token, expires: now.instant + self.rules.lease });
        self.changed(Change::State)
    }

    /// Takes it back from a worker that never heard that it had it.
    pub fn unclaim(&mut self, token: &str, now: Now) -> Change {
        if self.lease.as_ref().is_none_or(|it| it.token != token) {
            return Change::Nothing;
        }
        let change = match self.state {
            State::Running => {
                self.attempt -= 1;
                self.queue_again();
                self.lease = None;
                self.changed(Change::State)
            }
            State::Cancelling => self.end(State::Cancelled, None, now),
            _ => return Change::Nothing,
        };
        change.unwrap_or(Change::Nothing)
    }

    /// Checks the right to report.
    fn check_lease(&self, token: &str) -> Result<(), Refusal> {
        match &self.lease {
            _ if self.state.is_final() => Err(Refusal::State(self.state)),
            Some(lease) if lease.token == token && self.state != State::Queued => Ok(()),
            Some(lease) if lease.token == token => Err(Refusal::StaleLease("it has expired")),
            _ => Err(Refusal::StaleLease("it is not the one of the current attempt")),
        }
    }

    /// Takes a report, and extends the lease.
    ///
    /// # Errors
    /// If the lease is stale or the report is older than another.
    pub fn report(&mut self, token: &str, report: Report, now: Now) -> Result<Change, Refusal> {
        self.check_lease(token)?;
        let run_time = self.run_time(now.instant).unwrap_or_default();
        let is_new = self.progress.take(report, run_time)?;
        self.extend(now);
        if is_new { self.changed(Change::Progress) } else { Ok(Change::Nothing) }
    }

    /// Takes log text at an offset. The lease of a job that has just ended is good for its last lines.
    ///
    /// # Errors
    /// If the lease is stale, or the text does not fit what is there.
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

    fn extend(&mut self, now: Now) {
        if let Some(lease) = &mut self.lease {
            lease.expires = now.instant + self.rules.lease;
        }
    }

    /// Ends it well. That it was to be cancelled changes nothing: the work is done.
    ///
    /// # Errors
    /// If the lease is stale, or it has ended otherwise.
    pub fn complete(&mut self, token: &str, outcome: Outcome, now: Now) -> Result<Change, Refusal> {
        if self.is_repetition(token, State::Succeeded, &outcome) {
            return Ok(Change::Nothing);
        }
        self.check_lease(token)?;
        self.end(State::Succeeded, Some(outcome), now)
    }

    /// Ends a try badly: it is tried again if the failure is of that kind and a try is left. A worker that was asked to
    /// stop ends the job with this.
    ///
    /// # Errors
    /// If the lease is stale, or it has ended otherwise.
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
        if [State::Failed, State::Cancelled]
            .iter()
            .any(|it| self.is_repetition(token, *it, &outcome))
        {
            return Ok(Change::Nothing);
        }
        self.check_lease(token)?;
        if self.state == State::Cancelling {
            return self.end(State::Cancelled, Some(outcome), now);
        }
        if is_retryable && self.attempt < self.last_attempt {
            self.was_handed_back = true;
            return self.try_again(now);
        }
        self.end(State::Failed, Some(outcome), now)
    }

    /// Takes it back from a worker that stops. That is nobody's failure, so the try does not count as one of those that
    /// the job has.
    ///
    /// # Errors
    /// If the lease is stale.
    pub fn give_back(&mut self, token: &str, now: Now) -> Result<Change, Refusal> {
        if self.is_handed_back(token) {
            return Ok(Change::Nothing);
        }
        self.check_lease(token)?;
        self.was_handed_back = true;
        if self.state == State::Cancelling {
            return self.end(State::Cancelled, None, now);
        }
        self.queue_again();
        self.last_attempt = self.last_attempt.saturating_add(1);
        self.changed(Change::State)
    }

    /// Whether the worker with this lease has ended its try before, without ending the job as such.
    fn is_handed_back(&self, token: &str) -> bool {
        self.was_handed_back && self.lease.as_ref().is_some_and(|it| it.token == token)
    }

    /// Leaves nothing of the try that is over.
    fn queue_again(&mut self) {
        self.state = State::Queued;
        self.began = None;
        self.started_at = None;
        self.not_before = None;
        self.progress = Progress::default();
    }

    fn is_repetition(&self, token: &str, state: State, outcome: &Outcome) -> bool {
        self.state == state
            && self.lease.as_ref().is_some_and(|it| it.token == token)
            && self.outcome.as_ref() == Some(outcome)
    }

    /// Looks whether the worker has been silent for too long.
    pub fn expire(&mut self, now: Now) -> Change {
        let is_expired = self.lease.as_ref().is_some_and(|it| it.expires <= now.instant);
        if self.state.is_final() || self.state == State::Queued || !is_expired {
            return Change::Nothing;
        }
        let change = if self.state == State::Cancelling {
            self.end(State::Cancelled, None, now)
        } else if self.attempt < self.last_attempt {
            self.try_again(now)
        } else {
            self.end(State::Lost, None, now)
        };
        change.unwrap_or(Change::Nothing)
    }

    /// Asks for it to be stopped.
    ///
    /// # Errors
    /// If it has ended otherwise.
    pub fn cancel(&mut self, now: Now) -> Result<Change, Refusal> {
        match self.state {
            State::Queued => self.end(State::Cancelled, None, now),
            State::Running => {
                self.state = State::Cancelling;
                self.changed(Change::State)
            }
            State::Cancelling | State::Cancelled => Ok(Change::Nothing),
            State::Succeeded | State::Failed | State::Lost => Err(Refusal::State(self.state)),
        }
    }

    /// Whether [`Job::retry`] would queue it once more, and somebody could do it.
    #[must_use]
    pub fn can_be_retried(&self) -> bool {
        let has_ended_badly = self.state.is_final() && self.state != State::Succeeded;
        has_ended_badly && !self.is_done_here
    }

    /// Queues it once more after it has ended without success, with as many tries as a new one.
    ///
    /// # Errors
    /// If it has not ended, or has succeeded.
    pub fn retry(&mut self) -> Result<Change, Refusal> {
        if !matches!(self.state, State::Failed | State::Cancelled | State::Lost) {
            return Err(Refusal::State(self.state));
        }
        self.queue_again();
        self.last_attempt = self.attempt + self.rules.max_attempts;
        self.ended_at = None;
        self.ended = None;
        self.passed = Passed::default();
        self.outcome = None;
        self.lease = None;
        self.changed(Change::State)
    }

    fn try_again(&mut self, now: Now) -> Result<Change, Refusal> {
        let doublings = self.attempt.saturating_sub(1).min(16);
        let wait = self.rules.backoff.saturating_mul(1 << doublings).min(self.rules.max_backoff);
        self.queue_again();
        self.not_before = Some(now.instant + wait);
        self.changed(Change::State)
    }

    fn end(&mut self, state: State, outcome: Option<Outcome>, now: Now) -> Result<Change, Refusal> {
        self.state = state;
        self.outcome = outcome;
        self.ended_at = Some(now.time);
        self.ended = Some(now.instant);
        self.changed(Change::State)
    }

    fn changed(&mut self, change: Change) -> Result<Change, Refusal> {
        self.version += 1;
        Ok(change)
    }
}
