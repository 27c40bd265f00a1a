//! A job that a worker has claimed. Reports and log text are kept here until the gateway accepts
//! them.

use std::{
    fmt::Display,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::{
    Client, RequestBuilder, StatusCode, Url,
    header::{CONTENT_RANGE, CONTENT_TYPE},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

use crate::{
    JobResult, Question,
    backoff::Backoff,
    claim::{Claimed, Work},
    http::is_passing,
};

/// The shortest time between two reports; news within it is sent together.
const PACE: Duration = Duration::from_millis(100);

/// The longest wait for the response to a report.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest lease that the worker believes, and the longest time between reports, in seconds.
/// Longer ones would overflow the clock.
const LONGEST_TERM: f64 = 30.0 * 24.0 * 3600.0;

/// Bytes of log text per request.
const CHUNK: usize = 64 << 10;

/// Bytes of log text kept while the gateway is unreachable. Beyond that, the oldest text is
/// dropped.
const PENDING: usize = 256 << 10;

/// The limits of a stage and a message in bytes, so that the gateway accepts the report.
const LONGEST_STAGE: usize = 100;
const LONGEST_MESSAGE: usize = 500;

/// The reason why a job was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct WorkError {
    detail: String,
    is_retryable: bool,
    is_given_back: bool,
    question: Option<Box<Question>>,
}

impl WorkError {
    /// Creates a failure that may not occur in another attempt.
    pub fn retryable(detail: impl Display) -> Self {
        Self { is_retryable: true, ..Self::fatal(detail) }
    }

    /// Creates a failure that every attempt would have, or ends a cancelled job.
    pub fn fatal(detail: impl Display) -> Self {
        let detail = detail.to_string();
        Self { detail, is_retryable: false, is_given_back: false, question: None }
    }

    /// Asks a question and leaves the job until it has an answer. The next attempt finds it with
    /// [`Task::answer`]. This attempt does not count.
    #[must_use]
    pub fn asks(question: Question) -> Self {
        Self { question: Some(question.into()), ..Self::stopped() }
    }

    /// Gives the job back without a failure, because the worker stops.
    pub(super) fn stopped() -> Self {
        Self { is_given_back: true, ..Self::retryable("the worker was stopped") }
    }
}

/// A handle with which the work reports on its job. Clones share one job.
///
/// ```
/// # async fn copy(file: &str) {}
/// use tidegate_client::{JobResult, Task, WorkError};
///
/// async fn copy_all(task: Task) -> Result<JobResult, WorkError> {
///     let files: Vec<String> = task.payload()?;
///     for (n_copied, file) in files.iter().enumerate() {
///         task.progress(n_copied as f64, Some(files.len() as f64), None, Some(file));
///         tokio::select! {
///             () = copy(file) => task.log(&format!("{file}\n")),
///             () = task.cancelled() => return Err(WorkError::fatal("it was cancelled")),
///         }
///     }
///     Ok(JobResult::link("/files"))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Task(pub(crate) Arc<Attempt>);

/// The attempt at a job that the clones of a task share.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) client: Client,
    base: Url,
    pub(crate) job: Work,
    pub(crate) lease: String,
    pub(crate) lease_term: Duration,
    report_every: Duration,
    pub(crate) cancelled: watch::Sender<bool>,
    /// How many clones wait for an answer. Meanwhile the lease does not expire.
    pub(crate) asking: AtomicUsize,
    news: Notify,
    unsent: Mutex<Unsent>,
}

/// The progress of an attempt, as the gateway accepts it (`POST /jobs/{id}/progress`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Report {
    /// Grows with each report of an attempt, so that a delayed report does not count as newer.
    seq: u64,
    done: f64,
    total: Option<f64>,
    stage: Option<String>,
    message: Option<String>,
}

/// Returns the beginning of a job's id. A log shows no more, because the id is the permission to
/// see the job.
pub(crate) fn short(id: &str) -> &str {
    const SHOWN: usize = 6;
    id.char_indices().nth(SHOWN).map_or(id, |(end, _)| &id[..end])
}

/// What the gateway has not received yet.
#[derive(Debug)]
pub(crate) struct Unsent {
    report: Report,
    sent_seq: u64,
    /// The end of the lease by this worker's clock.
    pub(crate) lease_end: Instant,
    log_length: u64,
    /// The text being sent; retried at the same offset until it has arrived.
    chunk: String,
    pending: String,
}

/// The gateway's response to a report.
#[derive(Debug, Deserialize)]
struct Reported {
    cancel: bool,
}

/// The outcome of a request.
enum Sent {
    Taken,
    /// There is no response, or one that may change later.
    Away,
    /// The log is shorter than expected: this long.
    Hole(u64),
    /// The job has ended, or another worker holds it.
    Gone,
    Refused(String),
}

impl Task {
    pub(super) fn new(client: Client, base: &Url, claimed: Claimed) -> Self {
        let lease_term = term(claimed.lease_seconds);
        let unsent = Unsent {
            report: Report::default(),
            sent_seq: 0,
            lease_end: Instant::now() + lease_term,
            log_length: claimed.job.log_length,
            chunk: String::new(),
            pending: String::new(),
        };
        Self(Arc::new(Attempt {
            client,
            base: base.join(&format!("jobs/{}/", claimed.job.id)).unwrap_or_else(|_| base.clone()),
            job: claimed.job,
            lease: claimed.lease,
            lease_term,
            report_every: term(claimed.report_seconds).max(PACE),
            cancelled: watch::Sender::new(false),
            asking: AtomicUsize::new(0),
            news: Notify::new(),
            unsent: Mutex::new(unsent),
        }))
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.job.id
    }

    /// The job's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.job.kind
    }

    /// The title for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.0.job.title
    }

    /// The number of this attempt; the first one is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.job.attempt
    }

    /// Returns the payload: the job's input.
    ///
    /// # Errors
    /// If the payload does not parse as `T`. Another attempt would not change that.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, WorkError> {
        let text = self.0.job.payload.as_deref().map_or("null", RawValue::get);
        serde_json::from_str(text)
            .map_err(|error| WorkError::fatal(format_args!("the payload: {error}")))
    }

    /// Reports progress: the amount done, the total if known, the current stage, and a message for
    /// people. Returns at once; the newest report is sent soon.
    pub fn progress(
        &self,
        done: f64,
        total: Option<f64>,
        stage: Option<&str>,
        message: Option<&str>,
    ) {
        let is_number = |it: &f64| it.is_finite() && 0.0 <= *it;
        let mut unsent = self.unsent();
        unsent.report = Report {
            seq: unsent.report.seq + 1,
            done: Some(done).filter(is_number).unwrap_or_default(),
            total: total.filter(is_number),
            stage: stage.map(|it| it[..it.floor_char_boundary(LONGEST_STAGE)].to_owned()),
            message: message.map(|it| it[..it.floor_char_boundary(LONGEST_MESSAGE)].to_owned()),
        };
        drop(unsent);
        self.0.news.notify_one();
    }

    /// Appends to the job's log; lines end with a line feed. Returns at once; the text is sent
    /// soon. If text cannot be sent for long, only the newest is kept.
    pub fn log(&self, text: &str) {
        let mut unsent = self.unsent();
        unsent.pending.push_str(text);
        if let Some(excess) = unsent.pending.len().checked_sub(PENDING) {
            let cut = unsent.pending.ceil_char_boundary(excess);
            unsent.pending.drain(..cut);
        }
        drop(unsent);
        self.0.news.notify_one();
    }

    /// Whether a cancel was requested.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.borrow()
    }

    /// Completes when a cancel is requested. The work should then stop and return an error.
    pub async fn cancelled(&self) {
        // The sender lives as long as this task.
        let _ = self.0.cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    /// Sends news and heartbeats, which extend the lease. Returns when the lease is lost.
    pub(super) async fn keep_reporting(&self) {
        let mut backoff = Backoff::default();
        let mut due = Instant::now() + self.0.report_every;
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.0.news.notified() => {}
            }
            let is_heartbeat = due <= Instant::now();
            if is_heartbeat && self.is_asking() {
                // The request for the answer also learns of a cancellation.
                due = Instant::now() + self.0.report_every;
                continue;
            }
            match self.send_news(is_heartbeat).await {
                Sent::Gone => return,
                Sent::Away if self.is_over() => return,
                Sent::Away => {
                    sleep(backoff.next().min(self.0.report_every)).await;
                    due = Instant::now();
                }
                Sent::Taken | Sent::Hole(_) | Sent::Refused(_) => {
                    backoff = Backoff::default();
                    if is_heartbeat {
                        due = Instant::now() + self.0.report_every;
                    }
                    sleep(PACE.min(self.0.report_every)).await;
                }
            }
        }
    }

    /// Reports the end. Retries until the gateway accepts it or the lease must have expired.
    pub(super) async fn end(&self, mut outcome: Result<JobResult, WorkError>) {
        if let Err(WorkError { question: Some(question), .. }) = &outcome
            && let Err(error) = self.put(question).await
        {
            outcome = Err(error);
        }
        let (mut action, mut body) = match outcome {
            Ok(JobResult::Inline(value)) => ("complete", format!(r#"{{"result":{value}}}"#)),
            Ok(JobResult::Link(link)) => ("complete", json!({ "link": link }).to_string()),
            Err(error) => ("fail", failure(&error)),
        };
        let mut backoff = Backoff::default();
        loop {
            let told = match self.send_news(false).await {
                Sent::Away => Sent::Away,
                Sent::Gone => return,
                _ => {
                    let request = self.post(action).header(CONTENT_TYPE, "application/json");
                    self.send(request.body(body.clone())).await
                }
            };
            match told {
                Sent::Taken => return,
                Sent::Away if !self.is_over() => sleep(backoff.next()).await,
                Sent::Refused(detail) if action == "complete" => {
                    let detail = format!("the gateway does not take the result: {detail}");
                    (action, body) = ("fail", failure(&WorkError::fatal(detail)));
                }
                _ => {
                    warn!(job = short(self.id()), "the end of a job was not taken");
                    return;
                }
            }
        }
    }

    /// Sends log text and the newest report. A heartbeat repeats the report even if it is not new.
    async fn send_news(&self, is_heartbeat: bool) -> Sent {
        let report = {
            let unsent = self.unsent();
            let is_new = unsent.sent_seq < unsent.report.seq;
            Some(unsent.report.clone()).filter(|_| is_new || is_heartbeat)
        };
        if let Some(report) = report {
            match self.send(self.post("progress").json(&report)).await {
                Sent::Taken => self.unsent().sent_seq = report.seq,
                Sent::Refused(detail) => {
                    warn!(job = short(self.id()), detail, "a report was refused");
                    // It would be refused again, so it counts as sent.
                    self.unsent().sent_seq = report.seq;
                }
                other => return other,
            }
        }
        while let Some((offset, chunk)) = self.next_chunk() {
            let n_bytes = chunk.len() as u64;
            let Some(range) = range(offset, n_bytes) else {
                let job = short(self.id());
                warn!(job, offset, "the gateway says that the log is longer than possible");
                self.unsent().chunk.clear();
                continue;
            };
            let request = self.post("log").header(CONTENT_RANGE, range).body(chunk);
            match self.send(request).await {
                Sent::Taken => {
                    let mut unsent = self.unsent();
                    unsent.log_length += n_bytes;
                    unsent.chunk.clear();
                }
                Sent::Hole(length) => self.unsent().log_length = length,
                Sent::Refused(detail) => {
                    warn!(job = short(self.id()), detail, "log text was refused");
                    self.unsent().chunk.clear();
                }
                other => return other,
            }
        }
        Sent::Taken
    }

    /// Returns the log text to send next, and its offset.
    fn next_chunk(&self) -> Option<(u64, String)> {
        let mut unsent = self.unsent();
        if unsent.chunk.is_empty() {
            let cut = unsent.pending.floor_char_boundary(CHUNK);
            unsent.chunk = unsent.pending.drain(..cut).collect();
        }
        Some((unsent.log_length, unsent.chunk.clone())).filter(|(_, chunk)| !chunk.is_empty())
    }

    pub(crate) fn address(&self, path: &str) -> Url {
        self.0.base.join(path).unwrap_or_else(|_| self.0.base.clone())
    }

    pub(crate) fn post(&self, action: &str) -> RequestBuilder {
        let url = self.address(action);
        // A short timeout, so that a request without a response is retried before the lease
        // expires.
        let patience = self.0.report_every.clamp(Duration::from_millis(250), PATIENCE);
        self.0.client.post(url).header("tidegate-lease", &self.0.lease).timeout(patience)
    }

    async fn send(&self, request: RequestBuilder) -> Sent {
        let sent = Instant::now();
        let Ok(response) = request.send().await else { return Sent::Away };
        match response.status() {
            StatusCode::OK => {
                let Ok(reported) = response.json::<Reported>().await else { return Sent::Away };
                self.unsent().lease_end = sent + self.0.lease_term;
                if reported.cancel {
                    self.0.cancelled.send_replace(true);
                }
                Sent::Taken
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|it| it.to_str().ok());
                let length = range.and_then(|it| it.strip_prefix("bytes */")?.parse().ok());
                length.map_or_else(|| Sent::Refused("it has a hole".to_owned()), Sent::Hole)
            }
            StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::GONE => Sent::Gone,
            status if is_passing(status) => Sent::Away,
            status => Sent::Refused(response.text().await.unwrap_or_else(|_| status.to_string())),
        }
    }

    /// Whether the lease must have expired.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_asking() && self.unsent().lease_end <= Instant::now()
    }

    fn is_asking(&self) -> bool {
        0 < self.0.asking.load(Relaxed)
    }

    pub(crate) fn unsent(&self) -> std::sync::MutexGuard<'_, Unsent> {
        self.0.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a time in the gateway's response.
fn term(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(LONGEST_TERM)).unwrap_or_default()
}

/// Returns the `Content-Range` of text. `None` if its end is beyond the longest possible log.
fn range(offset: u64, n_bytes: u64) -> Option<String> {
    let last = offset.checked_add(n_bytes)?.checked_sub(1)?;
    Some(format!("bytes {offset}-{last}/*"))
}

/// Returns the body that reports a failure.
fn failure(error: &WorkError) -> String {
    let problem = json!({ "title": "The job failed", "detail": error.detail });
    let (retryable, given_back) = (error.is_retryable, error.is_given_back);
    json!({ "problem": problem, "retryable": retryable, "given_back": given_back }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn absurd_numbers_of_a_gateway_do_not_end_the_worker() {
        let claimed = json!({
            "job": {
                "id": "1", "type": "x", "title": "X", "payload": null, "attempt": 1,
                "log_length": u64::MAX,
            },
            "lease": "l", "lease_seconds": 1e19, "report_seconds": 1e300,
        });
        let claimed = serde_json::from_str(&claimed.to_string()).expect("a claim");
        let base = Url::parse("http://127.0.0.1:9/").expect("an address");
        let task = Task::new(Client::new(), &base, claimed);
        assert_eq!(task.0.lease_term, Duration::from_secs(30 * 24 * 3600));
        assert_eq!(task.0.report_every, task.0.lease_term);
        task.log("text");
        assert!(matches!(task.send_news(false).await, Sent::Taken), "nothing can be sent");
        assert_eq!(term(-1.0), Duration::ZERO);
        assert_eq!(range(3, 7).as_deref(), Some("bytes 3-9/*"));
    }
}
