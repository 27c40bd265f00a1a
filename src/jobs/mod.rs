//! Long work and its public state: jobs, the workers that do them, and the pages that wait for them.
//!
//! Requests of applications, workers and watchers come in; changes go out as events on the topic `/jobs/{id}`. A change
//! is in the table only once its event is committed, and of two changes of a job one comes first. If the history outlives the
//! process, so do the jobs. What a job does is not known here.

mod claim;
mod counts;
mod due;
mod endpoint;
mod job;
mod keep;
mod log;
mod page;
mod progress;
mod record;
mod redact;
mod request;
mod spawn;
mod state;
mod status;
mod table;
mod tracker;
mod webhook;
mod words;

pub(crate) use self::redact::redact_paths;
pub use self::{
    claim::Claimed,
    endpoint::configure,
    job::{Change, Job, Lease, NewJob, Now, Outcome, Rules},
    log::JobLog,
    progress::{Progress, Report},
    spawn::{JobHandle, Stopped},
    state::{Refusal, State},
    tracker::{JobError, Tracker},
};
pub use tidegate_client::{JobResult, Task, WorkError, Worker, WorkerError};
