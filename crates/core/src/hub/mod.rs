//! The hub: accepts updates and notifies the shards that have something to deliver.
//!
//! The history announces what it has stored, in order. The hub hands records to those that keep
//! tables of them, puts events into the tail, and rings the shards' doorbells. It keeps no list of
//! subscribers; each shard counts its own.

mod doorbell;
mod error;
mod stats;
mod tail;
mod wanted;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use self::wanted::Wanted;
pub(crate) use self::{doorbell::Doorbell, stats::ShardStats, tail::Found};
pub use self::{error::PublishError, stats::Totals, tail::Tail};
use crate::{
    event::Update,
    history::{Applied, Batch, Committed, History, Revised, Shelf},
};

/// A handle to the hub; clones refer to the same hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<HubCore>);

#[derive(Debug)]
struct HubCore {
    history: Arc<dyn History>,
    tail: Arc<Tail>,
    tables: Arc<Tables>,
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

/// Those that keep tables of records.
#[derive(Default)]
struct Tables(Mutex<Vec<Table>>);

struct Table {
    shelves: &'static [Shelf],
    learn: Learn,
}

/// The function that learns of stored records.
pub(crate) type Learn = Box<dyn FnMut(&[&Revised]) + Send>;

impl Tables {
    fn all(&self) -> MutexGuard<'_, Vec<Table>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, records: &[Revised]) {
        for table in &mut *self.all() {
            let is_wanted = |it: &&Revised| table.shelves.contains(&it.record.shelf);
            let wanted: Vec<&Revised> = records.iter().filter(is_wanted).collect();
            if !wanted.is_empty() {
                (table.learn)(&wanted);
            }
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter().map(|it| it.shelves)).finish()
    }
}

impl Hub {
    /// Starts a hub that follows `history`, with a tail of `tail_bytes`. With `refuse_when_behind`,
    /// updates are refused while a shard lags over half the tail.
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
        let tables = Arc::new(Tables::default());
        let follower = {
            let (tail, doorbells) = (tail.clone(), doorbells.clone());
            let (n_events, tables) = (n_events.clone(), tables.clone());
            move |Applied { events, records, restarted }: Applied<'_>| {
                if let Some(position) = restarted {
                    // Shards find that the tail has overtaken them, and read the history.
                    tail.restart(position);
                    doorbells.all().iter().for_each(|it| it.ring_for(position));
                }
                // First, so that no subscriber learns of a change that a table does not have.
                if !records.is_empty() {
                    tables.learn(records);
                }
                if events.is_empty() {
                    return;
                }
                let passed = tail.push(events);
                n_events.fetch_add(events.len() as u64, Relaxed);
                // A subscriber whose counters are not visible yet finds the events in the tail.
                Wanted::appended();
                for doorbell in doorbells.all().iter() {
                    doorbell.ring(events, passed, tail.capacity());
                }
            }
        };
        history.follow(Box::new(follower))?;
        Ok(Self(Arc::new(HubCore {
            history,
            tail,
            tables,
            draining: watch::channel(false).0,
            doorbells,
            n_events,
            refuse_when_behind,
        })))
    }

    /// Publishes updates in order, all or none. Returns when they are stored; never waits for
    /// subscribers.
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
        // Without a key or a record, there is no condition to refuse it.
        self.submit(updates.into()).await.map(drop)
    }

    /// Submits a batch to the history: updates, with records and replies beside them.
    ///
    /// # Errors
    /// If nothing was stored, or if the outcome is unknown.
    pub async fn submit(&self, batch: Batch) -> Result<Committed, PublishError> {
        if self.0.refuse_when_behind && self.0.tail.capacity() as u64 / 2 < self.lag() {
            return Err(PublishError::Overloaded);
        }
        Ok(self.0.history.submit(batch).await?)
    }

    /// Calls `learn` with every record of these shelves that the history stores from now on, before
    /// the events of the same batch are delivered. `learn` must not wait.
    pub(crate) fn keep_table(&self, shelves: &'static [Shelf], learn: Learn) {
        self.0.tables.all().push(Table { shelves, learn });
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
        self.0.history.trouble()
    }

    /// The reason why this gateway should get no requests, if there is one.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        self.0.history.unready()
    }

    /// Closes the history, permanently. Afterwards nothing can be published or read.
    pub fn close(&self) {
        self.0.history.close();
    }
}
