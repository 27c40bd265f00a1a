//! The limits of shared state, and what may differ between topics.

use std::{fmt, sync::Arc, time::Duration};

use crate::event::Topic;

/// The limits of state and members.
#[derive(Clone)]
pub struct StateOptions {
    /// Bytes of the state of one topic, as JSON.
    pub document_bytes: usize,
    /// Bytes of one patch, as JSON.
    pub patch_bytes: usize,
    /// Top-level members of one state.
    pub names: usize,
    /// Levels of objects and arrays, the object itself included.
    pub depth: usize,
    /// Bytes of the name of a member, at any level.
    pub name_bytes: usize,
    /// Topics that have state or members.
    pub documents: usize,
    /// Memory for all state and members, in bytes.
    pub bytes: usize,
    /// Bytes of the data of one member, as JSON.
    pub member_bytes: usize,
    /// The time between two changes of the members of one topic.
    pub interval: Duration,
    /// Members of one topic above which only their number is told.
    pub listed: usize,
    /// What applies to a topic.
    pub terms: Arc<dyn Fn(&Topic) -> TopicTerms + Send + Sync>,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self {
            document_bytes: 64 << 10,
            patch_bytes: 16 << 10,
            names: 1000,
            depth: 16,
            name_bytes: 256,
            documents: 10_000,
            bytes: 64 << 20,
            member_bytes: 4 << 10,
            interval: Duration::from_millis(200),
            listed: 1000,
            terms: Arc::new(|_| TopicTerms::default()),
        }
    }
}

impl fmt::Debug for StateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateOptions")
            .field("documents", &self.documents)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// What applies to the state and the members of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTerms {
    /// Whether only subscribers with a grant may see it.
    pub private: bool,
    /// The time after its last change at which the state is removed.
    pub ttl: Option<Duration>,
    /// Whether a change names the client that made it.
    pub tell_from: bool,
}

impl Default for TopicTerms {
    fn default() -> Self {
        Self { private: false, ttl: None, tell_from: true }
    }
}
