//! A job that waits for an answer: what asks, what answers, and what ends the wait.
//!
//! While a job waits, the lease of its worker is parked: it does not expire. A worker may also give
//! the job back, and the answer then queues it. Neither uses up an attempt.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json, value::to_raw_value};
use tidegate_client::Question;

use super::{
    Answered, Asked, Change, Job, JobError, JobState, Now, Outcome, Refusal, Tracker,
    check_question,
};

/// The title of the problem of a job whose question had no answer.
const UNANSWERED: &str = "No answer came in time";

impl Job {
    /// The questions so far, in the order in which they were asked.
    pub fn questions(&self) -> impl DoubleEndedIterator<Item = &Asked> {
        self.questions.iter().map(|it| &**it)
    }

    /// The question that the job waits for.
    #[must_use]
    pub fn open_question(&self) -> Option<&Asked> {
        self.questions.last().map(|it| &**it).filter(|_| self.state == JobState::Waiting)
    }

    /// The newest question of this name.
    #[must_use]
    pub fn question(&self, name: &str) -> Option<&Asked> {
        self.questions().rev().find(|it| it.question.name == name)
    }

    /// The answer to the question of this name.
    #[must_use]
    pub fn answered(&self, name: &str) -> Option<&Answered> {
        self.question(name)?.answer.as_ref()
    }

    /// Whether a worker holds the lease of the attempt.
    fn is_held(&self) -> bool {
        self.lease.is_some() && !self.was_handed_back
    }

    /// Asks a question. If it was answered before, or is being asked, nothing changes.
    ///
    /// # Errors
    /// If the lease is stale, another question is open or has the same name, or there were too many
    /// questions.
    pub fn ask(&mut self, token: &str, question: &Question, now: Now) -> Result<Change, Refusal> {
        self.check_lease(token)?;
        if self.state == JobState::Cancelling {
            return Ok(Change::Nothing);
        }
        let open = self.open_question().map(|it| it.question.name.clone());
        if let Some(asked) = self.question(&question.name)
            && (asked.answer.is_some() || open.as_ref() == Some(&question.name))
        {
            if !asked.question.asks_the_same_as(question) {
                return Err(Refusal::AskReused);
            }
            self.extend(now);
            return Ok(Change::Nothing);
        }
        if let Some(name) = open {
            return Err(Refusal::Asking(name));
        }
        // One that had no answer when its attempt ended is asked again.
        self.questions.retain(|it| it.answer.is_some());
        if self.rules.max_asks <= self.questions.len() {
            return Err(Refusal::TooManyAsks(self.rules.max_asks));
        }
        let time = question.until.map_or(self.rules.ask_time, Duration::from_secs);
        let time = time.min(self.rules.ask_time);
        self.questions.push(Arc::new(Asked {
            question: question.clone(),
            asked_at: now.time,
            until: now.time.saturating_add(time).unwrap_or(now.time),
            answer: None,
        }));
        self.question_ends = Some(now.instant + time);
        self.state = JobState::Waiting;
        self.extend(now);
        self.changed(Change::Asked)
    }

    /// Notes that the worker has looked for an answer, which extends the lease.
    ///
    /// # Errors
    /// If the lease is stale, or no question of this name was asked.
    pub fn listen(&mut self, token: &str, name: &str, now: Now) -> Result<Change, Refusal> {
        self.check_lease(token)?;
        if self.question(name).is_none() {
            return Err(Refusal::NotAsked);
        }
        self.extend(now);
        Ok(Change::Nothing)
    }

    /// Answers a question. The same values again change nothing.
    ///
    /// # Errors
    /// If no question of this name was asked, it has another answer, or it is over.
    pub fn answer(
        &mut self,
        name: &str,
        values: &Map<String, Value>,
        by: Option<&str>,
        now: Now,
    ) -> Result<Change, Refusal> {
        let asked = self.question(name).ok_or(Refusal::NotAsked)?;
        match &asked.answer {
            Some(answer) if !answer.otherwise && answer.values == *values => {
                return Ok(Change::Nothing);
            }
            Some(_) => return Err(Refusal::Answered),
            None => {}
        }
        let is_open = self.open_question().is_some_and(|it| it.question.name == name);
        if !is_open || self.question_ends.is_none_or(|ends| ends <= now.instant) {
            return Err(Refusal::AskOver);
        }
        let (values, by) = (values.clone(), by.map(str::to_owned));
        self.go_on(Answered { values, by, at: now.time, otherwise: false }, now)
    }

    /// Continues with an answer: with the worker that has waited, or in the queue.
    fn go_on(&mut self, answer: Answered, now: Now) -> Result<Change, Refusal> {
        if let Some(asked) = self.questions.last_mut() {
            let time = now.time.duration_since(asked.asked_at);
            self.waited += Duration::try_from(time).unwrap_or_default();
            Arc::make_mut(asked).answer = Some(answer);
        }
        self.question_ends = None;
        if self.is_held() {
            self.state = JobState::Running;
            self.extend(now);
            // The worker may be gone. Until it reports, its silence uses up no attempt.
            self.is_unheard = true;
        } else {
            self.queue_again();
        }
        self.changed(Change::Answered)
    }

    /// Ends the wait if its time is over. A job that this process does has no other worker, so its
    /// lease expires even now.
    pub(super) fn expire_wait(&mut self, now: Now) -> Result<Change, Refusal> {
        let is_silent = self.lease.as_ref().is_some_and(|it| it.expires <= now.instant);
        if self.is_done_here && is_silent {
            return self.end(JobState::Lost, None, now);
        }
        if self.question_ends.is_none_or(|ends| now.instant < ends) {
            return Ok(Change::Nothing);
        }
        let Some(asked) = self.open_question() else { return Ok(Change::Nothing) };
        if let Some(values) = asked.question.otherwise.clone() {
            return self.go_on(Answered { values, by: None, at: now.time, otherwise: true }, now);
        }
        let problem = json!({
            "type": "urn:tidegate:problem:unanswered",
            "title": UNANSWERED,
            "detail": format!("the question was: {}", asked.question.title),
            "ask": asked.question.name,
        });
        let problem = to_raw_value(&problem).ok().map(|it| Outcome::Problem(it.into()));
        self.end(JobState::Failed, problem, now)
    }

    /// Stops a job that waits: at once, or when its worker has heard of it.
    pub(super) fn cancel_wait(&mut self, now: Now) -> Result<Change, Refusal> {
        if !self.is_held() {
            return self.end(JobState::Cancelled, None, now);
        }
        self.state = JobState::Cancelling;
        self.question_ends = None;
        self.extend(now);
        self.changed(Change::State)
    }
}

impl Tracker {
    /// Asks a question for a worker.
    ///
    /// # Errors
    /// If the question breaks a rule or a limit, there is no such job, or it is refused.
    pub async fn ask(&self, id: &str, lease: String, question: Question) -> Result<Job, JobError> {
        let rules = self.0.options.rules(&self.find(id).await?.kind);
        check_question(&question, &self.0.options.asking, rules.ask_time)?;
        self.change_by_id(id, move |job, now| job.ask(&lease, &question, now)).await
    }

    /// Waits until a question has an answer, the job no longer waits for one, or `until` completes.
    /// Extends the worker's lease.
    ///
    /// # Errors
    /// If there is no such job or question, or the lease is stale.
    pub async fn listen(
        &self,
        id: &str,
        lease: String,
        name: String,
        until: impl Future<Output = ()>,
    ) -> Result<Job, JobError> {
        let listen = move |job: &mut Job, now| job.listen(&lease, &name, now);
        self.change_by_id(id, listen.clone()).await?;
        self.wait(id, until, |job| job.state != JobState::Waiting).await?;
        self.change_by_id(id, listen).await
    }

    /// Answers a question.
    ///
    /// # Errors
    /// If there is no such job or question, or the answer is refused.
    pub async fn answer(
        &self,
        id: &str,
        name: String,
        values: Map<String, Value>,
        by: Option<String>,
    ) -> Result<Job, JobError> {
        self.change_by_id(id, move |job, now| job.answer(&name, &values, by.as_deref(), now)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::{
        clock::Clock,
        history::{Memory, Record, Retention},
        hub::Hub,
        jobs::{AskError, JobHandle, JobOptions, JobResult, NewJob, OnEnd, record},
    };

    const LEASE: Duration = Duration::from_secs(1);

    fn new_job() -> NewJob {
        NewJob { kind: "a".to_owned(), title: "A".to_owned(), payload: None, key: None }
    }

    fn tracker() -> Tracker {
        let age = SignedDuration::MAX;
        let retention = Retention { bytes: usize::MAX, events: usize::MAX, age, remembered: 0 };
        let history = Memory::new(retention, Clock::system());
        let hub = Hub::start(Arc::new(history), 1 << 20, true).expect("a thread");
        let options = JobOptions::with_lease(LEASE);
        Tracker::start(hub, options, Clock::system(), OnEnd::new(|_, _| ())).expect("a tracker")
    }

    async fn until(tracker: &Tracker, id: &str, state: JobState) -> Job {
        let waiting = tokio::time::sleep(20 * LEASE);
        let job = tracker.wait(id, waiting, |job| job.state == state).await.expect("a job");
        assert_eq!(job.state, state);
        job
    }

    fn yes() -> Map<String, Value> {
        Map::from_iter([("yes".to_owned(), Value::Bool(true))])
    }

    #[test]
    fn a_question_is_stored_with_its_time_and_only_then_needs_a_newer_program() {
        let options = JobOptions::with_lease(LEASE);
        let now = Now { instant: Instant::now(), time: Timestamp::now() };
        let mut job = Job::new("id".to_owned(), 7, new_job(), options.rules("a"), 99, now);
        let of = |job: &Job| -> Record {
            let value = record::value(job, now);
            Record {
                value,
                ..record::record(crate::history::Shelf::Jobs, record::key(7), None).record
            }
        };
        let text = |it: &Record| {
            String::from_utf8(it.value.clone().expect("a value").into()).expect("JSON")
        };
        assert!(text(&of(&job)).contains("\"record_version\":1,"), "{}", text(&of(&job)));
        assert!(!text(&of(&job)).contains("questions"), "as earlier programs wrote it");
        let _ = job.claim("lease".to_owned(), now).expect("queued");
        let question = Question::confirm("A?").until(Duration::from_secs(100));
        let _ = job.ask("lease", &question, now).expect("its lease is good");
        assert!(text(&of(&job)).contains("\"record_version\":2,"));

        let restore = |time: Duration| {
            let later = Now { instant: now.instant, time: now.time + time };
            record::restore(&of(&job), None, &[], &options, later).expect("readable")
        };
        let restored = restore(Duration::from_secs(40));
        assert_eq!(restored.open_question(), job.open_question());
        let ends = restored.question_ends.expect("it waits") - now.instant;
        assert!((59..=60).contains(&ends.as_secs()), "{ends:?}");
        let mut restored = restore(Duration::from_secs(1000));
        let _ = restored.expire(now);
        assert_eq!(restored.state, JobState::Failed, "its time was over meanwhile");
    }

    #[test]
    fn time_that_a_job_waits_is_no_run_time() {
        let options = JobOptions::with_lease(LEASE);
        let (instant, time) = (Instant::now(), Timestamp::now());
        let at = |seconds| {
            let passed = Duration::from_secs(seconds);
            Now { instant: instant + passed, time: time + passed }
        };
        let mut job = Job::new("id".to_owned(), 7, new_job(), options.rules("a"), 99, at(0));
        let _ = job.claim("lease".to_owned(), at(0)).expect("queued");
        let question = Question::confirm("A?");
        let _ = job.ask("lease", &question, at(10)).expect("its lease is good");
        let _ = job.answer(&question.name, &yes(), None, at(110)).expect("it is open");
        assert_eq!(job.run_time(at(120).instant), Some(Duration::from_secs(20)));
    }

    #[tokio::test]
    async fn work_of_this_program_waits_for_its_answer() {
        let tracker = &tracker();
        let question = Question::confirm("Go on?");
        let name = question.name.clone();
        let work = |job: JobHandle| async move {
            let answer = job.ask(question.clone()).await?;
            let again = job.ask(question).await?;
            assert_eq!(answer, again, "it is asked once");
            JobResult::inline(&answer.is_confirmed())
                .map_err(|it| AskError::Refused(it.to_string()))
        };
        let id = tracker.spawn(new_job(), work).await.expect("a job").id;
        until(tracker, &id, JobState::Waiting).await;
        // Longer than a lease.
        tokio::time::sleep(2 * LEASE).await;
        let by = Some("ada".to_owned());
        tracker.answer(&id, name, yes(), by).await.expect("it is open");
        let job = until(tracker, &id, JobState::Succeeded).await;
        let Some(Outcome::Inline(result)) = &job.outcome else { panic!("{:?}", job.outcome) };
        assert_eq!(result.get(), "true");
    }

    #[tokio::test]
    async fn work_of_this_program_learns_that_nothing_will_be_answered() {
        let tracker = &tracker();
        let work = |job: JobHandle| async move {
            let refused = job.ask(Question::new("A question without fields")).await;
            assert!(matches!(refused, Err(AskError::Refused(_))), "{refused:?}");
            job.ask(Question::confirm("Go on?")).await.map(|_| JobResult::link("/"))
        };
        let id = tracker.spawn(new_job(), work).await.expect("a job").id;
        until(tracker, &id, JobState::Waiting).await;
        tracker.cancel(&id).await.expect("it can be cancelled");
        until(tracker, &id, JobState::Cancelled).await;
    }
}
