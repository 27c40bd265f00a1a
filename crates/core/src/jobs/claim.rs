//! Assigns jobs: the oldest job first, the longest-waiting worker first, and never to a worker that
//! is gone.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    Job, JobError, Now, Tracker,
    table::{Assignment, Cell},
};
use crate::random::random_text;

/// A job that a worker has claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The job after the claim.
    pub job: Job,
    /// The lease: the right to report on the job.
    pub lease: String,
}

impl Tracker {
    /// Claims the oldest job of one of these types, and waits for one at most `wait`. Workers are
    /// served in the order in which they ask. A worker that stops waiting takes no job.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tidegate_core::jobs::{Claimed, JobError, Outcome, Tracker};
    ///
    /// async fn work(tracker: &Tracker) -> Result<(), JobError> {
    ///     let kinds = ["report".to_owned()];
    ///     while let Some(claimed) = tracker.claim(&kinds, Duration::from_secs(60)).await? {
    ///         let Claimed { job, lease } = claimed;
    ///         let outcome = Outcome::Link(format!("/reports/{}", job.number));
    ///         tracker.complete(&job.id, lease, outcome).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// If the claim could not be stored.
    pub async fn claim(
        &self,
        kinds: &[String],
        wait: Duration,
    ) -> Result<Option<Claimed>, JobError> {
        self.claim_until(kinds, tokio::time::sleep(wait)).await
    }

    /// Like [`claim`](Self::claim), but waits until `until` completes.
    pub async fn claim_until(
        &self,
        kinds: &[String],
        until: impl Future<Output = ()>,
    ) -> Result<Option<Claimed>, JobError> {
        let mut until = pin!(until);
        let mut draining = self.0.hub.draining();
        loop {
            let assignment = self.table().ask(kinds);
            let offered = match assignment {
                Assignment::Now(cell) => Offered { tracker: self, cell: Some(cell) },
                Assignment::Wait(offer) => {
                    let mut offer = Waiting { tracker: self, offer };
                    tokio::select! {
                        offered = &mut offer.offer => match offered {
                            Ok(cell) => Offered { tracker: self, cell: Some(cell) },
                            Err(_) => return Ok(None),
                        },
                        () = &mut until => return Ok(None),
                        _ = draining.wait_for(|draining| *draining) => return Ok(None),
                    }
                }
            };
            if let Some(claimed) = self.take(offered).await? {
                return Ok(Some(claimed));
            }
        }
    }

    /// Claims an offered job for the caller. If the caller is gone by then, takes the job back.
    async fn take(&self, mut offered: Offered<'_>) -> Result<Option<Claimed>, JobError> {
        let Some(cell) = offered.cell.take() else { return Ok(None) };
        let (reply, answer) = oneshot::channel();
        let tracker = self.clone();
        self.0.runtime.spawn(async move {
            let lease = random_text();
            let claim = |job: &mut Job, now: Now| job.claim(lease.clone(), now);
            let outcome = match tracker.change(&cell, claim).await {
                Ok(job) => Ok(Some(Claimed { job, lease: lease.clone() })),
                // The job was cancelled, or another worker has it.
                Err(JobError::Refused(_) | JobError::Gone) => Ok(None),
                Err(error) => {
                    tracker.offer_again(cell.clone());
                    Err(error)
                }
            };
            if let Err(Ok(Some(_))) = reply.send(outcome) {
                let _ = tracker.change(&cell, |job, now| Ok(job.unclaim(&lease, now))).await;
            }
        });
        answer.await.unwrap_or(Ok(None))
    }
}

impl Tracker {
    /// Offers a job that no worker took, unless it can no longer be claimed.
    fn offer_again(&self, cell: Arc<Cell>) {
        let tracker = self.clone();
        self.0.runtime.spawn(async move {
            let job = cell.job.lock().await;
            let mut table = tracker.table();
            if table.holds(&cell) && job.is_claimable(tracker.now().instant) {
                table.offer(cell.clone());
            }
        });
    }

    /// Takes a job back from a worker that stops, and offers it to others at once.
    ///
    /// # Errors
    /// If there is no such job, or the lease is stale.
    pub async fn give_back(&self, id: &str, lease: String) -> Result<Job, JobError> {
        self.change_by_id(id, move |job, now| job.give_back(&lease, now)).await
    }
}

/// A place among the waiting workers. If it is dropped after a job was offered to it, the job is
/// offered again.
struct Waiting<'a> {
    tracker: &'a Tracker,
    offer: oneshot::Receiver<Arc<Cell>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.offer.close();
        if let Ok(cell) = self.offer.try_recv() {
            self.tracker.offer_again(cell);
        }
    }
}

/// A job that is in no queue. Dropping it offers the job again.
struct Offered<'a> {
    tracker: &'a Tracker,
    cell: Option<Arc<Cell>>,
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.tracker.offer_again(cell);
        }
    }
}
