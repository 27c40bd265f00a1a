//! tidegate, a push gateway: a backend posts an update once, and every subscribed browser receives
//! it.
//!
//! This crate is for programs that embed the gateway. A [`Gateway`](gateway::Gateway) is started
//! from [`Settings`](settings::Settings) and publishes [drafts](event::Draft). A
//! [`Server`](server::Server) listens for it, or an actix application includes its routes.
//!
//! ```
//! use tidegate::{
//!     event::Draft,
//!     gateway::Gateway,
//!     settings::{HistorySettings, Settings},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let history = HistorySettings::in_memory();
//! let gateway = Gateway::start(Settings { history, ..Settings::default() })?;
//! let draft = Draft { topics: vec!["news".into()], data: "Hello".into(), ..Draft::default() };
//! gateway.publish(draft).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`jobs`] are long-running work with a page that shows its progress. Workers run inside the
//! program or in others.

// The modules of the gateway, from the bottom up: `settings` are the operator's choices, `auth`
// verifies access tokens, and `listen` turns sockets into requests. `gateway` holds the state that
// all requests share. `http` is shared by the handlers, `api` has the handlers of each resource,
// and `server` runs a gateway. Everything below HTTP is in `tidegate-core`.

mod api;
pub mod app;
pub mod auth;
#[doc(hidden)]
pub mod cli;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gateway;
mod hooks;
mod http;
mod listen;
mod ops;
mod pages;
mod policy;
mod realtime;
pub mod server;
pub mod settings;
pub mod telemetry;

/// The update that a publisher posts, and its parts.
pub mod event {
    pub use tidegate_core::event::{
        ClientKey, Draft, EventId, EventType, Invalid, Limits, Topic, Update,
    };
}

/// The hub, which publishes several updates at once.
pub mod hub {
    pub use tidegate_core::{
        history::HistoryError,
        hub::{Hub, PublishError},
    };
}

/// Jobs: long-running work whose changes are events, and the workers that do it.
///
/// A future of the embedding program becomes a job with
/// [`Tracker::spawn`](jobs::Tracker::spawn). It reports through a [`JobHandle`](jobs::JobHandle):
///
/// ```
/// use tidegate::jobs::{JobHandle, JobResult, NewJob, State};
/// # use tidegate::{gateway::Gateway, settings::{HistorySettings, Settings}};
///
/// async fn count(job: JobHandle) -> Result<JobResult, Box<dyn std::error::Error + Send + Sync>> {
///     job.progress(1.0, Some(2.0), Some("Counting"), None).await?;
///     job.log("one\n").await?;
///     Ok(JobResult::inline(&2)?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let history = HistorySettings::in_memory();
/// # let gateway = Gateway::start(Settings { history, ..Settings::default() })?;
/// let new = NewJob { kind: "count".into(), title: "Two".into(), payload: None, key: None };
/// let job = gateway.tracker().spawn(new, count).await?;
/// println!("http://127.0.0.1:3000/jobs/{}", job.id);
/// # let ended = std::future::pending();
/// # let job = gateway.tracker().wait(&job.id, ended, |job| job.state.is_final()).await?;
/// # assert_eq!(job.state, State::Succeeded);
/// # Ok(())
/// # }
/// ```
///
/// A job that was created with [`Tracker::create`](jobs::Tracker::create) is done by a
/// [`Worker`](jobs::Worker) over HTTP, or by the program itself:
///
/// ```
/// use std::time::Duration;
///
/// use tidegate::jobs::{NewJob, Outcome, State};
/// # use tidegate::{gateway::Gateway, settings::{HistorySettings, Settings}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let history = HistorySettings::in_memory();
/// # let gateway = Gateway::start(Settings { history, ..Settings::default() })?;
/// let tracker = gateway.tracker();
/// let new = NewJob { kind: "count".into(), title: "Two".into(), payload: None, key: None };
/// tracker.create(new).await?;
///
/// let claimed = tracker.claim(&["count".into()], Duration::from_secs(1)).await?.expect("a job");
/// let outcome = Outcome::Link("/counts/2".into());
/// let job = tracker.complete(&claimed.job.id, claimed.lease, outcome).await?;
/// assert_eq!(job.state, State::Succeeded);
/// # Ok(())
/// # }
/// ```
pub mod jobs {
    pub use tidegate_client::{Task, WorkError, Worker, WorkerError};
    pub use tidegate_core::jobs::{
        Answer, AskError, Claimed, Field, Job, JobError, JobHandle, JobLog, JobResult, JobState,
        JobState as State, Lease, NewJob, Outcome, Progress, Question, Refusal, Report, Status,
        Stopped, Tracker,
    };
}

/// Problem documents (RFC 9457), the errors of the gateway's routes.
pub mod problem {
    pub use crate::http::problem::Problem;
}

// Compiles the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
