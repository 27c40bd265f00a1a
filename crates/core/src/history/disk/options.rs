//! The options of a store that operators may set.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{event::Update, history::ReplyLimits, matching::Interest};

/// The settings of a store.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The directory.
    pub path: PathBuf,
    /// When commits become safe.
    pub durability: Durability,
    /// The duration after which a commit counts as slow.
    pub slow_commit: Duration,
    /// Bytes of the store that are cached in memory.
    pub cache_bytes: usize,
    /// The number of reader threads.
    pub readers: usize,
    /// How long to wait for another process that still uses the store but is about to end.
    pub patience: Duration,
    /// How long an event is kept if no rule sets another age.
    pub age: Duration,
    /// The byte limit for all events, including their index entries.
    pub bytes: u64,
    /// The limit on the number of all events.
    pub events: u64,
    /// Exceptions for some topics. The first matching rule applies.
    pub rules: Vec<Rule>,
    /// Dropped events that are remembered to notify late subscribers of what they missed.
    pub remembered: u64,
    /// The limits of the replies that are kept.
    pub replies: ReplyLimits,
}

/// When a commit becomes safe from a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the publisher is answered.
    Sync,
    /// At most this long afterwards. Newer commits are lost if the process is killed.
    Interval(Duration),
}

/// The retention of some topics. Fields that are `None` are as for all other events.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The matcher, as it was written.
    pub name: String,
    /// Selects the events that have a matching topic.
    pub interest: Arc<Interest>,
    /// The time since acceptance.
    pub age: Option<Duration>,
    /// The number of newest events to keep per topic. An event counts for its first topic.
    pub events_per_topic: Option<u64>,
    /// The byte limit for all events of this rule.
    pub bytes: Option<u64>,
}

impl DiskOptions {
    /// The number of the rule for an update, or the number of rules if none matches.
    pub(super) fn rule_of(&self, update: &Update) -> u32 {
        let is_for = |rule: &Rule| update.topics.iter().any(|topic| rule.interest.matches(topic));
        let at = self.rules.iter().position(is_for).unwrap_or(self.rules.len());
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// The rule with this number.
    pub(super) fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(number as usize)
    }

    /// How long an event of a rule is kept, in microseconds.
    pub(super) fn age_of(&self, rule: Option<&Rule>) -> i64 {
        let age = rule.and_then(|it| it.age).unwrap_or(self.age);
        i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
    }

    /// How long a reply is kept, in microseconds.
    pub(super) fn age_of_replies(&self) -> i64 {
        i64::try_from(self.replies.age.as_micros()).unwrap_or(i64::MAX)
    }

    /// A fingerprint that differs between rule sets that sort events differently.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let of_rule = |rule: &Rule| format!("{:?} {:?}\n", rule.name, rule.events_per_topic);
        self.rules.iter().map(of_rule).collect::<String>().into_bytes()
    }
}
