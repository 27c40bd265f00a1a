//! The options of a store that operators may set.

use std::{path::PathBuf, time::Duration};

use crate::{
    event::Update,
    history::{
        ReplyLimits,
        rules::{Bounds, Rules},
    },
};

/// The settings of a store.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The directory.
    pub path: PathBuf,
    /// When commits become safe.
    pub durability: Durability,
    /// The duration after which a commit counts as slow.
    pub slow_commit: Duration,
    /// Bytes of the store that are cached in memory.
    pub cache_bytes: usize,
    /// The number of reader threads.
    pub readers: usize,
    /// How long to wait for another process that still uses the store but is about to end.
    pub patience: Duration,
    /// How long an event is kept if no rule sets another age.
    pub age: Duration,
    /// The byte limit for all ordinary events, including their index entries.
    pub bytes: u64,
    /// The limit on the number of all ordinary events.
    pub events: u64,
    /// The parts of the history. The limits above are for all ordinary events together.
    pub rules: Rules,
    /// Dropped events that are remembered to notify late subscribers of what they missed.
    pub remembered: u64,
    /// The limits of the replies that are kept.
    pub replies: ReplyLimits,
}

/// When a commit becomes safe from a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the publisher is answered.
    Sync,
    /// At most this long afterwards. Newer commits are lost if the process is killed.
    Interval(Duration),
}

impl DiskOptions {
    /// The number of the part of the history that an update belongs to.
    pub(super) fn part_of(&self, update: &Update) -> u32 {
        u32::try_from(self.rules.part_of(update)).unwrap_or(u32::MAX)
    }

    /// The most events of one topic in a part.
    pub(super) fn events_per_topic(&self, part: u32) -> Option<u64> {
        self.rules.limits(part as usize).events_per_topic
    }

    /// The bounds of a part.
    pub(super) fn bounds(&self, part: u32) -> Bounds {
        self.rules.bounds(part as usize, self.age)
    }

    /// How long a reply is kept, in microseconds.
    pub(super) fn age_of_replies(&self) -> i64 {
        i64::try_from(self.replies.age.as_micros()).unwrap_or(i64::MAX)
    }
}
