//! The options of the tracker.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;

use super::{AskLimits, Job, Rules};

/// The options of a tracker.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// The rules of types that have none of their own.
    pub rules: Rules,
    /// The rules of types with rules of their own.
    pub rules_by_type: BTreeMap<String, Rules>,
    /// The shortest time between two progress events of a job.
    pub progress_interval: Duration,
    /// How long succeeded jobs are kept.
    pub succeeded_retention: Duration,
    /// How long jobs that ended otherwise are kept.
    pub failed_retention: Duration,
    /// Jobs in total.
    pub max_jobs: usize,
    /// Memory in bytes of all jobs: payloads, results and logs.
    pub max_bytes: usize,
    /// Ids of forgotten jobs that are remembered.
    pub tombstones: usize,
    /// Bytes of a log that are kept, the newest.
    pub log_bytes: usize,
    /// The limits of questions and answers.
    pub asking: AskLimits,
}

impl JobOptions {
    /// The rules for jobs of a type.
    pub(super) fn rules(&self, kind: &str) -> Rules {
        *self.rules_by_type.get(kind).unwrap_or(&self.rules)
    }
}

#[cfg(test)]
impl JobOptions {
    /// Options for tests, with leases of this duration.
    pub(super) fn with_lease(lease: Duration) -> Self {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        Self {
            rules: Rules {
                lease,
                max_attempts: 3,
                backoff: second,
                max_backoff: 60 * second,
                log_grace: 30 * second,
                max_asks: 20,
                ask_time: hour,
            },
            rules_by_type: BTreeMap::new(),
            progress_interval: second / 4,
            succeeded_retention: hour,
            failed_retention: hour,
            max_jobs: 10_000,
            max_bytes: 512 << 20,
            tombstones: 10_000,
            log_bytes: 256 << 10,
            asking: AskLimits {
                fields: 20,
                choices: 100,
                question_bytes: 8 << 10,
                answer_bytes: 4 << 10,
                waiting: 10_000,
            },
        }
    }
}

/// Called with each job that has ended or asks a question, on the tracker's thread. It must not
/// block.
pub struct OnEnd {
    ended: Box<Notify>,
    asked: Box<Notify>,
}

type Notify = dyn Fn(&Job, Timestamp) + Send + Sync;

impl OnEnd {
    /// Calls `notify` with each job that has ended, and the time.
    pub fn new(notify: impl Fn(&Job, Timestamp) + Send + Sync + 'static) -> Self {
        Self { ended: Box::new(notify), asked: Box::new(|_, _| ()) }
    }

    /// Also calls `notify` with each job that asks a question.
    #[must_use]
    pub fn and_asked(self, notify: impl Fn(&Job, Timestamp) + Send + Sync + 'static) -> Self {
        Self { asked: Box::new(notify), ..self }
    }

    pub(super) fn ended(&self, job: &Job, now: Timestamp) {
        (self.ended)(job, now);
    }

    pub(super) fn asked(&self, job: &Job, now: Timestamp) {
        (self.asked)(job, now);
    }
}

impl fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnEnd")
    }
}
