//! What a history has dropped, remembered briefly so that only those who may miss something are told.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::{
    event::{Position, Topic, Update},
    hub::Interest,
};

/// The position of the last dropped event of each topic, for a bounded number of topics.
#[derive(Debug)]
pub(super) struct Lost {
    capacity: usize,
    last: Position,
    /// Up to here, any topic may have lost an event: those that had were forgotten.
    forgotten: Position,
    by_topic: HashMap<Topic, Position, RandomState>,
    by_position: BTreeMap<Position, Vec<Topic>>,
}

impl Lost {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            last: Position::START,
            forgotten: Position::START,
            by_topic: HashMap::default(),
            by_position: BTreeMap::new(),
        }
    }

    /// The newest position that was dropped.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Notes that the event at `position` is gone. Events go in the order of their positions.
    pub(super) fn note(&mut self, position: Position, update: &Update) {
        self.last = position;
        for topic in &update.topics {
            if let Some(before) = self.by_topic.insert(topic.clone(), position) {
                self.unlink(before, topic);
            }
        }
        self.by_position.insert(position, update.topics.to_vec());
        while self.capacity < self.by_topic.len() {
            let Some((oldest, topics)) = self.by_position.pop_first() else { break };
            for topic in topics {
                self.by_topic.remove(&topic);
            }
            self.forgotten = oldest;
        }
    }

    fn unlink(&mut self, position: Position, topic: &Topic) {
        if let Some(topics) = self.by_position.get_mut(&position) {
            topics.retain(|it| it != topic);
            if topics.is_empty() {
                self.by_position.remove(&position);
            }
        }
    }

    /// Whether an event behind `after` that `interest` covers may have been dropped.
    pub(super) fn may_concern(&self, after: Position, interest: &Interest) -> bool {
        match interest.exact_topics() {
            _ if self.last <= after => false,
            None => true,
            Some(_) if after < self.forgotten => true,
            Some(topics) => topics
                .iter()
                .any(|topic| self.by_topic.get(topic).is_some_and(|last| after < *last)),
        }
    }
}
