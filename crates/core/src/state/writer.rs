//! The one thread that writes: it takes what waits, in order, and submits it together.
//!
//! The next submission is made from what the one before has left, once that is stored and
//! announced. If a condition does not hold, the table catches up with the history, and the
//! submission is made again. A group that keeps failing is divided, so that one bad work does not
//! hurt the others.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::warn;

use super::{
    Beside, Did, StateError, Stored,
    batch::{Made, make},
    item::{Ask, Item},
    shared::Shared,
};
use crate::{event::Position, history::Committed, hub::PublishError, matching::prepare};

/// What one submission holds at most: items, and about their bytes. The table is locked while a
/// submission is made, so both keep that to some milliseconds.
const ITEMS: usize = 256;
const BYTES: usize = 1 << 20;

/// How often a submission of several items is made before they are divided, and that of one item
/// before it fails.
const TOGETHER: usize = 3;
const ALONE: usize = 8;

/// How often a record that a work stores beside its changes may be in the way.
const FOREIGN: usize = 3;

/// The time after which a change of the writer's own is tried again after the history refused it.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Writes for as long as there are handles.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) asks: mpsc::Receiver<Ask>,
    /// When states whose time is over are looked at next, after the history refused one.
    pub(super) over_after: Option<Instant>,
}

impl Writer {
    pub(super) async fn run(mut self) {
        let (mut waiting, mut arrived) = (VecDeque::new(), Vec::new());
        loop {
            if waiting.is_empty() {
                let next = self.next();
                let due = async {
                    match next {
                        Some(due) => tokio::time::sleep_until(due.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    received = self.asks.recv_many(&mut arrived, ITEMS) => if received == 0 { return },
                    () = self.shared.woken.notified() => {}
                    () = due => {}
                }
            } else {
                while waiting.len() + arrived.len() < ITEMS
                    && let Ok(ask) = self.asks.try_recv()
                {
                    arrived.push(ask);
                }
            }
            waiting.extend(arrived.drain(..).map(Item::Work));
            let mut items = self.due();
            let mut weight: usize = items.iter().map(Item::weight).sum();
            while items.len() < ITEMS
                && weight < BYTES
                && let Some(item) = waiting.pop_front()
            {
                weight += item.weight();
                items.push(item);
            }
            if !items.is_empty() {
                self.write(items).await;
            }
        }
    }

    /// When the next change of its own is due.
    fn next(&self) -> Option<Instant> {
        let (now, shared) = (Instant::now(), &self.shared);
        let deadline = shared.table().next_deadline().map(|deadline| {
            // The wall clock may be set meanwhile.
            const LONGEST: u64 = 60_000;
            let left = u64::try_from(deadline.saturating_sub(shared.now())).unwrap_or_default();
            let due = now + Duration::from_millis(left.min(LONGEST));
            self.over_after.map_or(due, |it| it.max(due))
        });
        [deadline, shared.gathering().next()].into_iter().flatten().min()
    }

    /// The changes of its own that are due.
    fn due(&mut self) -> Vec<Item> {
        let now = Instant::now();
        let mut items = self.shared.gathering().take(now, ITEMS, BYTES);
        if self.over_after.is_none_or(|it| it <= now) {
            self.over_after = None;
            let over = self.shared.table().over(self.shared.now(), ITEMS - items.len());
            items.extend(over.into_iter().map(Item::Over));
        }
        items
    }

    async fn write(&mut self, items: Vec<Item>) {
        let mut groups = vec![items];
        while let Some(group) = groups.pop() {
            if let Some(mut first) = self.write_group(group).await {
                let second = first.split_off(first.len() / 2);
                groups.extend([second, first]);
            }
        }
    }

    /// Submits a group. Returns it if it is to be divided.
    async fn write_group(&mut self, group: Vec<Item>) -> Option<Vec<Item>> {
        let is_alone = group.len() <= 1;
        // The condition that did not hold, and those that the group had.
        let mut failed: Option<(Position, Vec<Position>)> = None;
        let mut n_foreign = 0;
        for _ in 0..if is_alone { ALONE } else { TOGETHER } {
            let made = match self.made(&group).await {
                Ok(made) => made,
                Err(error) => {
                    self.fail(group, &error);
                    return None;
                }
            };
            let Made { batch, dids, conditions, .. } = made;
            if let Some((found, before)) = failed.take() {
                let is_ours = conditions.contains(&found) || before.contains(&found);
                n_foreign += usize::from(!is_ours);
            }
            if is_alone && FOREIGN <= n_foreign {
                self.give_back(group, &StateError::Sealed);
                return None;
            }
            if batch.updates.is_empty() && batch.records.is_empty() && batch.replies.is_empty() {
                self.succeed(group, dids, Position::START);
                return None;
            }
            let outcome = self.shared.hub.submit(batch).await;
            // Whatever comes next is made from what is stored by now.
            let is_behind = match &outcome {
                Ok(Committed::Stored(position)) => {
                    !conditions.is_empty() && self.shared.table().newest() < *position
                }
                Ok(Committed::Conflict(_)) => true,
                Ok(Committed::Already(_)) => false,
                Err(error) => error.may_be_stored(),
            };
            if is_behind && let Err(error) = self.shared.catch_up().await {
                warn!(%error, "the state of topics cannot catch up with the history");
            }
            match outcome {
                Ok(Committed::Stored(revision)) => {
                    self.succeed(group, dids, revision);
                    return None;
                }
                Ok(Committed::Already(reply)) if is_alone => {
                    self.give_back(group, &StateError::Already(reply));
                    return None;
                }
                Ok(Committed::Already(_)) => return Some(group),
                Ok(Committed::Conflict(found)) => failed = Some((found, conditions)),
                Err(error) => {
                    self.fail(group, &error);
                    return None;
                }
            }
        }
        if !is_alone {
            return Some(group);
        }
        self.give_up(group);
        None
    }

    /// Makes a submission. Before a step is refused for what the table has, the table catches up.
    async fn made(&self, group: &[Item]) -> Result<Made, PublishError> {
        let shared = &self.shared;
        let topics = group.iter().filter_map(|it| match it {
            Item::Members(topic, _) | Item::Over(topic) => Some(topic),
            // That of works has been done by the caller.
            Item::Work(_) => None,
        });
        prepare(topics).await;
        let (newest, mut made) = self.make(group);
        if made.says_no {
            shared.catch_up().await?;
            if shared.table().newest() != newest {
                made = self.make(group).1;
            }
        }
        // Not while the table is locked: what the function locks may be held by one that waits for
        // the table.
        let works = group.iter().filter_map(|it| match it {
            Item::Work(ask) => Some(&ask.work),
            Item::Members(..) | Item::Over(_) => None,
        });
        for (work, dids) in works.zip(&made.dids) {
            if let Some(beside) = &work.beside {
                let Beside { records, replies } = beside(dids);
                made.batch.records.extend(records);
                made.batch.replies.extend(replies);
            }
        }
        Ok(made)
    }

    fn make(&self, group: &[Item]) -> (Position, Made) {
        let table = self.shared.table();
        (table.newest(), make(group, &table, &self.shared.options, self.shared.now()))
    }

    fn succeed(&self, group: Vec<Item>, dids: Vec<Vec<Did>>, revision: Position) {
        let mut dids = dids.into_iter();
        let mut has_members = false;
        for item in group {
            match item {
                // The caller may have left.
                Item::Work(ask) => {
                    let dids = dids.next().unwrap_or_default();
                    drop(ask.reply.send(Ok(Stored { dids, revision })));
                }
                Item::Members(topic, wanted) => {
                    self.shared.gathering().told(&topic, &wanted);
                    has_members = true;
                }
                Item::Over(_) => {}
            }
        }
        if has_members {
            self.shared.told.send_modify(|it| *it += 1);
        }
    }

    fn fail(&mut self, group: Vec<Item>, error: &PublishError) {
        if group.iter().any(|it| !matches!(it, Item::Work(_))) {
            warn!(%error, "changes of members, or ends of states, are stored later");
        }
        self.give_back(group, &error.clone().into());
    }

    /// Ends the attempts for a group of one.
    fn give_up(&mut self, group: Vec<Item>) {
        let has_beside = |it: &Item| matches!(it, Item::Work(ask) if ask.work.beside.is_some());
        let is_sealed = group.iter().any(has_beside);
        let error = if is_sealed { StateError::Sealed } else { StateError::Contended };
        self.give_back(group, &error);
    }

    /// Answers works with an error. Changes of its own are made later.
    fn give_back(&mut self, group: Vec<Item>, error: &StateError) {
        let again = Instant::now() + TRY_AGAIN;
        for item in group {
            match item {
                // The caller may have left.
                Item::Work(ask) => drop(ask.reply.send(Err(error.clone()))),
                Item::Members(topic, _) => self.shared.gathering().failed(&topic, again),
                Item::Over(_) => self.over_after = Some(again),
            }
        }
    }
}
