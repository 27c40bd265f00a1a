//! The states of a job, and the reasons why a change is refused.

/// The state of a job.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for a worker, or for the end of a back-off.
    Queued,
    /// Held by a worker.
    Running,
    /// Waiting for a person's answer.
    Waiting,
    /// Held by a worker that is asked to stop.
    Cancelling,
    /// Completed.
    Succeeded,
    /// Ended by a failure that is not retried.
    Failed,
    /// Stopped on request.
    Cancelled,
    /// Ended because the lease of the last attempt expired.
    Lost,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Lost,
    ];

    /// Whether the job has ended. Only a retry leaves such a state.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Lost)
    }

    /// Whether a worker may hold the job.
    #[must_use]
    pub fn has_worker(self) -> bool {
        matches!(self, Self::Running | Self::Waiting | Self::Cancelling)
    }

    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// The reason why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lease does not, or no longer, allow reports on this job.
    #[error("the lease is stale: {0}")]
    StaleLease(&'static str),
    /// The state does not allow the change.
    #[error("the job is {}", .0.as_str())]
    State(JobState),
    /// A report with the same or a higher `seq` was accepted before.
    #[error("`seq` is {given}, but a report with {newest} was there before")]
    OldReport {
        /// The `seq` of the refused report.
        given: u64,
        /// The highest `seq` so far.
        newest: u64,
    },
    /// The log text begins after the end of the log.
    #[error("the log has {length} bytes; text at offset {offset} would leave a hole")]
    LogHole {
        /// The offset of the text.
        offset: u64,
        /// The length of the log in bytes.
        length: u64,
    },
    /// The log text differs from the stored bytes at its offset.
    #[error("the log has other bytes at offset {0}")]
    LogConflict(u64),
    /// Another question is open.
    #[error("the question `{0}` is open; a job asks one at a time")]
    Asking(String),
    /// The name belongs to a question that asked something else.
    #[error("`ask` names another question of this job: its title or fields differ")]
    AskReused,
    /// The job has asked as often as it may.
    #[error("the job has asked {0} questions, which is the limit (jobs.asks_per_job)")]
    TooManyAsks(usize),
    /// There was no question of this name.
    #[error("the job has asked no such question")]
    NotAsked,
    /// The question has another answer.
    #[error("the question was answered before, in another way")]
    Answered,
    /// The job no longer waits for the answer.
    #[error("the question is over; the job went on or ended without an answer")]
    AskOver,
}
