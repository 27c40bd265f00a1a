//! The only writer of a history: orders batches, commits them, announces their events, and answers
//! the publishers.
//!
//! The holder of the writer commits and announces before the next batch, so events are announced in
//! position order. For a history that commits at once, each publisher holds the writer itself. For
//! others a thread does, so that all waiting publishers share one commit.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{
    event::Event,
    history::{Batch, History, HistoryError},
};

/// Publishers that may wait in the queue. Further ones wait for a place in it.
const QUEUE: usize = 1024;

/// Submissions that share one commit, and with it one disk sync.
const SUBMISSIONS_PER_COMMIT: usize = 256;

/// The interval between maintenance calls to the history.
const TEND_INTERVAL: Duration = Duration::from_millis(100);

/// The reason why an update was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Delivery lags so far that publishing more would leave gaps for subscribers.
    #[error("delivery has fallen behind; try again later")]
    Overloaded,
    /// The history did not store the update, or the outcome is unknown.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The gateway has stopped.
    #[error("the gateway is stopping")]
    Stopped,
}

type Announce = Box<dyn FnMut(&[Arc<Event>]) + Send>;

/// Commits and announces one batch at a time.
struct Writer {
    history: Arc<dyn History>,
    announce: Announce,
}

impl Writer {
    fn write(&mut self, batch: Batch) -> Result<(), PublishError> {
        match contained(|| self.history.commit(batch)) {
            Ok(events) => {
                (self.announce)(&events);
                Ok(())
            }
            Err(error) => {
                error!(%error, "a batch of updates was not stored");
                Err(PublishError::from(error))
            }
        }
    }
}

#[derive(Debug)]
struct Submission {
    batch: Batch,
    reply: oneshot::Sender<Result<(), PublishError>>,
}

/// A handle to the writer and its thread. The thread ends with the last handle.
#[derive(Clone)]
pub(crate) struct Sequencer {
    writer: Arc<Mutex<Writer>>,
    commits_at_once: bool,
    queue: mpsc::Sender<Submission>,
}

impl Sequencer {
    /// Starts the writer. `announce` receives each batch of events after its commit and before its
    /// publisher is answered.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start(
        history: Arc<dyn History>,
        announce: impl FnMut(&[Arc<Event>]) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, submissions) = mpsc::channel(QUEUE);
        let commits_at_once = history.commits_at_once();
        let announce = Box::new(announce);
        let writer = Arc::new(Mutex::new(Writer { history, announce }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let work = work(writer.clone(), submissions);
        thread::Builder::new()
            .name("tidegate-sequencer".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(Self { writer, commits_at_once, queue })
    }

    /// Whether the writer's thread is running.
    #[must_use]
    pub(crate) fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Writes a batch, all or nothing, with its updates at consecutive positions. A submitted batch
    /// is written even if the caller stops waiting for the answer.
    ///
    /// # Errors
    /// Fails if nothing was written, or if the outcome is unknown.
    pub(crate) async fn submit(&self, batch: Batch) -> Result<(), PublishError> {
        if self.commits_at_once {
            return lock(&self.writer).write(batch);
        }
        let (reply, answer) = oneshot::channel();
        let submission = Submission { batch, reply };
        self.queue.send(submission).await.map_err(|_| PublishError::Stopped)?;
        answer.await.map_err(|_| PublishError::Stopped)?
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer")
            .field("commits_at_once", &self.commits_at_once)
            .finish_non_exhaustive()
    }
}

/// Runs work of a history and turns a panic, as a library may have on a damaged page, into an
/// error. A panic must not end the only writer, or publishers would wait forever.
fn contained<T>(work: impl FnOnce() -> Result<T, HistoryError>) -> Result<T, HistoryError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(HistoryError::Unknown("the history has panicked".to_owned())))
}

// A panic while the lock is held would be a bug. Continuing with the present state beats refusing
// every request.
fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's loop: commits submissions and maintains the history.
async fn work(writer: Arc<Mutex<Writer>>, mut submissions: mpsc::Receiver<Submission>) {
    let mut waiting = Vec::with_capacity(SUBMISSIONS_PER_COMMIT);
    let mut tend = tokio::time::interval(TEND_INTERVAL);
    tend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            _ = tend.tick() => {
                let tended = || Ok(lock(&writer).history.tend());
                if contained(tended).unwrap_or(false) {
                    // Waiting publishers go first.
                    tend.reset_after(Duration::from_millis(1));
                }
                continue;
            }
            received = submissions.recv_many(&mut waiting, SUBMISSIONS_PER_COMMIT) => received,
        };
        if received == 0 {
            return;
        }
        let mut batch = Batch::default();
        let mut replies = Vec::with_capacity(received);
        for submission in waiting.drain(..) {
            batch.append(submission.batch);
            replies.push(submission.reply);
        }
        let outcome = lock(&writer).write(batch);
        for reply in replies {
            // The publisher may have left.
            let _ = reply.send(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use jiff::SignedDuration;

    use super::*;
    use crate::{
        clock::Clock,
        event::{EventId, Lane, Position, Topic, Update},
        history::{Memory, Retention},
    };

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
        }
    }

    fn memory() -> Arc<Memory> {
        let retention = Retention {
            bytes: usize::MAX,
            events: usize::MAX,
            age: SignedDuration::MAX,
            remembered: 0,
        };
        Arc::new(Memory::new(retention, Clock::system()))
    }

    #[test]
    fn in_memory_one_poll_is_enough() {
        let sequencer = Sequencer::start(memory(), |_| {}).expect("a thread");
        let mut submitting = std::pin::pin!(sequencer.submit(vec![update()].into()));
        assert!(submitting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn many_threads_publish_and_everything_is_announced_in_order() {
        const THREADS: usize = 4;
        const EACH: usize = 500;
        let announced = Arc::new(Mutex::new(Vec::new()));
        let announce = {
            let announced = announced.clone();
            move |events: &[Arc<Event>]| {
                let mut announced = announced.lock().expect("no panic");
                announced.extend(events.iter().map(|it| it.position));
            }
        };
        let sequencer = Sequencer::start(memory(), announce).expect("a thread");
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    runtime.expect("a runtime").block_on(async {
                        for _ in 0..EACH {
                            sequencer
                                .submit(vec![update(), update()].into())
                                .await
                                .expect("published");
                        }
                    });
                });
            }
        });
        let expected: Vec<_> = (1..=2 * THREADS * EACH).map(|it| Position(it as u64)).collect();
        assert_eq!(*announced.lock().expect("no panic"), expected);
    }
}
