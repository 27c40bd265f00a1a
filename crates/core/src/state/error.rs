//! Why a change is refused, and why a work is not stored.

use crate::hub::PublishError;

/// The reason why one change is refused. The message names the limit and its setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateRefusal {
    /// The text is not JSON.
    #[error("the state is not JSON: {0}")]
    Malformed(String),
    /// The value is not an object.
    #[error("the state is not a JSON object")]
    NotAnObject,
    /// A patch is too long.
    #[error("the patch is {bytes} bytes long; at most {limit} are allowed (state.patch_bytes)")]
    PatchTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The state would be too long.
    #[error(
        "the state would be {bytes} bytes long; at most {limit} are allowed (state.document_bytes)"
    )]
    DocumentTooLarge {
        /// Its bytes after the change.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The value is nested too deeply.
    #[error("the value has more than {limit} levels of objects and arrays (state.depth)")]
    TooDeep {
        /// The most levels allowed.
        limit: usize,
    },
    /// A name is too long.
    #[error("a name is {bytes} bytes long; at most {limit} are allowed (state.name_bytes)")]
    NameTooLong {
        /// Its bytes.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The state would have too many top-level members.
    #[error("the state would have more than {limit} names at its top level (state.names)")]
    TooManyNames {
        /// The most allowed.
        limit: usize,
    },
    /// The data of a member is too long.
    #[error("the member's data is {bytes} bytes long; at most {limit} are allowed (members.bytes)")]
    MemberTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// There are too many topics with state or members.
    #[error("{limit} topics have state or members, which is the limit (state.documents)")]
    TooManyDocuments {
        /// The most allowed.
        limit: usize,
    },
    /// The memory for state and members is used up.
    #[error("state and members take all of their {limit} bytes (state.bytes)")]
    Full {
        /// The most bytes.
        limit: usize,
    },
}

impl StateRefusal {
    /// The limit that was exceeded.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        match self {
            Self::Malformed(_) | Self::NotAnObject => None,
            Self::PatchTooLarge { limit, .. }
            | Self::DocumentTooLarge { limit, .. }
            | Self::TooDeep { limit }
            | Self::NameTooLong { limit, .. }
            | Self::TooManyNames { limit }
            | Self::MemberTooLarge { limit, .. }
            | Self::TooManyDocuments { limit }
            | Self::Full { limit } => Some(*limit),
        }
    }

    /// The setting with the limit.
    #[must_use]
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(_) | Self::NotAnObject => None,
            Self::PatchTooLarge { .. } => Some("state.patch_bytes"),
            Self::DocumentTooLarge { .. } => Some("state.document_bytes"),
            Self::TooDeep { .. } => Some("state.depth"),
            Self::NameTooLong { .. } => Some("state.name_bytes"),
            Self::TooManyNames { .. } => Some("state.names"),
            Self::MemberTooLarge { .. } => Some("members.bytes"),
            Self::TooManyDocuments { .. } => Some("state.documents"),
            Self::Full { .. } => Some("state.bytes"),
        }
    }

    /// Whether the same change may be accepted later, when others have gone.
    #[must_use]
    pub fn is_for_lack_of_room(&self) -> bool {
        matches!(self, Self::TooManyDocuments { .. } | Self::Full { .. })
    }
}

/// The reason why nothing of a work was stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// The history did not store it, or the outcome is unknown.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A record that the work stores beside its changes is not as the work expects.
    #[error("a record that is stored beside the changes has changed meanwhile")]
    Sealed,
    /// A key of the work's replies already has this reply.
    #[error("the request has been answered before")]
    Already(Box<[u8]>),
    /// Other processes changed the documents each time.
    #[error("other changes were faster each time; try again")]
    Contended,
}
