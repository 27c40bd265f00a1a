//! What the files of a shard share: its subscribers, its hub, and what wakes its task.

use std::{cell::RefCell, sync::Arc, time::Instant};

#[cfg(unix)]
use super::socket_set::SocketSet;
use super::{state::ShardState, steer::Inbox};
use crate::hub::{Doorbell, Hub, ShardStats};

/// The core of a shard. Its `impl` blocks are beside the task, the sockets and the turns.
pub(super) struct ShardCore {
    pub(super) hub: Hub,
    pub(super) stats: Arc<ShardStats>,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) state: RefCell<ShardState>,
    #[cfg(unix)]
    pub(super) sockets: SocketSet,
    pub(super) inbox: Arc<Inbox>,
}

impl ShardCore {
    /// Creates a shard without subscribers, and registers it at the hub.
    pub(super) fn new(hub: Hub) -> Self {
        let stats = Arc::new(ShardStats::new());
        let doorbell = Arc::new(Doorbell::new(stats.clone()));
        hub.register(doorbell.clone());
        Self {
            hub,
            stats,
            doorbell,
            state: RefCell::new(ShardState::new(Instant::now())),
            #[cfg(unix)]
            sockets: SocketSet::default(),
            inbox: Arc::default(),
        }
    }

    /// Removes a subscriber.
    pub(super) fn remove(&self, key: usize) {
        let (interest, transport) = self.state.borrow_mut().remove(key);
        self.doorbell.unwant(&interest);
        self.stats.closed(transport);
    }

    /// Wakes the task.
    pub(super) fn nudge(&self) {
        self.inbox.nudge.notify_one();
    }
}

impl Drop for ShardCore {
    fn drop(&mut self) {
        // A dropped shard must not count as lagging.
        self.stats.saw(u64::MAX);
    }
}
