//! Reading the log: each frame is applied once, in order, and announced.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use redis::{Value, cmd};
use tracing::{error, info};

use super::{
    frame::{Content, Frame, Id, Unintelligible, items},
    life::{Entered, Node, Reload},
    link::{Link, Trouble},
};
use crate::{
    event::Position,
    history::{Applied, Revised},
};

/// Frames in one answer, and the bytes above which the next answer has fewer.
const FRAMES: usize = 64;
const ANSWER_BYTES: usize = 4 << 20;

/// The time that Redis waits for a frame, and the time for its answer after that.
const BLOCK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// The shortest average interval between two reads, and how many may be sooner. Redis spends as
/// much on a read as on a commit, so under load a read should bring several frames.
const INTERVAL: Duration = Duration::from_millis(1);
const BURST: u32 = 50;

impl From<Unintelligible> for Trouble {
    fn from(error: Unintelligible) -> Self {
        Self::Unsuitable(format!("{error}; this node stops before it"))
    }
}

/// Limits the rate of reads.
struct Pace {
    next: Instant,
}

impl Pace {
    async fn wait(&mut self) {
        let now = Instant::now();
        self.next = self.next.max(now - BURST * INTERVAL) + INTERVAL;
        if now < self.next {
            tokio::time::sleep_until(self.next.into()).await;
        }
    }
}

impl Node {
    /// Follows the log until the connection breaks.
    pub(super) async fn follow(&self, link: &Link) -> Result<std::convert::Infallible, Trouble> {
        let mut connection = link.reading.clone();
        let mut pace = Pace { next: Instant::now() };
        let mut count = FRAMES;
        loop {
            let newest = self.log.borrow().newest;
            let mut command = cmd("XREAD");
            command.arg("COUNT").arg(count).arg("BLOCK").arg(BLOCK.as_millis().to_string());
            command.arg("STREAMS").arg(self.keys.of("log")).arg(newest.to_string());
            let reading = command.query_async::<Value>(&mut connection);
            let answer = match tokio::time::timeout(BLOCK + PATIENCE, reading).await {
                Ok(answer) => answer?,
                Err(_) => return Err(Trouble::Away("Redis does not answer".to_owned())),
            };
            let streams = items(&answer).first().map(items).unwrap_or_default();
            let entries = streams.get(1).map(items).unwrap_or_default();
            let size = self.apply_entries(entries)?;
            count = if ANSWER_BYTES < size { (count / 2).max(1) } else { FRAMES.min(count * 2) };
            pace.wait().await;
        }
    }

    /// Reads the log up to a frame.
    pub(super) async fn catch_up(
        &self,
        link: &Link,
        entered: &Entered,
        end: Id,
    ) -> Result<(), Trouble> {
        let reload = self.log.borrow().reload;
        let reload = match reload {
            // Redis has lost what this node has read, and no node has put it back.
            None if end < self.log.borrow().newest => Some(Reload::Lost),
            reload => reload,
        };
        if let Some(why) = reload {
            return self.reload(link, entered, end, why).await;
        }
        while self.log.borrow().newest < end {
            let newest = self.log.borrow().newest;
            let entries = self.range(link, &format!("({newest}")).await?;
            if items(&entries).is_empty() {
                return Err(self.shortened());
            }
            self.apply_entries(items(&entries))?;
        }
        Ok(())
    }

    async fn range(&self, link: &Link, from: &str) -> Result<Value, Trouble> {
        let mut command = cmd("XRANGE");
        command.arg(self.keys.of("log")).arg(from).arg("+").arg("COUNT").arg(FRAMES);
        Ok(command.query_async(&mut link.main.clone()).await?)
    }

    fn shortened(&self) -> Trouble {
        let (log, meta) = (self.keys.of("log"), self.keys.of("meta"));
        Trouble::Away(format!("the stream {log} lacks entries that {meta} knows of"))
    }

    /// Applies entries of the log. Returns their size.
    fn apply_entries(&self, entries: &[Value]) -> Result<usize, Trouble> {
        if entries.is_empty() {
            return Ok(0);
        }
        let (mut frames, mut unintelligible) = (Vec::with_capacity(entries.len()), None);
        for entry in entries {
            match Frame::read(entry) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    unintelligible = Some(error);
                    break;
                }
            }
        }
        let size = frames.iter().map(Frame::size).sum();
        self.apply(frames)?;
        unintelligible.map_or(Ok(size), |error| Err(error.into()))
    }

    /// Applies frames that follow on the last one, and announces them. Stops before a frame that
    /// does not, or that cannot be understood.
    fn apply(&self, frames: Vec<Frame>) -> Result<(), Trouble> {
        let (mut read, mut trouble) = (Vec::with_capacity(frames.len()), None);
        let mut newest = self.log.borrow().newest;
        for frame in frames {
            if frame.predecessor != newest {
                trouble = Some(self.break_at(newest, &frame));
                break;
            }
            match frame.submissions() {
                Ok(submissions) => {
                    newest = frame.id;
                    read.push((frame, submissions));
                }
                Err(error) => {
                    trouble = Some(error.into());
                    break;
                }
            }
        }
        let (mut events, mut records) = (Vec::new(), Vec::new());
        let mut orphans = Vec::new();
        let mut view = self.core.view_mut();
        for (frame, submissions) in read {
            self.log.borrow_mut().newest = frame.id;
            match &frame.content {
                Content::Term(nonce) => {
                    view.begin_term(frame.id, frame.predecessor);
                    self.core.cursor_key.learn_term(frame.id.term, nonce);
                    let mut log = self.log.borrow_mut();
                    log.nonces.insert(frame.id.term, nonce.to_string());
                    log.known_term = log.known_term.max(frame.id.term);
                    orphans
                        .extend(self.ring.borrow_mut().take_between(frame.predecessor, frame.id));
                }
                Content::Pieces { origin, .. } if origin.node == self.id => {
                    let found: Vec<_> = submissions.iter().map(|it| (it.1.number, it.0)).collect();
                    self.queue.borrow_mut().find(origin.session, origin.number, &found);
                }
                Content::Pieces { .. } => {}
            }
            for (id, submitted) in submissions {
                view.append(id, submitted.updates, frame.time, &mut events);
                let revise = |record| Revised { revision: id.position(), record };
                records.extend(submitted.records.into_iter().map(revise));
            }
            self.ring.borrow_mut().insert(frame);
        }
        view.trim(self.core.now());
        let last = view.parts.last();
        drop(view);
        if let Some(changes) = &mut *self.changes.borrow_mut() {
            for it in &records {
                changes.insert((it.record.shelf, it.record.key.clone()), it.clone());
            }
        }
        if (!events.is_empty() || !records.is_empty())
            && let Some(follower) = &mut *self.core.follower()
        {
            follower(Applied { events: &events, records: &records, restarted: None });
        }
        self.core.applied.send_replace(last);
        self.publish_late(orphans);
        trouble.map_or(Ok(()), Err)
    }

    /// Notes why the log has to be read anew.
    fn break_at(&self, newest: Id, frame: &Frame) -> Trouble {
        let why = if newest < frame.predecessor { Reload::Trimmed } else { Reload::Lost };
        self.log.borrow_mut().reload = Some(why);
        Trouble::Again("the log does not follow on what this node has read")
    }

    /// Reads the whole log up to `end`, and then announces that everything is different.
    async fn reload(
        &self,
        link: &Link,
        entered: &Entered,
        end: Id,
        why: Reload,
    ) -> Result<(), Trouble> {
        let before = self.core.view().parts.last();
        if end.position() <= before && before != Position::START {
            // Positions must not go back, so there has to be a higher term.
            let mut log = self.log.borrow_mut();
            log.reload = Some(why);
            log.known_term = log.newest.term.max(end.term).max(Id::of(before).term) + 1;
            return Err(Trouble::Again("the log needs a term that this node does not know"));
        }
        let mut ends: BTreeMap<u64, u64> =
            entered.terms.iter().filter_map(|(term, (_, end))| Some((*term, (*end)?))).collect();
        if entered.newest.term < end.term {
            ends.insert(entered.newest.term, entered.newest.number);
        }
        let mut nonces: BTreeMap<u64, String> =
            entered.terms.iter().map(|(term, it)| (*term, it.0.clone())).collect();
        nonces.insert(entered.newest.term, entered.nonce.clone());
        let mut view = None;
        let mut newest = None;
        self.origins.borrow_mut().clear();
        loop {
            let from = newest.map_or_else(|| "-".to_owned(), |it| format!("({it}"));
            let entries = self.range(link, &from).await?;
            if items(&entries).is_empty() {
                return Err(self.shortened());
            }
            for entry in items(&entries) {
                let frame = Frame::read(entry)?;
                let view = view.get_or_insert_with(|| {
                    let (base, accepted) = base(why, entered, &frame, before, end);
                    self.core.view().restarted(base, accepted, ends.clone())
                });
                if newest.is_some_and(|newest| newest != frame.predecessor) {
                    return Err(Trouble::Again("the log was trimmed while it was read"));
                }
                newest = Some(frame.id);
                let mut events = Vec::new();
                let submissions = frame.submissions()?;
                match &frame.content {
                    Content::Term(nonce) => {
                        view.begin_term(frame.id, frame.predecessor);
                        nonces.insert(frame.id.term, nonce.to_string());
                        self.core.cursor_key.learn_term(frame.id.term, nonce);
                    }
                    Content::Pieces { origin, .. } => {
                        let found: Vec<_> =
                            submissions.iter().map(|it| (it.1.number, it.0)).collect();
                        if origin.node == self.id {
                            self.queue.borrow_mut().find(origin.session, origin.number, &found);
                        }
                        self.origins.borrow_mut().insert(origin.clone());
                    }
                }
                for (id, submitted) in submissions {
                    view.append(id, submitted.updates, frame.time, &mut events);
                }
                if why == Reload::Start {
                    self.ring.borrow_mut().insert(frame);
                }
            }
            if let Some(view) = &mut view {
                view.trim(self.core.now());
            }
            if newest.is_some_and(|newest| end <= newest) {
                break;
            }
        }
        let (Some(view), Some(newest)) = (view, newest) else {
            return Err(Trouble::Again("the log is empty"));
        };
        *self.core.view_mut() = view;
        {
            let mut log = self.log.borrow_mut();
            (log.newest, log.nonces, log.reload) = (newest, nonces, None);
            log.known_term = newest.term;
        }
        self.after_reload(why);
        Ok(())
    }

    /// Announces that everything is different, and publishes again what was lost.
    fn after_reload(&self, why: Reload) {
        let origins = std::mem::take(&mut *self.origins.borrow_mut());
        match why {
            Reload::Start | Reload::Replaced => {}
            Reload::Trimmed => {
                info!("the log was trimmed beyond what this node had read");
                // Their frames may be among those that were trimmed.
                self.queue.borrow_mut().give_up("the log was trimmed meanwhile");
            }
            Reload::Lost | Reload::Forked => {
                if why == Reload::Lost {
                    error!("Redis has lost a part of the log that was not put back");
                    self.core.counters.holes.add(1);
                }
                let is_there = |frame: &Frame| match &frame.content {
                    Content::Term(_) => false,
                    Content::Pieces { origin, .. } => origins.contains(origin),
                };
                let lost = self.ring.borrow_mut().retain(is_there);
                self.publish_late(lost);
            }
        }
        if why != Reload::Start || self.core.applied.borrow().0 != 0 {
            self.restarted();
        }
    }

    /// Announces that what was announced before may no longer be in the log.
    pub(super) fn restarted(&self) {
        let last = self.core.view().parts.last();
        if let Some(follower) = &mut *self.core.follower() {
            follower(Applied { events: &[], records: &[], restarted: Some(last) });
        }
        self.core.applied.send_replace(last);
    }
}

/// The frame up to which subscribers may lack events, and its time, for a log that is read from
/// `first`.
fn base(why: Reload, entered: &Entered, first: &Frame, before: Position, end: Id) -> (Id, i64) {
    let is_whole = first.predecessor == Id::START;
    match why {
        Reload::Start if is_whole => (Id::START, 0),
        Reload::Start | Reload::Trimmed => {
            let is_told = entered.floor == first.predecessor;
            (first.predecessor, if is_told { entered.floor_time } else { first.time })
        }
        // The log begins here, behind everything that subscribers have received.
        Reload::Replaced if is_whole && before < first.id.position() => (first.id, first.time),
        Reload::Replaced | Reload::Lost | Reload::Forked => {
            (end, first.time.max(entered.floor_time))
        }
    }
}
