//! When the tracker has something to do for a job.

use std::time::Instant;

/// The timed changes of a job.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// When the tracker checks the job next.
    pub(super) next_look: Option<Instant>,
    /// When progress was last published.
    pub(super) told: Option<Instant>,
    /// When progress that is not yet published is due.
    pub(super) tell: Option<Instant>,
}

/// A scheduled check of a job.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    pub(super) due: Instant,
    pub(super) id: String,
}
