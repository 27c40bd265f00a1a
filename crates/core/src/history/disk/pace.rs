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

/// A commit in progress. A commit that fails or panics is not counted: this is dropped then.
#[derive(Debug)]
pub(super) struct Measuring<'p> {
    pace: &'p Pace,
    began: Instant,
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

    /// Begins to measure a commit.
    pub(super) fn begin(&self) -> Measuring<'_> {
        let began = Instant::now();
        self.now().began = Some(began);
        Measuring { pace: self, began }
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

impl Measuring<'_> {
    /// Ends a commit that has succeeded, and counts it.
    pub(super) fn end(self) {
        let (ended, time) = (Instant::now(), self.began.elapsed());
        let is_slow = self.pace.bound < time;
        self.pace.now().slow = is_slow.then_some((ended, time));
        self.pace.times.observe(time.as_secs_f64());
        if is_slow {
            warn!(seconds = time.as_secs_f64(), "a commit took longer than history.slow_commit");
        }
    }
}

impl Drop for Measuring<'_> {
    fn drop(&mut self) {
        self.pace.now().began = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{Arc, mpsc::sync_channel},
        thread,
    };

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;
    use crate::{
        clock::Clock,
        history::{
            Disk, History as _,
            disk::tests::{self, options, update},
        },
    };

    #[test]
    fn a_commit_that_hangs_is_said_while_it_hangs_and_until_one_does_not() {
        let pace = Arc::new(Pace::new(Duration::from_millis(1)));
        assert_eq!(pace.trouble(), None);
        let (go_on, hangs) = sync_channel::<()>(0);
        let committing = thread::spawn({
            let pace = pace.clone();
            move || {
                let measuring = pace.begin();
                hangs.recv().expect("it goes on");
                measuring.end();
            }
        });
        let said = loop {
            if let Some(said) = pace.trouble() {
                break said;
            }
            thread::yield_now();
        };
        assert!(said.contains("under way") && said.contains("history.slow_commit"), "{said}");
        go_on.send(()).expect("it hangs");
        committing.join().expect("no panic");
        let said = pace.trouble().expect("the last one was slow");
        assert!(said.contains("took"), "{said}");
        let pace = Pace { bound: Duration::from_secs(3600), ..Arc::into_inner(pace).expect("one") };
        pace.begin().end();
        assert_eq!(pace.trouble(), None);
    }

    fn n_counted(times: &Histogram) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("times", "", times.clone());
        encode(&mut text, &registry).expect("text");
        let count = text.lines().find_map(|it| it.strip_prefix("times_count "));
        count.expect("a histogram").to_owned()
    }

    #[test]
    fn a_commit_that_fails_is_neither_counted_nor_under_way() {
        let pace = Pace::new(Duration::ZERO);
        pace.begin().end();
        assert!(pace.trouble().expect("slow").contains("took"));
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let _measuring = pace.begin();
            panic!("the commit panics");
        }));
        assert!(failed.is_err());
        assert!(pace.trouble().expect("still slow").contains("took"));
        assert_eq!(n_counted(&pace.times), "1");
    }

    #[test]
    fn what_a_store_refuses_is_not_counted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::open(options(directory.path()), Clock::system()).expect("opened");
        let commit = || tests::commit(&disk, vec![update(&[0], 1, 1)].into());
        commit().expect("stored");
        let times = disk.commit_times().expect("a disk takes time");
        assert_eq!(n_counted(&times), "1");
        *disk.core.reading.database.write().expect("no panic") = None;
        commit().expect_err("it is closed");
        assert_eq!(n_counted(&times), "1");
    }
}
