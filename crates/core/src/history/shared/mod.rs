//! The history that several nodes share: one log in Redis, which every node follows.
//!
//! A script in Redis is the only writer and gives positions. A node sends what it commits as frames
//! and reads the frames of all nodes back, its own as well. What it has read is its [`View`], from
//! which all readers are served. Each life of a Redis primary is a term; between two of them, nodes
//! put back what Redis has lost.
//!
//! One thread does everything that concerns Redis. It lives through connections: each enters the
//! log, recovers it if necessary, reads on from where the last one ended, and then writes, follows
//! and answers until it breaks.

mod address;
mod answers;
mod beat;
mod follower;
mod frame;
mod keys;
mod life;
mod link;
mod metrics;
mod queue;
mod recovery;
mod requests;
mod ring;
mod scripts;
mod status;
#[cfg(test)]
pub(super) mod tests;
mod view;
mod writer;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        mpsc as blocking,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use self::{
    address::{Address, AddressError, Credentials},
    metrics::SharedMetrics,
    status::{ClusterNode, ClusterStatus},
};
use self::{
    frame::{Encoded, FORMAT},
    life::Node,
    metrics::Counters,
    queue::Submission,
    requests::Request,
    status::Status,
    view::View,
};
use super::{
    Answer, Batch, Budget, Committed, CursorKey, Follower, History, HistoryError, Located, Page,
    Retention, Revised, Rules, Search, Shelf, Start,
};
use crate::{event::Position, matching::Interest};

/// Submissions that may wait for the writer. Further callers wait for a place.
const SUBMISSIONS: usize = 1024;

/// Requests that may wait for the connection.
const REQUESTS: usize = 1024;

/// The time that [`Shared::open`] waits for Redis. After that, the node starts without it.
const OPENING: Duration = Duration::from_secs(5);

/// The time for the last commits when the history is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// The time for reading all records of some shelves.
const READING: Duration = Duration::from_secs(60);

/// Choices of the operator.
#[derive(Debug, Clone)]
pub struct SharedOptions {
    /// Where Redis is.
    pub address: Address,
    /// Who connects.
    pub credentials: Credentials,
    /// The hub, whose name is part of all keys.
    pub hub: String,
    /// The name of this node, for operators.
    pub name: String,
    /// The version of this program, for operators.
    pub version: String,
    /// The only log that may be used; empty for any.
    pub log: String,
    /// Replicas that must have a frame before it counts as stored.
    pub replicas_acked: u32,
    /// The time after which the sender of a submission is told that it was not stored.
    pub commit_timeout: Duration,
    /// The time that a new term waits for nodes that may have frames to put back.
    pub recovery_wait: Duration,
    /// The time without a heartbeat after which a node counts as gone.
    pub lease: Duration,
    /// Bytes of the newest frames to keep for Redis.
    pub ring_bytes: usize,
    /// The time without Redis after which the node is not ready.
    pub unready_after: Duration,
    /// What is kept in memory, and in Redis.
    pub retention: Retention,
    /// The parts of the history.
    pub rules: Rules,
    /// How long replies to requests with a key are kept.
    pub reply_age: Duration,
}

/// The reason why Redis cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unsuitable {
    /// The operator has to change something.
    #[error("{0}")]
    Refused(String),
    /// A thread cannot be started.
    #[error(transparent)]
    Thread(#[from] io::Error),
}

/// What the thread shares with those who ask.
struct Core {
    options: SharedOptions,
    view: RwLock<View>,
    cursor_key: CursorKey,
    /// The position up to which the follower has learned of everything.
    applied: watch::Sender<Position>,
    status: Mutex<Status>,
    /// The time of Redis, in microseconds, and when it was that.
    time: Mutex<(i64, Instant)>,
    follower: Mutex<Option<Follower>>,
    followed: Notify,
    closing: watch::Sender<bool>,
    counters: Counters,
    commit_seconds: Histogram,
    frame_submissions: Histogram,
    count_subscribers: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

/// A history that several processes share over Redis.
pub struct Shared {
    core: Arc<Core>,
    submissions: mpsc::Sender<Submission>,
    requests: mpsc::Sender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    /// Starts to follow the log. If Redis cannot be reached within some seconds, the history starts
    /// without it, and goes on trying.
    ///
    /// # Errors
    /// If Redis is unsuitable, or the thread cannot be started.
    pub fn open(options: SharedOptions) -> Result<Self, Unsuitable> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let core = Arc::new(Core {
            view: RwLock::new(View::new(options.retention.clone(), options.rules.clone())),
            cursor_key: CursorKey::of_terms(),
            applied: watch::Sender::new(Position::START),
            status: Mutex::new(Status::new()),
            time: Mutex::new((Timestamp::now().as_microsecond(), Instant::now())),
            follower: Mutex::default(),
            followed: Notify::new(),
            closing: watch::Sender::new(false),
            counters: Counters::default(),
            commit_seconds: metrics::commit_seconds(),
            frame_submissions: metrics::frame_submissions(),
            count_subscribers: OnceLock::new(),
            options,
        });
        let (submissions, arriving) = mpsc::channel(SUBMISSIONS);
        let (requests, requested) = mpsc::channel(REQUESTS);
        let (opened, opening) = blocking::sync_channel(1);
        let thread = {
            let core = core.clone();
            let run = move || {
                let node = Node::new(core, arriving, requested, opened);
                runtime.block_on(node.run());
            };
            thread::Builder::new().name("tidegate-cluster".to_owned()).spawn(run)?
        };
        let shared = Self { core, submissions, requests, thread: Mutex::new(Some(thread)) };
        match opening.recv_timeout(OPENING) {
            Ok(Err(why)) => Err(Unsuitable::Refused(why)),
            Ok(Ok(())) | Err(_) => Ok(shared),
        }
    }

    /// Sets the function that counts the subscribers of this node, which other nodes show.
    pub fn count_subscribers(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.core.count_subscribers.set(Box::new(count));
    }

    /// The state of the cluster, as of the last heartbeat.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.core.cluster()
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> SharedMetrics {
        self.core.counters.read()
    }

    /// The times from sending a frame to its answer, in seconds.
    #[must_use]
    pub fn commit_seconds(&self) -> Histogram {
        self.core.commit_seconds.clone()
    }

    /// The numbers of submissions in a frame.
    #[must_use]
    pub fn frame_submissions(&self) -> Histogram {
        self.core.frame_submissions.clone()
    }

    /// Asks the connection, and asks again if it breaks, within `cluster.commit_timeout`.
    fn ask<T: Send + 'static>(
        &self,
        request: impl Fn(oneshot::Sender<Result<T, HistoryError>>) -> Request + Send + Sync + 'static,
    ) -> Answer<T> {
        let (requests, core) = (self.requests.clone(), self.core.clone());
        Box::pin(async move {
            let patience = core.options.commit_timeout;
            if let Some(why) = core.is_away_for(patience) {
                return Err(HistoryError::Unavailable(why));
            }
            let asking = async {
                loop {
                    let (reply, answer) = oneshot::channel();
                    requests.send(request(reply)).await.map_err(|_| HistoryError::Stopped)?;
                    if let Ok(answer) = answer.await {
                        return answer;
                    }
                }
            };
            match tokio::time::timeout(patience, asking).await {
                Ok(answer) => answer,
                Err(_) => Err(HistoryError::Unavailable(core.why())),
            }
        })
    }
}

impl Core {
    // A panic while a lock is held would be a bug. Continuing with the present state beats refusing
    // every request.
    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follower(&self) -> MutexGuard<'_, Option<Follower>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of Redis.
    fn now(&self) -> Timestamp {
        let (micros, at) = *self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let since = i64::try_from(at.elapsed().as_micros()).unwrap_or(i64::MAX);
        super::disk::codec::time(micros.saturating_add(since))
    }

    fn set_time(&self, micros: i64) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        *time = (micros, Instant::now());
    }

    /// Why nothing can be stored.
    fn why(&self) -> String {
        self.status()
            .trouble()
            .unwrap_or_else(|| "Redis (cluster.redis) does not answer".to_owned())
    }

    /// Why nothing can be stored, if that has been so for a time.
    fn is_away_for(&self, time: Duration) -> Option<String> {
        let status = self.status();
        let is_over = status.away_since.is_some_and(|since| time <= since.elapsed());
        if is_over { status.trouble() } else { None }
    }
}

impl History for Shared {
    fn submit(&self, batch: Batch) -> Answer<Committed> {
        let (queue, core) = (self.submissions.clone(), self.core.clone());
        Box::pin(async move {
            let patience = core.options.commit_timeout;
            if let Some(why) = core.is_away_for(patience) {
                return Err(HistoryError::Unavailable(why));
            }
            let is_empty = batch.updates.is_empty() && batch.records.is_empty();
            if is_empty && batch.replies.is_empty() {
                return Ok(Committed::Stored(core.view().parts.last()));
            }
            let (reply, answer) = oneshot::channel();
            let deadline = Instant::now() + patience;
            let encoded = Encoded::new(&batch);
            let submission =
                Submission { encoded, deadline, reply: Some(reply), is_persistent: false };
            let why = || HistoryError::Unavailable(core.why());
            match tokio::time::timeout(patience, queue.send(submission)).await {
                Ok(sent) => sent.map_err(|_| HistoryError::Stopped)?,
                Err(_) => return Err(why()),
            }
            drop(queue);
            answer.await.map_err(|_| HistoryError::Stopped)?
        })
    }

    fn current(&self) -> Answer<Position> {
        self.ask(Request::Newest)
    }

    fn follow(&self, follower: Follower) -> io::Result<()> {
        let mut place = self.core.follower();
        if place.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        *place = Some(follower);
        drop(place);
        self.core.followed.notify_one();
        Ok(())
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        let page = self.core.view().parts.page(after, interest, budget);
        Box::pin(std::future::ready(Ok(page)))
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        let located = self.core.view().locate(&start, interest);
        Box::pin(std::future::ready(Ok(located)))
    }

    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search> {
        let search = self.core.view().parts.step_back(search, interest);
        Box::pin(std::future::ready(Ok(search)))
    }

    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>> {
        let key = key.to_owned();
        self.ask(move |reply| Request::Reply(key.clone(), reply))
    }

    fn records(&self, shelf: Shelf) -> Result<Vec<Revised>, HistoryError> {
        let (reply, answer) = blocking::sync_channel(1);
        let late = || HistoryError::Unavailable(self.core.why());
        self.requests.try_send(Request::Records(shelf, reply)).map_err(|_| late())?;
        answer.recv_timeout(READING).map_err(|_| late())?
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn n_read(&self) -> u64 {
        0
    }

    fn trouble(&self) -> Option<String> {
        let stopped = || HistoryError::Stopped.to_string();
        if self.submissions.is_closed() { Some(stopped()) } else { self.core.status().trouble() }
    }

    fn unready(&self) -> Option<String> {
        if self.submissions.is_closed() {
            return self.trouble();
        }
        self.core.status().unready(self.core.options.unready_after)
    }

    fn close(&self) {
        self.core.closing.send_replace(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // It ends within `CLOSING`, and a panic in it was reported when it happened.
            let _ = thread.join();
        }
    }

    fn last(&self) -> Position {
        self.core.view().parts.last()
    }

    fn cursor_key(&self) -> &CursorKey {
        &self.core.cursor_key
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("address", &self.core.options.address)
            .finish_non_exhaustive()
    }
}
