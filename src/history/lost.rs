//! What a history has dropped, remembered briefly so that only those who may miss something are told.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use super::hash::hash;
use crate::{
    event::{Position, Topic},
    hub::Interest,
};

/// A topic, hashed: what is remembered has a bounded size, and two topics that share a hash only cause a notice more.
pub(super) type TopicHash = u64;

/// The beginning of the hash by which a store on disk finds the topic.
pub(super) fn topic_hash(topic: &Topic) -> TopicHash {
    let hash = hash(topic.as_str());
    let mut short = [0; size_of::<TopicHash>()];
    short.copy_from_slice(&hash[..size_of::<TopicHash>()]);
    TopicHash::from_be_bytes(short)
}

/// The last dropped event of each topic, for a bounded number of topics.
#[derive(Debug)]
pub(super) struct Lost {
    capacity: usize,
    last: Dropped,
    /// Up to here, any topic may have lost an event: those that had were forgotten.
    forgotten: Dropped,
    /// Counts what was dropped.
    n_dropped: u64,
    by_topic: HashMap<TopicHash, Newest, RandomState>,
    by_position: BTreeMap<Position, Vec<TopicHash>>,
}

/// A dropped event: where it was, and when it had been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dropped {
    pub(super) position: Position,
    pub(super) accepted_at: Timestamp,
}

/// The newest dropped event of a topic, and how many had been dropped when it last lost one.
#[derive(Debug, Clone, Copy)]
struct Newest {
    dropped: Dropped,
    count: u64,
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
            last: nothing,
            forgotten: nothing,
            n_dropped: 0,
            by_topic: HashMap::default(),
            by_position: BTreeMap::new(),
        }
    }

    /// The newest position that was dropped.
    pub(super) fn last(&self) -> Position {
        self.last.position
    }

    /// Grows with what is dropped.
    pub(super) fn n_dropped(&self) -> u64 {
        self.n_dropped
    }

    /// Notes that an event of these topics is gone.
    pub(super) fn note(&mut self, dropped: Dropped, topics: impl IntoIterator<Item = TopicHash>) {
        self.last = self.last.max(dropped);
        self.n_dropped += 1;
        let count = self.n_dropped;
        for topic in topics {
            let before = self.by_topic.get(&topic).map(|it| it.dropped);
            let newest = before.map_or(dropped, |before| before.max(dropped));
            self.by_topic.insert(topic, Newest { dropped: newest, count });
            if before != Some(newest) {
                if let Some(before) = before {
                    self.unlink(before.position, topic);
                }
                self.by_position.entry(newest.position).or_default().push(topic);
            }
        }
        while self.capacity < self.by_topic.len() {
            let Some((_, topics)) = self.by_position.pop_first() else { break };
            for topic in topics {
                if let Some(newest) = self.by_topic.remove(&topic) {
                    self.forget(newest.dropped);
                }
            }
        }
    }

    /// Notes that events up to this one are gone of which nothing else is known.
    pub(super) fn forget(&mut self, dropped: Dropped) {
        self.last = self.last.max(dropped);
        self.forgotten = self.forgotten.max(dropped);
        self.n_dropped = self.n_dropped.max(1);
    }

    fn unlink(&mut self, position: Position, topic: TopicHash) {
        if let Some(topics) = self.by_position.get_mut(&position) {
            topics.retain(|it| *it != topic);
            if topics.is_empty() {
                self.by_position.remove(&position);
            }
        }
    }

    /// If events that `interest` covers may have been dropped from there on: how many had been dropped in all when the last
    /// of them was.
    pub(super) fn concerning(&self, begin: Begin, interest: &Interest) -> Option<u64> {
        match interest.exact_topics() {
            _ if !begin.precedes(self.last) => None,
            None => Some(self.n_dropped),
            Some(_) if begin.precedes(self.forgotten) => Some(self.n_dropped),
            Some(topics) => {
                let newest = topics.iter().filter_map(|it| self.by_topic.get(&topic_hash(it)));
                newest.filter(|it| begin.precedes(it.dropped)).map(|it| it.count).max()
            }
        }
    }

    /// Whether an event that `interest` covers may have been dropped from there on.
    pub(super) fn may_concern(&self, begin: Begin, interest: &Interest) -> bool {
        self.concerning(begin, interest).is_some()
    }
}
