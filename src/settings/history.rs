//! `[history]`: what is kept, where, and for how long.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Settings,
    units::{duration, optional_duration, optional_size, size},
};
use crate::{
    event::Invalid,
    history::{DiskOptions, Durability, Retention, Rule},
    hub::{Interest, Matcher, MatcherKind, Matchers, Rights},
    subscriptions,
};

/// `[history]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistorySettings {
    /// Where events and jobs are kept.
    pub store: StoreKind,
    /// The directory of the store on disk.
    pub path: PathBuf,
    /// When what a publisher was told is safe.
    pub durability: DurabilityKind,
    /// The time between two syncs, if not every commit is synced.
    #[serde(with = "duration")]
    pub sync_interval: Duration,
    /// The time after which a commit is too slow, so that the gateway is not ready.
    #[serde(with = "duration")]
    pub slow_commit: Duration,
    /// Bytes of the store on disk that are held in memory.
    #[serde(with = "size")]
    pub cache_bytes: usize,
    /// Threads that read the store on disk.
    pub readers: usize,
    /// Bytes kept on disk.
    #[serde(with = "size")]
    pub max_bytes: usize,
    /// Bytes kept if the store is in memory.
    #[serde(with = "size")]
    pub memory_bytes: usize,
    /// Events kept.
    pub max_events: usize,
    /// Age up to which events are kept.
    #[serde(with = "duration")]
    pub max_age: Duration,
    /// Ids and topics of dropped events that are remembered, to tell late subscribers what they missed.
    pub remembered: usize,
    /// What is different for some topics; of two rules that match, the first one counts.
    pub rules: Vec<RuleSettings>,
}

/// Where events and jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In a directory; they are there after a crash.
    Disk,
    /// In memory; they are gone with the process.
    Memory,
}

/// When what a publisher was told is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityKind {
    /// When it is told.
    Sync,
    /// A while later.
    Interval,
}

/// `[[history.rules]]`: what is not given is as in `[history]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// A topic, or `*` for all but those of jobs.
    pub topic: String,
    /// Age up to which events are kept.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// Events of each topic that are kept, the newest; an event counts for its first topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_events_per_topic: Option<u64>,
    /// Bytes kept of all events that the rule is for.
    #[serde(default, with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self {
            store: StoreKind::Disk,
            path: PathBuf::from("data"),
            durability: DurabilityKind::Sync,
            sync_interval: Duration::from_secs(1),
            slow_commit: Duration::from_secs(2),
            cache_bytes: 32 << 20,
            readers: 4,
            max_bytes: 1 << 30,
            memory_bytes: 64 << 20,
            max_events: 10_000_000,
            max_age: Duration::from_secs(7 * 24 * 3600),
            remembered: 65_536,
            rules: Vec::new(),
        }
    }
}

impl HistorySettings {
    /// Rules that there may be; each is looked at for every event.
    const MOST_RULES: usize = 64;

    /// Everything is kept in memory and gone with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { store: StoreKind::Memory, ..Self::default() }
    }

    /// The bounds of a history in memory.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            bytes: self.memory_bytes,
            events: self.max_events,
            age: self.max_age.try_into().unwrap_or(jiff::SignedDuration::MAX),
            remembered: self.remembered,
        }
    }

    /// The options of a store on disk, these being the history's of `settings`. The gateway before this one may take
    /// `server.shutdown_timeout` to end.
    ///
    /// # Errors
    /// If the matcher of a rule is none.
    pub fn disk(&self, settings: &Settings) -> Result<DiskOptions, Invalid> {
        let mut rules: Vec<Rule> =
            self.rules.iter().map(|it| it.to_rule(settings)).collect::<Result<_, _>>()?;
        if settings.mercure.subscriptions {
            rules.insert(0, rule_of_subscriptions(settings));
        }
        let publish = &settings.publish;
        Ok(DiskOptions {
            // So that all that is said of it names it in full, and a working directory that moves is seen.
            path: std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone()),
            durability: match self.durability {
                DurabilityKind::Sync => Durability::Sync,
                DurabilityKind::Interval => Durability::Interval(self.sync_interval),
            },
            slow_commit: self.slow_commit,
            cache_bytes: self.cache_bytes,
            readers: self.readers,
            patience: settings.server.shutdown_timeout,
            age: self.max_age,
            bytes: self.max_bytes as u64,
            events: self.max_events as u64,
            rules,
            remembered: self.remembered as u64,
            reply_age: publish.idempotency_retention,
            replies: publish.idempotency_keys as u64,
            reply_bytes: publish.idempotency_bytes as u64,
        })
    }

    /// Checks what no single key can tell, and says what is wrong.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), String> {
        if self.path.as_os_str().is_empty() {
            return Err("history.path names no directory".to_owned());
        }
        if self.sync_interval.is_zero() {
            return Err(
                "history.sync_interval is 0s; for a sync of each commit set history.durability = \"sync\""
                    .to_owned(),
            );
        }
        if self.slow_commit.is_zero() {
            return Err(
                "history.slow_commit is 0s, so no commit would be quick enough; the default is 2s"
                    .to_owned(),
            );
        }
        if self.store == StoreKind::Memory && !self.rules.is_empty() {
            return Err("history.rules are for history.store = \"disk\"".to_owned());
        }
        if Self::MOST_RULES < self.rules.len() {
            return Err(format!("history.rules has more than {} rules", Self::MOST_RULES));
        }
        for rule in &self.rules {
            rule.to_rule(settings)
                .map_err(|invalid| format!("history.rules: `{}`: {invalid}", rule.topic))?;
            if rule.max_events_per_topic == Some(0) {
                return Err(format!(
                    "history.rules: `{}`: max_events_per_topic is 0; it has to be at least 1",
                    rule.topic
                ));
            }
        }
        Ok(())
    }
}

/// The rule of the hub's own events of subscriptions, before all others.
fn rule_of_subscriptions(settings: &Settings) -> Rule {
    /// An event with a small payload.
    const BYTES: u64 = 1024;
    Rule {
        name: "mercure.subscriptions".to_owned(),
        interest: Arc::new(subscriptions::interest(settings)),
        age: None,
        events_per_topic: None,
        bytes: Some(settings.mercure.subscription_events as u64 * BYTES),
    }
}

impl RuleSettings {
    fn to_rule(&self, settings: &Settings) -> Result<Rule, Invalid> {
        let (hub_url, limits) = (settings.server.hub_url(), settings.limits.matcher_limits());
        let matcher = Matcher::parse(MatcherKind::Selector, &self.topic, &hub_url, &limits)?;
        Ok(Rule {
            name: self.topic.clone(),
            interest: Arc::new(Interest::new(Matchers::new([matcher]), None, Rights::Everything)),
            age: self.max_age,
            events_per_topic: self.max_events_per_topic,
            bytes: self.max_bytes.map(|it| it as u64),
        })
    }
}
