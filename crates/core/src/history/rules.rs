//! The parts of a history and their limits: which there are, and which one an update belongs to.
//!
//! The histories in memory and on disk both sort by this, so that they keep the same.

use std::{sync::Arc, time::Duration};

use crate::{
    event::{Lane, Update},
    matching::Interest,
};

/// How long the events of clients and of nodes are kept: longer than any reconnection takes.
const SHORT: Duration = Duration::from_mins(5);

/// The limits of one part of the history. Exceeding one drops its oldest events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartLimits {
    /// The time since acceptance; `None` is that of the whole history.
    pub age: Option<Duration>,
    /// The number of events.
    pub events: Option<u64>,
    /// The number of newest events to keep per topic. An event counts for its first topic.
    pub events_per_topic: Option<u64>,
    /// The byte limit for all events of this part.
    pub bytes: Option<u64>,
}

/// The retention of some topics.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The matcher, as it was written.
    pub name: String,
    /// Selects the events that have a matching topic.
    pub interest: Arc<Interest>,
    /// The limits of these events. Absent ones are those of all ordinary events.
    pub limits: PartLimits,
}

/// The limits of the lanes of the hub's own events. They evict no events of publishers and jobs,
/// nor those of each other.
#[derive(Debug, Clone, Default)]
pub struct LaneLimits {
    /// Of [`Lane::Subscriptions`].
    pub subscriptions: PartLimits,
    /// Of [`Lane::Clients`].
    pub clients: PartLimits,
    /// Of [`Lane::State`].
    pub state: PartLimits,
    /// Of [`Lane::Nodes`].
    pub nodes: PartLimits,
}

impl LaneLimits {
    /// The limits beside a history that keeps `bytes` of ordinary events. At most
    /// `subscription_events` are kept of subscriptions.
    #[must_use]
    pub fn beside(bytes: u64, subscription_events: u64) -> Self {
        let share = |parts: u64| PartLimits { bytes: Some(bytes / parts), ..PartLimits::default() };
        Self {
            subscriptions: PartLimits { events: Some(subscription_events), ..share(4) },
            clients: PartLimits { age: Some(SHORT), ..share(16) },
            state: share(4),
            nodes: PartLimits { age: Some(SHORT), ..share(16) },
        }
    }
}

/// Divides a history into parts: one for each rule, one for all other ordinary events, and one for
/// each further lane.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// The ordinary events that no rule is for. The whole history limits them.
    rest: PartLimits,
    lanes: LaneLimits,
}

/// The limits of a part, with those of the whole history filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Microseconds.
    age: i64,
    events: u64,
    bytes: u64,
}

impl Bounds {
    /// Whether a part with this many events and bytes must drop its oldest event, which was
    /// accepted `age` microseconds ago.
    pub(super) fn are_exceeded(&self, events: u64, bytes: u64, age: i64) -> bool {
        self.age < age || self.events < events || self.bytes < bytes
    }
}

impl Rules {
    /// The lanes with a part of their own, in the order of their parts.
    const LANES: [Lane; 4] = [Lane::Subscriptions, Lane::Clients, Lane::State, Lane::Nodes];

    /// Creates the division by `rules`, of which the first that matches an event applies.
    #[must_use]
    pub fn new(rules: Vec<Rule>, lanes: LaneLimits) -> Self {
        Self { rules, rest: PartLimits::default(), lanes }
    }

    /// The number of parts.
    pub(super) fn n_parts(&self) -> usize {
        self.rules.len() + 1 + Self::LANES.len()
    }

    /// The number of the part of an update. Rules are for ordinary events only.
    pub(super) fn part_of(&self, update: &Update) -> usize {
        let is_for = |rule: &Rule| update.topics.iter().any(|topic| rule.interest.matches(topic));
        let rest = self.rules.len();
        match update.lane {
            Lane::Ordinary => self.rules.iter().position(is_for).unwrap_or(rest),
            Lane::Subscriptions => rest + 1,
            Lane::Clients => rest + 2,
            Lane::State => rest + 3,
            Lane::Nodes => rest + 4,
        }
    }

    /// The lane of the events of a part.
    pub(super) fn lane(&self, part: usize) -> Lane {
        let further = part.checked_sub(self.rules.len() + 1);
        further.and_then(|it| Self::LANES.get(it)).copied().unwrap_or(Lane::Ordinary)
    }

    /// Whether the limits of the whole history apply to all events of a part together with others.
    pub(super) fn is_ordinary(&self, part: usize) -> bool {
        self.lane(part) == Lane::Ordinary
    }

    /// The limits of a part.
    pub(super) fn limits(&self, part: usize) -> &PartLimits {
        match self.lane(part) {
            Lane::Ordinary => self.rules.get(part).map_or(&self.rest, |rule| &rule.limits),
            Lane::Subscriptions => &self.lanes.subscriptions,
            Lane::Clients => &self.lanes.clients,
            Lane::State => &self.lanes.state,
            Lane::Nodes => &self.lanes.nodes,
        }
    }

    /// The bounds of a part in a history whose events are kept for `age`.
    pub(super) fn bounds(&self, part: usize, age: Duration) -> Bounds {
        let limits = self.limits(part);
        let age = limits.age.unwrap_or(age);
        Bounds {
            age: i64::try_from(age.as_micros()).unwrap_or(i64::MAX),
            events: limits.events.unwrap_or(u64::MAX),
            bytes: limits.bytes.unwrap_or(u64::MAX),
        }
    }

    /// The longest time that an event of any part is kept in a history that keeps events for `age`.
    pub(super) fn longest_age(&self, age: Duration) -> Duration {
        let ages = (0..self.n_parts()).map(|part| self.limits(part).age.unwrap_or(age));
        ages.max().unwrap_or(age)
    }

    /// A fingerprint that differs between rules that sort events differently.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let of_rule = |rule: &Rule| format!("{:?} {:?}\n", rule.name, rule.limits.events_per_topic);
        let rules = self.rules.iter().map(of_rule);
        let lanes = Self::LANES.map(|lane| format!("lane {}\n", lane.as_str()));
        rules.chain(lanes).collect::<String>().into_bytes()
    }
}
