//! What a subscriber missed: pages of the history on their way to it.

use std::sync::Arc;

use crate::{
    event::{Event, Position},
    history::{Budget, Missing, Page, TokenKey},
};

/// What is read from the history at a time, and so the most that a slow subscriber pins.
pub(super) const PAGE: Budget = Budget { events: 64, bytes: 16 * 1024 };

/// What cannot be served; everything that the history still has follows instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The cursor in the subscriber's own words, or a token for where the gap begins.
    pub cursor: String,
    /// Why.
    pub missing: Missing,
    /// Where it goes on.
    pub after: Position,
}

/// A page as a subscriber gets it.
pub(super) struct Leg {
    /// What it has to be told first.
    pub(super) gap: Option<Gap>,
    /// Where it begins.
    pub(super) after: Position,
    /// The events, in order.
    pub(super) events: Vec<Arc<Event>>,
    /// The position up to which it tells everything.
    pub(super) scanned_to: Position,
}

impl Leg {
    /// What of `page` a subscriber at `cursor` gets in a shard that has come to `position`: what is behind that is
    /// served from the tail. `told` is the [`Torn::n_dropped`](crate::history::Torn) of what it was told of.
    pub(super) fn new(
        page: Page,
        cursor: Position,
        position: Position,
        told: &mut u64,
        key: &TokenKey,
    ) -> Self {
        let Page { mut events, scanned_to, torn, .. } = page;
        let after = torn.map_or(cursor, |torn| torn.begins.max(cursor));
        // One notice stands for everything that was missing when it was given.
        let untold = torn.filter(|torn| *told < torn.n_dropped);
        let gap = untold.map(|torn| {
            *told = torn.n_dropped;
            Gap { cursor: key.seal(cursor), missing: Missing::Trimmed, after }
        });
        let served = events.partition_point(|event| event.position <= position);
        events.truncate(served);
        Self { gap, after, events, scanned_to: scanned_to.min(position).max(after) }
    }
}
