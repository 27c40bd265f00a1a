//! From what waits to one submission: documents are changed as drafts over the table, and every
//! change becomes an event and records.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::{Map, Value};

use super::{
    Change, Did, StateOptions, StateRefusal, Step, TopicTerms,
    change::Told,
    draft::{Draft, StateChange},
    item::{Item, Wanted},
    member::{Json, parsed},
    record::{FloorNumber, Head, Key, floor_of, unchanged, value_of, value_of_floor},
    table::Table,
};
use crate::{
    event::{ClientKey, Position, Topic, Update},
    history::{Batch, Write},
};

/// Bytes of the list of members up to which it is told again after it was counted.
const LIST_BYTES: usize = 64 << 10;

/// A submission in the making.
#[derive(Debug)]
pub(super) struct Making<'t> {
    table: &'t Table,
    options: &'t StateOptions,
    /// Milliseconds since 1970.
    now: i64,
    drafts: BTreeMap<Topic, Draft<'t>>,
    /// The floors that are written.
    floors: BTreeMap<FloorNumber, u64>,
    /// Memory that the changes take, in bytes.
    growth: usize,
    batch: Batch,
}

/// A submission, and what it depends on.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) batch: Batch,
    /// The outcomes of the steps of each work.
    pub(super) dids: Vec<Vec<Did>>,
    /// The revisions that heads and floors must have; [`Position::START`] if there must be none.
    pub(super) conditions: Vec<Position>,
    /// Whether a step was refused for the sake of what the table has, which may be outdated.
    pub(super) says_no: bool,
}

/// Makes a submission of items, in order.
pub(super) fn make(items: &[Item], table: &Table, options: &StateOptions, now: i64) -> Made {
    let mut making = Making {
        table,
        options,
        now,
        drafts: BTreeMap::new(),
        floors: BTreeMap::new(),
        growth: 0,
        batch: Batch::default(),
    };
    let mut dids: Vec<Vec<Did>> = Vec::new();
    for item in items {
        match item {
            Item::Members(topic, wanted) => making.tell(topic, wanted),
            Item::Over(topic) => making.end(topic),
            Item::Work(ask) => {
                dids.push(ask.work.steps.iter().map(|it| making.step(it)).collect());
            }
        }
    }
    let says_no = dids.iter().flatten().any(|it| matches!(it, Did::Conflict(_) | Did::Refused(_)));
    let conditions = making.write_records();
    Made { batch: making.batch, dids, conditions, says_no }
}

impl<'t> Making<'t> {
    /// The draft of a topic.
    fn draft(&mut self, topic: &Topic) -> &mut Draft<'t> {
        let floor = self.floor(floor_of(topic));
        match self.drafts.entry(topic.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Draft::of(topic.as_str(), self.table.get(topic), floor))
            }
        }
    }

    fn floor(&self, number: FloorNumber) -> u64 {
        let stored = || self.table.floor(number).map_or(0, |it| it.rev);
        self.floors.get(&number).copied().unwrap_or_else(stored)
    }

    fn step(&mut self, step: &Step) -> Did {
        match step {
            Step::Send(update) => {
                self.batch.updates.push(update.clone());
                Did::Sent(update.id.clone())
            }
            Step::Set { topic, change, at, from } => {
                self.set(topic, change, *at, from.as_ref()).unwrap_or_else(Did::Refused)
            }
        }
    }

    /// Changes the state of a topic.
    fn set(
        &mut self,
        topic: &Topic,
        change: &Change,
        at: Option<u64>,
        from: Option<&ClientKey>,
    ) -> Result<Did, StateRefusal> {
        let options = self.options;
        match change {
            Change::Patch(patch) if options.patch_bytes < patch.bytes() => {
                let (bytes, limit) = (patch.bytes(), options.patch_bytes);
                return Err(StateRefusal::PatchTooLarge { bytes, limit });
            }
            Change::Patch(patch) | Change::Replace(patch) => patch.check(options)?,
            Change::Delete => {}
        }
        let draft = self.draft(topic);
        let is_at = |at: u64| at == draft.rev || at == 0 && draft.n_names == 0;
        if at.is_some_and(|at| !is_at(at)) {
            return Ok(Did::Conflict(draft.view()));
        }
        let change = match change {
            Change::Patch(patch) => draft.patched(patch.members(), options)?,
            Change::Replace(object) => draft.replaced(object.members(), options)?,
            Change::Delete => draft.replaced(&Map::new(), options)?,
        };
        if change.is_nothing() {
            return Ok(Did::Set { rev: draft.rev });
        }
        let growth = change.growth(draft);
        let is_new = draft.is_empty() && draft.base.is_none();
        self.check_room(growth, is_new)?;
        let rev = self.apply(topic, change, from);
        Ok(Did::Set { rev })
    }

    fn check_room(&mut self, growth: usize, is_new: bool) -> Result<(), StateRefusal> {
        let StateOptions { documents, bytes, .. } = *self.options;
        let counts = self.table.counts();
        let drafts = self.drafts.values();
        let n_new = drafts.filter(|it| it.base.is_none() && !it.is_empty()).count();
        if is_new && documents <= counts.documents + n_new {
            return Err(StateRefusal::TooManyDocuments { limit: documents });
        }
        let taken = counts.bytes + self.growth + growth;
        if 0 < growth && bytes < taken {
            return Err(StateRefusal::Full { limit: bytes });
        }
        self.growth += growth;
        Ok(())
    }

    fn apply(&mut self, topic: &Topic, mut change: StateChange, from: Option<&ClientKey>) -> u64 {
        let (terms, now) = ((self.options.terms)(topic), self.now);
        let draft = self.draft(topic);
        let patch = std::mem::take(&mut change.patch);
        draft.apply(change);
        draft.until = terms
            .ttl
            .filter(|_| 0 < draft.n_names)
            .map(|ttl| now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
        let rev = draft.rev;
        let told = Told { rev, state: Some(&patch), ..Told::default() }.from(from, &terms);
        self.batch.updates.push(told.event(topic, &terms));
        rev
    }

    /// Removes a state whose time is over.
    fn end(&mut self, topic: &Topic) {
        let (options, now) = (self.options, self.now);
        let draft = self.draft(topic);
        if draft.until.is_none_or(|until| now < until) {
            return;
        }
        // It gets smaller, so it is not refused.
        if let Ok(change) = draft.replaced(&Map::new(), options)
            && !change.is_nothing()
        {
            self.apply(topic, change, None);
        }
    }

    /// Sets the members of a topic that are to be different.
    fn tell(&mut self, topic: &Topic, wanted: &Wanted) {
        let terms = (self.options.terms)(topic);
        let options = self.options;
        let draft = self.draft(topic);
        let mut told = BTreeMap::new();
        for (client, wanted) in wanted {
            if let Some(change) = draft.tell(*client, wanted.as_ref()) {
                told.insert(client.id(), change);
            }
        }
        if told.is_empty() {
            return;
        }
        draft.rev += 1;
        let event = tell_of_members(draft, topic, told, options, &terms);
        self.batch.updates.push(event);
    }

    /// Writes the records of all drafts. Returns the revisions that they depend on.
    fn write_records(&mut self) -> Vec<Position> {
        let mut conditions = Vec::new();
        let drafts = std::mem::take(&mut self.drafts);
        for (topic, draft) in drafts {
            let is_changed = !draft.state.is_empty() || !draft.members.is_empty();
            if !is_changed {
                continue;
            }
            if draft.base.is_none() || draft.is_empty() {
                let number = floor_of(&topic);
                let floor = self.floor(number);
                let rev = if draft.is_empty() { floor.max(draft.rev) } else { floor };
                self.floors.insert(number, rev);
            }
            if draft.base.is_none() && draft.is_empty() {
                // It came and went: its revisions are told, but there is nothing to store.
                continue;
            }
            let revision = draft.base.map(|it| it.revision);
            conditions.push(revision.unwrap_or(Position::START));
            self.batch.records.extend(records(topic.as_str(), &draft));
        }
        for (number, rev) in &self.floors {
            let revision = self.table.floor(*number).map(|it| it.revision);
            conditions.push(revision.unwrap_or(Position::START));
            let value = value_of_floor(*rev);
            let write = Key::Floor(*number).write(value, unchanged(revision));
            self.batch.records.push(write);
        }
        conditions
    }
}

/// The records of a changed document, the head first.
fn records(topic: &str, draft: &Draft<'_>) -> Vec<Write> {
    use crate::history::Expect::Any;
    let head = (!draft.is_empty()).then(|| Head::of(draft).value());
    let revision = draft.base.map(|it| it.revision);
    let mut records = vec![Key::Head(topic).write(head, unchanged(revision))];
    let is_stored = |is_there: bool, after: &Option<Json>| is_there || after.is_some();
    for (name, after) in &draft.state {
        let is_there = draft.base.is_some_and(|it| it.state.json(name).is_some());
        if is_stored(is_there, after) {
            records.push(Key::State(topic, name).write(value_of(after.as_ref()), Any));
        }
    }
    for (client, after) in &draft.members {
        let is_there = draft.base.is_some_and(|it| it.members.contains_key(client));
        if is_stored(is_there, after) {
            records.push(Key::Member(topic, *client).write(value_of(after.as_ref()), Any));
        }
    }
    records
}

/// Makes the event that tells of changed members. Many members are only counted. They are listed
/// again once they are half as many as may be listed and their list is short, so that a number near
/// the limit does not change back and forth.
fn tell_of_members(
    draft: &mut Draft<'_>,
    topic: &Topic,
    mut told: BTreeMap<String, Value>,
    options: &StateOptions,
    terms: &TopicTerms,
) -> Update {
    let count = draft.n_members;
    if draft.is_counted && count <= options.listed / 2 {
        let all = draft.all_members();
        if all.values().map(|it| it.get().len()).sum::<usize>() <= LIST_BYTES {
            draft.is_counted = false;
            told = all.iter().map(|(client, it)| (client.id(), parsed(it))).collect();
        }
    }
    draft.is_counted |= options.listed < count;
    let rev = draft.rev;
    let told = if draft.is_counted {
        Told { rev, count: Some(count), ..Told::default() }
    } else {
        Told { rev, members: Some(&told), ..Told::default() }
    };
    told.event(topic, terms)
}
