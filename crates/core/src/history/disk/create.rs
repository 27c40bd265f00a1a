//! Creating a store. The store is filled under another name and renamed at the end. So a file with
//! the store's name is complete, and an empty or short one is damaged, whenever the process was
//! killed.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, Error, backends::FileBackend};

use super::{DiskError, DiskOptions, damage::guarded};

/// Creates a store that `fill` fills. Fails if a store exists by the time this is done. The
/// directory must be claimed.
pub(super) fn create<T, E: From<DiskError>>(
    options: &DiskOptions,
    path: &Path,
    fill: impl FnOnce(&Database) -> Result<T, E>,
) -> Result<T, E> {
    let unfinished = unfinished(path);
    let file = claim(&unfinished).map_err(|error| DiskError::new(path, &error))?;
    let filled = fill_and_rename(options, path, file, fill).inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })?;
    if let Some(directory) = path.parent() {
        // Otherwise a power loss could remove the file's name, and all its contents with it.
        sync_directory(directory).map_err(|error| DiskError::refused(path, &error))?;
    }
    Ok(filled)
}

/// Fills the unfinished store and gives it its name.
fn fill_and_rename<T, E: From<DiskError>>(
    options: &DiskOptions,
    path: &Path,
    file: File,
    fill: impl FnOnce(&Database) -> Result<T, E>,
) -> Result<T, E> {
    let refused = |error: io::Error| DiskError::refused(path, &error);
    let failed = |error: Error| DiskError::new(path, &error);
    // The file may contain the work of a process that was killed.
    file.set_len(0).map_err(refused)?;
    let database = guarded(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(options.cache_bytes);
        Ok(builder.create_with_backend(FileBackend::new(file)?)?)
    });
    let database = database.map_err(failed)?;
    let filled = fill(&database)?;
    guarded(|| Ok(database.close()?)).map_err(failed)?;
    if path.exists() {
        return Err(failed(Error::DatabaseAlreadyOpen).into());
    }
    fs::rename(unfinished(path), path).map_err(refused)?;
    Ok(filled)
}

/// The path of an unfinished store.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

/// Opens the unfinished store for this process alone. Where directories cannot be locked, this lock
/// separates two processes.
fn claim(path: &Path) -> Result<File, Error> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    match file.try_lock() {
        // Another process may have finished this file meanwhile, which makes it a store.
        Ok(()) if is_at(&file, path) => Ok(file),
        Ok(()) | Err(fs::TryLockError::WouldBlock) => Err(Error::DatabaseAlreadyOpen),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    file.metadata().map(identity).ok() == fs::metadata(path).map(identity).ok()
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Makes the names in a directory safe from a power loss.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Removes the permissions of other users from a store's file.
#[cfg(unix)]
pub(super) fn tighten(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o700))?;
        tracing::warn!(
            path = %path.display(),
            "others could read the store (mode {mode:03o}); now only its owner can ({:03o})",
            mode & 0o700,
        );
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn tighten(_path: &Path, _file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::history::disk::tests::options;

    #[test]
    fn nothing_is_left_of_a_store_that_could_not_be_created() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tidegate.redb");
        // A device cannot be truncated.
        std::os::unix::fs::symlink("/dev/zero", unfinished(&path)).expect("a link");
        let created: Result<(), DiskError> =
            create(&options(directory.path()), &path, |_| unreachable!("it is no store"));
        assert!(matches!(created, Err(DiskError::Refused { .. })), "{created:?}");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0);
    }
}
