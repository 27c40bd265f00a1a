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
    pub fn ask(
        &mut self,
        token: &str,
        question: &Question,
        now: Now,
    ) -> Result<Change, Refusal> {
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
    pub async fn ask(
        &self,
        id: &str,
        lease: String,
        question: Question,
    ) -> Result<Job, JobError> {
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
