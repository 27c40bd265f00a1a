//! A worker: claims jobs from a gateway over HTTP, runs them, and reports on them.
//!
//! A job survives its worker: a worker that is stopped gives its jobs back, and the leases of a
//! killed one expire.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde_json::json;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    JobResult,
    backoff::Backoff,
    claim::Claimed,
    http::{causes, client, is_passing},
    task::{Task, WorkError, short},
};

/// The longest wait of a claim for a job; the gateway may answer sooner. An idle worker takes up to
/// this long to stop.
const CLAIM_WAIT: Duration = Duration::from_secs(5);

/// How much longer than that the response may take.
const CLAIM_GRACE: Duration = Duration::from_secs(10);

/// The time below which an empty response means that the gateway is stopping and lets no claim
/// wait.
const SOON: Duration = Duration::from_secs(1);

/// How long jobs may run after the worker is stopped, by default.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// The reason why a worker does not work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The address is not valid.
    #[error("`{0}` is not the http or https address of a gateway")]
    Address(String),
    /// The access token has characters that no token has.
    #[error("the token cannot be one")]
    Token,
    /// No HTTP client can be made, for example because the system's certificates cannot be read.
    #[error("the worker has no HTTP client")]
    Client(#[from] reqwest::Error),
    /// The gateway understands the worker, but gives it no jobs of these types.
    #[error("the gateway refuses to give out jobs: {0}")]
    Refused(String),
}

/// A worker that claims jobs of some types from a gateway.
///
/// ```no_run
/// use tidegate_client::{JobResult, Task, WorkError, Worker, WorkerError};
///
/// async fn count(task: Task) -> Result<JobResult, WorkError> {
///     JobResult::inline(&task.payload::<Vec<u64>>()?.len()).map_err(WorkError::fatal)
/// }
///
/// # async fn run(token: &str) -> Result<(), WorkerError> {
/// let worker = Worker::new("https://push.example.com", &["count"])?.token(token)?;
/// worker.concurrency(4).run(std::future::pending(), count).await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Worker {
    client: Client,
    base: Url,
    kinds: Vec<String>,
    concurrency: usize,
    grace: Duration,
}

impl Worker {
    /// Creates a worker for jobs of some types, one at a time, from the gateway at `base`.
    ///
    /// # Errors
    /// If the address is not valid, or no HTTP client can be made.
    pub fn new(base: &str, kinds: &[&str]) -> Result<Self, WorkerError> {
        let mut url = Url::parse(base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| WorkerError::Address(base.to_owned()))?;
        // With a trailing slash, so that joined paths are below it.
        url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        Ok(Self {
            client: client(&url).build()?,
            base: url,
            kinds: kinds.iter().map(|&it| it.to_owned()).collect(),
            concurrency: 1,
            grace: STOP_GRACE,
        })
    }

    /// Sets the access token. It has to grant publishing under `/jobs/claim` and the topics of the
    /// jobs, as the URL pattern `/jobs/:id` does.
    ///
    /// # Errors
    /// If the text cannot be a token, or no HTTP client can be made.
    pub fn token(self, token: &str) -> Result<Self, WorkerError> {
        let mut header =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| WorkerError::Token)?;
        header.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, header)]);
        let client = client(&self.base).default_headers(headers).build()?;
        Ok(Self { client, ..self })
    }

    /// Sets the number of jobs that run at a time.
    #[must_use]
    pub fn concurrency(self, jobs: usize) -> Self {
        Self { concurrency: jobs.max(1), ..self }
    }

    /// Sets how long jobs may run after the worker is stopped.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Runs jobs until `shutdown` is ready. `work` is called for each job, and its return value is
    /// reported. An error or a panic fails the job. If the worker loses the job, the work is
    /// dropped at its next await.
    ///
    /// After `shutdown` the worker claims no more jobs. Running jobs may use the time of grace, and
    /// are then given back.
    ///
    /// # Errors
    /// If the gateway refuses to give out such jobs.
    pub async fn run<F, W>(
        self,
        shutdown: impl Future<Output = ()>,
        work: W,
    ) -> Result<(), WorkerError>
    where
        W: Fn(Task) -> F,
        F: Future<Output = Result<JobResult, WorkError>> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let stop = watch::Sender::new(false);
        let mut running = JoinSet::new();
        let mut backoff = Backoff::default();
        tokio::pin!(shutdown);
        let (outcome, unanswered) = loop {
            let slot = tokio::select! {
                () = &mut shutdown => break (Ok(()), None),
                slot = slots.clone().acquire_owned() => slot,
            };
            // Kept if `shutdown` comes first: `decline` then gives back the job in its response.
            let (asked, mut asking) = (Instant::now(), Box::pin(self.ask()));
            let answer = tokio::select! {
                () = &mut shutdown => break (Ok(()), Some(asking)),
                answer = &mut asking => answer,
            };
            let pause = match answer {
                Ok(Some(claimed)) => {
                    let task = self.task(claimed);
                    let (working, stopped) = (work(task.clone()), stop.subscribe());
                    running.spawn(async move {
                        carry_out(task, working, stopped).await;
                        drop(slot);
                    });
                    while running.try_join_next().is_some() {}
                    Duration::ZERO
                }
                Ok(None) if SOON <= asked.elapsed() => Duration::ZERO,
                Ok(None) => backoff.next().min(SOON),
                Err(Asked::Refused(detail)) => break (Err(WorkerError::Refused(detail)), None),
                Err(Asked::Away(error)) => {
                    warn!(error, "the gateway gives no answer");
                    backoff.next()
                }
            };
            if pause.is_zero() {
                backoff = Backoff::default();
                continue;
            }
            tokio::select! {
                () = &mut shutdown => break (Ok(()), None),
                () = sleep(pause) => {}
            }
        };
        info!("takes no more jobs");
        tokio::join!(self.decline(unanswered), self.wind_down(running, &stop));
        outcome
    }

    fn task(&self, claimed: Claimed) -> Task {
        let task = Task::new(self.client.clone(), &self.base, claimed);
        info!(job = short(task.id()), kind = task.kind(), attempt = task.attempt(), "took a job");
        task
    }

    /// Waits for the response to the last claim, and gives back the job in it. If the claim were
    /// dropped, its job would have no worker until the lease expires.
    async fn decline(&self, asking: Option<impl Future<Output = Result<Option<Claimed>, Asked>>>) {
        let Some(asking) = asking else { return };
        if let Ok(Some(claimed)) = asking.await {
            self.task(claimed).end(Err(WorkError::stopped())).await;
        }
    }

    /// Waits for the running jobs, and stops them after the time of grace.
    async fn wind_down(&self, mut running: JoinSet<()>, stop: &watch::Sender<bool>) {
        let ended = async { while running.join_next().await.is_some() {} };
        if timeout(self.grace, ended).await.is_err() {
            stop.send_replace(true);
            while running.join_next().await.is_some() {}
        }
    }

    async fn ask(&self) -> Result<Option<Claimed>, Asked> {
        let away = |error: reqwest::Error| Asked::Away(causes(&error));
        let url =
            self.base.join("jobs/claim").expect("an http or https URL joins any relative path");
        let request = self.client.post(url).json(&json!({ "types": self.kinds }));
        // As a preference, because the gateway may have a lower limit.
        let request = request.header("prefer", format!("wait={}", CLAIM_WAIT.as_secs()));
        let response = request.timeout(CLAIM_WAIT + CLAIM_GRACE).send().await.map_err(away)?;
        match response.status() {
            StatusCode::OK => response.json().await.map(Some).map_err(away),
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_client_error() && !is_passing(status) => {
                Err(Asked::Refused(response.text().await.unwrap_or_else(|_| status.to_string())))
            }
            status => Err(Asked::Away(format!("it says {status}"))),
        }
    }
}

/// The reason why a claim got no answer.
enum Asked {
    /// A later claim may succeed.
    Away(String),
    /// A later claim would fail as well.
    Refused(String),
}

/// Runs one job, and reports on it until its end.
async fn carry_out(
    task: Task,
    work: impl Future<Output = Result<JobResult, WorkError>> + Send + 'static,
    mut stopped: watch::Receiver<bool>,
) {
    // In a separate task, so that a panic is caught; in a set, so that the task does not outlive
    // this one.
    let mut working = JoinSet::new();
    working.spawn(work);
    let outcome = tokio::select! {
        done = working.join_next() => match done {
            Some(Ok(outcome)) => outcome,
            _ => Err(WorkError::fatal("the job's code panicked")),
        },
        () = task.keep_reporting() => {
            warn!(job = short(task.id()), "a job is no longer this worker's");
            working.shutdown().await;
            return;
        }
        () = told(&mut stopped) => {
            working.shutdown().await;
            Err(WorkError::stopped())
        }
    };
    task.end(outcome).await;
}

/// Waits until the worker stops. The sender exists, because the worker waits for its jobs.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
