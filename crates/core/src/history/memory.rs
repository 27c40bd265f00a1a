//! The history in memory: fast, bounded, and lost with the process.

use std::{
    future::ready,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    Answer, Batch, Budget, CursorKey, History, HistoryError, Located, Page, Record, Search, Shelf,
    Start, part::Retention, parts::Parts,
};
use crate::{
    clock::Clock,
    event::{Event, Position},
    matching::Interest,
};

/// The default number of subscription events to keep.
const SUBSCRIPTION_EVENTS: usize = 10_000;

/// The byte limit of subscription events is that of other events divided by this number.
const SHARE_OF_SUBSCRIPTIONS: usize = 4;

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
/// history.commit(vec![update].into())?;
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
    clock: Clock,
    cursor_key: CursorKey,
    log: RwLock<Parts>,
}

impl Memory {
    /// Creates an empty history.
    #[must_use]
    pub fn new(retention: Retention, clock: Clock) -> Self {
        Self::with_subscriptions(retention, SUBSCRIPTION_EVENTS, clock)
    }

    /// Creates an empty history that also keeps at most `events` subscription events. Their bytes
    /// are limited to a share of the bytes that `retention` allows other events.
    #[must_use]
    pub fn with_subscriptions(retention: Retention, events: usize, clock: Clock) -> Self {
        let bytes = retention.bytes / SHARE_OF_SUBSCRIPTIONS;
        let subscriptions = Retention { bytes, events, ..retention };
        let log = RwLock::new(Parts::new(retention, subscriptions));
        Self { clock, cursor_key: CursorKey::random(), log }
    }

    // A panic while the lock is held would be a bug. Continuing with the present state beats
    // refusing every request.
    fn read(&self) -> RwLockReadGuard<'_, Parts> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Parts> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for Memory {
    fn commit(&self, batch: Batch) -> Result<Vec<Arc<Event>>, HistoryError> {
        let now = self.clock.now();
        let mut log = self.write();
        let events =
            batch.updates.into_iter().map(|update| log.append(Arc::new(update), now)).collect();
        log.trim(now);
        Ok(events)
    }

    fn commits_at_once(&self) -> bool {
        true
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        Box::pin(ready(Ok(self.read().page(after, interest, budget))))
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        Box::pin(ready(Ok(self.read().locate(&start, interest))))
    }

    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search> {
        Box::pin(ready(Ok(self.read().step_back(search, interest))))
    }

    fn reply(&self, _key: &str) -> Answer<Option<Box<[u8]>>> {
        Box::pin(ready(Ok(None)))
    }

    fn records(&self, _shelf: Shelf) -> Result<Vec<Record>, HistoryError> {
        Ok(Vec::new())
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn tend(&self) -> bool {
        let now = self.clock.now();
        self.write().trim(now);
        false
    }

    fn n_read(&self) -> u64 {
        0
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn close(&self) {}

    fn last(&self) -> Position {
        self.read().last()
    }

    fn cursor_key(&self) -> &CursorKey {
        &self.cursor_key
    }
}
