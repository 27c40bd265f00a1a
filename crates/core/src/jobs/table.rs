//! All jobs of a gateway, and the indexes over them: by key, by what can be claimed, by state.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot, watch};

use super::{Job, JobError, JobOptions, JobState, agenda::Agenda, record};
use crate::event::Position;

/// A job and its watchers. The lock of the job is held while a change is committed. It is taken
/// before the locks of the table and of the agenda; see the order at the tracker's state.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) kind: String,
    pub(super) key: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) job: Arc<Mutex<Job>>,
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

/// Room that is reserved for a new or growing job, and the ended jobs that are forgotten for it,
/// which stay locked. It goes back with [`Table::use_room`] or [`Table::leave_room`].
#[derive(Debug)]
pub(super) struct Room {
    growth: usize,
    pub(super) forgotten: Vec<OwnedMutexGuard<Job>>,
}

impl Room {
    /// No room, for a change of a job that does not grow.
    pub(super) fn none() -> Self {
        Self { growth: 0, forgotten: Vec::new() }
    }

    fn forgotten_weight(&self) -> usize {
        self.forgotten.iter().map(|it| it.weight()).sum()
    }
}

/// How long after a request a worker still counts as there.
const SOUGHT: Duration = Duration::from_secs(60);

/// The place of a job in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// Jobs of its type that are claimed before it.
    pub ahead: usize,
    /// Whether a worker for its type seems to be there: it has asked lately, or has a job.
    pub has_worker: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    tombstone_capacity: usize,
    /// The limit on the number of jobs.
    max_jobs: usize,
    /// The limit of `weight`, in bytes.
    max_weight: usize,
    /// The weights of all jobs together, in bytes.
    weight: usize,
    /// The number and the weight of the jobs that are being forgotten to make room.
    leaving: (usize, usize),
    jobs: BTreeMap<u64, Arc<Cell>>,
    by_id: HashMap<String, u64>,
    by_key: HashMap<(String, String), u64>,
    /// Claimable jobs by type, the oldest first.
    claimable: BTreeMap<String, BTreeMap<u64, Arc<Cell>>>,
    /// The numbers of the ended jobs.
    ended: BTreeSet<u64>,
    waiters: VecDeque<Waiter>,
    counts: BTreeMap<(String, JobState), u64>,
    /// By number, the types of the jobs that wait for an answer, and since when.
    waiting: BTreeMap<u64, (String, Timestamp)>,
    /// When a worker last asked for jobs of a type, for types that there are.
    sought: BTreeMap<String, Instant>,
    /// The limit of jobs that wait for an answer.
    max_waiting: usize,
    tombstones: HashSet<String>,
    tombstone_order: VecDeque<(u64, String)>,
    next_number: u64,
    /// The revisions at which jobs were removed here, until the history has announced them.
    removed: HashMap<u64, Position>,
    /// The numbers of the tombstones that the history still has.
    faded: Vec<u64>,
}

impl Table {
    /// Creates an empty table.
    pub(super) fn new(options: &JobOptions) -> Self {
        Self {
            tombstone_capacity: options.tombstones,
            max_jobs: options.max_jobs,
            max_weight: options.max_bytes,
            max_waiting: options.asking.waiting,
            waiting: BTreeMap::new(),
            sought: BTreeMap::new(),
            weight: 0,
            leaving: (0, 0),
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
            removed: HashMap::new(),
            faded: Vec::new(),
        }
    }

    /// Returns the number of a job that is created now. Numbers grow with the time, so that several
    /// processes rarely choose the same one.
    pub(super) fn take_number(&mut self, now: Timestamp) -> u64 {
        let micros = u64::try_from(now.as_microsecond()).unwrap_or_default();
        // The low bits tell jobs apart that are created at the same time.
        let number = (micros << 8 | u64::from(fastrand::u8(..))).min(record::HIGHEST - 1);
        let number = number.max(self.next_number);
        self.next_number = number + 1;
        number
    }

    /// Inserts a job. [`Table::make_room`] or [`Table::weigh`] has counted its weight before.
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

    /// Gives the type and key to a job that the history says has them. A job that is not stored yet
    /// loses them.
    pub(super) fn hold_key(&mut self, cell: &Cell) {
        if let Some(key) = &cell.key {
            self.by_key.insert((cell.kind.clone(), key.clone()), cell.number);
        }
    }

    /// Releases the key of a job that has ended.
    pub(super) fn release_key(&mut self, job: &Job) {
        let Some(key) = job.key.as_ref().filter(|_| job.state.is_final()) else { return };
        let key = (job.kind.clone(), key.clone());
        if self.by_key.get(&key) == Some(&job.number) {
            self.by_key.remove(&key);
        }
    }

    /// Reserves room for `n_jobs` new jobs and `growth` bytes. If there is not enough, ended jobs
    /// are to be forgotten, the oldest first.
    ///
    /// # Errors
    /// If that is not enough. Nothing is reserved then.
    pub(super) fn make_room(&mut self, n_jobs: usize, growth: usize) -> Result<Room, JobError> {
        let mut room = Room { growth, forgotten: Vec::new() };
        let (mut n_left, mut weight_left) = (self.jobs.len(), self.weight);
        (n_left, weight_left) = (n_left - self.leaving.0, weight_left - self.leaving.1);
        let mut ended = self.ended.iter();
        loop {
            let is_full = 0 < n_jobs && self.max_jobs < n_left + n_jobs;
            let is_heavy = 0 < growth && self.max_weight < weight_left.saturating_add(growth);
            if !is_full && !is_heavy {
                break;
            }
            // A locked job may be about to be retried. Waiting for it could deadlock, because its
            // holder may wait for the table.
            let next =
                ended.find_map(|number| self.jobs.get(number)?.job.clone().try_lock_owned().ok());
            match next {
                Some(job) => {
                    n_left -= 1;
                    weight_left -= job.weight();
                    room.forgotten.push(job);
                }
                None if is_full => return Err(JobError::Full(self.max_jobs)),
                None => return Err(JobError::Heavy(self.max_weight)),
            }
        }
        self.weight += growth;
        self.leaving.0 += room.forgotten.len();
        self.leaving.1 += room.forgotten_weight();
        Ok(room)
    }

    /// Forgets the jobs that had to make room, after this was stored at `revision`.
    pub(super) fn use_room(&mut self, room: &Room, revision: Position) {
        self.leave_room_of(room);
        for job in &room.forgotten {
            self.forget(job, revision);
        }
    }

    /// Gives back room that was not used.
    pub(super) fn leave_room(&mut self, room: &Room) {
        self.leave_room_of(room);
        self.shrink(room.growth);
    }

    /// Gives back the room of a job that was removed, and has given back its bytes by that.
    pub(super) fn leave_room_of(&mut self, room: &Room) {
        self.leaving.0 -= room.forgotten.len();
        self.leaving.1 -= room.forgotten_weight();
    }

    /// Counts a job even if there is no room for it.
    pub(super) fn weigh(&mut self, job: &Job) {
        self.weight += job.weight();
    }

    /// Releases bytes that a job no longer takes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.weight = self.weight.saturating_sub(bytes);
    }

    /// Returns the job with this number.
    pub(super) fn numbered(&self, number: u64) -> Option<Arc<Cell>> {
        self.jobs.get(&number).cloned()
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

    /// The types of the jobs that wait for an answer, and since when.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &(String, Timestamp)> {
        self.waiting.values()
    }

    /// Whether a job may wait for an answer now.
    pub(super) fn may_wait(&self, number: u64) -> bool {
        self.waiting.len() < self.max_waiting || self.waiting.contains_key(&number)
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
        match job.open_question() {
            Some(it) => self.waiting.insert(job.number, (job.kind.clone(), it.asked_at)),
            None => self.waiting.remove(&job.number),
        };
        if job.state.is_final() {
            self.ended.insert(job.number);
            self.release_key(job);
        } else {
            self.ended.remove(&job.number);
        }
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
                let first = (key.0.clone(), JobState::Queued);
                if self.counts.range(first..).next().is_none_or(|((it, _), _)| *it != key.0) {
                    self.sought.remove(&key.0);
                }
            }
        }
    }

    /// Removes a job that was never visible.
    pub(super) fn remove(&mut self, job: &Job) {
        if self.jobs.remove(&job.number).is_some() {
            self.shrink(job.weight());
        }
        self.by_id.remove(&job.id);
        self.waiting.remove(&job.number);
        self.ended.remove(&job.number);
        self.withdraw(&job.kind, job.number);
        if let Some(key) = &job.key {
            let key = (job.kind.clone(), key.clone());
            if self.by_key.get(&key) == Some(&job.number) {
                self.by_key.remove(&key);
            }
        }
    }

    /// Forgets a job that was removed at `revision`, and leaves a tombstone for a while.
    pub(super) fn forget(&mut self, job: &Job, revision: Position) {
        self.remove(job);
        self.uncount(&job.kind, job.state);
        self.removed.insert(job.number, revision);
        self.bury(job.number, job.id.clone());
    }

    /// Whether a record of this revision is older than the removal of its job here.
    pub(super) fn is_outdated(&mut self, number: u64, revision: Position) -> bool {
        match self.removed.get(&number) {
            Some(removed) if revision < *removed => true,
            Some(_) => {
                self.removed.remove(&number);
                false
            }
            None => false,
        }
    }

    /// Adds a tombstone, which says that a job existed, and drops the oldest beyond the limit.
    pub(super) fn bury(&mut self, number: u64, id: String) {
        self.next_number = self.next_number.max(number + 1);
        if !self.tombstones.insert(id.clone()) {
            return;
        }
        self.tombstone_order.push_back((number, id));
        while self.tombstone_capacity < self.tombstone_order.len() {
            if let Some((number, oldest)) = self.tombstone_order.pop_front() {
                self.tombstones.remove(&oldest);
                self.faded.push(number);
            }
        }
    }

    /// Returns the numbers of tombstones that the history may drop.
    pub(super) fn take_faded(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.faded)
    }

    /// Takes back what the history could not drop.
    pub(super) fn put_back_faded(&mut self, faded: Vec<u64>) {
        self.faded.extend(faded);
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

    /// Returns how many jobs are ahead of a claimable one, and whether a worker seems to be there.
    pub(super) fn place(&self, cell: &Cell, now: Instant) -> Option<Place> {
        let queue = self.claimable.get(&cell.kind)?;
        queue.get(&cell.number)?;
        let is_sought =
            self.sought.get(&cell.kind).is_some_and(|it| now.duration_since(*it) < SOUGHT);
        let is_held = |state| self.counts.contains_key(&(cell.kind.clone(), state));
        let ahead = queue.range(..cell.number).count();
        let has_worker = is_sought || is_held(JobState::Running) || is_held(JobState::Cancelling);
        Some(Place { ahead, has_worker })
    }

    /// Returns the oldest job of these types, or a place among the waiting workers.
    pub(super) fn ask(&mut self, kinds: &[String]) -> Assignment {
        let mut oldest: Option<(u64, &str)> = None;
        let now = Instant::now();
        for kind in kinds {
            // Only types that there are, so that names of workers take no memory.
            let first = (kind.clone(), JobState::Queued);
            if self.counts.range(first..).next().is_some_and(|((it, _), _)| it == kind) {
                self.sought.insert(kind.clone(), now);
            }
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
