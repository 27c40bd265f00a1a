//! Why a request about a job was not carried out.

use super::{BadField, Refusal};
use crate::hub::PublishError;

/// The reason why a request about a job was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JobError {
    /// There is no such job.
    #[error("there is no such job")]
    Unknown,
    /// There was such a job, but it was forgotten some time after its end.
    #[error("the job has ended, and what was known of it was forgotten")]
    Gone,
    /// The job's state, progress or log, or the caller's lease, does not allow the change.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The question breaks a rule or a limit.
    #[error(transparent)]
    BadQuestion(#[from] BadField),
    /// As many jobs as allowed wait for an answer.
    #[error("{0} jobs wait for an answer, which is the limit (jobs.max_waiting)")]
    TooManyWaiting(usize),
    /// The job cannot be retried: its creator ran it, and no worker can.
    #[error("the program that created the job did it itself, and does not do it again")]
    DoneHere,
    /// Another unfinished job has the same type and key.
    #[error("another job of the same type and key is there")]
    KeyTaken,
    /// The limit of jobs is reached, and none of them has ended.
    #[error("there are {0} jobs that have not ended, which is the limit")]
    Full(usize),
    /// The jobs take as many bytes as allowed, and none of them has ended.
    #[error(
        "all jobs together take {0} bytes, which is the limit (jobs.max_bytes), and none has ended"
    )]
    Heavy(usize),
    /// Other processes changed the job each time before this one could.
    #[error("the job is being changed by others; nothing was stored, try again")]
    Contended,
    /// The change was not stored.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl JobError {
    /// Whether the error may only say that the job in the table is older than the stored one.
    pub(super) fn may_be_outdated(&self) -> bool {
        matches!(self, Self::Unknown | Self::Gone | Self::Refused(_) | Self::KeyTaken)
    }
}
