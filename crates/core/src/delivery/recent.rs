//! The events that a shard read last, available without a lock while it writes to its subscribers.

use std::{collections::VecDeque, sync::Arc};

use crate::event::{Event, Position};

/// Limits on what is kept. Most of these events are in the tail as well, so they cost little.
const EVENTS: usize = 256;
const BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Recent {
    /// All events after this position that the shard has read are here.
    floor: Position,
    events: VecDeque<Arc<Event>>,
    weight: usize,
}

impl Recent {
    /// Creates an empty list, for a shard at `position`.
    pub(super) fn new(position: Position) -> Self {
        Self { floor: position, events: VecDeque::new(), weight: 0 }
    }

    /// Adds the next event that the shard has read.
    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.weight += event.weight();
        self.events.push_back(event);
        while 1 < self.events.len() && (EVENTS < self.events.len() || BYTES < self.weight) {
            let Some(event) = self.events.pop_front() else { break };
            self.weight -= event.weight();
            self.floor = event.position;
        }
    }

    /// The events after `after`; `None` if some of them have been dropped.
    pub(super) fn behind(&self, after: Position) -> Option<impl Iterator<Item = &Arc<Event>>> {
        if after < self.floor {
            return None;
        }
        let first = self.events.partition_point(|event| event.position <= after);
        Some(self.events.range(first..))
    }
}
