//! The pauses between attempts of a request that failed.

use std::time::Duration;

/// Waits that double, each shortened at random, so that workers do not return all at once.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const LONGEST: Duration = Duration::from_secs(10);

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::LONGEST);
        wait.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}
