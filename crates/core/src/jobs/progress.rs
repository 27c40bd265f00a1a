//! The progress of an attempt, as its worker reports it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::Refusal;

/// The percentage and run time from which the remaining time is estimated.
const ESTIMATE_FROM_PERCENT: f64 = 1.0;
const ESTIMATE_FROM: Duration = Duration::from_secs(1);

/// A worker's progress report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Grows with each report of an attempt, so that a delayed report does not count as newer.
    pub seq: u64,
    /// The amount done, in a unit that the worker chooses.
    #[serde(default)]
    pub done: f64,
    /// The total amount; absent if unknown.
    #[serde(default)]
    pub total: Option<f64>,
    /// The current stage of the work.
    #[serde(default)]
    pub stage: Option<String>,
    /// A message for people.
    #[serde(default)]
    pub message: Option<String>,
}

/// The progress of an attempt. The percentage never decreases within an attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Progress {
    #[serde(skip)]
    newest: Option<Report>,
    /// 0 to 100, if the total is known.
    percent: Option<f64>,
    done: f64,
    total: Option<f64>,
    stage: Option<String>,
    message: Option<String>,
    /// The estimated remaining time in seconds, extrapolated from the run time so far.
    estimate_seconds: Option<f64>,
}

impl Progress {
    /// Applies a report; `run_time` is the time since the attempt began. Returns `false` for a
    /// repetition.
    pub(super) fn take(&mut self, report: Report, run_time: Duration) -> Result<bool, Refusal> {
        if let Some(newest) = &self.newest {
            if *newest == report {
                return Ok(false);
            }
            if report.seq <= newest.seq {
                return Err(Refusal::OldReport { given: report.seq, newest: newest.seq });
            }
        }
        let share = report.total.filter(|total| 0.0 < *total).map(|total| report.done / total);
        if let Some(share) = share {
            let percent = (share * 100.0).clamp(0.0, 100.0);
            self.percent = Some(self.percent.map_or(percent, |before| before.max(percent)));
        }
        self.done = report.done;
        self.total = report.total;
        self.stage.clone_from(&report.stage);
        self.message.clone_from(&report.message);
        self.estimate_seconds = self.percent.and_then(|percent| estimate(percent, run_time));
        self.newest = Some(report);
        Ok(true)
    }

    /// Restores stored progress: the newest report, and the values that depend on earlier ones.
    pub(super) fn kept(
        newest: Option<Report>,
        percent: Option<f64>,
        estimate_seconds: Option<f64>,
    ) -> Self {
        let it = newest.clone().unwrap_or_default();
        let Report { done, total, stage, message, .. } = it;
        Self { newest, percent, done, total, stage, message, estimate_seconds }
    }

    /// The newest report.
    pub(super) fn newest(&self) -> Option<&Report> {
        self.newest.as_ref()
    }

    /// 0 to 100, if the total is known.
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        self.percent
    }

    /// The current stage of the work.
    #[must_use]
    pub fn stage(&self) -> Option<&str> {
        self.stage.as_deref()
    }

    /// A message for people.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The estimated remaining time in seconds.
    #[must_use]
    pub fn estimate_seconds(&self) -> Option<f64> {
        self.estimate_seconds
    }
}

fn estimate(percent: f64, run_time: Duration) -> Option<f64> {
    let is_known = ESTIMATE_FROM_PERCENT <= percent && ESTIMATE_FROM <= run_time;
    is_known.then(|| (run_time.as_secs_f64() * (100.0 - percent) / percent).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seq: u64, done: f64, total: Option<f64>) -> Report {
        Report { seq, done, total, stage: None, message: None }
    }

    #[test]
    fn the_share_never_goes_back_and_reports_are_taken_in_order() {
        let mut progress = Progress::default();
        let time = Duration::from_secs(10);
        assert_eq!(progress.take(report(1, 5.0, Some(10.0)), time), Ok(true));
        assert_eq!((progress.percent(), progress.estimate_seconds()), (Some(50.0), Some(10.0)));
        assert_eq!(progress.take(report(1, 5.0, Some(10.0)), time), Ok(false), "a repetition");
        let refusal = Refusal::OldReport { given: 1, newest: 1 };
        assert_eq!(progress.take(report(1, 6.0, Some(10.0)), time), Err(refusal));
        assert_eq!(progress.take(report(2, 1.0, Some(10.0)), time), Ok(true));
        assert_eq!(progress.percent(), Some(50.0));
        assert_eq!(progress.take(report(3, 99.0, Some(10.0)), time), Ok(true));
        assert_eq!(progress.percent(), Some(100.0));
    }

    #[test]
    fn without_a_total_there_is_no_share() {
        let mut progress = Progress::default();
        for (seq, total) in [(1, None), (2, Some(0.0)), (3, Some(f64::NAN)), (4, Some(-1.0))] {
            assert_eq!(progress.take(report(seq, 3.0, total), Duration::from_secs(9)), Ok(true));
            assert_eq!((progress.percent(), progress.estimate_seconds()), (None, None));
        }
    }
}
