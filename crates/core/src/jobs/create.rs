//! Creating jobs.

use std::sync::Arc;

use super::{
    Job, JobError, NewJob, Rules, Tracker,
    commit::{ATTEMPTS, Submission, status_event},
    table::{Cell, Room},
};
use crate::{
    history::{Batch, Committed, KeyedReply},
    random::random_text,
};

/// Makes the reply to store for a request that creates a job, given the job's id.
pub type Keep = Box<dyn Fn(&str) -> KeyedReply + Send + Sync>;

/// The outcome of a request for a new job.
#[derive(Debug)]
pub enum Created {
    /// The job is new.
    New(Job),
    /// There was an unfinished job of the same type and key.
    Found(Job),
    /// Nothing was created, because the request's key already has this reply.
    Already(Box<[u8]>),
}

/// A place for a new job, or the job that has it.
enum Entered {
    New(Room),
    Found(Arc<Cell>),
}

impl Tracker {
    /// Creates a job, or finds the unfinished one of the same type and key. Returns whether it is
    /// new.
    ///
    /// ```
    /// # use tidegate_core::jobs::{JobError, NewJob, Tracker};
    /// # async fn create(tracker: Tracker) -> Result<(), JobError> {
    /// let (kind, title) = ("report".to_owned(), "Sales of May".to_owned());
    /// let key = Some("2026-05".to_owned());
    /// let (job, is_new) = tracker.create(NewJob { kind, title, payload: None, key }).await?;
    /// println!("/jobs/{} {}", job.id, if is_new { "was created" } else { "is being done" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a limit of jobs is reached, or the job could not be stored.
    pub async fn create(&self, new: NewJob) -> Result<(Job, bool), JobError> {
        match self.create_and_keep(new, None).await? {
            Created::New(job) => Ok((job, true)),
            Created::Found(job) => Ok((job, false)),
            // Without a key, no request is a repetition.
            Created::Already(_) => Err(JobError::Unknown),
        }
    }

    /// Creates a job like [`Tracker::create`], and stores the reply to the request with it.
    ///
    /// # Errors
    /// As [`Tracker::create`].
    pub async fn create_and_keep(
        &self,
        new: NewJob,
        keep: Option<Keep>,
    ) -> Result<Created, JobError> {
        let rules = self.0.options.rules(&new.kind);
        let tracker = self.clone();
        self.carry_out(async move { tracker.add(new, rules, None, keep).await }).await
    }

    /// Creates a job that its creator runs itself, so that no worker can claim it. An existing job
    /// of the same key belongs to another creator, so it is returned without a lease.
    pub(super) async fn create_claimed(
        &self,
        new: NewJob,
    ) -> Result<(Job, Option<String>), JobError> {
        let rules = Rules { max_attempts: 1, ..self.0.options.rules(&new.kind) };
        let tracker = self.clone();
        let lease = random_text();
        let created = {
            let lease = Some(lease.clone());
            self.carry_out(async move { tracker.add(new, rules, lease, None).await }).await?
        };
        match created {
            Created::New(job) => Ok((job, Some(lease))),
            Created::Found(job) => Ok((job, None)),
            Created::Already(_) => Err(JobError::Unknown),
        }
    }

    async fn add(
        &self,
        new: NewJob,
        rules: Rules,
        lease: Option<String>,
        keep: Option<Keep>,
    ) -> Result<Created, JobError> {
        let id = random_text();
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let number = self.table().take_number(now.time);
            let log_bytes = self.0.options.log_bytes;
            let mut job = Job::new(id.clone(), number, new.clone(), rules, log_bytes, now);
            if let Some(lease) = lease.clone() {
                job.is_done_here = true;
                let _ = job.claim(lease, now)?;
            }
            let cell = Arc::new(Cell::new(&job));
            // Locked before it enters the table, so that no reader sees it before it is stored.
            let mut locked = cell.job.lock().await;
            let room = match self.enter(&cell, job.weight())? {
                Entered::New(room) => room,
                Entered::Found(found) => match self.found(&found, keep.as_ref()).await? {
                    Some(created) => return Ok(created),
                    None => continue,
                },
            };
            let submission = Submission {
                before: None,
                after: &job,
                event: Some(status_event(&job, "job.state", now)),
                reply: keep.as_ref().map(|keep| keep(&job.id)),
                room: &room,
            };
            let outcome = self.submit(submission, now).await;
            if let Ok(Committed::Stored(revision)) = outcome {
                job.revision = revision;
                {
                    let mut table = self.table();
                    table.use_room(&room, revision);
                    table.moved(&job, None);
                }
                *locked = job.clone();
                drop(locked);
                self.plan(&cell, &job, now);
                return Ok(Created::New(job));
            }
            {
                let mut table = self.table();
                table.remove(&job);
                table.leave_room_of(&room);
            }
            drop((locked, room));
            if let Committed::Already(reply) = outcome? {
                return Ok(Created::Already(reply));
            }
            // Its number, its key or a job that was to make room is another process's by now.
            self.catch_up().await?;
        }
        Err(JobError::Contended)
    }

    /// Inserts a new job. If an unfinished job has the same type and key, returns that one instead.
    fn enter(&self, cell: &Arc<Cell>, weight: usize) -> Result<Entered, JobError> {
        let mut table = self.table();
        if let Some(found) = cell.key.as_ref().and_then(|key| table.with_key(&cell.kind, key)) {
            return Ok(Entered::Found(found));
        }
        let room = table.make_room(1, weight)?;
        table.insert(cell);
        Ok(Entered::New(room))
    }

    /// Answers with the job that has the key, and stores the reply to the request. Returns `None`
    /// if that job was not stored after all.
    async fn found(
        &self,
        found: &Arc<Cell>,
        keep: Option<&Keep>,
    ) -> Result<Option<Created>, JobError> {
        let job = found.job.lock().await.clone();
        if !self.table().holds(found) {
            return Ok(None);
        }
        let Some(keep) = keep else { return Ok(Some(Created::Found(job))) };
        let batch = Batch { replies: vec![keep(&job.id)], ..Batch::default() };
        Ok(Some(match self.0.hub.submit(batch).await? {
            Committed::Already(reply) => Created::Already(reply),
            Committed::Stored(_) | Committed::Conflict(_) => Created::Found(job),
        }))
    }
}
