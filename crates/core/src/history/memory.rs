//! The history in memory: fast, bounded, and lost with the process.

use std::{
    collections::HashMap,
    future::ready,
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use super::{
    Answer, Batch, Budget, Committed, CursorKey, Follower, History, HistoryError, Located, Page,
    Record, ReplyLimits, Retention, Revised, Search, Shelf, Start, Write,
    parts::Parts,
    replies::Replies,
    rules::{LaneLimits, Rules},
    sequencer::{Commit, Local, Sequencer},
};
use crate::{clock::Clock, event::Position, matching::Interest};

/// The limits of replies, unless others are set.
const REPLIES: ReplyLimits =
    ReplyLimits { age: Duration::from_secs(3600), count: 10_000, bytes: 16 << 20 };

/// The default number of subscription events to keep.
const SUBSCRIPTION_EVENTS: u64 = 10_000;

/// A history that lives as long as its process.
///
/// ```
/// use std::sync::Arc;
///
/// use tidegate_core::{
///     clock::Clock,
///     event::Position,
///     history::{Budget, History as _, Memory},
///     matching::{Interest, Matcher, Matchers, Rights},
/// };
/// # use jiff::SignedDuration;
/// # use tidegate_core::{event::{Draft, Limits}, history::Retention};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let limits = Limits {
/// #     topics: 100,
/// #     topic_bytes: 4096,
/// #     id_bytes: 1024,
/// #     type_bytes: 256,
/// #     except: 100,
/// #     client_key_bytes: 256,
/// # };
/// # let retention = Retention {
/// #     bytes: 1 << 20,
/// #     events: 1000,
/// #     age: SignedDuration::from_hours(1),
/// #     remembered: 1000,
/// # };
/// # let draft = Draft { topics: vec!["news".into()], data: "Hello".into(), ..Draft::default() };
/// # let update = draft.validate(&limits, &"https://example.com/.well-known/mercure".parse()?)?;
/// let history = Memory::new(retention, Clock::system());
/// history.submit(vec![update].into()).await?;
///
/// let all = Matchers::new([Matcher::Everything]);
/// let interest = Arc::new(Interest::new(all, None, Rights::Everything));
/// let budget = Budget { events: 100, bytes: 1 << 20 };
/// let page = history.read_after(Position::START, &interest, budget).await?;
/// assert_eq!(&*page.events[0].update.data, "Hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Memory {
    core: Arc<MemoryCore>,
    sequencer: Sequencer<MemoryCore>,
}

#[derive(Debug)]
struct MemoryCore {
    clock: Clock,
    cursor_key: CursorKey,
    log: RwLock<Log>,
}

#[derive(Debug)]
struct Log {
    parts: Parts,
    /// The revision of each record.
    revisions: HashMap<(Shelf, Box<[u8]>), Position, RandomState>,
    replies: Replies,
}

impl Memory {
    /// Creates an empty history.
    #[must_use]
    pub fn new(retention: Retention, clock: Clock) -> Self {
        let lanes = LaneLimits::beside(retention.bytes as u64, SUBSCRIPTION_EVENTS);
        Self::with_rules(retention, Rules::new(Vec::new(), lanes), clock)
    }

    /// Creates an empty history that keeps some topics, and the lanes of the hub's own events,
    /// shorter or longer.
    #[must_use]
    pub fn with_rules(retention: Retention, rules: Rules, clock: Clock) -> Self {
        let log = RwLock::new(Log {
            parts: Parts::new(retention, rules),
            revisions: HashMap::default(),
            replies: Replies::new(REPLIES),
        });
        let core = Arc::new(MemoryCore { clock, cursor_key: CursorKey::random(), log });
        Self { sequencer: Sequencer::new(core.clone()), core }
    }

    /// Sets the limits of replies to requests with a key.
    #[must_use]
    pub fn with_reply_limits(self, limits: ReplyLimits) -> Self {
        self.core.write().replies = Replies::new(limits);
        self
    }
}

impl MemoryCore {
    // A panic while the lock is held would be a bug. Continuing with the present state beats
    // refusing every request.
    fn read(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Log> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Stores a batch, or refuses it. Every condition is checked before anything is written.
    fn submit(&mut self, batch: Batch, now: Timestamp, commit: &mut Commit) -> Committed {
        if let Some(reply) = batch.replies.iter().find_map(|it| self.replies.get(&it.key)) {
            return Committed::Already(reply.into());
        }
        for Write { record, expect } in &batch.records {
            let found = self.revisions.get(&(record.shelf, record.key.clone()));
            if let Err(revision) = expect.check(found.copied()) {
                return Committed::Conflict(revision);
            }
        }
        if batch.updates.is_empty() && !batch.records.is_empty() {
            self.parts.skip();
        }
        for update in batch.updates {
            commit.events.push(self.parts.append(Arc::new(update), now));
        }
        let revision = self.parts.last();
        for Write { record, .. } in batch.records {
            let Record { shelf, key, value } = &record;
            match value {
                Some(_) => self.revisions.insert((*shelf, key.clone()), revision),
                None => self.revisions.remove(&(*shelf, key.clone())),
            };
            commit.records.push(Revised { revision, record });
        }
        for reply in batch.replies {
            self.replies.insert(reply, now);
        }
        Committed::Stored(revision)
    }

    fn trim(&mut self, now: Timestamp) {
        self.parts.trim(now);
        self.replies.trim(now);
    }
}

impl Local for MemoryCore {
    fn commit(&self, submissions: impl Iterator<Item = Batch>) -> Result<Commit, HistoryError> {
        let now = self.clock.now();
        let mut log = self.write();
        log.replies.trim(now);
        let mut commit = Commit::default();
        for batch in submissions {
            let outcome = log.submit(batch, now, &mut commit);
            commit.outcomes.push(outcome);
        }
        log.trim(now);
        Ok(commit)
    }

    fn tend(&self) -> bool {
        let now = self.clock.now();
        self.write().trim(now);
        false
    }
}

impl History for Memory {
    fn submit(&self, batch: Batch) -> Answer<Committed> {
        Box::pin(ready(self.sequencer.commit_here(batch)))
    }

    fn current(&self) -> Answer<Position> {
        Box::pin(ready(Ok(self.last())))
    }

    fn follow(&self, follower: Follower) -> io::Result<()> {
        self.sequencer.follow(follower)
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        Box::pin(ready(Ok(self.core.read().parts.page(after, interest, budget))))
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        Box::pin(ready(Ok(self.core.read().parts.locate(&start, interest))))
    }

    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search> {
        Box::pin(ready(Ok(self.core.read().parts.step_back(search, interest))))
    }

    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>> {
        Box::pin(ready(Ok(self.core.read().replies.get(key).map(Into::into))))
    }

    fn records(&self, _shelf: Shelf) -> Result<Vec<Revised>, HistoryError> {
        Ok(Vec::new())
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn n_read(&self) -> u64 {
        0
    }

    fn trouble(&self) -> Option<String> {
        (!self.sequencer.is_running()).then(|| HistoryError::Stopped.to_string())
    }

    fn close(&self) {}

    fn last(&self) -> Position {
        self.core.read().parts.last()
    }

    fn cursor_key(&self) -> &CursorKey {
        &self.core.cursor_key
    }
}
