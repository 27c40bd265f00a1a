//! What a history has dropped, remembered briefly so that only those who may miss something are told.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher as _,
};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use crate::{
    event::{Position, Topic, Update},
    hub::Interest,
};

/// A topic, hashed: what is remembered has a bounded size, and two topics that share a hash only cause a notice more.
type TopicHash = u64;

/// The last dropped event of each topic, for a bounded number of topics.
#[derive(Debug)]
pub(super) struct Lost {
    capacity: usize,
    hasher: RandomState,
    last: Dropped,
    /// Up to here, any topic may have lost an event: those that had were forgotten.
    forgotten: Dropped,
    by_topic: HashMap<TopicHash, Dropped, RandomState>,
    by_position: BTreeMap<Position, Vec<TopicHash>>,
}

/// A dropped event: where it was, and when it had been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dropped {
    position: Position,
    accepted_at: Timestamp,
}

/// Where a subscriber wants to begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// Behind a position.
    Behind(Position),
    /// With what was accepted at a time.
    Since(Timestamp),
}

impl Begin {
    fn precedes(self, dropped: Dropped) -> bool {
        match self {
            Self::Behind(position) => position < dropped.position,
            Self::Since(time) => time <= dropped.accepted_at,
        }
    }
}

impl Lost {
    pub(super) fn new(capacity: usize) -> Self {
        let nothing = Dropped { position: Position::START, accepted_at: Timestamp::MIN };
        Self {
            capacity,
            hasher: RandomState::default(),
            last: nothing,
            forgotten: nothing,
            by_topic: HashMap::default(),
            by_position: BTreeMap::new(),
        }
    }

    /// The newest position that was dropped.
    pub(super) fn last(&self) -> Position {
        self.last.position
    }

    fn hash(&self, topic: &Topic) -> TopicHash {
        self.hasher.hash_one(topic)
    }

    /// Notes that an event is gone. Events go in the order of their positions.
    pub(super) fn note(&mut self, position: Position, accepted_at: Timestamp, update: &Update) {
        let dropped = Dropped { position, accepted_at };
        self.last = dropped;
        let topics: Vec<TopicHash> = update.topics.iter().map(|it| self.hash(it)).collect();
        for topic in &topics {
            if let Some(before) = self.by_topic.insert(*topic, dropped) {
                self.unlink(before.position, *topic);
            }
        }
        self.by_position.insert(position, topics);
        while self.capacity < self.by_topic.len() {
            let Some((_, topics)) = self.by_position.pop_first() else { break };
            for topic in topics {
                if let Some(dropped) = self.by_topic.remove(&topic) {
                    self.forgotten = dropped;
                }
            }
        }
    }

    fn unlink(&mut self, position: Position, topic: TopicHash) {
        if let Some(topics) = self.by_position.get_mut(&position) {
            topics.retain(|it| *it != topic);
            if topics.is_empty() {
                self.by_position.remove(&position);
            }
        }
    }

    /// Whether an event that `interest` covers may have been dropped from there on.
    pub(super) fn may_concern(&self, begin: Begin, interest: &Interest) -> bool {
        match interest.exact_topics() {
            _ if !begin.precedes(self.last) => false,
            None => true,
            Some(_) if begin.precedes(self.forgotten) => true,
            Some(topics) => topics.iter().any(|topic| {
                self.by_topic.get(&self.hash(topic)).is_some_and(|dropped| begin.precedes(*dropped))
            }),
        }
    }
}
