//! `[history]`: what is kept, where, and for how long.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tidegate_core::{
    event::Invalid,
    history::{
        DiskOptions, Durability, LaneLimits, PartLimits, Retention, Rule, Rules, SharedOptions,
    },
    matching::{Interest, Matcher, MatcherKind, Matchers, Rights},
};

use super::{
    Settings,
    units::{duration, optional_duration, optional_size, size},
};

/// `[history]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistorySettings {
    /// Where events and jobs are kept.
    pub store: StoreKind,
    /// The directory of the store on disk.
    pub path: PathBuf,
    /// When an acknowledged update is safe.
    pub durability: DurabilityKind,
    /// The time between two syncs, if not every commit is synced.
    #[serde(with = "duration")]
    pub sync_interval: Duration,
    /// Commit time above which the gateway is not ready.
    #[serde(with = "duration")]
    pub slow_commit: Duration,
    /// Bytes of the store on disk that are cached in memory.
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
    /// Ids and topics of dropped events that are remembered, so that late subscribers learn what
    /// they missed.
    pub remembered: usize,
    /// Limits for some topics. The first matching rule applies.
    pub rules: Vec<RuleSettings>,
}

/// Where events and jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In a directory, where they survive a crash.
    Disk,
    /// In memory, where they are lost with the process.
    Memory,
    /// In a log in Redis that several gateways share.
    Redis,
}

/// When an acknowledged update is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityKind {
    /// At the acknowledgement.
    Sync,
    /// A while after it.
    Interval,
}

/// `[[history.rules]]`: one matcher, and limits. An omitted limit has the value of `[history]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// A topic, or `*` for all but those of jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A URL pattern for topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_urlpattern: Option<String>,
    /// A URI template for topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_uritemplate: Option<String>,
    /// Age up to which events are kept.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// The most events kept of each topic, the newest. An event counts for its first topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_events_per_topic: Option<u64>,
    /// Bytes kept of all events that the rule applies to.
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
    /// The most rules; each is tested for every event.
    const MOST_RULES: usize = 64;

    /// Settings that keep everything in memory, where it is lost with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { store: StoreKind::Memory, ..Self::default() }
    }

    /// The bounds of a history in memory.
    #[must_use]
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            bytes: self.memory_bytes,
            events: self.max_events,
            age: self.max_age.try_into().unwrap_or(jiff::SignedDuration::MAX),
            remembered: self.remembered,
        }
    }

    /// The parts of the history, whose ordinary events have at most `bytes`.
    ///
    /// # Errors
    /// If the matcher of a rule is malformed.
    pub(crate) fn rules(&self, bytes: usize, settings: &Settings) -> Result<Rules, Invalid> {
        let of_topics = settings.topics.iter().filter_map(super::TopicSettings::rule);
        let rules = self.rules.iter().cloned().chain(of_topics);
        let rules = rules.map(|it| it.to_rule(settings)).collect::<Result<_, _>>()?;
        let events = settings.mercure.subscription_events as u64;
        Ok(Rules::new(rules, LaneLimits::beside(bytes as u64, events)))
    }

    /// Converts these history settings, which belong to `settings`, to the options of a store on
    /// disk. The store waits up to `server.shutdown_timeout` for the previous gateway to stop.
    ///
    /// # Errors
    /// If the matcher of a rule is malformed.
    pub(crate) fn disk(&self, settings: &Settings) -> Result<DiskOptions, Invalid> {
        Ok(DiskOptions {
            // Absolute, so that messages name it in full, and a moved working directory is noticed.
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
            rules: self.rules(self.max_bytes, settings)?,
            remembered: self.remembered as u64,
            replies: settings.publish.reply_limits(),
        })
    }

    /// Converts the settings to the options of a log in Redis.
    ///
    /// # Errors
    /// If a matcher of a rule is malformed, or a file of `[cluster]` cannot be read.
    pub(crate) fn shared(&self, settings: &Settings) -> Result<SharedOptions, String> {
        let cluster = &settings.cluster;
        let rules = self.rules(self.memory_bytes, settings).map_err(|it| it.to_string())?;
        Ok(SharedOptions {
            address: cluster.address().map_err(|error| format!("cluster.redis {error}"))?,
            credentials: cluster.credentials()?,
            hub: cluster.hub.clone(),
            name: cluster.node_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log: cluster.log.clone(),
            replicas_acked: cluster.replicas_acked,
            commit_timeout: cluster.commit_timeout,
            recovery_wait: cluster.recovery_wait,
            lease: cluster.lease,
            ring_bytes: cluster.ring_bytes,
            unready_after: cluster.unready_after,
            retention: self.retention(),
            rules,
            reply_age: settings.publish.idempotency_retention,
        })
    }

    /// Checks rules that concern several keys. Returns what is wrong.
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
        if Self::MOST_RULES < self.rules.len() {
            return Err(format!("history.rules has more than {} rules", Self::MOST_RULES));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let n_matchers = rule.matchers().count();
            if n_matchers != 1 {
                let keys = RuleSettings::KINDS.map(|kind| format!("`{}`", kind.field())).join(", ");
                return Err(format!(
                    "history.rules[{at}] has {n_matchers} of the keys {keys}; a rule needs exactly one"
                ));
            }
            rule.to_rule(settings).map_err(|invalid| format!("history.rules[{at}]: {invalid}"))?;
            if rule.max_events_per_topic == Some(0) {
                return Err(format!(
                    "history.rules[{at}]: max_events_per_topic is 0; it has to be at least 1"
                ));
            }
        }
        Ok(())
    }
}

impl RuleSettings {
    /// The kinds of matchers; each has the key [`MatcherKind::field`].
    const KINDS: [MatcherKind; 3] =
        [MatcherKind::Selector, MatcherKind::UrlPattern, MatcherKind::UriTemplate];

    /// The matchers with their kinds. A valid rule has one.
    fn matchers(&self) -> impl Iterator<Item = (MatcherKind, &str)> {
        let values = [&self.topic, &self.match_urlpattern, &self.match_uritemplate];
        let given = Self::KINDS.into_iter().zip(values);
        given.filter_map(|(kind, value)| Some((kind, value.as_deref()?)))
    }

    fn to_rule(&self, settings: &Settings) -> Result<Rule, Invalid> {
        let (hub_url, limits) = (settings.server.hub_url(), settings.limits.matcher_limits());
        let (kind, value) = self.matchers().next().ok_or(Invalid::Missing { field: "topic" })?;
        let matcher = Matcher::parse(kind, value, &hub_url, &limits)?;
        Ok(Rule {
            name: format!("{} {value}", kind.field()),
            interest: Arc::new(Interest::new(Matchers::new([matcher]), None, Rights::Everything)),
            limits: PartLimits {
                age: self.max_age,
                events: None,
                events_per_topic: self.max_events_per_topic,
                bytes: self.max_bytes.map(|it| it as u64),
            },
        })
    }
}
