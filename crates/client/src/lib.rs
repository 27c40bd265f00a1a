//! A client for tidegate gateways over HTTP, without the gateway itself.
//!
//! A [`Worker`] claims jobs and reports on them. Each claimed job is a [`Task`] and ends with a
//! [`JobResult`].
//!
//! ```no_run
//! use tidegate_client::{JobResult, Task, WorkError, Worker};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let work = |task: Task| async move {
//!     task.progress(1.0, Some(2.0), Some("Counting"), None);
//!     task.log("one\n");
//!     JobResult::inline(&42).map_err(WorkError::fatal)
//! };
//! let stop = std::future::pending();
//! Worker::new("http://127.0.0.1:3000", &["count"])?.concurrency(4).run(stop, work).await?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "worker")]
mod asking;
#[cfg(feature = "worker")]
mod backoff;
#[cfg(feature = "worker")]
mod claim;
#[cfg(feature = "worker")]
pub mod http;
mod question;
mod result;
#[cfg(feature = "worker")]
mod task;
#[cfg(feature = "worker")]
mod worker;

pub use self::{
    question::{Answer, Field, FieldKind, Question},
    result::JobResult,
};
#[cfg(feature = "worker")]
pub use self::{
    task::{Task, WorkError},
    worker::{Worker, WorkerError},
};
