//! All jobs of a gateway, and the indexes over them: by key, by what can be claimed, by state.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use tokio::sync::{Mutex, oneshot, watch};

use super::{Job, JobState, agenda::Agenda, record};
use crate::history::Record;

/// A job and its watchers. The lock of the job is held while a change is committed. It is taken
/// before the locks of the table and of the agenda; see the order at the tracker's state.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) kind: String,
    pub(super) key: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) job: Mutex<Job>,
    /// The job's version, for watchers.
    pub(super) version: watch::Sender<u64>,
    pub(super) agenda: std::sync::Mutex<Agenda>,
}

/// A worker that waits for a job.
#[derive(Debug)]
struct Waiter {
    kinds: Vec<String>,
    offer: oneshot::Sender<Arc<Cell>>,
}

/// The answer to a worker that asks for a job.
pub(super) enum Assignment {
    /// A job.
    Now(Arc<Cell>),
    /// A place among the waiting workers.
    Wait(oneshot::Receiver<Arc<Cell>>),
}

#[derive(Debug)]
pub(super) struct Table {
    tombstone_capacity: usize,
    /// The limit of `weight`, in bytes.
    max_weight: usize,
    /// The weights of all jobs together, in bytes.
    weight: usize,
    jobs: BTreeMap<u64, Arc<Cell>>,
    by_id: HashMap<String, u64>,
    by_key: HashMap<(String, String), u64>,
    /// Claimable jobs by type, the oldest first.
    claimable: BTreeMap<String, BTreeMap<u64, Arc<Cell>>>,
    /// The numbers of the ended jobs.
    ended: BTreeSet<u64>,
    waiters: VecDeque<Waiter>,
    counts: BTreeMap<(String, JobState), u64>,
    tombstones: HashSet<String>,
    tombstone_order: VecDeque<(u64, String)>,
    next_number: u64,
    /// Whether the history must record which jobs are forgotten.
    is_kept: bool,
    /// Records to be written with the next change.
    unwritten: Vec<Record>,
}

impl Table {
    /// Creates an empty table. With `is_kept`, the caller has to call [`Table::take_unwritten`]
    /// regularly.
    pub(super) fn new(tombstone_capacity: usize, max_weight: usize, is_kept: bool) -> Self {
        Self {
            tombstone_capacity,
            max_weight,
            weight: 0,
            jobs: BTreeMap::new(),
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            claimable: BTreeMap::new(),
            ended: BTreeSet::new(),
            waiters: VecDeque::new(),
            counts: BTreeMap::new(),
            tombstones: HashSet::new(),
            tombstone_order: VecDeque::new(),
            next_number: 1,
            is_kept,
            unwritten: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Inserts a job. [`Table::grow`] or [`Table::weigh`] has counted its weight before.
    pub(super) fn insert(&mut self, cell: &Arc<Cell>) {
        self.by_id.insert(cell.id.clone(), cell.number);
        self.jobs.insert(cell.number, cell.clone());
        self.next_number = self.next_number.max(cell.number + 1);
        let _ = self.reserve_key(cell);
    }

    /// Whether the table holds this very cell.
    pub(super) fn holds(&self, cell: &Arc<Cell>) -> bool {
        self.jobs.get(&cell.number).is_some_and(|it| Arc::ptr_eq(it, cell))
    }

    /// Reserves the type and key for a job. Returns `false` if another job has them.
    pub(super) fn reserve_key(&mut self, cell: &Cell) -> bool {
        let Some(key) = &cell.key else { return true };
        let holder = self.by_key.entry((cell.kind.clone(), key.clone())).or_insert(cell.number);
        *holder == cell.number
    }

    /// Releases the key of a job that has ended.
    pub(super) fn release_key(&mut self, job: &Job) {
        let Some(key) = job.key.as_ref().filter(|_| job.state.is_final()) else { return };
        let key = (job.kind.clone(), key.clone());
        if self.by_key.get(&key) == Some(&job.number) {
            self.by_key.remove(&key);
        }
    }

    /// Makes room by forgetting the ended job that was created first. Returns `false` if none could
    /// be forgotten.
    pub(super) fn forget_oldest_ended(&mut self) -> bool {
        let ended: Vec<Arc<Cell>> =
            self.ended.iter().filter_map(|number| self.jobs.get(number).cloned()).take(8).collect();
        for cell in ended {
            // A locked job may be about to be retried. Waiting for it could deadlock, because its
            // holder may wait for the table.
            if let Ok(job) = cell.job.try_lock() {
                self.remove(&job, true);
                return true;
            }
        }
        false
    }

    /// Reserves `growth` bytes for a new or growing job. Ended jobs are forgotten for it, the
    /// oldest first. Returns `false`, and reserves nothing, if that is not enough.
    pub(super) fn grow(&mut self, growth: usize) -> bool {
        while 0 < growth && self.max_weight < self.weight.saturating_add(growth) {
            if !self.forget_oldest_ended() {
                return false;
            }
        }
        self.weight += growth;
        true
    }

    /// Counts a job even if there is no room for it.
    pub(super) fn weigh(&mut self, job: &Job) {
        self.weight += job.weight();
    }

    /// Releases bytes that a job no longer takes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.weight = self.weight.saturating_sub(bytes);
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Cell>> {
        self.jobs.get(self.by_id.get(id)?).cloned()
    }

    /// Returns the unfinished job of a type and key.
    pub(super) fn with_key(&self, kind: &str, key: &str) -> Option<Arc<Cell>> {
        let number = self.by_key.get(&(kind.to_owned(), key.to_owned()))?;
        self.jobs.get(number).cloned()
    }

    pub(super) fn is_gone(&self, id: &str) -> bool {
        self.tombstones.contains(id)
    }

    /// Returns all jobs, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.jobs.values().rev()
    }

    /// Returns the oldest claimable job of each type.
    pub(super) fn oldest_claimable(&self) -> impl Iterator<Item = (&String, &Arc<Cell>)> {
        self.claimable.iter().filter_map(|(kind, queue)| Some((kind, queue.first_key_value()?.1)))
    }

    pub(super) fn counts(&self) -> &BTreeMap<(String, JobState), u64> {
        &self.counts
    }

    /// Updates the counts and indexes after a change of state.
    pub(super) fn moved(&mut self, job: &Job, before: Option<JobState>) {
        if let Some(before) = before {
            self.uncount(&job.kind, before);
        }
        *self.counts.entry((job.kind.clone(), job.state)).or_default() += 1;
        if job.state != JobState::Queued {
            self.withdraw(&job.kind, job.number);
        }
        if job.state.is_final() {
            self.ended.insert(job.number);
        } else {
            self.ended.remove(&job.number);
        }
        self.release_key(job);
    }

    /// Removes a job from the claimable ones.
    fn withdraw(&mut self, kind: &str, number: u64) -> Option<Arc<Cell>> {
        let queue = self.claimable.get_mut(kind)?;
        let cell = queue.remove(&number);
        if queue.is_empty() {
            self.claimable.remove(kind);
        }
        cell
    }

    fn uncount(&mut self, kind: &str, state: JobState) {
        let key = (kind.to_owned(), state);
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
    }

    /// Forgets a job. If it was ever visible, leaves a tombstone for a while.
    pub(super) fn remove(&mut self, job: &Job, was_seen: bool) {
        if self.jobs.remove(&job.number).is_some() {
            self.shrink(job.weight());
        }
        self.by_id.remove(&job.id);
        self.ended.remove(&job.number);
        self.withdraw(&job.kind, job.number);
        if let Some(key) = &job.key {
            let key = (job.kind.clone(), key.clone());
            if self.by_key.get(&key) == Some(&job.number) {
                self.by_key.remove(&key);
            }
        }
        if !was_seen {
            return;
        }
        self.uncount(&job.kind, job.state);
        if self.is_kept {
            self.unwritten.append(&mut record::forgotten(job));
        }
        self.bury(job.number, job.id.clone());
    }

    /// Adds a tombstone, which says that a job existed, and drops the oldest beyond the limit.
    pub(super) fn bury(&mut self, number: u64, id: String) {
        self.next_number = self.next_number.max(number + 1);
        self.tombstones.insert(id.clone());
        self.tombstone_order.push_back((number, id));
        while self.tombstone_capacity < self.tombstone_order.len() {
            if let Some((number, oldest)) = self.tombstone_order.pop_front() {
                self.tombstones.remove(&oldest);
                if self.is_kept {
                    self.unwritten.push(record::tombstone_gone(number));
                }
            }
        }
    }

    /// Takes back records that could not be written. They are written with the next change.
    pub(super) fn put_back(&mut self, mut unwritten: Vec<Record>) {
        unwritten.append(&mut self.unwritten);
        self.unwritten = unwritten;
    }

    /// Returns the records of forgotten jobs, to be written.
    pub(super) fn take_unwritten(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.unwritten)
    }

    /// Offers a job to the worker of its type that has waited longest, or else to the next that
    /// asks.
    pub(super) fn offer(&mut self, mut cell: Arc<Cell>) {
        while let Some(at) = self.waiters.iter().position(|it| it.kinds.contains(&cell.kind)) {
            let Some(waiter) = self.waiters.remove(at) else { break };
            match waiter.offer.send(cell) {
                Ok(()) => return,
                Err(refused) => cell = refused,
            }
        }
        self.claimable.entry(cell.kind.clone()).or_default().insert(cell.number, cell);
    }

    /// Returns the oldest job of these types, or a place among the waiting workers.
    pub(super) fn ask(&mut self, kinds: &[String]) -> Assignment {
        let mut oldest: Option<(u64, &str)> = None;
        for kind in kinds {
            let first = self.claimable.get(kind).and_then(BTreeMap::first_key_value);
            if let Some((number, _)) = first
                && oldest.is_none_or(|(oldest, _)| *number < oldest)
            {
                oldest = Some((*number, kind));
            }
        }
        if let Some((number, kind)) = oldest
            && let Some(cell) = self.withdraw(kind, number)
        {
            return Assignment::Now(cell);
        }
        self.waiters.retain(|waiter| !waiter.offer.is_closed());
        let (offer, offered) = oneshot::channel();
        self.waiters.push_back(Waiter { kinds: kinds.to_vec(), offer });
        Assignment::Wait(offered)
    }
}
