//! What a shared history counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::metrics::histogram::Histogram;

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) stored: Count,
    pub(super) repeated: Count,
    pub(super) conflicts: Count,
    pub(super) refused: Count,
    pub(super) unanswered: Count,
    pub(super) healed: Count,
    pub(super) late: Count,
    pub(super) holes: Count,
    pub(super) forks: Count,
    pub(super) replaced: Count,
    pub(super) barriers: Count,
    pub(super) reconnects: Count,
}

/// The counters and histograms of a shared history, by the names of their metrics.
#[derive(Debug, Clone)]
pub struct SharedMetrics {
    /// Outcomes of submissions and of frames, with their numbers.
    pub commits: [(&'static str, u64); 5],
    /// Names, explanations and values of further counters.
    pub counters: [(&'static str, &'static str, u64); 7],
}

impl Counters {
    pub(super) fn read(&self) -> SharedMetrics {
        let Self { stored, repeated, conflicts, refused, unanswered, .. } = self;
        SharedMetrics {
            commits: [
                ("stored", stored.get()),
                ("repeated", repeated.get()),
                ("conflict", conflicts.get()),
                ("refused", refused.get()),
                ("unanswered", unanswered.get()),
            ],
            counters: [
                ("healed_frames", "Frames that were put back into the log", self.healed.get()),
                ("late_events", "Events that were published again", self.late.get()),
                ("hole", "Parts of the log that were lost", self.holes.get()),
                ("fork", "Branches of the log that were cut off", self.forks.get()),
                ("log_replaced", "Logs that took the place of another", self.replaced.get()),
                ("barriers", "Questions for the newest position", self.barriers.get()),
                ("reconnects", "Connections that were made anew", self.reconnects.get()),
            ],
        }
    }
}

/// Creates a histogram of the time from sending a frame to its answer, in seconds.
pub(super) fn commit_seconds() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0])
}

/// Creates a histogram of the submissions in a frame.
pub(super) fn frame_submissions() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0])
}
