//! What happened: the ordered log of accepted updates.
//!
//! Batches come in, each committed as a whole and given positions that only grow; pages of events go out, found by
//! interest. One writer (the [`Sequencer`]) calls [`History::commit`]; anybody may read. A history says what it has
//! lost, but never decides what a subscriber should be told about it.
//!
//! Beside the events a batch may have records, of which the history knows nothing but their shelf and key: a change of
//! a job and the event that tells of it are one batch, so after a crash both are there or neither is.

pub(crate) mod disk;
mod hash;
mod lost;
mod memory;
mod parts;
mod sequencer;
mod token;

use std::{pin::Pin, sync::Arc};

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;

pub use self::{
    disk::{Disk, DiskError, DiskOptions, Durability, Rule, store},
    memory::{Memory, Retention},
    sequencer::{PublishError, Sequencer},
    token::TokenKey,
};
use crate::{
    event::{Event, EventId, Position, Update},
    hub::{Interest, Rights},
};

/// Events of one id that are looked at for one that a subscriber may know of, so that many under one id do not hold up others.
const SAME_ID: usize = 64;

/// What is written at once, wholly or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// The updates in the order in which they become events.
    pub updates: Vec<Update>,
    /// What is kept beside them.
    pub records: Vec<Record>,
    /// Replies to requests with a key, to be found again by it.
    pub replies: Vec<KeyedReply>,
}

impl Batch {
    /// Takes in what is to be written behind it.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.updates.append(&mut other.updates);
        self.records.append(&mut other.records);
        self.replies.append(&mut other.replies);
    }
}

impl From<Vec<Update>> for Batch {
    fn from(updates: Vec<Update>) -> Self {
        Self { updates, ..Self::default() }
    }
}

/// Something that is kept beside the events until it is taken away. A history that does not outlive its process keeps
/// no records: whoever writes them has them in memory as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// With what it is kept.
    pub shelf: Shelf,
    /// Its name there.
    pub key: Box<[u8]>,
    /// What is kept; `None` takes it away.
    pub value: Option<Box<[u8]>>,
}

/// What records are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// Jobs, without what never changes and without their logs.
    Jobs,
    /// What a job was created with.
    JobPayloads,
    /// Pieces of the logs of jobs.
    JobLogs,
    /// Jobs that were there once.
    JobTombstones,
}

impl Shelf {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Jobs, Self::JobPayloads, Self::JobLogs, Self::JobTombstones];
}

/// The reply to a request, under the key that its sender gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedReply {
    /// The key.
    pub key: String,
    /// What was asked and what was answered, in the words of who keeps it.
    pub value: Box<[u8]>,
}

/// How much one page may hold. It has at least one event if there is one, or else it tells how far it has looked.
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
    /// Whether events that the interest covers may have been trimmed behind the cursor.
    pub torn: Option<Torn>,
}

/// Where a page may lack events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Up to here nothing is left.
    pub begins: Position,
    /// Grows with what is missing, so that nobody is told twice of the same.
    pub n_dropped: u64,
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
    /// With the events accepted at this time or later.
    Since(Timestamp),
}

/// A search for the newest events that an interest covers. It goes backwards in steps, each of which looks at a bounded
/// number of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Events that are still to be found.
    pub missing: usize,
    /// Everything behind this position has been looked at.
    pub after: Position,
    /// Events that were looked at.
    pub n_looked_at: usize,
    /// Events that are looked at at most.
    pub bound: usize,
    /// Whether nothing is left to look at.
    pub is_over: bool,
}

impl Search {
    /// A search for `count` events, among the newest `bound` of a history whose newest event is at `last`.
    #[must_use]
    pub fn new(count: usize, last: Position, bound: usize) -> Self {
        Self { missing: count, after: last, n_looked_at: 0, bound, is_over: count == 0 }
    }

    /// Whether it has to end, although there is more to look at.
    #[must_use]
    pub fn is_at_bound(&self) -> bool {
        !self.is_over && self.bound <= self.n_looked_at
    }

    /// Whether the step has to end here.
    fn has_to_rest(&self, meter: &Meter) -> bool {
        self.is_over || self.is_at_bound() || meter.is_spent()
    }

    /// Notes that the event at `position` was looked at.
    fn note(&mut self, position: Position, is_covered: bool) {
        self.n_looked_at += 1;
        self.after = Position(position.0.saturating_sub(1));
        self.missing -= usize::from(is_covered);
        self.is_over = self.missing == 0;
    }
}

/// Bounds what one page or step of a search tests, so that it takes some milliseconds at most, whatever is asked for. It
/// counts each topic of an event, the more the more patterns the topic is tested against.
#[derive(Debug)]
pub(crate) struct Meter {
    left: usize,
    per_topic: usize,
    per_private_topic: usize,
}

impl Meter {
    /// A full one, for events that are looked at for `interest`.
    pub(crate) fn new(interest: &Interest) -> Self {
        const FULL: usize = 4096;
        const PATTERNS: usize = 4;
        let n_patterns = interest.matchers().patterns().len();
        let n_grants = match interest.rights() {
            Rights::Of(grants) => grants.patterns().len(),
            Rights::PublicOnly | Rights::Everything => 0,
        };
        Self {
            left: FULL,
            per_topic: 1 + n_patterns / PATTERNS,
            per_private_topic: 1 + (n_patterns + n_grants) / PATTERNS,
        }
    }

    /// Notes that an event is looked at. At least one always may be.
    pub(crate) fn spend(&mut self, update: &Update) {
        let per_topic = if update.private { self.per_private_topic } else { self.per_topic };
        self.left = self.left.saturating_sub(update.topics.len() * per_topic);
    }

    /// Whether it is time for others.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }
}

/// Why something cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The cursor names nothing that this history knows.
    Unknown,
    /// The history has dropped events that the subscriber may have wanted.
    Trimmed,
    /// The search for the newest events ended after it had looked at this many.
    Searched(usize),
}

/// A start, looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// What is served comes after this position.
    pub after: Position,
    /// What cannot be served, if anything.
    pub missing: Option<Missing>,
    /// [`Torn::n_dropped`] now: what was dropped so far is told by `missing`, or was not asked for.
    pub n_dropped: u64,
}

/// Why the history cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// Nothing was read, or nothing was stored.
    #[error("the history is not available: {0}")]
    Unavailable(String),
    /// The commit failed at a point where it may have reached the disk or not.
    #[error("it is not known whether the history has stored it: {0}")]
    Unknown(String),
}

/// The answer of a history, which may have to come from a disk or from another machine.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HistoryError>> + Send>>;

/// The ordered log of events.
pub trait History: Send + Sync + std::fmt::Debug {
    /// Makes events of a batch, all or none, at consecutive positions. Only the sequencer calls this, one batch after
    /// the other, and unless it [commits at once](History::commits_at_once) on a thread of its own, so it may block.
    ///
    /// # Errors
    /// If nothing of the batch was stored, or nobody knows.
    fn commit(&self, batch: Batch) -> Result<Vec<Arc<Event>>, HistoryError>;

    /// Whether [`History::commit`] takes so little time that publishers can do it themselves.
    fn commits_at_once(&self) -> bool;

    /// The events behind `after` that `interest` covers, oldest first, as many as `budget` allows.
    fn read_after(&self, after: Position, interest: &Arc<Interest>, budget: Budget)
    -> Answer<Page>;

    /// Looks up where a subscriber begins.
    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located>;

    /// The next step of a search for the newest events that `interest` covers. Each step is short, and holds up nothing.
    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search>;

    /// The reply that was stored under a key, if it is still there.
    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>>;

    /// Everything on a shelf, in the order of keys; blocks.
    ///
    /// # Errors
    /// If it cannot be read.
    fn records(&self, shelf: Shelf) -> Result<Vec<Record>, HistoryError>;

    /// Whether what is committed is there after the end of the process.
    fn outlives_process(&self) -> bool;

    /// A small part of what is to be done now and then: drops what the retention no longer covers, syncs, mends. The
    /// sequencer calls this, on its thread. Returns whether there is more to do at once.
    fn tend(&self) -> bool;

    /// How many events were read from where it takes time.
    fn n_read(&self) -> u64;

    /// What is wrong, if updates cannot be stored now.
    fn trouble(&self) -> Option<String>;

    /// How long commits have taken, where that is worth knowing.
    fn commit_times(&self) -> Option<Histogram> {
        None
    }

    /// Ends it: everything is synced, and nothing can be read or written any more. Others may then open the store.
    fn close(&self);

    /// The position of the newest event, or [`Position::START`].
    fn last(&self) -> Position;

    /// What keys the cursor tokens of this store.
    fn token_key(&self) -> &TokenKey;
}
