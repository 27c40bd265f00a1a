//! Jobs: long-running work with public state, the workers that do it, and the pages that wait for
//! it.
//!
//! Requests come from applications, workers and watchers. Changes are published as events on the
//! topic `/jobs/{id}`. A change enters the table only after its event is committed, and the changes
//! of one job are made one after the other. If the history outlives the process, so do the jobs.
//! What a job does is unknown to this module.

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
