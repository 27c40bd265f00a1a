//! Jobs: long-running work with public state, and the workers that do it.
//!
//! Changes are published as events on the topic `/jobs/{id}`. A change is a submission to the
//! history, on the condition that the job is still as it was, and enters the table once it is
//! stored. The table follows the history, so that it also learns of changes by other processes. If
//! the history outlives the process, so do the jobs. What a job does is unknown to this module.

mod agenda;
mod announced;
mod change;
mod claim;
mod commit;
mod counts;
mod create;
mod due;
mod error;
mod follow;
mod held_key;
mod job;
mod keep;
mod log;
mod options;
mod outcome;
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
    create::{Created, Keep},
    error::JobError,
    job::{Job, Lease, NewJob, Now, Rules},
    log::JobLog,
    options::{JobOptions, OnEnd},
    outcome::Outcome,
    progress::{Progress, Report},
    redact::{Redacted, redact_paths},
    spawn::{JobHandle, Stopped},
    state::{JobState, Refusal},
    status::Status,
    tracker::Tracker,
};
