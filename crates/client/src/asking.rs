//! A task that asks people: on the page of its job, which waits meanwhile.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::{
    Answer, Question,
    backoff::Backoff,
    http::is_passing,
    task::{Task, WorkError},
};

/// The longest wait of a request for the answer; the gateway may reply sooner.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// How much longer than that the response may take.
const ANSWER_GRACE: Duration = Duration::from_secs(10);

/// The time below which a reply without an answer means that the gateway lets no request wait.
const SOON: Duration = Duration::from_secs(1);

/// Problem types of questions that the gateway does not take. Other conflicts mean that the job is
/// no longer this worker's.
const REFUSED: [&str; 3] = ["asking", "ask-reused", "asks-per-job"];

/// The gateway's reply to a worker that asks or waits.
#[derive(Debug, Deserialize)]
struct Told {
    cancel: bool,
    answer: Option<Answer>,
}

/// A problem document.
#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
}

/// The outcome of a request about a question.
enum Heard {
    Answer(Answer),
    Nothing,
    Cancelled,
    /// There is no response, or one that may change later.
    Away,
    Refused(String),
}

/// Counts a task that waits for an answer, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Task {
    /// Returns the answer to a question of an earlier attempt, by the name of the question.
    #[must_use]
    pub fn answer(&self, name: &str) -> Option<&Answer> {
        self.0.job.answers.get(name)
    }

    /// Asks a question on the job's page and waits for the answer, however long that takes. The
    /// lease does not expire meanwhile. An answer from an earlier attempt is returned at once.
    ///
    /// To leave the job instead, return [`WorkError::asks`].
    ///
    /// ```
    /// use tidegate_client::{JobResult, Question, Task, WorkError};
    ///
    /// async fn deploy(task: Task) -> Result<JobResult, WorkError> {
    ///     let answer = task.ask(&Question::confirm("Deploy 4f2c to production?")).await?;
    ///     if !answer.is_confirmed() {
    ///         return Err(WorkError::fatal("it was not approved"));
    ///     }
    ///     Ok(JobResult::link("/deployments/4f2c"))
    /// }
    /// ```
    ///
    /// # Errors
    /// If the job is cancelled or no longer this worker's, or the gateway refuses the question.
    pub async fn ask(&self, question: &Question) -> Result<Answer, WorkError> {
        self.put(question).await?;
        self.0.asking.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.0.asking);
        let mut backoff = Backoff::default();
        loop {
            let path = format!("answers/{}?wait={}", question.name, ANSWER_WAIT.as_secs());
            let asked = Instant::now();
            let request = self.0.client.get(self.address(&path));
            let request = request.header("tidegate-lease", &self.0.lease);
            match self.hear(request.timeout(ANSWER_WAIT + ANSWER_GRACE)).await {
                Heard::Answer(answer) => return Ok(answer),
                Heard::Nothing if SOON <= asked.elapsed() => backoff = Backoff::default(),
                Heard::Nothing => sleep(backoff.next().min(SOON)).await,
                Heard::Away => sleep(backoff.next()).await,
                Heard::Cancelled => return Err(self.cancelled_by_request()),
                Heard::Refused(detail) => return Err(WorkError::fatal(detail)),
            }
        }
    }

    /// Asks a question, until the gateway has it.
    pub(super) async fn put(&self, question: &Question) -> Result<(), WorkError> {
        let mut backoff = Backoff::default();
        loop {
            match self.hear(self.post("ask").json(question)).await {
                Heard::Answer(_) | Heard::Nothing => return Ok(()),
                Heard::Cancelled => return Err(self.cancelled_by_request()),
                Heard::Away if self.is_over() => {
                    return Err(WorkError::retryable("the gateway does not answer"));
                }
                Heard::Away => sleep(backoff.next()).await,
                Heard::Refused(detail) => return Err(WorkError::fatal(detail)),
            }
        }
    }

    fn cancelled_by_request(&self) -> WorkError {
        self.0.cancelled.send_replace(true);
        WorkError::fatal("the job was cancelled")
    }

    async fn hear(&self, request: RequestBuilder) -> Heard {
        let Ok(response) = request.send().await else { return Heard::Away };
        let status = response.status();
        if status == StatusCode::OK {
            let Ok(told) = response.json::<Told>().await else { return Heard::Away };
            // Counted from the reply, because the gateway extends the lease when it replies.
            self.unsent().lease_end = Instant::now() + self.0.lease_term;
            return match told.answer {
                Some(answer) => Heard::Answer(answer),
                None if told.cancel => Heard::Cancelled,
                None => Heard::Nothing,
            };
        }
        if is_passing(status) {
            return Heard::Away;
        }
        let refusal = response.json::<Refusal>().await.ok();
        let detail = refusal.as_ref().map_or_else(|| status.to_string(), |it| it.detail.clone());
        let is_refused = refusal.is_some_and(|it| REFUSED.iter().any(|end| it.kind.ends_with(end)));
        if status == StatusCode::CONFLICT && !is_refused {
            return Heard::Refused(format!("the job is no longer this worker's: {detail}"));
        }
        Heard::Refused(format!("the gateway does not take the question: {detail}"))
    }
}
