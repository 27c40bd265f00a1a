//! The state and the members of one topic, and what others see of them.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::member::Json;
use crate::event::{ClientKey, Position};

/// The state and the members of a topic. One that has neither does not exist.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    /// The number of its changes, which never goes down for a topic.
    pub(super) rev: u64,
    /// The revision of its head record.
    pub(super) revision: Position,
    pub(super) state: StateObject,
    pub(super) members: MemberMap,
    /// Whether only the number of its members is told.
    pub(super) is_counted: bool,
    /// When its state is removed, in milliseconds since 1970.
    pub(super) until: Option<i64>,
    /// The length of the state as JSON, in bytes.
    pub(super) length: Length,
    /// The approximate memory that it takes, in bytes.
    pub(super) weight: usize,
}

/// The top-level members of a state, by name. Serialized as the object.
#[derive(Debug, Clone, Default)]
pub struct StateObject(Arc<BTreeMap<Box<str>, Json>>);

/// The members of a topic as JSON.
pub(super) type MemberMap = Arc<BTreeMap<ClientKey, Json>>;

/// The length of an object as JSON, counted by its members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Length(usize);

impl Length {
    /// The length of `"name":value,`.
    pub(super) fn of(name: &str, value: &RawValue) -> usize {
        // A name without special characters is written as it is, between quotes.
        let name = match name.bytes().all(|it| 0x20 <= it && !b"\"\\<>&".contains(&it)) {
            true => name.len() + 2,
            false => crate::transport::json::script_safe(&name).len(),
        };
        name + 1 + value.get().len() + 1
    }

    /// The length after members of `removed` bytes gave way to members of `added` bytes.
    pub(super) fn after(self, removed: usize, added: usize) -> Self {
        Self((self.0 + added).saturating_sub(removed))
    }

    /// The bytes of the whole object.
    pub(super) fn bytes(self) -> usize {
        // Both braces; the last member has no comma.
        2 + self.0.saturating_sub(1)
    }
}

/// The memory of an entry beside its text: nodes of trees, pointers and counts.
const PER_ENTRY: usize = 96;

/// The memory of a document beside its entries.
const PER_DOCUMENT: usize = 512;

/// The approximate memory of a state's member, in bytes.
pub(super) fn weight_of_state(name: &str, value: &RawValue) -> usize {
    PER_ENTRY + name.len() + value.get().len()
}

/// The approximate memory of a topic's member, in bytes.
pub(super) fn weight_of_member(value: &RawValue) -> usize {
    PER_ENTRY + value.get().len()
}

/// The approximate memory of a document without entries, in bytes.
pub(super) fn weight_of_document(topic: &str) -> usize {
    PER_DOCUMENT + topic.len()
}

impl Document {
    /// Creates the document of a topic, without anything in it.
    pub(super) fn new(topic: &str) -> Self {
        Self { weight: weight_of_document(topic), ..Self::default() }
    }

    /// Sets or removes a member of the state.
    pub(super) fn set_state(&mut self, name: &str, value: Option<Json>) {
        let added = value.as_ref().map_or(0, |it| Length::of(name, it));
        self.weight += value.as_ref().map_or(0, |it| weight_of_state(name, it));
        let state = Arc::make_mut(&mut self.state.0);
        let before = match value {
            Some(value) => state.insert(name.into(), value),
            None => state.remove(name),
        };
        let removed = before.as_ref().map_or(0, |it| Length::of(name, it));
        self.length = self.length.after(removed, added);
        self.weight -= before.map_or(0, |it| weight_of_state(name, &it));
    }

    /// Sets or removes a member of the topic.
    pub(super) fn set_member(&mut self, client: ClientKey, value: Option<Json>) {
        self.weight += value.as_ref().map_or(0, |it| weight_of_member(it));
        let members = Arc::make_mut(&mut self.members);
        let before = match value {
            Some(value) => members.insert(client, value),
            None => members.remove(&client),
        };
        self.weight -= before.map_or(0, |it| weight_of_member(&it));
    }

    /// What others see of it.
    pub(super) fn view(&self) -> View {
        let members = if self.is_counted {
            Members::Counted(self.members.len())
        } else {
            Members::Listed(MemberView(self.members.clone()))
        };
        View { rev: self.rev, state: self.state.clone(), members }
    }

    /// The members after `after`, in the order of their keys.
    pub(super) fn page(&self, after: Option<&ClientKey>, limit: usize) -> MemberPage {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.members.range((from, Unbounded));
        let members: BTreeMap<ClientKey, Json> =
            rest.by_ref().take(limit).map(|(client, it)| (*client, it.clone())).collect();
        let next = rest.next().and_then(|_| members.keys().next_back().map(ClientKey::id));
        let (rev, count) = (self.rev, self.members.len());
        MemberPage { rev, count, members: MemberView(Arc::new(members)), next }
    }
}

/// A document as it is at one revision.
#[derive(Debug, Clone)]
pub struct View {
    /// The revision. That of a topic without state and members is 0, or that of a topic that lost
    /// them: revisions of a topic never go down.
    pub rev: u64,
    /// The state.
    pub state: StateObject,
    /// Who is present.
    pub members: Members,
}

impl View {
    /// The view of a topic that has neither state nor members.
    pub(super) fn empty(rev: u64) -> Self {
        Self { rev, state: StateObject::default(), members: Members::Listed(MemberView::default()) }
    }
}

/// The clients that are present on a topic.
#[derive(Debug, Clone)]
pub enum Members {
    /// Each of them.
    Listed(MemberView),
    /// Their number, because they are too many to list.
    Counted(usize),
}

/// Members by the public id of their client. Serialized as an object.
#[derive(Debug, Clone, Default)]
pub struct MemberView(MemberMap);

/// Some of the members of a topic.
#[derive(Debug, Clone, Default)]
pub struct MemberPage {
    /// The revision of the document.
    pub rev: u64,
    /// The number of all members.
    pub count: usize,
    /// The members of this page.
    pub members: MemberView,
    /// The id of the last member of this page, if there are more.
    pub next: Option<String>,
}

impl StateObject {
    /// Creates the object.
    pub(super) fn new(members: BTreeMap<Box<str>, Json>) -> Self {
        Self(Arc::new(members))
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of its members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(|it| &**it)
    }

    pub(super) fn json(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// The members by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl Serialize for StateObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl MemberView {
    /// The number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The member with this key, as JSON.
    #[must_use]
    pub fn get(&self, client: &ClientKey) -> Option<&RawValue> {
        self.0.get(client).map(|it| &**it)
    }

    /// The clients.
    pub fn clients(&self) -> impl Iterator<Item = &ClientKey> {
        self.0.keys()
    }
}

impl Serialize for MemberView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(client, it)| (client.id(), &**it)))
    }
}

impl Members {
    /// The number of members.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Listed(members) => members.len(),
            Self::Counted(count) => *count,
        }
    }
}
