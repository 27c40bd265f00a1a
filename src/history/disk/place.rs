//! The place of a store: its directory belongs to one gateway at a time, and its file has to keep its name there.
//!
//! A process that has a file open can write to it after the file was renamed or deleted, and the next process would
//! find nothing of that. So the writer compares the open file with the one under the store's name before and after each
//! commit, and answers no publisher while they differ.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::DiskError;

/// The wait between two looks whether another process has let go of the store.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The wait for another process to let go of a store.
pub(super) struct Waiting {
    /// The store's file.
    path: PathBuf,
    patience: Duration,
    began: Instant,
    is_said: bool,
}

impl Waiting {
    pub(super) fn new(path: &Path, patience: Duration) -> Self {
        Self { path: path.to_owned(), patience, began: Instant::now(), is_said: false }
    }

    /// Waits a little. The first time this makes a line in the log.
    ///
    /// # Errors
    /// If it has lasted long enough.
    pub(super) fn go_on(&mut self) -> Result<(), DiskError> {
        let Self { path, patience, began, is_said } = self;
        if *patience <= began.elapsed() {
            return Err(DiskError::InUse { path: path.clone(), waited: *patience });
        }
        if !*is_said {
            let (seconds, path) = (patience.as_secs_f64(), path.display());
            warn!(
                "another process uses the store {path} (history.path); waiting up to {seconds}s for it to end"
            );
            *is_said = true;
        }
        thread::park_timeout(LOOK_AGAIN);
        Ok(())
    }
}

/// The right to the store of a directory, until it is dropped.
///
/// The lock is on the directory, because the lock on the store's file goes with the file if that is renamed or deleted.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held for its lock")] Option<File>);

impl Claim {
    /// Claims a directory, for which another process may have to end first.
    pub(super) fn on(directory: &Path, waiting: &mut Waiting) -> Result<Self, DiskError> {
        // Where directories cannot be locked, the lock on the file has to do.
        let Ok(locked) = File::open(directory) else { return Ok(Self(None)) };
        loop {
            match locked.try_lock() {
                Ok(()) => return Ok(Self(Some(locked))),
                Err(TryLockError::WouldBlock) => waiting.go_on()?,
                Err(TryLockError::Error(error)) => {
                    debug!(%error, "the directory of the store cannot be locked");
                    return Ok(Self(None));
                }
            }
        }
    }
}

/// Why a file is not in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// For those who publish.
    pub(super) reason: &'static str,
    /// For the operator: what was found, and what helps.
    pub(super) advice: String,
}

/// An open file as the system knows it, whatever its name is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
    #[cfg(unix)]
    descriptor: std::os::fd::RawFd,
}

#[cfg(unix)]
impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        use std::os::{fd::AsRawFd as _, unix::fs::MetadataExt as _};
        let metadata = file.metadata()?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        Ok(Self { device, inode, descriptor: file.as_raw_fd() })
    }

    /// Whether the file has this name. While it is open no other file gets its number, so one `stat` is enough.
    pub(super) fn is_at(&self, path: &Path) -> Result<(), Misplaced> {
        use std::os::unix::fs::MetadataExt as _;
        let (reason, found) = match std::fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => return Ok(()),
            Ok(_) => (
                "another file has the name of its store",
                format!("{} is another file than the one in use", path.display()),
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = path.parent().unwrap_or(path);
                let found = match directory.exists() {
                    true => format!("{} was deleted or renamed", path.display()),
                    false => {
                        format!("the directory {} was deleted or renamed", directory.display())
                    }
                };
                ("its store is gone from its place", found)
            }
            Err(error) => (
                "the place of its store cannot be seen",
                format!("{} cannot be seen: {error}", path.display()),
            ),
        };
        let copy = match cfg!(target_os = "linux") {
            true => format!(
                " If it was deleted, copy /proc/{}/fd/{} first: that is the whole store while this process runs.",
                std::process::id(),
                self.descriptor
            ),
            false => String::new(),
        };
        let advice = format!(
            "{found} (history.path). Put the file that is in use back under its name, and all goes on by itself.{copy} \
             Any other file there, a copy or a new store, needs a restart"
        );
        Err(Misplaced { reason, advice })
    }
}

/// Other systems do not let go of the name of a file that is open.
#[cfg(not(unix))]
impl Identity {
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(super) fn of(_file: &File) -> io::Result<Self> {
        Ok(Self {})
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on Unix")]
    pub(super) fn is_at(&self, _path: &Path) -> Result<(), Misplaced> {
        Ok(())
    }
}
