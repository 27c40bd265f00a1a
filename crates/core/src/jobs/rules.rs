//! What the changes of a job depend on: the time, and the rules for its type.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The current time on two clocks: the monotonic one measures leases, the other one is for people.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// The time of day.
    pub time: Timestamp,
}

/// The rules for jobs of a type.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long a worker may be silent.
    pub lease: Duration,
    /// The number of attempts that a job gets.
    pub max_attempts: u32,
    /// The wait before the second attempt. It doubles with each further attempt.
    pub backoff: Duration,
    /// The longest wait between two attempts.
    pub max_backoff: Duration,
    /// How long log text is accepted after the end of the job.
    pub log_grace: Duration,
    /// The number of questions that a job may ask.
    pub max_asks: usize,
    /// The longest time, and the default, that a question waits for an answer.
    pub ask_time: Duration,
}
