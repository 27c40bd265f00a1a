//! Whom a dropped event was for.

use crate::event::{Audience, Topic, Update};

/// The subscribers that a dropped event was for, as far as the history remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reach {
    /// Every subscriber that asked for one of its topics.
    Open = 0,
    /// A job event: for subscribers that named the job, or that searched with a grant for it.
    Job = 1,
    /// A private event with one topic.
    Private = 2,
    /// A private event with several topics. A grant for one of them is enough for all.
    Shared = 3,
    /// An event on the topic of a client, for this client only.
    Client = 4,
}

impl Reach {
    pub(super) const COUNT: usize = 5;

    /// All variants, in the order of their discriminants.
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::Open, Self::Job, Self::Private, Self::Shared, Self::Client];

    /// The reach of an update; `None` if it reaches no subscriber.
    pub(super) fn of(update: &Update) -> Option<Self> {
        match update.lane.audience() {
            Audience::Nodes => return None,
            Audience::Owner => return Some(Self::Client),
            Audience::Matching => {}
        }
        Some(match update.private {
            true if update.topics.len() == 1 => Self::Private,
            true => Self::Shared,
            false if update.topics.iter().all(Topic::is_job) => Self::Job,
            false => Self::Open,
        })
    }

    /// The stored form.
    pub(super) fn as_byte(self) -> u8 {
        self as u8
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_byte() == byte)
    }
}
