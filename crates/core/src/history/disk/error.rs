//! The reasons why a store cannot be opened.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use redb::Error;

use super::tables::FORMAT;

/// The reason why a store cannot be opened, worded for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another process uses the store.
    #[error("the store {} is in use by another process, which did not end within {}s; two gateways need two directories (history.path)", .path.display(), .waited.as_secs_f64())]
    InUse {
        /// The file.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// A newer program wrote the store.
    #[error("the store {} has format {found}, but this program knows only {FORMAT}; run the newer program, or move the store away", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The store's format.
        found: i64,
    },
    /// The store cannot be read.
    #[error("the store {} is damaged: {reason}; `tidegate store verify` looks at all of it, `tidegate store export` saves what can be read, and with the file moved away the gateway starts with an empty store", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system denies access.
    #[error("the store {} cannot be used: {reason}", .path.display())]
    Refused {
        /// The file or the directory.
        path: PathBuf,
        /// The system's message.
        reason: String,
        /// The kind of the system's error.
        kind: io::ErrorKind,
    },
}

impl DiskError {
    pub(super) fn new(path: &Path, error: &Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error {
            Error::DatabaseAlreadyOpen => Self::InUse { path, waited: Duration::ZERO },
            Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Refused { path, reason, kind: error.kind() }
            }
            _ => Self::Damaged { path, reason },
        }
    }

    pub(super) fn refused(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        Self::Refused { path, reason: error.to_string(), kind: error.kind() }
    }

    /// The reason why a store cannot be written to, if it may still be readable.
    pub(super) fn forbids_writing(&self) -> Option<&str> {
        use io::ErrorKind::{
            FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
        };
        match self {
            Self::Refused {
                reason,
                kind:
                    FileTooLarge | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull,
                ..
            } => Some(reason),
            _ => None,
        }
    }
}
