//! The epoll set of a shard's sockets.
//!
//! The shard's task watches it as a single descriptor. An idle socket costs its subscriber's slot
//! and what the kernel keeps, but no task.

use std::{
    cell::{OnceCell, RefCell},
    io,
    time::Duration,
};

use mio::{Events, Poll, Registry, event::Event};
use tokio::io::{Interest, unix::AsyncFd};

/// Ready sockets reported at a time.
const READY: usize = 256;

/// The epoll set; opened with the first socket.
#[derive(Default)]
pub(super) struct SocketSet(OnceCell<Set>);

struct Set {
    poll: RefCell<(Poll, Events)>,
    /// The set itself, as a descriptor that becomes readable.
    registry: AsyncFd<Registry>,
}

impl SocketSet {
    /// The registry for sockets. If the set cannot be opened, for lack of descriptors, the next
    /// socket tries again.
    pub(super) fn registry(&self) -> io::Result<&Registry> {
        let set = match self.0.get() {
            Some(set) => set,
            None => {
                let opened = Set::open()?;
                self.0.get_or_init(|| opened)
            }
        };
        Ok(set.registry.get_ref())
    }

    /// Waits until sockets are ready, and calls `handle` for each of them.
    pub(super) async fn handle_ready(&self, mut handle: impl FnMut(&Event)) {
        let Some(set) = self.0.get() else { return std::future::pending().await };
        let Ok(mut ready) = set.registry.readable().await else { return };
        let (poll, events) = &mut *set.poll.borrow_mut();
        if poll.poll(events, Some(Duration::ZERO)).is_err() {
            // Interrupted; the set is still ready.
            return;
        }
        let mut n_ready = 0;
        for event in &*events {
            n_ready += 1;
            handle(event);
        }
        if n_ready < READY {
            ready.clear_ready();
        }
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
