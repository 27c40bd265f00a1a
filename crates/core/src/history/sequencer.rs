//! The only writer of a history that commits in this process: orders submissions, commits them,
//! announces what was stored, and answers the callers.
//!
//! The holder of the writer commits and announces before the next commit, so everything is
//! announced in the order of positions. A history in memory commits on the thread of each caller.
//! One on disk has a thread, so that all waiting callers share one commit.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{Answer, Applied, Batch, Committed, Follower, HistoryError, Revised};
use crate::event::Event;

/// Submissions that may wait in the queue. Further callers wait for a place in it.
const QUEUE: usize = 1024;

/// Submissions that share one commit, and with it one disk sync.
const SUBMISSIONS_PER_COMMIT: usize = 256;

/// The interval between maintenance calls to the history.
const TEND_INTERVAL: Duration = Duration::from_millis(100);

/// A history that commits in this process.
pub(super) trait Local: Send + Sync + 'static {
    /// Commits submissions, one after the other. Each is stored or refused by itself, but an error
    /// concerns all of them. Called by one thread at a time. May block.
    ///
    /// # Errors
    /// Fails if nothing was stored, or if the outcome is unknown.
    fn commit(&self, submissions: impl Iterator<Item = Batch>) -> Result<Commit, HistoryError>;

    /// Does a small part of the regular maintenance: drops what the retention no longer covers,
    /// syncs, repairs. Returns whether there is more to do at once.
    fn tend(&self) -> bool;
}

/// What a commit has stored.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// The outcome of each submission.
    pub(super) outcomes: Vec<Committed>,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) records: Vec<Revised>,
}

/// Commits and announces, one commit at a time.
struct Writer<L> {
    local: Arc<L>,
    follower: Option<Follower>,
}

impl<L: Local> Writer<L> {
    fn write(
        &mut self,
        submissions: impl Iterator<Item = Batch>,
    ) -> Result<Vec<Committed>, HistoryError> {
        match contained(|| self.local.commit(submissions)) {
            Ok(Commit { outcomes, events, records }) => {
                if let Some(follower) = &mut self.follower
                    && (!events.is_empty() || !records.is_empty())
                {
                    follower(Applied { events: &events, records: &records, restarted: None });
                }
                Ok(outcomes)
            }
            Err(error) => {
                error!(%error, "a submission was not stored");
                Err(error)
            }
        }
    }
}

#[derive(Debug)]
struct Submission {
    batch: Batch,
    reply: oneshot::Sender<Result<Committed, HistoryError>>,
}

/// The writer and the handle to its thread. The thread ends when this is dropped.
pub(super) struct Sequencer<L> {
    writer: Arc<Mutex<Writer<L>>>,
    queue: mpsc::Sender<Submission>,
    /// The other end of the queue, until the thread takes it.
    submissions: Mutex<Option<mpsc::Receiver<Submission>>>,
}

impl<L: Local> Sequencer<L> {
    /// Creates a writer. Its thread starts with [`Sequencer::follow`].
    pub(super) fn new(local: Arc<L>) -> Self {
        let (queue, submissions) = mpsc::channel(QUEUE);
        let writer = Arc::new(Mutex::new(Writer { local, follower: None }));
        Self { writer, queue, submissions: Mutex::new(Some(submissions)) }
    }

    /// Sets the follower, and starts the thread that commits queued submissions and maintains the
    /// history.
    pub(super) fn follow(&self, follower: Follower) -> io::Result<()> {
        let submissions = lock(&self.submissions).take();
        let submissions = submissions.ok_or(io::ErrorKind::AlreadyExists)?;
        lock(&self.writer).follower = Some(follower);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let work = work(self.writer.clone(), submissions);
        thread::Builder::new()
            .name("tidegate-sequencer".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(())
    }

    /// Whether the thread is running, or has not been started yet.
    pub(super) fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Commits a batch on the caller's thread.
    pub(super) fn commit_here(&self, batch: Batch) -> Result<Committed, HistoryError> {
        let mut outcomes = lock(&self.writer).write(std::iter::once(batch))?;
        outcomes.pop().ok_or(HistoryError::Stopped)
    }

    /// Queues a batch for the thread.
    pub(super) fn queue(&self, batch: Batch) -> Answer<Committed> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.clone();
        Box::pin(async move {
            let submission = Submission { batch, reply };
            queue.send(submission).await.map_err(|_| HistoryError::Stopped)?;
            drop(queue);
            answer.await.map_err(|_| HistoryError::Stopped)?
        })
    }
}

impl<L> fmt::Debug for Sequencer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer").finish_non_exhaustive()
    }
}

/// Runs work of a history and turns a panic, as a library may have on a damaged page, into an
/// error. A panic must not end the only writer, or callers would wait forever.
fn contained<T>(work: impl FnOnce() -> Result<T, HistoryError>) -> Result<T, HistoryError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(HistoryError::Unknown("the history has panicked".to_owned())))
}

// A panic while the lock is held would be a bug. Continuing with the present state beats refusing
// every request.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's loop: commits submissions and maintains the history.
async fn work<L: Local>(
    writer: Arc<Mutex<Writer<L>>>,
    mut submissions: mpsc::Receiver<Submission>,
) {
    let mut waiting = Vec::with_capacity(SUBMISSIONS_PER_COMMIT);
    let mut tend = tokio::time::interval(TEND_INTERVAL);
    tend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            _ = tend.tick() => {
                let tended = || Ok(lock(&writer).local.tend());
                if contained(tended).unwrap_or(false) {
                    // Waiting callers go first.
                    tend.reset_after(Duration::from_millis(1));
                }
                continue;
            }
            received = submissions.recv_many(&mut waiting, SUBMISSIONS_PER_COMMIT) => received,
        };
        if received == 0 {
            return;
        }
        let submissions = waiting.drain(..).map(|it| (it.batch, it.reply));
        let (batches, replies): (Vec<_>, Vec<_>) = submissions.unzip();
        let outcome = lock(&writer).write(batches.into_iter());
        match outcome {
            Ok(outcomes) => {
                // A caller may have left.
                let answered = replies.into_iter().zip(outcomes);
                answered.for_each(|(reply, outcome)| drop(reply.send(Ok(outcome))));
            }
            Err(error) => replies.into_iter().for_each(|it| drop(it.send(Err(error.clone())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use jiff::SignedDuration;

    use crate::{
        clock::Clock,
        event::{EventId, Lane, Position, Topic, Update},
        history::{Batch, History as _, Memory, Retention},
    };

    use super::*;

    fn update() -> Update {
        Update {
            topics: Box::new([Topic::parse("t", 9).expect("a topic")]),
            data: "x".into(),
            id: EventId::random(),
            kind: None,
            retry: None,
            private: false,
            except: Box::new([]),
            lane: Lane::Ordinary,
            from: None,
        }
    }

    fn memory() -> Memory {
        let retention = Retention {
            bytes: usize::MAX,
            events: usize::MAX,
            age: SignedDuration::MAX,
            remembered: 0,
        };
        Memory::new(retention, Clock::system())
    }

    #[test]
    fn in_memory_one_poll_is_enough() {
        let memory = memory();
        let mut submitting = memory.submit(vec![update()].into());
        assert!(submitting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn many_threads_publish_and_everything_is_announced_in_order() {
        const THREADS: usize = 4;
        const EACH: usize = 500;
        let announced = Arc::new(Mutex::new(Vec::new()));
        let memory = memory();
        let follower = {
            let announced = announced.clone();
            move |applied: Applied<'_>| {
                let positions = applied.events.iter().map(|it| it.position);
                announced.lock().expect("no panic").extend(positions);
            }
        };
        memory.follow(Box::new(follower)).expect("a thread");
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    runtime.expect("a runtime").block_on(async {
                        for _ in 0..EACH {
                            let batch = Batch::from(vec![update(), update()]);
                            memory.submit(batch).await.expect("published");
                        }
                    });
                });
            }
        });
        let expected: Vec<_> = (1..=2 * THREADS * EACH).map(|it| Position(it as u64)).collect();
        assert_eq!(*announced.lock().expect("no panic"), expected);
    }
}
