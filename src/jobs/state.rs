//! Where a job can be in its life, and why it may not go from there to where somebody wants it.

/// Where a job is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a worker, or for the end of a back-off.
    Queued,
    /// A worker has it.
    Running,
    /// A worker has it and is asked to stop.
    Cancelling,
    /// It is done.
    Succeeded,
    /// It cannot be done.
    Failed,
    /// It was stopped because somebody asked.
    Cancelled,
    /// The last worker that had it fell silent.
    Lost,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Lost,
    ];

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Lost)
    }

    /// The name that clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lease is not, or no longer, the right to report on this job.
    #[error("the lease is stale: {0}")]
    StaleLease(&'static str),
    /// The state does not allow it.
    #[error("the job is {}", .0.as_str())]
    State(State),
    /// A report with a higher `seq` was there before.
    #[error("`seq` is {given}, but a report with {newest} was there before")]
    OldReport {
        /// The one given.
        given: u64,
        /// The newest.
        newest: u64,
    },
    /// Log text does not begin where the log ends.
    #[error("the log has {length} bytes; text at offset {offset} would leave a hole")]
    LogHole {
        /// The one given.
        offset: u64,
        /// The log's length.
        length: u64,
    },
    /// Log text differs from what is there at its offset.
    #[error("the log has other bytes at offset {0}")]
    LogConflict(u64),
}
