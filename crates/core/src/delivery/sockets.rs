//! The sockets of a shard: which of them are ready, and serving those.
//!
//! They are in one epoll set, which the shard's task watches as a single descriptor. An idle socket
//! costs its subscriber's slot and what the kernel keeps, but no task.

use std::{
    cell::{OnceCell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use mio::{Events, Poll, Registry};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    catch_up::PAGE, shard::Inner, socket::Connection, state::number, subscriber::Sink,
    writing::Outcome,
};
use crate::{event::Position, transport::Gap};

/// Ready sockets reported at a time.
const READY: usize = 256;

/// The epoll set; opened with the first socket.
#[derive(Default)]
pub(super) struct Sockets(OnceCell<Set>);

struct Set {
    poll: RefCell<(Poll, Events)>,
    /// The set itself, as a descriptor that becomes readable.
    registry: AsyncFd<Registry>,
}

impl Sockets {
    /// The registry for sockets. If the set cannot be opened, for lack of descriptors, the next
    /// socket tries again.
    fn registry(&self) -> io::Result<&Registry> {
        let set = match self.0.get() {
            Some(set) => set,
            None => {
                let opened = Set::open()?;
                self.0.get_or_init(|| opened)
            }
        };
        Ok(set.registry.get_ref())
    }
}

impl Set {
    fn open() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = watch(poll.registry().try_clone()?)?;
        Ok(Self { poll: RefCell::new((poll, Events::with_capacity(READY))), registry })
    }
}

#[expect(deprecated, reason = "what replaces it is unsafe; a registry keeps its descriptor")]
fn watch(registry: Registry) -> io::Result<AsyncFd<Registry>> {
    AsyncFd::with_interest(registry, Interest::READABLE)
}

impl Inner {
    /// Starts to serve a socket that was just added.
    pub(super) fn welcome(&self, key: usize, gap: Option<Gap>) -> io::Result<()> {
        let watched = self.watch(key, gap);
        if watched.is_err() {
            self.remove(key);
        }
        self.nudge();
        watched
    }

    fn watch(&self, key: usize, gap: Option<Gap>) -> io::Result<()> {
        let registry = self.sockets.registry()?;
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.connection(key) else { return Ok(()) };
        if let Some(gap) = gap {
            let notice = connection.style.writer.gap(&gap, self.hub.history().token_key());
            connection.notify(notice);
            self.stats.gap();
        }
        connection.watch(registry, key)?;
        state.rouse(number(key), true);
        Ok(())
    }

    /// Waits until sockets are ready, and handles them.
    pub(super) async fn watch_sockets(&self) {
        let Some(set) = self.sockets.0.get() else { return std::future::pending().await };
        let Ok(mut ready) = set.registry.readable().await else { return };
        let (poll, events) = &mut *set.poll.borrow_mut();
        if poll.poll(events, Some(Duration::ZERO)).is_err() {
            // Interrupted; the set is still ready.
            return;
        }
        let mut n_ready = 0;
        for event in &*events {
            n_ready += 1;
            let key = event.token().0;
            // A client that has closed its sending side is taken for gone.
            if event.is_read_closed() || event.is_error() {
                self.remove(key);
                continue;
            }
            if event.is_readable() {
                self.discard_input(key);
            }
            if event.is_writable() {
                self.unblock(key);
            }
        }
        if n_ready < READY {
            ready.clear_ready();
        }
    }

    fn unblock(&self, key: usize) {
        let mut state = self.state.borrow_mut();
        if state.connection(key).is_some_and(Connection::unblock) {
            state.rouse(number(key), true);
        }
    }

    fn discard_input(&self, key: usize) {
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.connection(key) else { return };
        match connection.discard_input() {
            Ok(true) => {}
            Ok(false) => state.ready.push_unread(number(key)),
            Err(_) => {
                drop(state);
                self.remove(key);
            }
        }
    }

    /// Writes to a batch of the queued sockets. Returns whether none is left.
    pub(super) fn serve_sockets(self: &Rc<Self>, limit: usize) -> bool {
        let unread = self.state.borrow_mut().ready.take_unread();
        for key in unread {
            self.discard_input(key as usize);
        }
        let keys = self.state.borrow_mut().ready.take(limit);
        for key in keys {
            self.serve_socket(key as usize);
        }
        self.state.borrow_mut().ready.settle()
    }

    fn serve_socket(self: &Rc<Self>, key: usize) {
        let mut state = self.state.borrow_mut();
        match self.write(&mut state, key) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Again) => state.rouse(number(key), false),
            Ok(Outcome::Wait) => state.reschedule(number(key)),
            Ok(Outcome::AskHistory(after)) => {
                drop(state);
                self.read_history(key, after);
            }
            Err(_) => {
                drop(state);
                self.remove(key);
            }
        }
    }

    /// Reads the history after `after` for a socket.
    fn read_history(self: &Rc<Self>, key: usize, after: Position) {
        let mut state = self.state.borrow_mut();
        let Some(subscriber) = state.subscribers.get_mut(key) else { return };
        let Sink::Socket(connection) = &mut subscriber.sink else { return };
        connection.begin_reading();
        let (interest, arrival) = (subscriber.interest.clone(), subscriber.arrival);
        drop(state);
        let page = self.hub.history().read_after(after, &interest, PAGE);
        let shard = self.clone();
        tokio::task::spawn_local(async move {
            let page = page.await;
            if shard.accept(key, arrival, page).is_err() {
                shard.remove(key);
            }
            shard.nudge();
        });
    }
}
