//! The lanes of updates.

use super::EventType;

/// What an update is. A lane has its own part of the history, with limits of its own, and its own
/// audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Updates of publishers and of jobs.
    Ordinary,
    /// Updates that announce the begin or the end of a subscription. Only the hub publishes these.
    Subscriptions,
    /// Updates on the topics that belong to single clients.
    Clients,
    /// Changes of the state of topics.
    State,
    /// Updates of the nodes for each other.
    Nodes,
}

/// The subscribers that an update may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Those with a matcher for it, within their rights.
    Matching,
    /// The client that owns one of its topics.
    Owner,
    /// None.
    Nodes,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 5] =
        [Self::Ordinary, Self::Subscriptions, Self::Clients, Self::State, Self::Nodes];

    /// The subscribers that updates of this lane may reach.
    pub(crate) fn audience(self) -> Audience {
        match self {
            Self::Ordinary | Self::Subscriptions | Self::State => Audience::Matching,
            Self::Clients => Audience::Owner,
            Self::Nodes => Audience::Nodes,
        }
    }

    /// The name in stored and exported events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Subscriptions => "subscriptions",
            Self::Clients => "clients",
            Self::State => "state",
            Self::Nodes => "nodes",
        }
    }

    /// Returns the lane of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == name)
    }

    /// The lane of an update that an earlier version stored, with the type only. Publishers cannot
    /// use the type of the hub's own updates.
    #[must_use]
    pub fn of_stored(kind: Option<&EventType>) -> Self {
        match kind.map(EventType::as_str) {
            Some(EventType::SUBSCRIPTION) => Self::Subscriptions,
            _ => Self::Ordinary,
        }
    }
}
