//! A cache of recently read events, shared by subscribers that reconnect at the same time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::fast::RandomState;

use crate::event::{Event, Position};

/// Bytes of recently read events to keep. Many subscribers that reconnect at once then share
/// decoded and encoded events.
const SHARED_BYTES: usize = 8 << 20;

/// The cache of recently read events.
#[derive(Debug, Default)]
pub(super) struct Shared {
    recent: Mutex<Recent>,
    n_read: AtomicU64,
}

#[derive(Debug, Default)]
struct Recent {
    by_position: HashMap<Position, Arc<Event>, RandomState>,
    order: VecDeque<Position>,
    bytes: usize,
}

impl Shared {
    /// The number of events read from the store.
    pub(super) fn n_read(&self) -> u64 {
        self.n_read.load(Relaxed)
    }

    pub(super) fn count_read(&self) {
        self.n_read.fetch_add(1, Relaxed);
    }

    pub(super) fn clear(&self) {
        *self.recent() = Recent::default();
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, position: Position) -> Option<Arc<Event>> {
        self.recent().by_position.get(&position).cloned()
    }

    pub(super) fn put(&self, event: &Arc<Event>) {
        let mut recent = self.recent();
        if recent.by_position.insert(event.position, event.clone()).is_some() {
            return;
        }
        recent.order.push_back(event.position);
        recent.bytes += event.weight();
        while SHARED_BYTES < recent.bytes
            && let Some(oldest) = recent.order.pop_front()
        {
            let weight = recent.by_position.remove(&oldest).map_or(0, |it| it.weight());
            recent.bytes -= weight;
        }
    }
}
