//! A shard: the subscribers of one thread, woken when an event for them is in the tail.

use std::{
    cell::RefCell,
    collections::HashSet,
    fmt,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use slab::Slab;
use tokio::sync::{Notify, broadcast::error::RecvError};

use super::{Feed, Gap, ShardStats, wheel::Wheel};
use crate::{
    event::{Event, Position},
    hub::{Enlisted, Hub, Index, Interest},
    transport::Transport,
};

/// Events taken from the tail at a time.
const BATCH: usize = 64;

/// What a subscriber is served on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How it is written to.
    pub transport: Transport,
    /// How long it may be silent before it gets a heartbeat; `None` for no heartbeats.
    pub heartbeat: Option<Duration>,
    /// How long it lasts at most.
    pub lifetime: Duration,
}

/// A handle to the subscribers of this thread. The shard's task starts with its first subscriber.
#[derive(Clone)]
pub struct Shard(Rc<Inner>);

pub(super) struct Inner {
    pub(super) hub: Hub,
    pub(super) stats: Arc<ShardStats>,
    pub(super) state: RefCell<State>,
    /// Tells the task that there is a deadline before the one that it waits for.
    earlier_deadline: Notify,
}

pub(super) struct State {
    is_running: bool,
    pub(super) is_draining: bool,
    /// Everything up to here was looked at; whoever is [`Served::Live`] has got all that is for it.
    pub(super) position: Position,
    /// The time as of the last wake-up; fine enough for heartbeats, and cheaper than asking for each event.
    pub(super) now: Instant,
    pub(super) subscribers: Slab<Subscriber>,
    /// Subscribers that know of positions which this shard has yet to reach; woken when it moves.
    pub(super) ahead: HashSet<usize, RandomState>,
    index: Index,
    wheel: Wheel<Ticket>,
    /// The deadline that the task waits for.
    armed: Option<Instant>,
    arrivals: u64,
}

/// How far a subscriber has been served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// Up to the shard's position.
    Live,
    /// Up to this one; there may be more for it.
    Behind(Position),
}

pub(super) struct Subscriber {
    terms: Terms,
    enlisted: Enlisted,
    /// Tells it from others that have used its slot.
    arrival: u64,
    pub(super) served: Served,
    pub(super) waker: Option<Waker>,
    pub(super) last_written: Instant,
    expires: Instant,
    pub(super) is_expired: bool,
    pub(super) owes_heartbeat: bool,
}

/// A note in the wheel to look at a subscriber.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    key: usize,
    arrival: u64,
}

impl Subscriber {
    fn next_deadline(&self) -> Instant {
        match self.terms.heartbeat {
            Some(heartbeat) => self.expires.min(self.last_written + heartbeat),
            None => self.expires,
        }
    }

    /// Notes that the event at `position` was handed out.
    pub(super) fn deliver(&mut self, position: Position, now: Instant) {
        self.served = Served::Behind(position);
        self.last_written = now;
        self.owes_heartbeat = false;
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Shard {
    /// A shard without subscribers.
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        let stats = Arc::new(ShardStats::new());
        hub.register(stats.clone());
        let now = Instant::now();
        let state = State {
            is_running: false,
            is_draining: false,
            position: Position::START,
            now,
            subscribers: Slab::new(),
            ahead: HashSet::default(),
            index: Index::default(),
            wheel: Wheel::new(now),
            armed: None,
            arrivals: 0,
        };
        let (state, earlier_deadline) = (RefCell::new(state), Notify::new());
        Self(Rc::new(Inner { hub, stats, state, earlier_deadline }))
    }

    /// The hub whose events it delivers.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Adds a subscriber that has been served up to `after`, and begins with `gap` if there is one. To be called
    /// within a [`tokio::task::LocalSet`], as every actix worker is.
    #[must_use]
    pub fn subscribe(
        &self,
        interest: Arc<Interest>,
        after: Position,
        gap: Option<Gap>,
        terms: Terms,
    ) -> Feed {
        self.0.run();
        let mut state = self.0.state.borrow_mut();
        let key = state.add(&interest, after, terms);
        if state.wheel.next() < state.armed || state.armed.is_none() {
            self.0.earlier_deadline.notify_one();
        }
        drop(state);
        self.0.stats.opened(terms.transport);
        Feed::new(self.0.clone(), key, interest, gap, terms.transport)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("stats", &self.0.stats).finish_non_exhaustive()
    }
}

impl Inner {
    /// Starts the task that follows the tail, unless it runs.
    fn run(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        if state.is_running {
            return;
        }
        state.is_running = true;
        state.position = self.hub.tail().newest();
        state.is_draining = self.hub.is_draining();
        drop(state);
        tokio::task::spawn_local(self.clone().follow());
    }

    async fn follow(self: Rc<Self>) {
        let mut doorbell = self.hub.doorbell();
        let mut draining = self.hub.draining();
        loop {
            let is_done = self.advance();
            let next = {
                let mut state = self.state.borrow_mut();
                state.armed = state.wheel.next();
                state.armed
            };
            let timer = async {
                match next {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Lets those who were woken write before the next batch is looked at.
                () = tokio::task::yield_now(), if !is_done => {}
                rung = doorbell.recv() => match rung {
                    // The doorbell says that there is something; what it is stands in the tail.
                    Ok(_) | Err(RecvError::Lagged(_)) => doorbell = doorbell.resubscribe(),
                    Err(RecvError::Closed) => break,
                },
                () = timer => self.state.borrow_mut().fire(),
                () = self.earlier_deadline.notified() => {}
                // Sees a drain that began before this task did as well.
                _ = draining.wait_for(|draining| *draining) => break,
            }
        }
        // Nothing is delivered from now on, so nobody has to wait for this shard.
        self.state.borrow_mut().drain();
        self.stats.saw(u64::MAX);
    }

    /// Looks at a batch of the events behind the shard's position and wakes whom they are for. Returns whether
    /// that was all there is.
    fn advance(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let Some((batch, passed)) = self.hub.tail().batch_after(state.position, BATCH) else {
            // The tail has overtaken this shard: everybody goes on from the history.
            state.skip_to(self.hub.tail().newest());
            return false;
        };
        self.stats.saw(passed);
        state.look_at(&batch);
        batch.is_empty()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A shard that is gone must not count as one that lags.
        self.stats.saw(u64::MAX);
    }
}

impl State {
    fn add(&mut self, interest: &Arc<Interest>, after: Position, terms: Terms) -> usize {
        self.now = Instant::now();
        self.arrivals += 1;
        let arrival = self.arrivals;
        let entry = self.subscribers.vacant_entry();
        let key = entry.key();
        let subscriber = entry.insert(Subscriber {
            terms,
            enlisted: self.index.insert(key, interest),
            arrival,
            served: Served::Behind(after),
            waker: None,
            last_written: self.now,
            expires: self.now + terms.lifetime,
            is_expired: false,
            owes_heartbeat: false,
        });
        self.wheel.schedule(subscriber.next_deadline(), Ticket { key, arrival });
        key
    }

    pub(super) fn remove(&mut self, key: usize) -> Transport {
        let subscriber = self.subscribers.remove(key);
        self.index.remove(subscriber.enlisted);
        subscriber.terms.transport
    }

    fn look_at(&mut self, batch: &[Arc<Event>]) {
        self.now = Instant::now();
        if !batch.is_empty() {
            self.wake_those_ahead();
        }
        for event in batch {
            let before = self.position;
            self.index.find(&event.update, |key| {
                let subscriber = &mut self.subscribers[key];
                if subscriber.served == Served::Live {
                    subscriber.served = Served::Behind(before);
                    subscriber.wake();
                }
            });
            self.position = event.position;
        }
    }

    fn skip_to(&mut self, newest: Position) {
        for (_, subscriber) in &mut self.subscribers {
            if subscriber.served == Served::Live {
                subscriber.served = Served::Behind(self.position);
                subscriber.wake();
            }
        }
        self.position = newest;
        self.wake_those_ahead();
    }

    fn wake_those_ahead(&mut self) {
        for key in std::mem::take(&mut self.ahead) {
            if let Some(subscriber) = self.subscribers.get_mut(key) {
                subscriber.wake();
            }
        }
    }

    /// Looks at the subscribers whose tickets are due: for a heartbeat, for the end, or to look again later.
    fn fire(&mut self) {
        self.now = Instant::now();
        for ticket in self.wheel.fire(self.now) {
            let Some(subscriber) = self.subscribers.get_mut(ticket.key) else { continue };
            if subscriber.arrival != ticket.arrival {
                continue;
            }
            if subscriber.expires <= self.now {
                subscriber.is_expired = true;
                subscriber.wake();
                continue;
            }
            if subscriber.next_deadline() <= self.now {
                subscriber.last_written = self.now;
                subscriber.owes_heartbeat = true;
                subscriber.wake();
            }
            self.wheel.schedule(subscriber.next_deadline(), ticket);
        }
    }

    fn drain(&mut self) {
        self.is_draining = true;
        for (_, subscriber) in &mut self.subscribers {
            subscriber.wake();
        }
    }
}
