//! A gap: events that a subscriber wanted and cannot get.

use crate::{event::Position, history::Missing};

/// Events that cannot be served. The subscriber gets everything after them that the history still
/// has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The cursor as the client sent it, or a cursor token for the beginning of the gap.
    pub cursor: String,
    /// Why the events are missing.
    pub missing: Missing,
    /// The position after which the subscriber is served.
    pub after: Position,
}
