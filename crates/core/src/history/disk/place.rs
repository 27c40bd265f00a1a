//! The place of a store. Its directory belongs to one gateway at a time, and its file must keep its
//! name there.
//!
//! A process can write to an open file after it was renamed or deleted, but the next process would
//! find none of that. So the writer compares the open file with the one under the store's name
//! before and after each commit. It acknowledges nothing while they differ.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::DiskError;

/// The interval between checks whether another process has released the store.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The wait for another process to release a store.
pub(super) struct Waiting {
    /// The path of the store's file.
    path: PathBuf,
    patience: Duration,
    began: Instant,
    is_said: bool,
}

impl Waiting {
    pub(super) fn new(path: &Path, patience: Duration) -> Self {
        Self { path: path.to_owned(), patience, began: Instant::now(), is_said: false }
    }

    /// Waits a short time. The first call logs a warning.
    ///
    /// # Errors
    /// Fails if the patience is used up.
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
        #[expect(clippy::disallowed_methods, reason = "a gateway waits only before it serves")]
        thread::sleep(LOOK_AGAIN);
        Ok(())
    }
}

/// The claim to the store of a directory, held until it is dropped.
///
/// The lock is on the directory, because a lock on the store's file moves with the file when it is
/// renamed or deleted.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held for its lock")] Option<File>);

impl Claim {
    /// Claims a directory. Waits for another process to release it.
    pub(super) fn on(directory: &Path, waiting: &mut Waiting) -> Result<Self, DiskError> {
        // Where directories cannot be locked, the lock on the file must suffice.
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

/// The reason why a file is not in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// The reason shown to publishers.
    pub(super) reason: &'static str,
    /// The advice for the operator: what was found, and what helps.
    pub(super) advice: String,
}

/// The identity of an open file in the system, independent of its name.
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

    /// Checks that the file has this name. One `stat` is enough, because the inode number of an
    /// open file is not reused.
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

/// Other systems keep the name of an open file.
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
