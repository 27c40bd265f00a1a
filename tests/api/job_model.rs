use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;
use tidegate_core::jobs::{Job, JobState, NewJob, Now, Outcome, Report, Rules};

#[derive(Debug, Clone)]
enum Step {
    /// Seconds pass.
    Wait(u64),
    Claim,
    /// A worker that once had the job reports: which one, and what.
    Report(usize, u64),
    Complete(usize),
    /// The newest worker never received its claim.
    Unclaim,
    Fail(usize, bool),
    Expire,
    Cancel,
    Retry,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..15_u64).prop_map(Step::Wait),
        Just(Step::Claim),
        (0..4_usize, 0..6_u64).prop_map(|(worker, seq)| Step::Report(worker, seq)),
        (0..4_usize).prop_map(Step::Complete),
        (0..4_usize, any::<bool>()).prop_map(|(worker, again)| Step::Fail(worker, again)),
        Just(Step::Expire),
        Just(Step::Unclaim),
        Just(Step::Cancel),
        Just(Step::Retry),
    ];
    prop::collection::vec(step, 1..60)
}

const RULES: Rules = Rules {
    lease: Duration::from_secs(10),
    max_attempts: 2,
    backoff: Duration::from_secs(2),
    max_backoff: Duration::from_secs(3),
    log_grace: Duration::ZERO,
};

/// A naive model of a job, in seconds and plain words.
#[derive(Debug)]
struct Model {
    state: &'static str,
    attempt: u32,
    last_attempt: u32,
    /// The worker that may report, and its deadline.
    worker: Option<usize>,
    until: u64,
    not_before: u64,
    seq: Option<u64>,
    /// The worker that ended the job, and how.
    ended_by: Option<(usize, &'static str)>,
    /// The worker that ended its attempt, but not the job.
    handed_back_by: Option<usize>,
}

impl Model {
    fn is_running(&self) -> bool {
        self.state == "running" || self.state == "cancelling"
    }

    fn claim(&mut self, worker: usize, now: u64) -> bool {
        let is_there = self.state == "queued" && self.not_before <= now;
        if is_there {
            (self.state, self.worker, self.seq) = ("running", Some(worker), None);
            self.handed_back_by = None;
            (self.attempt, self.until) = (self.attempt + 1, now + 10);
        }
        is_there
    }

    fn report(&mut self, worker: usize, seq: u64, now: u64) -> bool {
        let is_its = self.is_running() && self.worker == Some(worker);
        let is_new = self.seq.is_none_or(|newest| newest <= seq);
        if is_its && is_new {
            (self.seq, self.until) = (Some(seq), now + 10);
        }
        is_its && is_new
    }

    fn complete(&mut self, worker: usize) -> bool {
        if self.ended_by == Some((worker, "succeeded")) {
            return true;
        }
        let is_its = self.is_running() && self.worker == Some(worker);
        if is_its {
            (self.state, self.ended_by) = ("succeeded", Some((worker, "succeeded")));
        }
        is_its
    }

    fn fail(&mut self, worker: usize, again: bool, now: u64) -> bool {
        if self.ended_by == Some((worker, "badly")) || self.handed_back_by == Some(worker) {
            return true;
        }
        if !self.is_running() || self.worker != Some(worker) {
            return false;
        }
        if self.state == "cancelling" {
            (self.state, self.ended_by) = ("cancelled", Some((worker, "badly")));
        } else if again && self.attempt < self.last_attempt {
            self.handed_back_by = Some(worker);
            self.try_again(now);
        } else {
            (self.state, self.ended_by) = ("failed", Some((worker, "badly")));
        }
        true
    }

    fn try_again(&mut self, now: u64) {
        let wait = if self.attempt == 1 { 2 } else { 3 };
        (self.state, self.worker, self.not_before) = ("queued", None, now + wait);
    }

    fn expire(&mut self, now: u64) {
        if !self.is_running() || now < self.until {
            return;
        }
        match self.state {
            "cancelling" => self.state = "cancelled",
            _ if self.attempt < self.last_attempt => self.try_again(now),
            _ => self.state = "lost",
        }
    }

    fn unclaim(&mut self, worker: usize) {
        if self.worker == Some(worker) {
            match self.state {
                "running" => {
                    (self.state, self.worker, self.not_before) = ("queued", None, 0);
                    self.attempt -= 1;
                }
                "cancelling" => self.state = "cancelled",
                _ => {}
            }
        }
    }

    fn cancel(&mut self) -> bool {
        match self.state {
            "queued" => self.state = "cancelled",
            "running" => self.state = "cancelling",
            "cancelling" | "cancelled" => {}
            _ => return false,
        }
        true
    }

    fn retry(&mut self) -> bool {
        let is_over = ["failed", "cancelled", "lost"].contains(&self.state);
        if is_over {
            (self.state, self.worker, self.ended_by) = ("queued", None, None);
            (self.handed_back_by, self.not_before) = (None, 0);
            self.last_attempt = self.attempt + 2;
        }
        is_over
    }
}

proptest! {
    #[test]
    fn a_job_does_what_its_model_does(steps in steps()) {
        let origin = Instant::now();
        let at = |seconds| Now { instant: origin + Duration::from_secs(seconds), time: Timestamp::UNIX_EPOCH };
        let new = NewJob { kind: "t".into(), title: "t".into(), payload: None, key: None };
        let mut job = Job::new("id".into(), 1, new, RULES, 100, at(0));
        let mut model = Model {
            state: "queued", attempt: 0, last_attempt: 2, worker: None, until: 0, not_before: 0, seq: None, ended_by: None, handed_back_by: None,
        };
        let mut now = 0;
        let mut workers = 0;
        let token = |worker: usize| format!("lease {worker}");
        for step in steps {
            let (did, should) = match step {
                Step::Wait(seconds) => { now += seconds; (true, true) }
                Step::Claim => {
                    workers += 1;
                    (job.claim(token(workers), at(now)).is_ok(), model.claim(workers, now))
                }
                Step::Report(worker, seq) => {
                    let worker = workers.saturating_sub(worker);
                    let report = Report { seq, ..Report::default() };
                    (job.report(&token(worker), report, at(now)).is_ok(), model.report(worker, seq, now))
                }
                Step::Complete(worker) => {
                    let worker = workers.saturating_sub(worker);
                    let outcome = Outcome::Link("/x".into());
                    (job.complete(&token(worker), outcome, at(now)).is_ok(), model.complete(worker))
                }
                Step::Fail(worker, again) => {
                    let worker = workers.saturating_sub(worker);
                    let problem = serde_json::value::to_raw_value(&1).expect("a number").into();
                    (job.fail(&token(worker), problem, again, at(now)).is_ok(), model.fail(worker, again, now))
                }
                Step::Expire => { let _ = job.expire(at(now)); model.expire(now); (true, true) }
                Step::Unclaim => {
                    let _ = job.unclaim(&token(workers), at(now));
                    model.unclaim(workers);
                    (true, true)
                }
                Step::Cancel => (job.cancel(at(now)).is_ok(), model.cancel()),
                Step::Retry => (job.retry().is_ok(), model.retry()),
            };
            prop_assert_eq!(did, should, "{:?}", &model);
            prop_assert_eq!(job.state.as_str(), model.state);
            prop_assert_eq!(job.attempt, model.attempt);
            prop_assert_eq!(job.ended_at.is_some(), JobState::is_final(job.state));
        }
    }
}
