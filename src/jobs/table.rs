//! All jobs of a gateway, and the indexes over them: by key, by what can be claimed, by state.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use tokio::sync::{Mutex, oneshot, watch};

use super::{Job, State, record};
use crate::history::Record;

/// A job and who waits for its changes. The lock is held while a change is committed.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) kind: String,
    pub(super) key: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) job: Mutex<Job>,
    /// The job's version.
    pub(super) version: watch::Sender<u64>,
    pub(super) agenda: std::sync::Mutex<Agenda>,
}

/// What is to be done for a job later on.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// When the tracker looks at it next.
    pub(super) next_look: Option<Instant>,
    /// When watchers were last told of progress.
    pub(super) told: Option<Instant>,
    /// When watchers are to be told of progress that they have not seen.
    pub(super) tell: Option<Instant>,
}

/// A worker that waits for a job.
#[derive(Debug)]
struct Waiter {
    kinds: Vec<String>,
    offer: oneshot::Sender<Arc<Cell>>,
}

/// What a worker gets when it asks for a job.
pub(super) enum Turn {
    /// A job.
    Now(Arc<Cell>),
    /// A place in the line.
    Wait(oneshot::Receiver<Arc<Cell>>),
}

#[derive(Debug)]
pub(super) struct Table {
    tombstone_capacity: usize,
    /// The most that `weight` may be.
    max_weight: usize,
    /// The weights of all jobs together, in bytes.
    weight: usize,
    jobs: BTreeMap<u64, Arc<Cell>>,
    by_id: HashMap<String, u64>,
    by_key: HashMap<(String, String), u64>,
    /// What can be claimed, oldest first.
    claimable: BTreeMap<String, BTreeMap<u64, Arc<Cell>>>,
    /// The numbers of those that have ended.
    ended: BTreeSet<u64>,
    waiters: VecDeque<Waiter>,
    counts: BTreeMap<(String, State), u64>,
    tombstones: HashSet<String>,
    tombstone_order: VecDeque<(u64, String)>,
    next_number: u64,
    /// Whether what is forgotten has to be written down.
    is_kept: bool,
    /// What is to be written down with the next change.
    unwritten: Vec<Record>,
}

impl Table {
    /// An empty table; with `is_kept`, [`Table::take_unwritten`] has to be called now and then.
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

    /// Takes in a job for whose weight [`Table::grow`] has made room.
    pub(super) fn insert(&mut self, cell: &Arc<Cell>) {
        self.by_id.insert(cell.id.clone(), cell.number);
        self.jobs.insert(cell.number, cell.clone());
        self.next_number = self.next_number.max(cell.number + 1);
        let _ = self.reserve_key(cell);
    }

    /// Whether this very job is there.
    pub(super) fn holds(&self, cell: &Arc<Cell>) -> bool {
        self.jobs.get(&cell.number).is_some_and(|it| Arc::ptr_eq(it, cell))
    }

    /// Makes a job the one of its type and key; `false` if another one is.
    pub(super) fn reserve_key(&mut self, cell: &Cell) -> bool {
        let Some(key) = &cell.key else { return true };
        let holder = self.by_key.entry((cell.kind.clone(), key.clone())).or_insert(cell.number);
        *holder == cell.number
    }

    /// Takes the key from a job that has ended.
    pub(super) fn release_key(&mut self, job: &Job) {
        let Some(key) = job.key.as_ref().filter(|_| job.state.is_final()) else { return };
        let key = (job.kind.clone(), key.clone());
        if self.by_key.get(&key) == Some(&job.number) {
            self.by_key.remove(&key);
        }
    }

    /// Makes room: the job that was created first of those that have ended is forgotten. `false` if none has.
    pub(super) fn forget_oldest_ended(&mut self) -> bool {
        let ended: Vec<Arc<Cell>> =
            self.ended.iter().filter_map(|number| self.jobs.get(number).cloned()).take(8).collect();
        for cell in ended {
            // One that is being changed is about to live again.
            if let Ok(job) = cell.job.try_lock() {
                self.remove(&job, true);
                return true;
            }
        }
        false
    }

    /// Takes `growth` bytes for a job that is new or that grows. Jobs that have ended are forgotten for it, the oldest
    /// first; `false` if that is not enough, and then nothing was taken.
    pub(super) fn grow(&mut self, growth: usize) -> bool {
        while 0 < growth && self.max_weight < self.weight.saturating_add(growth) {
            if !self.forget_oldest_ended() {
                return false;
            }
        }
        self.weight += growth;
        true
    }

    /// Counts a job whether there is room for it or not.
    pub(super) fn weigh(&mut self, job: &Job) {
        self.weight += job.weight();
    }

    /// Gives back what a job takes no longer.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.weight = self.weight.saturating_sub(bytes);
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Cell>> {
        self.jobs.get(self.by_id.get(id)?).cloned()
    }

    /// The living job of a type and key.
    pub(super) fn with_key(&self, kind: &str, key: &str) -> Option<Arc<Cell>> {
        let number = self.by_key.get(&(kind.to_owned(), key.to_owned()))?;
        self.jobs.get(number).cloned()
    }

    pub(super) fn is_gone(&self, id: &str) -> bool {
        self.tombstones.contains(id)
    }

    /// All jobs, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.jobs.values().rev()
    }

    /// The oldest job of each type that can be claimed.
    pub(super) fn oldest_claimable(&self) -> impl Iterator<Item = (&String, &Arc<Cell>)> {
        self.claimable.iter().filter_map(|(kind, queue)| Some((kind, queue.first_key_value()?.1)))
    }

    pub(super) fn counts(&self) -> &BTreeMap<(String, State), u64> {
        &self.counts
    }

    /// Follows a job from one state to another.
    pub(super) fn moved(&mut self, job: &Job, before: Option<State>) {
        if let Some(before) = before {
            self.uncount(&job.kind, before);
        }
        *self.counts.entry((job.kind.clone(), job.state)).or_default() += 1;
        if job.state != State::Queued {
            self.withdraw(&job.kind, job.number);
        }
        if job.state.is_final() {
            self.ended.insert(job.number);
        } else {
            self.ended.remove(&job.number);
        }
        self.release_key(job);
    }

    /// Takes a job out of what can be claimed.
    fn withdraw(&mut self, kind: &str, number: u64) -> Option<Arc<Cell>> {
        let queue = self.claimable.get_mut(kind)?;
        let cell = queue.remove(&number);
        if queue.is_empty() {
            self.claimable.remove(kind);
        }
        cell
    }

    fn uncount(&mut self, kind: &str, state: State) {
        let key = (kind.to_owned(), state);
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
    }

    /// Forgets a job; for a while it is known that it was there, if it was ever seen.
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

    /// Remembers that a job was there.
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

    /// What could not be written down, to be written with the next change.
    pub(super) fn put_back(&mut self, mut unwritten: Vec<Record>) {
        unwritten.append(&mut self.unwritten);
        self.unwritten = unwritten;
    }

    /// What was forgotten, to be written down.
    pub(super) fn take_unwritten(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.unwritten)
    }

    /// Offers a job to the workers: to the one that has waited longest, or to whoever asks next.
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

    /// The oldest job of these types, or a place in the line for one.
    pub(super) fn ask(&mut self, kinds: &[String]) -> Turn {
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
            return Turn::Now(cell);
        }
        self.waiters.retain(|waiter| !waiter.offer.is_closed());
        let (offer, offered) = oneshot::channel();
        self.waiters.push_back(Waiter { kinds: kinds.to_vec(), offer });
        Turn::Wait(offered)
    }
}
