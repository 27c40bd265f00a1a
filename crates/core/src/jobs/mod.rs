//! Jobs: long-running work with public state, and the workers that do it.
//!
//! Changes are published as events on the topic `/jobs/{id}`. A change enters the table only after
//! its event is committed, and the changes of one job are made one after the other. If the history
//! outlives the process, so do the jobs. What a job does is unknown to this module.

mod agenda;
mod change;
mod claim;
mod counts;
mod due;
mod job;
mod keep;
mod log;
mod options;
mod progress;
mod record;
mod redact;
mod spawn;
mod state;
mod status;
mod table;
mod tracker;

pub use tidegate_client::JobResult;

pub use self::{
    change::Change,
    claim::Claimed,
    job::{Job, Lease, NewJob, Now, Outcome, Rules},
    log::JobLog,
    options::{JobOptions, OnEnd},
    progress::{Progress, Report},
    redact::{Redacted, redact_paths},
    spawn::{JobHandle, Stopped},
    state::{JobState, Refusal},
    status::Status,
    tracker::{JobError, Keep, Tracker},
};
