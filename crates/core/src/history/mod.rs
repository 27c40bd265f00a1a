//! The ordered log of accepted updates.
//!
//! Batches come in by [`History::submit`]; each is stored as a whole, or refused as a whole because
//! of a condition, and its events get growing positions. Every stored batch is announced in order
//! to the [follower](History::follow). Pages of events go out, selected by interest. A history
//! reports what it has lost, but never decides how a subscriber is notified.
//!
//! A batch may also have records, of which the history knows only the shelf, the key and the
//! revision. A job change and the event that announces it are one batch, so after a crash both are
//! present or neither is.

mod disk;
mod hash;
mod lost;
mod memory;
mod ordered;
mod part;
mod parts;
mod reach;
mod replies;
mod rules;
#[cfg(test)]
mod rules_tests;
mod sequencer;
mod shared;
#[cfg(test)]
mod tests;
mod token;

use std::{io, pin::Pin, sync::Arc};

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;

#[cfg(any(test, feature = "fuzzing"))]
pub use self::disk::codec::read_back;
pub(crate) use self::token::Seal;
pub use self::{
    disk::{Disk, DiskError, DiskOptions, Durability, store},
    memory::Memory,
    part::Retention,
    replies::ReplyLimits,
    rules::{LaneLimits, PartLimits, Rule, Rules},
    shared::{
        Address, AddressError, ClusterNode, ClusterStatus, Credentials, Shared, SharedMetrics,
        SharedOptions, Unsuitable,
    },
    token::CursorKey,
};
use crate::{
    event::{Event, EventId, Position, Update},
    matching::{Interest, Rights},
};

/// Events with one id that are examined for one the subscriber may know. This keeps many events
/// with the same id from delaying others.
const SAME_ID: usize = 64;

/// The unit of a submission: stored completely or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The updates, in the order in which they become events.
    pub updates: Vec<Update>,
    /// The records to write beside them. If the condition of one does not hold, nothing is stored.
    pub records: Vec<Write>,
    /// Replies to requests with a key, which finds them again. If one of the keys already has a
    /// reply, nothing is stored.
    pub replies: Vec<KeyedReply>,
}

impl From<Vec<Update>> for Batch {
    fn from(updates: Vec<Update>) -> Self {
        Self { updates, ..Self::default() }
    }
}

/// The outcome of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Everything was stored. The position is that of the last event, and the revision of the
    /// records.
    Stored(Position),
    /// Nothing was stored, because a key already has this reply.
    Already(Box<[u8]>),
    /// Nothing was stored, because a record has this revision instead of the expected one.
    /// [`Position::START`] means that there is no such record.
    Conflict(Position),
}

/// What a writer expects of a record before its own change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: the last writer wins.
    Any,
    /// No record under this key.
    Absent,
    /// The record as it was written at this revision.
    At(Position),
}

impl Expect {
    /// Checks the revision that a record has, if there is one.
    ///
    /// # Errors
    /// Returns the revision that a [`Committed::Conflict`] reports.
    fn check(self, found: Option<Position>) -> Result<(), Position> {
        let holds = match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::At(revision) => found == Some(revision),
        };
        if holds { Ok(()) } else { Err(found.unwrap_or(Position::START)) }
    }
}

/// A change of a record, and the condition under which it may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The record after the change.
    pub record: Record,
    /// The condition.
    pub expect: Expect,
}

/// A value stored beside the events until it is removed. A history that does not outlive its
/// process keeps only the revision, because those that write records also have them in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The shelf it is stored on.
    pub shelf: Shelf,
    /// Its key on that shelf.
    pub key: Box<[u8]>,
    /// The stored value; `None` removes it.
    pub value: Option<Box<[u8]>>,
}

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revised {
    /// The position of the submission that wrote it. Every submission that writes records has a
    /// position of its own, so no two states of a record have the same revision.
    pub revision: Position,
    /// The record.
    pub record: Record,
}

/// What a history has stored, as its [follower](History::follow) learns of it.
#[derive(Debug, Clone, Copy)]
pub struct Applied<'a> {
    /// The events, in the order of their positions, after those of all earlier calls.
    pub events: &'a [Arc<Event>],
    /// The written and removed records, in the order of their revisions.
    pub records: &'a [Revised],
    /// Set if the log was replaced or has lost events, to a position before everything that is
    /// announced from now on. What was announced before may no longer be in the history: readers
    /// begin anew, and [`History::records`] has the records.
    pub restarted: Option<Position>,
}

/// The function that learns of everything a history stores.
pub type Follower = Box<dyn FnMut(Applied<'_>) + Send>;

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// Jobs, without their immutable parts and their logs.
    Jobs,
    /// The input that a job was created with.
    JobPayloads,
    /// Parts of job logs.
    JobLogs,
    /// Jobs that existed once.
    JobTombstones,
    /// The unfinished jobs that have a type and key, by both.
    JobKeys,
    /// The state and the members of topics.
    State,
    /// The clients that are known by their keys.
    Clients,
}

impl Shelf {
    /// All shelves, in the order in which they were added.
    pub const ALL: [Self; 7] = [
        Self::Jobs,
        Self::JobPayloads,
        Self::JobLogs,
        Self::JobTombstones,
        Self::JobKeys,
        Self::State,
        Self::Clients,
    ];
}

/// The reply to a request, stored under the key that its sender chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedReply {
    /// The key.
    pub key: String,
    /// The request and its answer, in a format that only the writer of the reply knows.
    pub value: Box<[u8]>,
}

/// How much one page may hold. A page has at least one event if there is one, or else reports how
/// far it has scanned.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The number of events.
    pub events: usize,
    /// Bytes, as [`Event::weight`] counts them.
    pub bytes: usize,
}

/// A part of the history, as one subscriber may see it.
#[derive(Debug)]
pub struct Page {
    /// The events, in order.
    pub events: Vec<Arc<Event>>,
    /// The position up to which this page is complete.
    pub scanned_to: Position,
    /// Whether the history has more after `scanned_to`.
    pub more: bool,
    /// Set if events that the interest covers may have been trimmed after the cursor.
    pub torn: Option<Torn>,
}

/// A place where a page may lack events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// The position up to which all events have been trimmed.
    pub begins: Position,
    /// A count that grows with each dropped event, so that no subscriber is notified of the same
    /// gap twice.
    pub n_dropped: u64,
}

/// The place where a subscriber wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With new events only.
    Now,
    /// With the oldest event.
    Earliest,
    /// After a position from a cursor token.
    Position(Position),
    /// After the event with this id, the first one if there are several.
    Id(EventId),
    /// After something that cannot be an event of this history.
    Unknown,
    /// With the events accepted at this time or later.
    Since(Timestamp),
}

/// A backward search for the newest events that an interest covers. Each step examines a bounded
/// number of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// The number of events still to be found.
    pub missing: usize,
    /// Everything after this position has been examined.
    pub after: Position,
    /// The number of events examined so far.
    pub n_looked_at: usize,
    /// The most events to examine.
    pub bound: usize,
    /// Whether the search is complete.
    pub is_over: bool,
}

impl Search {
    /// Creates a search for `count` events, among the newest `bound` of a history whose newest
    /// event is at `last`.
    #[must_use]
    pub fn new(count: usize, last: Position, bound: usize) -> Self {
        Self { missing: count, after: last, n_looked_at: 0, bound, is_over: count == 0 }
    }

    /// Whether the search must stop at its bound, although there are more events.
    #[must_use]
    pub fn is_at_bound(&self) -> bool {
        !self.is_over && self.bound <= self.n_looked_at
    }

    /// Whether the step must end here.
    fn has_to_rest(&self, meter: &Meter) -> bool {
        self.is_over || self.is_at_bound() || meter.is_spent()
    }

    /// Notes that the event at `position` was examined.
    fn note(&mut self, position: Position, is_covered: bool) {
        self.n_looked_at += 1;
        self.after = Position(position.0.saturating_sub(1));
        self.missing -= usize::from(is_covered);
        self.is_over = self.missing == 0;
    }
}

/// A limit on the work for one page or search step, which keeps it to some milliseconds for any
/// interest. It counts each topic of an event, with more weight the more patterns are tested
/// against it.
#[derive(Debug)]
pub(crate) struct Meter {
    left: usize,
    per_topic: usize,
    per_private_topic: usize,
}

impl Meter {
    /// Creates a full meter for reading with `interest`.
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

    /// Counts an event. At least one event always fits.
    pub(crate) fn spend(&mut self, update: &Update) {
        let per_topic = if update.private { self.per_private_topic } else { self.per_topic };
        self.left = self.left.saturating_sub(update.topics.len() * per_topic);
    }

    /// Whether it is time to let other work run.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }
}

/// The reason why part of the history cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// This history does not know the cursor.
    Unknown,
    /// The history has dropped events that the subscriber may have wanted.
    Trimmed,
    /// The search for the newest events ended at its bound, after this many events.
    Searched(usize),
}

/// The result of looking up a [`Start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The position after which the subscriber is served.
    pub after: Position,
    /// What cannot be served, if anything.
    pub missing: Option<Missing>,
    /// The current [`Torn::n_dropped`]. Earlier drops are reported in `missing` or were not asked
    /// for.
    pub n_dropped: u64,
}

/// The reason why the history cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// Nothing was read or stored.
    #[error("the history is not available: {0}")]
    Unavailable(String),
    /// The commit failed and may or may not have reached the disk.
    #[error("it is not known whether the history has stored it: {0}")]
    Unknown(String),
    /// The history's writer has ended. Nothing was stored.
    #[error("the history's writer has ended")]
    Stopped,
}

/// The answer of a history, which may come from a disk or another machine.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HistoryError>> + Send>>;

/// The ordered log of events.
pub trait History: Send + Sync + std::fmt::Debug {
    /// Stores a batch, or refuses it because of a condition. A submitted batch is stored even if
    /// the caller drops the answer. The follower may learn of the batch before or after the caller
    /// does.
    ///
    /// The answer is an error if nothing was stored, or if the outcome is unknown.
    fn submit(&self, batch: Batch) -> Answer<Committed>;

    /// Waits until the follower has learned of everything that was stored before this call, by any
    /// process, and returns the newest position then. A caller that found nothing asks this before
    /// it says no, and looks again.
    fn current(&self) -> Answer<Position>;

    /// Announces every batch that is stored from now on to `follower`, in order and one at a time.
    /// May be called once. A history whose writer has a thread stores nothing before.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    fn follow(&self, follower: Follower) -> io::Result<()>;

    /// Returns the events after `after` that `interest` covers, oldest first, as many as `budget`
    /// allows.
    fn read_after(&self, after: Position, interest: &Arc<Interest>, budget: Budget)
    -> Answer<Page>;

    /// Looks up where a subscriber begins.
    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located>;

    /// Runs the next step of a search for the newest events that `interest` covers. Each step is
    /// short and delays no other work.
    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search>;

    /// Returns the reply stored under a key, if it is still kept.
    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>>;

    /// Returns everything on a shelf, in key order. Blocks.
    ///
    /// # Errors
    /// Fails if the shelf cannot be read.
    fn records(&self, shelf: Shelf) -> Result<Vec<Revised>, HistoryError>;

    /// Whether committed events survive the end of the process.
    fn outlives_process(&self) -> bool;

    /// The number of events read from slow storage.
    fn n_read(&self) -> u64;

    /// The reason why updates cannot be stored now, if there is one.
    fn trouble(&self) -> Option<String>;

    /// The reason why this process should get no requests, if there is one. A history that others
    /// serve as well is ready during a short trouble that concerns all of them.
    fn unready(&self) -> Option<String> {
        self.trouble()
    }

    /// The durations of commits, for a history where they matter.
    fn commit_times(&self) -> Option<Histogram> {
        None
    }

    /// Syncs and closes the history: nothing can be read or written any more. Other processes may
    /// then open the store.
    fn close(&self);

    /// The newest position in use, or [`Position::START`].
    fn last(&self) -> Position;

    /// The key of this store's cursor tokens.
    fn cursor_key(&self) -> &CursorKey;
}

/// Looks up where a subscriber begins. A position or an id that seems to be unknown is looked up
/// again once the history is current, because another process may have stored the event.
///
/// # Errors
/// Fails if the history cannot be read.
pub async fn locate_current(
    history: &dyn History,
    start: Start,
    interest: &Arc<Interest>,
) -> Result<Located, HistoryError> {
    let last = history.last();
    let located = history.locate(start.clone(), interest).await?;
    let is_unknown = located.missing == Some(Missing::Unknown) && start != Start::Unknown;
    if is_unknown && last < history.current().await? {
        return history.locate(start, interest).await;
    }
    Ok(located)
}
