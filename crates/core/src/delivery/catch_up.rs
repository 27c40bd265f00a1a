//! Events that a subscriber missed: pages of the history on their way to it.

use std::sync::Arc;

use crate::{
    event::{Event, Position},
    history::{Budget, CursorKey, Missing, Page},
    transport::Gap,
};

/// Size of a page read from the history, and so the most that a slow subscriber keeps in memory.
pub(super) const PAGE: Budget = Budget { events: 64, bytes: 16 * 1024 };

/// The part of a page that a subscriber gets.
pub(super) struct Leg {
    /// A gap to report first.
    pub(super) gap: Option<Gap>,
    /// The position after which it begins.
    pub(super) after: Position,
    /// The events, in order.
    pub(super) events: Vec<Arc<Event>>,
    /// The position up to which it is complete.
    pub(super) scanned_to: Position,
}

impl Leg {
    /// The part of `page` for a subscriber at `cursor`, up to the shard's `position`: later events
    /// are served from the tail. `told` is the [`Torn::n_dropped`](crate::history::Torn) of the
    /// last reported gap.
    pub(super) fn new(
        page: Page,
        cursor: Position,
        position: Position,
        told: &mut u64,
        key: &CursorKey,
    ) -> Self {
        let Page { mut events, scanned_to, torn, .. } = page;
        let after = torn.map_or(cursor, |torn| torn.begins.max(cursor));
        // One notice covers everything that was missing when it was given.
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
