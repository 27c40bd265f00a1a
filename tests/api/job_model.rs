use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value};
use tidegate_core::jobs::{Job, JobState, NewJob, Now, Outcome, Question, Report, Rules};

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
    GiveBack(usize),
    /// A worker asks: which one, which question, and whether it says what counts otherwise.
    Ask(usize, usize, bool),
    /// A worker looks for the answer to a question.
    Listen(usize, usize),
    /// A person answers a question with yes or no.
    Answer(usize, bool),
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
        (0..4_usize).prop_map(Step::GiveBack),
        (0..2_usize, 0..4_usize, any::<bool>()).prop_map(|(who, ask, or)| Step::Ask(who, ask, or)),
        (0..4_usize, 0..4_usize).prop_map(|(worker, ask)| Step::Listen(worker, ask)),
        (0..4_usize, any::<bool>()).prop_map(|(ask, yes)| Step::Answer(ask, yes)),
    ];
    prop::collection::vec(step, 1..60)
}

const RULES: Rules = Rules {
    lease: Duration::from_secs(10),
    max_attempts: 2,
    backoff: Duration::from_secs(2),
    max_backoff: Duration::from_secs(3),
    log_grace: Duration::ZERO,
    max_asks: 3,
    ask_time: Duration::from_secs(12),
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
    /// The questions: their names, whether something counts otherwise, and the answers.
    asked: Vec<(usize, bool, Option<bool>)>,
    /// Answers that are the questions' own, which nobody can repeat.
    by_default: Vec<usize>,
    /// When the open question ends.
    ask_ends: u64,
    /// Whether the worker has not reported since the last answer.
    is_unheard: bool,
}

impl Model {
    fn is_running(&self) -> bool {
        ["running", "cancelling", "waiting"].contains(&self.state)
    }

    fn is_of(&self, worker: usize) -> bool {
        self.is_running() && self.worker == Some(worker)
    }

    fn claim(&mut self, worker: usize, now: u64) -> bool {
        let is_there = self.state == "queued" && self.not_before <= now;
        if is_there {
            (self.state, self.worker, self.seq) = ("running", Some(worker), None);
            self.handed_back_by = None;
            (self.attempt, self.until, self.is_unheard) = (self.attempt + 1, now + 10, false);
        }
        is_there
    }

    fn report(&mut self, worker: usize, seq: u64, now: u64) -> bool {
        let is_its = self.is_running() && self.worker == Some(worker);
        let is_new = self.seq.is_none_or(|newest| newest <= seq);
        if is_its && is_new {
            (self.seq, self.until, self.is_unheard) = (Some(seq), now + 10, false);
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
        if self.state == "waiting" {
            if now < self.ask_ends {
                return;
            }
            let (name, otherwise, answer) = self.asked.last_mut().expect("it is open");
            if *otherwise {
                *answer = Some(false);
                self.by_default.push(*name);
                self.go_on(now);
            } else {
                self.state = "failed";
            }
            return;
        }
        if !self.is_running() || now < self.until {
            return;
        }
        match self.state {
            "cancelling" => self.state = "cancelled",
            _ if self.is_unheard => {
                self.last_attempt += 1;
                (self.state, self.worker, self.not_before) = ("queued", None, 0);
            }
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

    fn cancel(&mut self, now: u64) -> bool {
        match self.state {
            "waiting" if self.worker.is_some() => {
                (self.state, self.until) = ("cancelling", now + 10);
            }
            "queued" | "waiting" => self.state = "cancelled",
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
            self.asked.clear();
            self.by_default.clear();
        }
        is_over
    }

    fn give_back(&mut self, worker: usize) -> bool {
        if self.handed_back_by == Some(worker) {
            return true;
        }
        if !self.is_of(worker) {
            return false;
        }
        self.handed_back_by = Some(worker);
        match self.state {
            "cancelling" => self.state = "cancelled",
            state => {
                self.last_attempt += 1;
                self.worker = None;
                if state == "running" {
                    (self.state, self.not_before) = ("queued", 0);
                }
            }
        }
        true
    }

    fn open(&self) -> Option<usize> {
        self.asked.last().filter(|_| self.state == "waiting").map(|it| it.0)
    }

    fn was_asked(&self, ask: usize) -> bool {
        self.asked.iter().any(|it| it.0 == ask)
    }

    fn answer_to(&self, ask: usize) -> Option<bool> {
        self.asked.iter().rev().find(|it| it.0 == ask)?.2
    }

    fn ask(&mut self, worker: usize, ask: usize, otherwise: bool, now: u64) -> bool {
        if !self.is_of(worker) {
            return false;
        }
        if self.state == "cancelling" {
            return true;
        }
        if self.open() == Some(ask) || self.answer_to(ask).is_some() {
            (self.until, self.is_unheard) = (now + 10, false);
            return true;
        }
        if self.open().is_some() {
            return false;
        }
        self.asked.retain(|it| it.2.is_some());
        if self.asked.len() == 3 {
            return false;
        }
        self.asked.push((ask, otherwise, None));
        (self.state, self.ask_ends, self.is_unheard) = ("waiting", now + 12, false);
        self.until = now + 10;
        true
    }

    fn listen(&mut self, worker: usize, ask: usize, now: u64) -> bool {
        let may = self.is_of(worker) && self.was_asked(ask);
        if may {
            (self.until, self.is_unheard) = (now + 10, false);
        }
        may
    }

    fn answer(&mut self, ask: usize, yes: bool, now: u64) -> bool {
        if let Some(answer) = self.answer_to(ask) {
            return answer == yes && !self.by_default.contains(&ask);
        }
        let is_open = self.open() == Some(ask) && now < self.ask_ends;
        if is_open {
            self.asked.last_mut().expect("it is open").2 = Some(yes);
            self.go_on(now);
        }
        is_open
    }

    fn go_on(&mut self, now: u64) {
        if self.worker.is_some() {
            (self.state, self.until, self.is_unheard) = ("running", now + 10, true);
        } else {
            (self.state, self.not_before) = ("queued", 0);
        }
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
            asked: Vec::new(), by_default: Vec::new(), ask_ends: 0, is_unheard: false,
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
                Step::Cancel => (job.cancel(at(now)).is_ok(), model.cancel(now)),
                Step::Retry => (job.retry().is_ok(), model.retry()),
                Step::GiveBack(worker) => {
                    let worker = workers.saturating_sub(worker);
                    (job.give_back(&token(worker), at(now)).is_ok(), model.give_back(worker))
                }
                Step::Ask(worker, ask, otherwise) => {
                    let worker = workers.saturating_sub(worker);
                    let question = Question::confirm(&ask.to_string()).named(&ask.to_string());
                    let question = if otherwise { question.otherwise("yes", false) } else { question };
                    let did = job.ask(&token(worker), &question, at(now)).is_ok();
                    (did, model.ask(worker, ask, otherwise, now))
                }
                Step::Listen(worker, ask) => {
                    let worker = workers.saturating_sub(worker);
                    let did = job.listen(&token(worker), &ask.to_string(), at(now)).is_ok();
                    (did, model.listen(worker, ask, now))
                }
                Step::Answer(ask, yes) => {
                    let values = Map::from_iter([("yes".to_owned(), Value::Bool(yes))]);
                    let did = job.answer(&ask.to_string(), &values, Some("me"), at(now)).is_ok();
                    (did, model.answer(ask, yes, now))
                }
            };
            prop_assert_eq!(did, should, "{:?}", &model);
            prop_assert_eq!(job.state.as_str(), model.state);
            prop_assert_eq!((job.attempt, job.last_attempt), (model.attempt, model.last_attempt));
            let open = job.open_question().map(|it| it.question.name.clone());
            prop_assert_eq!(open, model.open().map(|it| it.to_string()));
            for ask in 0..4 {
                let answer = job.answered(&ask.to_string()).map(|it| it.values["yes"] == true);
                prop_assert_eq!(answer, model.answer_to(ask));
            }
            prop_assert_eq!(job.ended_at.is_some(), JobState::is_final(job.state));
        }
    }
}
