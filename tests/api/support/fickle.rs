//! A history like one that several processes share over a network: it learns late and in bursts
//! what it has stored, says at random that a condition does not hold, and forgets to answer.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::SignedDuration;
use tidegate_core::{
    clock::Clock,
    event::Position,
    history::{
        Answer, Batch, Budget, Committed, CursorKey, Expect, Follower, History, HistoryError,
        Located, Memory, Page, Retention, Revised, Search, Shelf, Start,
    },
    matching::Interest,
};
use tidegate_testkit::library::at_once;
use tokio::sync::watch;

/// What may go wrong, in percent of the submissions.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// A condition is said not to hold, though it does.
    pub conflicts: u32,
    /// A submission is carried out, but its answer is lost.
    pub forgotten: u32,
}

/// The log that several nodes share.
#[derive(Debug, Clone)]
pub struct Shared(Arc<SharedLog>);

#[derive(Debug)]
struct SharedLog {
    retention: Retention,
    faults: Faults,
    /// Decides what is stored.
    decides: Memory,
    stored: Mutex<Vec<Batch>>,
    n_stored: watch::Sender<usize>,
}

/// One node: its own view of the shared log.
#[derive(Debug)]
pub struct Fickle {
    shared: Shared,
    view: Arc<Memory>,
    n_applied: watch::Sender<usize>,
}

impl Shared {
    /// Creates an empty log that keeps the newest `events` events.
    pub fn new(events: usize, faults: Faults) -> Self {
        let (bytes, age) = (usize::MAX, SignedDuration::MAX);
        let retention = Retention { bytes, events, age, remembered: 1000 };
        let decides = Memory::new(retention.clone(), Clock::system());
        let (stored, n_stored) = (Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(SharedLog { retention, faults, decides, stored, n_stored }))
    }

    /// Creates a node that follows the log.
    pub fn node(&self) -> Fickle {
        let view = Arc::new(Memory::new(self.0.retention.clone(), Clock::system()));
        Fickle { shared: self.clone(), view, n_applied: watch::Sender::new(0) }
    }

    fn stored(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.0.stored.lock().expect("no panic")
    }

    async fn submit(self, batch: Batch) -> Result<Committed, HistoryError> {
        let Faults { conflicts, forgotten } = self.0.faults;
        pause().await;
        let condition = batch.records.iter().find_map(|it| match it.expect {
            Expect::Any => None,
            Expect::Absent => Some(Position::START),
            Expect::At(revision) => Some(revision),
        });
        if let Some(revision) = condition.filter(|_| fastrand::u32(..100) < conflicts) {
            return Ok(Committed::Conflict(revision));
        }
        let outcome = {
            let mut stored = self.stored();
            // It commits at once, so this is the order of the log.
            let outcome = at_once(self.0.decides.submit(batch.clone()))?;
            if matches!(outcome, Committed::Stored(_)) {
                stored.push(batch);
                self.0.n_stored.send_replace(stored.len());
            }
            outcome
        };
        pause().await;
        if fastrand::u32(..100) < forgotten {
            return Err(HistoryError::Unknown("the answer was lost".to_owned()));
        }
        Ok(outcome)
    }
}

/// Waits for at most a few milliseconds.
async fn pause() {
    match fastrand::u64(..20) {
        millis @ 0..4 => tokio::time::sleep(Duration::from_millis(millis)).await,
        _ => tokio::task::yield_now().await,
    }
}

/// Applies what is stored, late and in bursts, for as long as the log exists.
async fn apply(shared: Shared, view: Arc<Memory>, n_applied: watch::Sender<usize>) {
    let mut n_stored = shared.0.n_stored.subscribe();
    loop {
        let known = *n_applied.borrow();
        if n_stored.wait_for(|it| known < *it).await.is_err() {
            return;
        }
        pause().await;
        let burst: Vec<Batch> = shared.stored()[known..].to_vec();
        for mut batch in burst {
            // The log has checked the conditions.
            batch.records.iter_mut().for_each(|it| it.expect = Expect::Any);
            at_once(view.submit(batch)).expect("memory takes it");
            n_applied.send_modify(|it| *it += 1);
        }
    }
}

impl History for Fickle {
    fn submit(&self, batch: Batch) -> Answer<Committed> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        // What is submitted is stored even if the caller does not wait.
        let submitting = self.shared.clone().submit(batch);
        tokio::spawn(async move { drop(answer.send(submitting.await)) });
        Box::pin(async move { answered.await.unwrap_or(Err(HistoryError::Stopped)) })
    }

    fn current(&self) -> Answer<Position> {
        let n_stored = self.shared.stored().len();
        let (mut n_applied, view) = (self.n_applied.subscribe(), self.view.clone());
        Box::pin(async move {
            let caught_up = n_applied.wait_for(|it| n_stored <= *it).await;
            caught_up.map(|_| view.last()).map_err(|_| HistoryError::Stopped)
        })
    }

    fn follow(&self, follower: Follower) -> io::Result<()> {
        self.view.follow(follower)?;
        tokio::spawn(apply(self.shared.clone(), self.view.clone(), self.n_applied.clone()));
        Ok(())
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        self.view.read_after(after, interest, budget)
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        self.view.locate(start, interest)
    }

    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search> {
        self.view.step_back(search, interest)
    }

    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>> {
        self.shared.0.decides.reply(key)
    }

    fn records(&self, shelf: Shelf) -> Result<Vec<Revised>, HistoryError> {
        self.view.records(shelf)
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn n_read(&self) -> u64 {
        0
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn close(&self) {}

    fn last(&self) -> Position {
        self.view.last()
    }

    fn cursor_key(&self) -> &CursorKey {
        self.shared.0.decides.cursor_key()
    }
}
