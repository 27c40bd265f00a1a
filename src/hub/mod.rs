//! Who should get it: the hub, which takes updates in and tells the shards that there is something to deliver.
//!
//! Updates come in; the doorbell rings when they are committed and in the tail. The index and the interests of
//! subscribers live here as well; the shards own instances of them. The hub keeps no list of subscribers.

mod doorbell;
mod index;
mod interest;
mod matcher;
mod pattern;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence},
};

use tokio::sync::watch;

pub(crate) use self::pattern::prepare;
pub use self::{
    doorbell::Doorbell,
    index::{Enlisted, Index},
    interest::{Interest, Rights},
    matcher::{Matcher, MatcherKind, MatcherLimits, Matchers},
    pattern::{Pattern, PatternKind, PatternStats, SubscribedPatterns, pattern_stats},
};
use crate::{
    delivery::{Tail, Totals},
    event::{Event, Update},
    history::{Batch, History, PublishError, Sequencer},
};

/// A handle to the hub; clones are the same hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    history: Arc<dyn History>,
    tail: Arc<Tail>,
    sequencer: Sequencer,
    draining: watch::Sender<bool>,
    doorbells: Arc<Doorbells>,
    n_events: Arc<AtomicU64>,
    refuse_when_behind: bool,
}

#[derive(Debug, Default)]
struct Doorbells(Mutex<Vec<Arc<Doorbell>>>);

impl Doorbells {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Doorbell>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// A hub over `history`, with a tail of `tail_bytes`. With `refuse_when_behind`, updates are refused while a shard
    /// lags over half the tail.
    ///
    /// # Errors
    /// If the writer's thread cannot be started.
    pub fn start(
        history: Arc<dyn History>,
        tail_bytes: usize,
        refuse_when_behind: bool,
    ) -> std::io::Result<Self> {
        let tail = Arc::new(Tail::new(tail_bytes, history.last()));
        let doorbells = Arc::new(Doorbells::default());
        let n_events = Arc::new(AtomicU64::new(0));
        let announce = {
            let (tail, doorbells, n_events) = (tail.clone(), doorbells.clone(), n_events.clone());
            move |events: &[Arc<Event>]| {
                let passed = tail.push(events);
                n_events.fetch_add(events.len() as u64, Relaxed);
                // Whoever is not seen to want them yet sees them in the tail.
                fence(SeqCst);
                for doorbell in doorbells.all().iter() {
                    doorbell.ring(events, passed, tail.capacity());
                }
            }
        };
        let sequencer = Sequencer::start(history.clone(), announce)?;
        Ok(Self(Arc::new(Inner {
            history,
            tail,
            sequencer,
            draining: watch::channel(false).0,
            doorbells,
            n_events,
            refuse_when_behind,
        })))
    }

    /// Publishes updates, all or none, one after the other. Returns when they are committed and on their way; never
    /// waits for subscribers.
    ///
    /// # Errors
    /// If nothing was published, or nobody knows.
    pub async fn publish(&self, updates: Vec<Update>) -> Result<(), PublishError> {
        self.commit(updates.into()).await
    }

    /// Publishes updates, as [`Hub::publish`] does, and writes what is to be kept with them.
    ///
    /// # Errors
    /// If nothing was written, or nobody knows.
    pub async fn commit(&self, batch: Batch) -> Result<(), PublishError> {
        if self.0.refuse_when_behind && self.0.tail.capacity() as u64 / 2 < self.lag() {
            return Err(PublishError::Overloaded);
        }
        self.0.sequencer.submit(batch).await
    }

    /// Whether the two are the same hub.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What was accepted, to look things up in.
    #[must_use]
    pub fn history(&self) -> &dyn History {
        &*self.0.history
    }

    /// The newest part of the history.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.0.tail
    }

    /// Ends every subscription, now and from now on. There is no way back.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    /// Whether the gateway is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Changes to `true` when the gateway stops.
    #[must_use]
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.0.draining.subscribe()
    }

    /// Has a shard be told of events, and be counted.
    pub(crate) fn register(&self, doorbell: Arc<Doorbell>) {
        self.0.doorbells.all().push(doorbell);
    }

    /// How far the slowest shard is behind the tail, in bytes.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let passed = self.0.tail.passed();
        self.0.doorbells.all().iter().map(|it| it.stats().lag(passed)).max().unwrap_or(0)
    }

    /// What all shards have counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for doorbell in self.0.doorbells.all().iter() {
            totals.add(doorbell.stats());
        }
        totals
    }

    /// Updates that became events, those of jobs included.
    #[must_use]
    pub fn n_events(&self) -> u64 {
        self.0.n_events.load(Relaxed)
    }

    /// What is wrong, if updates cannot be taken in now.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if !self.0.sequencer.is_running() {
            return Some("the history's writer has ended".to_owned());
        }
        self.0.history.trouble()
    }

    /// Closes the history, after which nothing can be published or read. There is no way back.
    pub fn close(&self) {
        self.0.history.close();
    }
}
