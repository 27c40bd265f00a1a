//! The clones that are kept: folders that are removed when they are not wanted any more.

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

/// Clones that are made at the same time; the others wait.
const AT_ONCE: usize = 4;

/// Files on a page.
pub(crate) const LONGEST_LISTING: usize = 5000;

/// How long the program waits at its end for clones that are being stopped.
const END: Duration = Duration::from_secs(10);

/// All clones of this program.
#[derive(Debug)]
pub(crate) struct Clones {
    /// Everything is in it.
    folder: TempDir,
    /// Oldest first.
    kept: Mutex<VecDeque<Arc<Clone>>>,
    most: usize,
    pub(crate) turns: Semaphore,
    /// Unfinished ones.
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

/// Counts as an unfinished clone.
#[derive(Debug)]
pub(crate) struct Running(watch::Sender<usize>);

/// A file in a clone.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) size: u64,
}

impl Clones {
    /// None yet; at most `most` are kept, in a new folder within `within`.
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

    /// Keeps [`end`](Self::end) from returning as long as it is there.
    pub(crate) fn running(&self) -> Running {
        self.n_running.send_modify(|it| *it += 1);
        Running(self.n_running.clone())
    }

    /// A new, empty folder. Nobody can guess its name.
    pub(crate) fn new_folder(&self, address: &Address) -> io::Result<Folder> {
        let name = format!("{}-{}", address.name(), Uuid::new_v4().simple());
        let path = self.folder.path().join(&name);
        fs::create_dir(&path)?;
        Ok(Folder { path, name })
    }

    /// Keeps a clone; the oldest may have to go. Returns its page.
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

    /// The clone of this name. Names are only compared: no path is made of what a visitor asks for.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Clone>> {
        self.kept().iter().find(|it| it.folder.name == name).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Clone>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of all that are being made, and removes all that are kept. Threads that served requests may still
    /// hold them.
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
    /// Its files, sorted, and whether there are more of them. Blocks.
    pub(crate) fn files(&self) -> (Vec<File>, bool) {
        let mut found: Vec<_> = walk(&self.folder.path).take(LONGEST_LISTING + 1).collect();
        let are_more = LONGEST_LISTING < found.len();
        found.truncate(LONGEST_LISTING);
        found.sort_by(|a, b| a.name.cmp(&b.name));
        (found, are_more)
    }
}

/// The files below a folder, without git's own. Links are files here and not followed.
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
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
