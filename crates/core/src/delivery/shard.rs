//! A shard: the subscribers of one thread, and the task that delivers events to them.

use std::{
    cell::RefCell,
    fmt,
    rc::{Rc, Weak},
};

use tokio::sync::broadcast::error::RecvError;

#[cfg(unix)]
use super::socket::Connection;
use super::{
    Feed,
    shard_core::ShardCore,
    state::{ShardState, number},
    steer::{Address, Command, Order},
    subscriber::{Sink, Subscription},
};
use crate::{hub::Hub, transport::Style};

/// Events read from the tail at a time, and sockets written to from each queue.
const BATCH: usize = 64;

thread_local! {
    /// The shards of this thread, one for each hub.
    static SHARDS: RefCell<Vec<Weak<ShardCore>>> = const { RefCell::new(Vec::new()) };
}

/// A handle to the subscribers of this thread. The shard's task starts with its first subscriber.
#[derive(Clone)]
pub struct Shard(Rc<ShardCore>);

impl Shard {
    /// Returns this thread's shard for `hub`, whatever number of listeners and applications the
    /// thread serves. A subscriber is in one shard, and a shard reads each event once.
    #[must_use]
    pub fn of_this_thread(hub: &Hub) -> Self {
        SHARDS.with_borrow_mut(|shards| {
            shards.retain(|shard| 0 < shard.strong_count());
            let here = shards.iter().filter_map(Weak::upgrade).find(|it| it.hub.is(hub));
            if let Some(shard) = here {
                return Self(shard);
            }
            let shard = Rc::new(ShardCore::new(hub.clone()));
            shards.push(Rc::downgrade(&shard));
            Self(shard)
        })
    }

    /// The hub whose events it delivers.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Adds a subscriber that polls for its events. Must be called within a
    /// [`tokio::task::LocalSet`]; every actix worker has one.
    #[must_use]
    pub fn subscribe(&self, mut subscription: Subscription) -> Feed {
        let (gap, transport) = (subscription.gap.take(), subscription.terms.transport);
        let key = self.0.add(subscription, Sink::Task(None));
        Feed::new(self.0.clone(), key, gap, transport)
    }

    /// Adds a subscriber whose socket the shard writes to from now on. The head of its stream must
    /// have been written. Must be called within a [`tokio::task::LocalSet`]; every actix worker has
    /// one.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    #[cfg(unix)]
    pub fn adopt(
        &self,
        stream: std::net::TcpStream,
        mut subscription: Subscription,
        style: Style,
    ) -> std::io::Result<()> {
        let gap = subscription.gap.take();
        let style = self.0.state.borrow_mut().share(style);
        let connection = Connection::new(stream, style);
        let key = self.0.add(subscription, Sink::Socket(connection));
        self.0.welcome(key, gap)
    }

    /// Refuses: there is no socket sink on this system.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub fn adopt(&self, _: std::net::TcpStream, _: Subscription, _: Style) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("stats", &self.0.stats).finish_non_exhaustive()
    }
}

impl ShardCore {
    fn add(self: &Rc<Self>, mut subscription: Subscription, sink: Sink) -> usize {
        self.run();
        self.stats.opened(subscription.terms.transport);
        let steer = subscription.steer.clone();
        let insert = |subscription: Subscription, sink| {
            self.doorbell.want(&subscription.interest);
            self.state.borrow_mut().add(subscription, sink)
        };
        let key = match steer {
            None => insert(subscription, sink),
            Some(steer) => steer.place(|it| {
                subscription.interest = it.interest;
                subscription.after = it.after.unwrap_or(subscription.after);
                let key = insert(subscription, sink);
                let mut state = self.state.borrow_mut();
                state.settle(key, it.expires, it.ends);
                let arrival = state.subscribers[key].arrival;
                (key, Address { inbox: self.inbox.clone(), key: number(key), arrival })
            }),
        };
        // Reads events that nothing rang for, so that a subscriber that does not wait gets them
        // too.
        while !self.advance() {}
        self.nudge();
        key
    }

    /// Starts the task that follows the tail, unless it is running.
    fn run(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        if state.is_running {
            return;
        }
        state.start(self.hub.tail().newest(), self.hub.is_draining());
        drop(state);
        tokio::task::spawn_local(self.clone().follow());
    }

    async fn follow(self: Rc<Self>) {
        let mut doorbell = self.doorbell.listen();
        let mut draining = self.hub.draining();
        loop {
            let is_done = self.take_turn();
            let next = self.state.borrow_mut().wheel.next();
            let timer = async {
                match next {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let is_draining = self.state.borrow().is_draining;
            tokio::select! {
                // Lets requests and woken tasks run before the next batch.
                () = tokio::task::yield_now(), if !is_done => {}
                rung = doorbell.recv() => match rung {
                    // A ring only says that there are events; the tail has them. Missed rings do
                    // not matter.
                    Ok(_) | Err(RecvError::Lagged(_)) => doorbell = doorbell.resubscribe(),
                    Err(RecvError::Closed) => break,
                },
                () = timer => self.fire(),
                () = self.inbox.nudge.notified() => {}
                () = self.watch_sockets() => {}
                // Also true for a drain that began before this task.
                _ = draining.wait_for(|draining| *draining), if !is_draining => {
                    self.state.borrow_mut().drain();
                }
            }
        }
    }

    /// Reads a batch of events after the shard's position, and writes to a batch of sockets.
    /// Returns whether nothing is left to do.
    fn take_turn(self: &Rc<Self>) -> bool {
        self.obey();
        let is_up_to_date = self.advance();
        self.serve_sockets(BATCH) && is_up_to_date
    }

    /// Executes the commands for its subscribers.
    fn obey(&self) {
        for Command { steer, key, arrival, order } in self.inbox.take() {
            let is_here = |state: &ShardState| {
                state.subscribers.get(key as usize).is_some_and(|it| it.arrival == arrival)
            };
            match order {
                Order::Swap { change, after, done } => {
                    // Up to the newest event, the subscriber gets what it wanted before.
                    while !self.advance() {}
                    let mut state = self.state.borrow_mut();
                    let position = state.position;
                    let interest = steer.change(change, position);
                    if is_here(&state) {
                        self.doorbell.want(&interest);
                        let old = state.swap(key, interest, after);
                        self.doorbell.unwant(&old);
                    }
                    drop(state);
                    // Reads events that nothing rang for.
                    while !self.advance() {}
                    // The caller may have gone.
                    let _ = done.send(position);
                }
                Order::Expire(at) => {
                    let mut state = self.state.borrow_mut();
                    if is_here(&state) {
                        state.settle(key as usize, Some(at), None);
                    }
                }
                Order::End { reason, done } => {
                    let mut state = self.state.borrow_mut();
                    if is_here(&state) {
                        let served = state.subscribers[key as usize].served;
                        let _ = done.send(served.cursor(state.position));
                        state.settle(key as usize, None, Some(reason));
                        state.rouse(key, true);
                    }
                }
            }
        }
    }

    fn advance(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.read_clock();
        let Some((batch, passed)) = self.hub.tail().batch_after(state.position, BATCH) else {
            // The tail has overtaken this shard.
            state.skip_to(self.hub.tail().newest());
            return false;
        };
        self.stats.saw(passed);
        state.look_at(&batch);
        batch.len() < BATCH
    }

    fn fire(&self) {
        let given_up = self.state.borrow_mut().fire();
        for key in given_up {
            self.remove(key as usize);
        }
    }
}

#[cfg(not(unix))]
impl ShardCore {
    fn serve_sockets(&self, _: usize) -> bool {
        true
    }

    async fn watch_sockets(&self) {
        std::future::pending().await
    }
}
