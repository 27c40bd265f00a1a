//! What a change of a job was.

/// What watchers are notified of after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// Nothing: the request was a repetition.
    Nothing,
    /// New progress. Its event may be delayed and merged with later progress.
    Progress,
    /// New log text from this offset on.
    Log(u64),
    /// A new state.
    State,
    /// A question.
    Asked,
    /// An answer, and with it a new state.
    Answered,
}
