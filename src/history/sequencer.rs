//! The one writer of a history: gives batches their order, commits them, has them announced, answers the publishers.

use std::{sync::Arc, thread, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{Batch, History, HistoryError};
use crate::event::{Event, Update};

/// Publishers that may wait in the queue; the next ones wait to get into it.
const QUEUE: usize = 1024;

/// Submissions that share one commit, and with it one sync of a disk.
const SUBMISSIONS_PER_COMMIT: usize = 256;

/// How often the retention is applied while nobody publishes.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// Why an update was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Delivery has fallen so far behind that going on would leave subscribers with gaps.
    #[error("delivery has fallen behind; try again later")]
    Overloaded,
    /// The history did not store it.
    #[error("the history is not available: {0}")]
    History(String),
    /// The gateway has stopped.
    #[error("the gateway is stopping")]
    Stopped,
}

impl From<HistoryError> for PublishError {
    fn from(HistoryError(reason): HistoryError) -> Self {
        Self::History(reason)
    }
}

#[derive(Debug)]
struct Submission {
    updates: Vec<Update>,
    reply: oneshot::Sender<Result<(), PublishError>>,
}

/// A handle to the writer's thread, which ends with the last handle.
#[derive(Debug, Clone)]
pub struct Sequencer {
    queue: mpsc::Sender<Submission>,
}

impl Sequencer {
    /// Starts the writer. `announce` gets each batch of events after it was committed and before its publisher is
    /// answered.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        history: Arc<dyn History>,
        announce: impl FnMut(&[Arc<Event>]) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, submissions) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new()
            .name("tidegate-sequencer".to_owned())
            .spawn(move || runtime.block_on(write(&*history, submissions, announce)))?;
        Ok(Self { queue })
    }

    /// Whether the writer's thread is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Publishes updates, all or none, at consecutive positions. What was submitted is carried out even if the caller
    /// does not wait for the answer.
    ///
    /// # Errors
    /// If nothing was published.
    pub async fn submit(&self, updates: Vec<Update>) -> Result<(), PublishError> {
        let (reply, answer) = oneshot::channel();
        let submission = Submission { updates, reply };
        self.queue.send(submission).await.map_err(|_| PublishError::Stopped)?;
        answer.await.map_err(|_| PublishError::Stopped)?
    }
}

async fn write(
    history: &dyn History,
    mut submissions: mpsc::Receiver<Submission>,
    mut announce: impl FnMut(&[Arc<Event>]),
) {
    let mut waiting = Vec::with_capacity(SUBMISSIONS_PER_COMMIT);
    let mut trim = tokio::time::interval(TRIM_INTERVAL);
    trim.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            biased;
            received = submissions.recv_many(&mut waiting, SUBMISSIONS_PER_COMMIT) => received,
            _ = trim.tick() => {
                history.trim();
                continue;
            }
        };
        if received == 0 {
            return;
        }
        let (updates, replies): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|it| (it.updates, it.reply)).unzip();
        let batch = Batch { updates: updates.into_iter().flatten().collect() };
        let outcome = match history.commit(batch) {
            Ok(events) => {
                announce(&events);
                Ok(())
            }
            Err(error) => {
                error!(%error, "a batch of updates was not stored");
                Err(PublishError::from(error))
            }
        };
        for reply in replies {
            // A publisher that has gone does not want to know.
            let _ = reply.send(outcome.clone());
        }
    }
}
