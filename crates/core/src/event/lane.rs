//! The lanes of updates.

use super::EventType;

/// The part of the history that an update belongs to. Each part has its own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Updates of publishers and of jobs.
    Ordinary,
    /// Updates that announce the begin or the end of a subscription. Only the hub publishes these.
    Subscriptions,
}

impl Lane {
    /// The lane of a stored update with this type. Stores keep the type, not the lane. Publishers
    /// cannot use the type of the other lane.
    #[must_use]
    pub fn of_stored(kind: Option<&EventType>) -> Self {
        match kind.map(EventType::as_str) {
            Some(EventType::SUBSCRIPTION) => Self::Subscriptions,
            _ => Self::Ordinary,
        }
    }
}
