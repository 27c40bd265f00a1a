//! The log as this node has it in memory. All readers read here.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::frame::Id;
use crate::{
    event::{Event, Position, Update},
    history::{Located, Missing, Retention, Rules, Start, disk::codec::time, parts::Parts},
    matching::Interest,
};

/// The events of the log.
#[derive(Debug)]
pub(super) struct View {
    pub(super) parts: Parts,
    /// The last numbers of the terms that have ended.
    ends: BTreeMap<u64, u64>,
}

impl View {
    pub(super) fn new(retention: Retention, rules: Rules) -> Self {
        Self { parts: Parts::new(retention, rules), ends: BTreeMap::new() }
    }

    /// Creates a view for reading the log from its beginning. Subscribers may lack everything up to
    /// `base`, which was accepted before `accepted` in microseconds.
    pub(super) fn restarted(&self, base: Id, accepted: i64, ends: BTreeMap<u64, u64>) -> Self {
        Self { parts: self.parts.restarted(base.position(), time(accepted)), ends }
    }

    /// Notes that a term begins after `predecessor`.
    pub(super) fn begin_term(&mut self, id: Id, predecessor: Id) {
        self.ends.insert(predecessor.term, predecessor.number);
        self.parts.skip_to(id.position());
    }

    /// Appends the events of a submission, whose last position is `last`.
    pub(super) fn append(
        &mut self,
        last: Id,
        updates: Vec<Update>,
        accepted: i64,
        events: &mut Vec<Arc<Event>>,
    ) {
        let accepted = time(accepted);
        let mut position = Position(last.position().0 - updates.len().max(1) as u64);
        for update in updates {
            position = Position(position.0 + 1);
            events.push(self.parts.append_at(position, Arc::new(update), accepted));
        }
        self.parts.skip_to(last.position());
    }

    pub(super) fn trim(&mut self, now: Timestamp) {
        self.parts.trim(now);
    }

    /// Looks up where a subscriber begins. A position that lies after the end of its term was
    /// lost; serving goes on from that end.
    pub(super) fn locate(&self, start: &Start, interest: &Interest) -> Located {
        if let Start::Position(position) = start {
            let Id { term, number } = Id::of(*position);
            if let Some(end) = self.ends.get(&term).filter(|end| **end < number) {
                let end = Start::Position(Id { term, number: *end }.position());
                let located = self.parts.locate(&end, interest);
                return Located { missing: Some(Missing::Unknown), ..located };
            }
        }
        self.parts.locate(start, interest)
    }
}
