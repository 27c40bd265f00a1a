//! What happened: the ordered log of accepted updates.
//!
//! Batches come in, each committed as a whole and given positions that only grow; pages of events go out, found by
//! interest. One writer (the [`Sequencer`]) calls [`History::commit`]; anybody may read. A history says what it has
//! lost, but never decides what a subscriber should be told about it.

mod lost;
mod memory;
mod parts;
mod sequencer;
mod token;

use std::{pin::Pin, sync::Arc};

use jiff::Timestamp;

pub use self::{
    memory::{Memory, Retention},
    sequencer::{PublishError, Sequencer},
    token::TokenKey,
};
use crate::{
    event::{Event, EventId, Position, Update},
    hub::Interest,
};

/// What is written at once, wholly or not at all.
#[derive(Debug)]
pub struct Batch {
    /// The updates in the order in which they become events.
    pub updates: Vec<Update>,
}

/// How much one page may hold; a page has at least one event if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Events.
    pub events: usize,
    /// Bytes, as [`Event::weight`] counts them.
    pub bytes: usize,
}

/// A part of the history, as one subscriber may see it.
#[derive(Debug)]
pub struct Page {
    /// The events, in order.
    pub events: Vec<Arc<Event>>,
    /// The position up to which this page tells everything.
    pub scanned_to: Position,
    /// Whether the history goes on behind `scanned_to`.
    pub more: bool,
    /// Where what is left begins, if events that the interest covers may have been trimmed behind the cursor.
    pub torn: Option<Position>,
}

/// Where a subscriber wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Now,
    /// With the oldest event there is.
    Earliest,
    /// Behind a position that a cursor token named.
    Position(Position),
    /// Behind the event with this id; the first of them if there are several.
    Id(EventId),
    /// Behind something that cannot be an event of this history.
    Unknown,
    /// With the newest events, this many of those that the interest covers.
    Last(usize),
    /// With the events accepted at this time or later.
    Since(Timestamp),
}

/// Why something cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The cursor names nothing that this history knows.
    Unknown,
    /// The history has dropped events that the subscriber may have wanted.
    Trimmed,
}

/// A start, looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// What is served comes after this position.
    pub after: Position,
    /// What cannot be served, if anything.
    pub missing: Option<Missing>,
}

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the history is not available: {0}")]
pub struct HistoryError(pub String);

/// The answer of a history, which may have to come from a disk or from another machine.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HistoryError>> + Send>>;

/// The ordered log of events.
pub trait History: Send + Sync + std::fmt::Debug {
    /// Makes events of a batch, all or none, at consecutive positions. Only the sequencer calls this, one batch after
    /// the other, and unless it [commits at once](History::commits_at_once) on a thread of its own, so it may block.
    ///
    /// # Errors
    /// If nothing of the batch was stored.
    fn commit(&self, batch: Batch) -> Result<Vec<Arc<Event>>, HistoryError>;

    /// Whether [`History::commit`] takes so little time that publishers can do it themselves.
    fn commits_at_once(&self) -> bool;

    /// The events behind `after` that `interest` covers, oldest first, as many as `budget` allows.
    fn read_after(&self, after: Position, interest: &Arc<Interest>, budget: Budget)
    -> Answer<Page>;

    /// Looks up where a subscriber begins.
    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located>;

    /// Drops what the retention no longer covers; called now and then by the sequencer.
    fn trim(&self);

    /// The position of the newest event, or [`Position::START`].
    fn last(&self) -> Position;

    /// What keys the cursor tokens of this store.
    fn token_key(&self) -> &TokenKey;
}
