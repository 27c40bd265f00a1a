//! What an operator may choose about a store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{event::Update, hub::Interest};

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The directory.
    pub path: PathBuf,
    /// When what is committed is safe.
    pub durability: Durability,
    /// The time after which a commit is too slow.
    pub slow_commit: Duration,
    /// Bytes of the store that are kept in memory.
    pub cache_bytes: usize,
    /// Threads that read.
    pub readers: usize,
    /// How long another process, which is about to end, may still have the store.
    pub patience: Duration,
    /// How long an event is kept that no rule says anything else of.
    pub age: Duration,
    /// Bytes of all events, with their entries in the indexes.
    pub bytes: u64,
    /// Number of all events.
    pub events: u64,
    /// What is different for some topics; of two rules that match, the first one counts.
    pub rules: Vec<Rule>,
    /// Dropped events that are remembered, in order to tell a late subscriber what it missed.
    pub remembered: u64,
    /// How long replies are kept.
    pub reply_age: Duration,
    /// How many replies are kept.
    pub replies: u64,
    /// Bytes of them.
    pub reply_bytes: u64,
}

/// When a commit is safe from a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the publisher is answered.
    Sync,
    /// This much later at most; what was committed since is lost if the process is killed.
    Interval(Duration),
}

/// How long the events of some topics are kept. What is not given is as for all others.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The matcher as it was written.
    pub name: String,
    /// Which events: those with a topic that this matches.
    pub interest: Arc<Interest>,
    /// Time since acceptance.
    pub age: Option<Duration>,
    /// Number of events of one topic, the newest; an event counts for its first topic.
    pub events_per_topic: Option<u64>,
    /// Bytes of all events that this rule is for.
    pub bytes: Option<u64>,
}

impl DiskOptions {
    /// The number of the rule for an update; the number of rules if there is none for it.
    pub(super) fn rule_of(&self, update: &Update) -> u32 {
        let is_for = |rule: &Rule| update.topics.iter().any(|topic| rule.interest.matches(topic));
        let at = self.rules.iter().position(is_for).unwrap_or(self.rules.len());
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// The rule with a number.
    pub(super) fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(number as usize)
    }

    /// Microseconds that an event under a rule is kept.
    pub(super) fn age_of(&self, rule: Option<&Rule>) -> i64 {
        let age = rule.and_then(|it| it.age).unwrap_or(self.age);
        i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
    }

    /// Tells sets of rules apart by which events would be sorted differently.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let of_rule = |rule: &Rule| format!("{:?} {:?}\n", rule.name, rule.events_per_topic);
        self.rules.iter().map(of_rule).collect::<String>().into_bytes()
    }
}
