//! The events that a shard looked at last, at hand without a lock while its subscribers are written to.

use std::{collections::VecDeque, sync::Arc};

use crate::event::{Event, Position};

/// The most that is kept. The tail has these events too, mostly, so they cost little.
const EVENTS: usize = 256;
const BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Recent {
    /// Everything behind this position that the shard has looked at is here.
    floor: Position,
    events: VecDeque<Arc<Event>>,
    weight: usize,
}

impl Recent {
    /// Nothing, of a shard that has come to `position`.
    pub(super) fn new(position: Position) -> Self {
        Self { floor: position, events: VecDeque::new(), weight: 0 }
    }

    /// Adds the next event that the shard looks at.
    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.weight += event.weight();
        self.events.push_back(event);
        while 1 < self.events.len() && (EVENTS < self.events.len() || BYTES < self.weight) {
            let Some(event) = self.events.pop_front() else { break };
            self.weight -= event.weight();
            self.floor = event.position;
        }
    }

    /// The events behind `after`, if none of them is gone already.
    pub(super) fn behind(&self, after: Position) -> Option<impl Iterator<Item = &Arc<Event>>> {
        if after < self.floor {
            return None;
        }
        let first = self.events.partition_point(|event| event.position <= after);
        Some(self.events.range(first..))
    }
}
