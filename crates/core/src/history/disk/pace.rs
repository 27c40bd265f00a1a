//! Measures how long commits take, and reports slow ones.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::histogram::Histogram;
use tracing::warn;

/// Histogram buckets in seconds, from a fast disk to one that is about to fail.
const BUCKETS: [f64; 14] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// How long a slow commit counts if no other one follows. This makes a gateway ready again that
/// receives no updates because it is not ready.
const COUNTS_FOR: Duration = Duration::from_secs(10);

/// Measures one commit at a time.
#[derive(Debug)]
pub(super) struct Pace {
    /// The duration above which a commit is slow.
    bound: Duration,
    times: Histogram,
    now: Mutex<Commits>,
}

#[derive(Debug, Default)]
struct Commits {
    /// The start of the current commit.
    began: Option<Instant>,
    /// The end and duration of the last commit, if it was slow.
    slow: Option<(Instant, Duration)>,
}

impl Pace {
    pub(super) fn new(bound: Duration) -> Self {
        Self { bound, times: Histogram::new(BUCKETS), now: Mutex::default() }
    }

    /// The histogram of all commits, past and future.
    pub(super) fn times(&self) -> Histogram {
        self.times.clone()
    }

    fn now(&self) -> MutexGuard<'_, Commits> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures a commit.
    pub(super) fn measure<T>(&self, commit: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        self.now().began = Some(began);
        let outcome = commit();
        let (ended, time) = (Instant::now(), began.elapsed());
        let is_slow = self.bound < time;
        *self.now() = Commits { began: None, slow: is_slow.then_some((ended, time)) };
        self.times.observe(time.as_secs_f64());
        if is_slow {
            warn!(seconds = time.as_secs_f64(), "a commit took longer than history.slow_commit");
        }
        outcome
    }

    /// The message about slow commits: while one is in progress, and until a faster one follows or
    /// [`COUNTS_FOR`] has passed.
    pub(super) fn trouble(&self) -> Option<String> {
        let Commits { began, slow } = *self.now();
        let bound = self.bound.as_secs_f64();
        if let Some(time) = began.map(|it| it.elapsed()).filter(|it| self.bound < *it) {
            let time = time.as_secs_f64();
            return Some(format!(
                "the disk is slow: a commit has been under way for {time:.1}s, more than {bound}s (history.slow_commit)"
            ));
        }
        let (_, time) = slow.filter(|(ended, _)| ended.elapsed() < COUNTS_FOR)?;
        let time = time.as_secs_f64();
        Some(format!(
            "the disk is slow: the last commit took {time:.1}s, more than {bound}s (history.slow_commit)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc::sync_channel},
        thread,
    };

    use super::*;

    #[test]
    fn a_commit_that_hangs_is_said_while_it_hangs_and_until_one_does_not() {
        let pace = Arc::new(Pace::new(Duration::from_millis(1)));
        assert_eq!(pace.trouble(), None);
        let (go_on, hangs) = sync_channel::<()>(0);
        let committing = thread::spawn({
            let pace = pace.clone();
            move || pace.measure(|| hangs.recv())
        });
        let said = loop {
            if let Some(said) = pace.trouble() {
                break said;
            }
            thread::yield_now();
        };
        assert!(said.contains("under way") && said.contains("history.slow_commit"), "{said}");
        go_on.send(()).expect("it hangs");
        committing.join().expect("no panic").expect("sent");
        let said = pace.trouble().expect("the last one was slow");
        assert!(said.contains("took"), "{said}");
        let pace = Pace { bound: Duration::from_secs(3600), ..Arc::into_inner(pace).expect("one") };
        pace.measure(|| ());
        assert_eq!(pace.trouble(), None);
    }
}
