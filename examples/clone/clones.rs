//! The finished clones, in folders that are removed when they are no longer wanted.

use std::{
    collections::VecDeque,
    fs, io, iter,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};
use uuid::Uuid;

use crate::address::Address;

/// The limit of concurrent clones; the others wait.
const AT_ONCE: usize = 4;

/// The limit of files on a page.
pub(crate) const LONGEST_LISTING: usize = 5000;

/// How long the program waits at its end for clones to stop.
const END: Duration = Duration::from_secs(10);

/// All clones of this program.
#[derive(Debug)]
pub(crate) struct Clones {
    /// The folder that holds all clones.
    folder: TempDir,
    /// The oldest first.
    kept: Mutex<VecDeque<Arc<Clone>>>,
    most: usize,
    pub(crate) turns: Semaphore,
    /// The number of unfinished clones.
    n_running: watch::Sender<usize>,
}

/// A finished clone.
#[derive(Debug)]
pub(crate) struct Clone {
    pub(crate) address: Address,
    folder: Folder,
}

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    name: String,
}

/// Counts as an unfinished clone until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(watch::Sender<usize>);

/// A file in a clone.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) size: u64,
}

impl Clones {
    /// Creates an empty set of at most `most` clones, in a new folder within `within`.
    pub(crate) fn new(within: Option<&Path>, most: usize) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("clones-");
        let folder = match within {
            Some(within) => builder.tempdir_in(within)?,
            None => builder.tempdir()?,
        };
        Ok(Self {
            folder,
            kept: Mutex::default(),
            most,
            turns: Semaphore::new(AT_ONCE),
            n_running: watch::Sender::new(0),
        })
    }

    /// Makes [`end`](Self::end) wait until the returned guard is dropped.
    pub(crate) fn running(&self) -> Running {
        self.n_running.send_modify(|it| *it += 1);
        Running(self.n_running.clone())
    }

    /// Creates an empty folder with an unguessable name.
    pub(crate) fn new_folder(&self, address: &Address) -> io::Result<Folder> {
        let name = format!("{}-{}", address.name(), Uuid::new_v4().simple());
        let path = self.folder.path().join(&name);
        fs::create_dir(&path)?;
        Ok(Folder { path, name })
    }

    /// Keeps a clone, and removes the oldest if there are too many. Returns the clone's page.
    pub(crate) async fn keep(&self, address: Address, folder: Folder) -> String {
        let page = format!("/clones/{}/", folder.name);
        let too_many = {
            let mut kept = self.kept();
            kept.push_back(Arc::new(Clone { address, folder }));
            let n_too_many = kept.len().saturating_sub(self.most);
            kept.drain(..n_too_many).collect::<Vec<_>>()
        };
        let _ = spawn_blocking(move || drop(too_many)).await;
        page
    }

    /// Returns the clone of this name. Names are only compared: a visitor's input never becomes a
    /// path.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Clone>> {
        self.kept().iter().find(|it| it.folder.name == name).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Clone>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for unfinished clones to end, and removes all clones. Removes the folder itself,
    /// because threads that served requests may still hold clones.
    pub(crate) async fn end(&self) {
        let mut n_running = self.n_running.subscribe();
        let _ = timeout(END, n_running.wait_for(|it| *it == 0)).await;
        let _ = fs::remove_dir_all(self.folder.path());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|it| *it -= 1);
    }
}

impl Clone {
    /// Returns the sorted files, and whether there are more. Blocks.
    pub(crate) fn files(&self) -> (Vec<File>, bool) {
        let mut found: Vec<_> = walk(&self.folder.path).take(LONGEST_LISTING + 1).collect();
        let are_more = LONGEST_LISTING < found.len();
        found.truncate(LONGEST_LISTING);
        found.sort_by(|a, b| a.name.cmp(&b.name));
        (found, are_more)
    }
}

/// Returns the files below a folder, without git's own. Links count as files and are not followed.
fn walk(folder: &Path) -> impl Iterator<Item = File> {
    let mut folders = vec![folder.to_owned()];
    let mut entries = None;
    iter::from_fn(move || {
        loop {
            let Some(Ok(entry)) = entries.as_mut().and_then(fs::ReadDir::next) else {
                entries = fs::read_dir(folders.pop()?).ok();
                continue;
            };
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            let Ok(name) = path.strip_prefix(folder) else { continue };
            if !metadata.is_dir() {
                let name = name.to_string_lossy().into_owned();
                return Some(File { name, size: metadata.len() });
            }
            if name != Path::new(".git") {
                folders.push(path);
            }
        }
    })
}

impl Folder {
    /// Returns the folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
