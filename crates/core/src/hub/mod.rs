//! The hub: accepts updates and notifies the shards that have something to deliver.
//!
//! The sequencer commits updates in order. Once they are committed and in the tail, the hub rings
//! the shards' doorbells. It keeps no list of subscribers; each shard counts its own.

mod doorbell;
mod sequencer;
mod stats;
mod tail;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence},
};

use tokio::sync::watch;

use self::sequencer::Sequencer;
pub(crate) use self::{doorbell::Doorbell, stats::ShardStats, tail::Found};
pub use self::{sequencer::PublishError, stats::Totals, tail::Tail};
use crate::{
    event::{Event, Update},
    history::{Batch, History},
};

/// A handle to the hub; clones refer to the same hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<HubCore>);

#[derive(Debug)]
struct HubCore {
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
    /// Starts a hub over `history`, with a tail of `tail_bytes`. With `refuse_when_behind`, updates
    /// are refused while a shard lags over half the tail.
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
                // A subscriber whose counters are not visible yet finds the events in the tail.
                fence(SeqCst);
                for doorbell in doorbells.all().iter() {
                    doorbell.ring(events, passed, tail.capacity());
                }
            }
        };
        let sequencer = Sequencer::start(history.clone(), announce)?;
        Ok(Self(Arc::new(HubCore {
            history,
            tail,
            sequencer,
            draining: watch::channel(false).0,
            doorbells,
            n_events,
            refuse_when_behind,
        })))
    }

    /// Publishes updates in order, all or none. Returns when they are committed and in the tail;
    /// never waits for subscribers.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use tidegate_core::{clock::Clock, history::Memory, hub::Hub};
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
    /// # let (topics, data) = (vec!["news".into()], "Hello".into());
    /// # let hub_url = "https://example.com/.well-known/mercure".parse()?;
    /// # let update = Draft { topics, data, ..Draft::default() }.validate(&limits, &hub_url)?;
    /// let history = Arc::new(Memory::new(retention, Clock::system()));
    /// let hub = Hub::start(history, 1 << 20, true)?;
    /// hub.publish(vec![update]).await?;
    /// assert_eq!(hub.n_events(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If nothing was published, or if the outcome is unknown.
    pub async fn publish(&self, updates: Vec<Update>) -> Result<(), PublishError> {
        self.commit(updates.into()).await
    }

    /// Publishes updates, like [`Hub::publish`], and writes the batch's records with them.
    ///
    /// # Errors
    /// If nothing was written, or if the outcome is unknown.
    pub async fn commit(&self, batch: Batch) -> Result<(), PublishError> {
        if self.0.refuse_when_behind && self.0.tail.capacity() as u64 / 2 < self.lag() {
            return Err(PublishError::Overloaded);
        }
        self.0.sequencer.submit(batch).await
    }

    /// Whether both are the same hub.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The history of accepted events.
    #[must_use]
    pub fn history(&self) -> &dyn History {
        &*self.0.history
    }

    /// The newest part of the history.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.0.tail
    }

    /// Ends all current and future subscriptions, permanently.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    /// Whether the gateway is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// A channel that changes to `true` when the gateway stops.
    #[must_use]
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.0.draining.subscribe()
    }

    /// Registers a shard: it is notified of events and included in the totals.
    pub(crate) fn register(&self, doorbell: Arc<Doorbell>) {
        self.0.doorbells.all().push(doorbell);
    }

    /// How far the slowest shard lags behind the tail, in bytes.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let passed = self.0.tail.passed();
        self.0.doorbells.all().iter().map(|it| it.stats().lag(passed)).max().unwrap_or(0)
    }

    /// The sum of all shards' counters.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for doorbell in self.0.doorbells.all().iter() {
            totals.add(doorbell.stats());
        }
        totals
    }

    /// Updates that became events, including those of jobs.
    #[must_use]
    pub fn n_events(&self) -> u64 {
        self.0.n_events.load(Relaxed)
    }

    /// The reason why updates cannot be accepted now, if there is one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if !self.0.sequencer.is_running() {
            return Some("the history's writer has ended".to_owned());
        }
        self.0.history.trouble()
    }

    /// Closes the history, permanently. Afterwards nothing can be published or read.
    pub fn close(&self) {
        self.0.history.close();
    }
}
