//! Jobs: long-running work with public state, and the workers that do it.
//!
//! Changes are published as events on the topic `/jobs/{id}`. A change is a submission to the
//! history, on the condition that the job is still as it was, and enters the table once it is
//! stored. The table follows the history, so that it also learns of changes by other processes. If
//! the history outlives the process, so do the jobs. What a job does is unknown to this module.

mod agenda;
mod announced;
mod asked;
mod asking;
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
mod rules;
mod spawn;
mod state;
mod status;
mod table;
mod times;
mod tracker;

pub use tidegate_client::{Answer, Field, FieldKind, JobResult, Question};

pub use self::{
    asked::{
        Answered, AskLimits, Asked, BadField, check_question, longest_text, read_answer,
        values_of_form,
    },
    change::Change,
    claim::Claimed,
    create::{Created, Keep},
    error::JobError,
    job::{Job, Lease, NewJob},
    log::JobLog,
    options::{JobOptions, OnEnd},
    outcome::Outcome,
    progress::{Progress, Report},
    redact::{Redacted, redact_paths},
    rules::{Now, Rules},
    spawn::{AskError, JobHandle, Stopped},
    state::{JobState, Refusal},
    status::Status,
    table::Place,
    tracker::Tracker,
};
