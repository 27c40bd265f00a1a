//! What others want done to topics, and what became of it.

use std::fmt;

use super::{MergePatch, StateRefusal, document::View};
use crate::{
    event::{ClientKey, EventId, Position, Topic, Update},
    history::{KeyedReply, Write},
};

/// Steps that one caller wants done in order. Each succeeds or fails by itself. All that succeed
/// are stored together.
#[derive(Default)]
pub struct Work {
    /// The steps.
    pub steps: Vec<Step>,
    /// Makes what is stored beside the changes, from their outcomes. It runs again if the batch has
    /// to be made again, so it looks up what it expects each time.
    pub beside: Option<MakeBeside>,
}

/// The function that makes what is stored beside the changes of a work. It must not wait.
pub type MakeBeside = Box<dyn Fn(&[Did]) -> Beside + Send>;

/// What is stored beside the changes of a work.
#[derive(Debug, Default)]
pub struct Beside {
    /// Records of other shelves. If the condition of one does not hold, nothing of the work is
    /// stored, and the outcome is [`StateError::Sealed`](super::StateError::Sealed).
    pub records: Vec<Write>,
    /// Replies to requests with a key.
    pub replies: Vec<KeyedReply>,
}

impl From<Vec<Write>> for Beside {
    fn from(records: Vec<Write>) -> Self {
        Self { records, replies: Vec::new() }
    }
}

/// One step of a work.
#[derive(Debug, Clone)]
pub enum Step {
    /// Publishes an update.
    Send(Update),
    /// Changes the state of a topic.
    Set {
        /// The topic.
        topic: Topic,
        /// The change.
        change: Change,
        /// The revision that the document must have; 0 if it must have no state.
        at: Option<u64>,
        /// The client that changes it.
        from: Option<ClientKey>,
    },
}

/// A change of the state of a topic.
#[derive(Debug, Clone)]
pub enum Change {
    /// Merges a patch into the state (RFC 7396).
    Patch(MergePatch),
    /// Puts an object in the place of the state. Its members that are `null` are left out.
    Replace(MergePatch),
    /// Removes the state.
    Delete,
}

/// What became of a step.
#[derive(Debug, Clone)]
pub enum Did {
    /// The update is published under this id.
    Sent(EventId),
    /// The document has this revision. A change that changed nothing left the revision as it was.
    Set {
        /// The revision.
        rev: u64,
    },
    /// Nothing was changed, because the document has another revision.
    Conflict(View),
    /// The change was refused.
    Refused(StateRefusal),
}

/// A work that is stored.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// What became of its steps.
    pub dids: Vec<Did>,
    /// The revision of the records beside them. [`Position::START`] if nothing was to be stored.
    pub revision: Position,
}

impl Work {
    /// Creates a work of one change of a state.
    #[must_use]
    pub fn set(topic: Topic, change: Change, at: Option<u64>) -> Self {
        Self { steps: vec![Step::Set { topic, change, at, from: None }], beside: None }
    }

    /// The topics that it changes or publishes to.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.steps.iter().flat_map(|step| match step {
            Step::Send(update) => &*update.topics,
            Step::Set { topic, .. } => std::slice::from_ref(topic),
        })
    }

    /// The approximate memory that it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 128;
        let step = |step: &Step| match step {
            Step::Send(update) => update.weight(),
            Step::Set { topic, change, .. } => {
                topic.as_str().len()
                    + match change {
                        Change::Patch(patch) | Change::Replace(patch) => patch.bytes(),
                        Change::Delete => 0,
                    }
            }
        };
        self.steps.iter().map(|it| FIXED + step(it)).sum()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("steps", &self.steps).finish_non_exhaustive()
    }
}
