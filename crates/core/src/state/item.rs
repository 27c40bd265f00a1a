//! What waits for the writer.

use std::collections::BTreeMap;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{StateError, Stored, Work, member::Json};
use crate::event::{ClientKey, Topic};

/// One thing that the writer does.
#[derive(Debug)]
pub(super) enum Item {
    /// A work of a caller.
    Work(Ask),
    /// Changes of the members of a topic.
    Members(Topic, Wanted),
    /// The end of a state whose time is over.
    Over(Topic),
}

/// The members of a topic as they are to be; `None` for those that have left.
pub(super) type Wanted = BTreeMap<ClientKey, Option<Json>>;

/// A work, and who waits for it.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) work: Work,
    pub(super) weight: usize,
    pub(super) reply: oneshot::Sender<Result<Stored, StateError>>,
    /// The room that it takes among the works that wait.
    pub(super) _room: OwnedSemaphorePermit,
}

impl Item {
    /// The approximate bytes of its events and records.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 256;
        match self {
            Self::Work(ask) => FIXED + ask.weight,
            Self::Members(_, wanted) => {
                let json = |it: &Option<Json>| it.as_ref().map_or(0, |it| it.get().len());
                FIXED + wanted.values().map(|it| FIXED + json(it)).sum::<usize>()
            }
            Self::Over(_) => FIXED,
        }
    }
}
