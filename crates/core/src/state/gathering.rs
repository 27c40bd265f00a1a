//! Changes of members that are not told yet, gathered by topic.
//!
//! The first change of a quiet topic is due at once, later ones once the interval since the last
//! telling is over. What is kept is how the members are to be. So a change that was told without
//! an answer is found to be told already when it is tried again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;

use super::{
    item::{Item, Wanted},
    member::Json,
};
use crate::event::{ClientKey, Topic};

/// Bytes of members that one change tells. The others are told with the next.
const BYTES_OF_CHANGE: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Gathering {
    interval: Duration,
    topics: HashMap<Topic, Gathered, RandomState>,
    /// When topics are looked at next. Those that are being told are not in it.
    due: BTreeSet<(Instant, Topic)>,
    /// Bytes of JSON that waits.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Gathered {
    wanted: Wanted,
    due: Option<Instant>,
    /// When a change was told last.
    told: Option<Instant>,
    is_being_told: bool,
}

fn bytes_of(json: Option<&Json>) -> usize {
    json.map_or(0, |it| it.get().len())
}

/// Whether both are the same change.
fn is_same(one: Option<&Json>, other: Option<&Json>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

impl Gathering {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, topics: HashMap::default(), due: BTreeSet::new(), bytes: 0 }
    }

    /// Bytes of JSON that waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The topics with changes that wait, or that were told a short time ago.
    pub(super) fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.topics.keys()
    }

    /// Whether a member is to be as `json` says. `None` if no change of it waits.
    pub(super) fn wants(
        &self,
        topic: &Topic,
        client: &ClientKey,
        json: Option<&Json>,
    ) -> Option<bool> {
        let wanted = self.topics.get(topic)?.wanted.get(client)?.as_ref();
        Some(wanted.map(|it| it.get()) == json.map(|it| it.get()))
    }

    /// Notes how a member is to be.
    pub(super) fn want(
        &mut self,
        topic: &Topic,
        client: ClientKey,
        member: Option<Json>,
        now: Instant,
    ) {
        let gathered = self.topics.entry(topic.clone()).or_default();
        self.bytes += bytes_of(member.as_ref());
        if let Some(before) = gathered.wanted.insert(client, member) {
            self.bytes -= bytes_of(before.as_ref());
        }
        if gathered.due.is_none() && !gathered.is_being_told {
            let due = gathered.told.map_or(now, |told| now.max(told + self.interval));
            gathered.due = Some(due);
            self.due.insert((due, topic.clone()));
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|it| it.0)
    }

    /// Takes some of what is due. Each is to be given back to [`Self::told`] or [`Self::failed`].
    pub(super) fn take(&mut self, now: Instant, limit: usize, weight: usize) -> Vec<Item> {
        let (mut items, mut taken) = (Vec::new(), 0);
        while items.len() < limit
            && taken < weight
            && self.due.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, topic)) = self.due.pop_first()
        {
            let Some(gathered) = self.topics.get_mut(&topic) else { continue };
            gathered.due = None;
            if gathered.wanted.is_empty() {
                // The topic has been quiet for the interval.
                self.topics.remove(&topic);
                continue;
            }
            gathered.is_being_told = true;
            gathered.told = Some(now);
            let mut bytes = 0;
            let some = gathered.wanted.iter().take_while(|(_, json)| {
                let is_room = bytes < BYTES_OF_CHANGE;
                bytes += bytes_of(json.as_ref());
                is_room
            });
            let item = Item::Members(topic, some.map(|(it, json)| (*it, json.clone())).collect());
            taken += item.weight();
            items.push(item);
        }
        items
    }

    /// Notes that changes are told and stored.
    pub(super) fn told(&mut self, topic: &Topic, told: &Wanted) {
        let interval = self.interval;
        let Some(gathered) = self.topics.get_mut(topic) else { return };
        for (client, json) in told {
            let now = gathered.wanted.get(client);
            if now.is_some_and(|now| is_same(now.as_ref(), json.as_ref())) {
                gathered.wanted.remove(client);
                self.bytes -= bytes_of(json.as_ref());
            }
        }
        let due = gathered.told.unwrap_or_else(Instant::now) + interval;
        self.look_again(topic, due);
    }

    /// Notes that changes could not be stored. They are due again at `due`.
    pub(super) fn failed(&mut self, topic: &Topic, due: Instant) {
        self.look_again(topic, due);
    }

    fn look_again(&mut self, topic: &Topic, due: Instant) {
        let Some(gathered) = self.topics.get_mut(topic) else { return };
        gathered.is_being_told = false;
        gathered.due = Some(due);
        self.due.insert((due, topic.clone()));
    }
}
