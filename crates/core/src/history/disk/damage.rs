//! Damage of a store: the errors for it, and how it is met without a panic.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use redb::Error;

/// An error for a record that this program would not have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::history) enum Unreadable {
    /// A newer program wrote it.
    #[error("a record has version {0}, which is newer than this program")]
    Version(u8),
    /// It ends early, or has bytes that are not text where text is expected.
    #[error("a record is damaged")]
    Damaged,
    /// It is not what was written under its key.
    #[error("a record of the table {table} is damaged: its checksum is wrong")]
    Checksum {
        /// The table of the record.
        table: &'static str,
    },
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::Corrupted(unreadable.to_string())
    }
}

/// The error for content that contradicts the rest of the store.
pub(super) fn damaged(what: &str) -> Error {
    Error::Corrupted(what.to_owned())
}

/// Runs work that may meet a damaged page, and turns a panic into an error. The library panics on
/// some damaged pages. One such page must not end the writer's or a reader's thread, nor the
/// process.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::Corrupted("a page cannot be understood".to_owned())))
}

/// Whether the error means that the store is damaged, so that a retry does not help.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Corrupted(_)
            | Error::TableDoesNotExist(_)
            | Error::TableTypeMismatch { .. }
            | Error::TypeDefinitionChanged { .. }
            | Error::TableIsMultimap(_)
    ) || matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::InvalidData)
}
