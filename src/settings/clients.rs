//! `[clients]` and `[[topics]]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{
    event::Invalid,
    matching::{Matcher, MatcherKind, Matchers},
};

use super::{
    RuleSettings, Settings,
    units::{duration, optional_duration, size},
};

/// `[clients]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// How long a client without a stream lives. One that polls lives for `poll.session_lease` if
    /// that is longer.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Actions a second of one client.
    pub actions_per_second: u32,
    /// Actions of one client at once.
    pub burst: u32,
    /// Actions a second of all clients at one address. Loopback and trusted proxies do not count.
    pub actions_per_second_per_address: u32,
    /// The most actions in one request.
    pub actions: usize,
    /// The most bytes of one request.
    #[serde(with = "size")]
    pub request_bytes: usize,
    /// The most bytes of a message's data.
    #[serde(with = "size")]
    pub message_bytes: usize,
    /// The most topics that one client has joined.
    pub topics: usize,
    /// The most clients without a stream. The one that ends first makes room for another.
    pub waiting: usize,
    /// The most clients from one address.
    pub per_address: usize,
    /// The topic that each client of a user joins by itself, with `{user}` for the user; `""` for
    /// none.
    pub user_topic: String,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            actions_per_second: 50,
            burst: 100,
            actions_per_second_per_address: 2000,
            actions: 100,
            request_bytes: 64 << 10,
            message_bytes: 16 << 10,
            topics: 100,
            waiting: 10_000,
            per_address: 2_000,
            user_topic: String::new(),
        }
    }
}

/// Who may do something with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// Every client.
    Anyone,
    /// Clients with a grant of their access token.
    Granted,
    /// The server and backends only.
    Server,
}

/// `[[topics]]`: what clients may do with the topics that a URL pattern matches. The first row that
/// matches a topic counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// The URL pattern.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Who may join. By default anyone in development mode, else those with a subscribe grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Who>,
    /// Who may send. By default anyone in development mode, else those with a publish grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<Who>,
    /// Who may change the state, with the same defaults as `send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Who>,
    /// Who may be a member, with the same defaults as `join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Who>,
    /// Whether messages and changes are private.
    #[serde(default)]
    pub private: bool,
    /// Whether events tell which client sent them.
    #[serde(default = "yes")]
    pub tell_from: bool,
    /// How long events are kept; the age of `[history]` by default.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub keep: Option<Duration>,
    /// How long the state is kept after its last change; for ever by default.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

fn yes() -> bool {
    true
}

impl TopicSettings {
    /// The most rows; each is tested for every topic.
    const MOST: usize = 64;

    /// The topics that the row is about.
    ///
    /// # Errors
    /// If the pattern is malformed.
    pub(crate) fn matchers(&self, settings: &Settings) -> Result<Matchers, Invalid> {
        let (hub_url, limits) = (settings.server.hub_url(), settings.limits.matcher_limits());
        let pattern = Matcher::parse(MatcherKind::UrlPattern, &self.pattern, &hub_url, &limits)?;
        Ok(Matchers::new([pattern]))
    }

    /// The rule for the history, if the row has one.
    pub(super) fn rule(&self) -> Option<RuleSettings> {
        let match_urlpattern = Some(self.pattern.clone());
        self.keep.map(|keep| RuleSettings {
            match_urlpattern,
            max_age: Some(keep),
            ..RuleSettings::default()
        })
    }

    /// Checks the table. Returns what is wrong.
    pub(super) fn check_all(settings: &Settings) -> Result<(), String> {
        if Self::MOST < settings.topics.len() {
            return Err(format!("topics has more than {} rows", Self::MOST));
        }
        for (at, row) in settings.topics.iter().enumerate() {
            row.matchers(settings).map_err(|invalid| format!("topics[{at}]: {invalid}"))?;
            let is_same = |rule: &RuleSettings| {
                let matchers = [&rule.topic, &rule.match_urlpattern, &rule.match_uritemplate];
                matchers.into_iter().any(|it| it.as_deref() == Some(&*row.pattern))
            };
            let same = settings.history.rules.iter().position(is_same);
            if let (Some(rule), true) = (same, row.keep.is_some()) {
                return Err(format!(
                    "topics[{at}] has `keep`, and history.rules[{rule}] bounds the same topics; one of them is enough"
                ));
            }
        }
        Ok(())
    }
}
