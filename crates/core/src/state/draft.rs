//! A document with changes that are not stored yet.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{
    StateOptions, StateRefusal,
    document::{
        Document, Length, MemberMap, StateObject, View, weight_of_document, weight_of_member,
        weight_of_state,
    },
    member::{Json, parsed, raw},
    patch,
};
use crate::event::ClientKey;

/// Changes of a document over the stored one.
#[derive(Debug)]
pub(super) struct Draft<'t> {
    /// The stored document, if there is one.
    pub(super) base: Option<&'t Document>,
    pub(super) rev: u64,
    pub(super) is_counted: bool,
    pub(super) until: Option<i64>,
    pub(super) state: BTreeMap<Box<str>, Option<Json>>,
    pub(super) members: BTreeMap<ClientKey, Option<Json>>,
    pub(super) n_names: usize,
    pub(super) n_members: usize,
    length: Length,
    /// The memory that it takes, in bytes.
    pub(super) weight: usize,
}

/// A change of the state that has been checked.
#[derive(Debug)]
pub(super) struct StateChange {
    values: Vec<(Box<str>, Option<Json>)>,
    /// What is told.
    pub(super) patch: Map<String, Value>,
    n_names: usize,
    length: Length,
    weight: usize,
}

impl StateChange {
    /// Whether nothing is different after it.
    pub(super) fn is_nothing(&self) -> bool {
        self.values.is_empty()
    }

    /// How much more memory the document takes after it, in bytes.
    pub(super) fn growth(&self, draft: &Draft<'_>) -> usize {
        self.weight.saturating_sub(draft.weight)
    }
}

impl<'t> Draft<'t> {
    /// Begins with the stored document. A new one has the revision `floor`.
    pub(super) fn of(topic: &str, base: Option<&'t Document>, floor: u64) -> Self {
        let none = Document::default();
        let it = base.unwrap_or(&none);
        Self {
            rev: base.map_or(floor, |it| it.rev),
            is_counted: it.is_counted,
            until: it.until,
            state: BTreeMap::new(),
            members: BTreeMap::new(),
            n_names: it.state.len(),
            n_members: it.members.len(),
            length: it.length,
            weight: base.map_or(weight_of_document(topic), |it| it.weight),
            base,
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.n_names == 0 && self.n_members == 0
    }

    fn value(&self, name: &str) -> Option<&Json> {
        match self.state.get(name) {
            Some(changed) => changed.as_ref(),
            None => self.base.and_then(|it| it.state.json(name)),
        }
    }

    /// The member of this client.
    pub(super) fn member(&self, client: &ClientKey) -> Option<&Json> {
        match self.members.get(client) {
            Some(changed) => changed.as_ref(),
            None => self.base.and_then(|it| it.members.get(client)),
        }
    }

    /// The names of the state.
    fn names(&self) -> Vec<Box<str>> {
        let stored = self.base.into_iter().flat_map(|it| it.state.iter().map(|it| it.0));
        let unchanged = stored.filter(|it| !self.state.contains_key(*it)).map(Into::into);
        let changed = self.state.iter().filter(|it| it.1.is_some()).map(|it| it.0.clone());
        unchanged.chain(changed).collect()
    }

    /// All members as they are with the changes.
    pub(super) fn all_members(&self) -> MemberMap {
        let mut all = self.base.map(|it| it.members.clone()).unwrap_or_default();
        if self.members.is_empty() {
            return all;
        }
        let members = Arc::make_mut(&mut all);
        for (client, change) in &self.members {
            match change {
                Some(json) => drop(members.insert(*client, json.clone())),
                None => drop(members.remove(client)),
            }
        }
        all
    }

    /// What others would see of it.
    pub(super) fn view(&self) -> View {
        let of = |name: Box<str>| Some((name.clone(), self.value(&name)?.clone()));
        let state = match self.base {
            Some(base) if self.state.is_empty() => base.state.clone(),
            _ => StateObject::new(self.names().into_iter().filter_map(of).collect()),
        };
        let (members, is_counted) = (self.all_members(), self.is_counted);
        Document { rev: self.rev, state, members, is_counted, ..Document::default() }.view()
    }

    /// Merges a patch.
    pub(super) fn patched(
        &self,
        patch: &Map<String, Value>,
        options: &StateOptions,
    ) -> Result<StateChange, StateRefusal> {
        let mut values = Vec::new();
        for (name, change) in patch {
            let before = self.value(name);
            // Only two objects are merged; everything else replaces.
            let target = match (change, before) {
                (Value::Object(_), Some(before)) => Some(parsed(before)),
                _ => None,
            };
            let after = patch::merge(target, change).map(|it| raw(&it)).transpose()?;
            if after.as_ref().map(|it| it.get()) != before.map(|it| it.get()) {
                values.push((Box::from(name.as_str()), after));
            }
        }
        self.change(values, patch.clone(), options)
    }

    /// Puts an object in the place of the state.
    pub(super) fn replaced(
        &self,
        object: &Map<String, Value>,
        options: &StateOptions,
    ) -> Result<StateChange, StateRefusal> {
        let (mut values, mut told) = (Vec::new(), Map::new());
        for name in self.names() {
            if object.get(&*name).is_none_or(Value::is_null) {
                told.insert(name.to_string(), Value::Null);
                values.push((name, None));
            }
        }
        for (name, value) in object {
            let Some(after) = patch::merge(None, value) else { continue };
            let before = self.value(name).map(|it| parsed(it));
            let change = match &before {
                Some(before) => patch::difference(before, &after),
                None => Some(after.clone()),
            };
            if let Some(change) = change {
                told.insert(name.clone(), change);
                values.push((Box::from(name.as_str()), Some(raw(&after)?)));
            }
        }
        self.change(values, told, options)
    }

    fn change(
        &self,
        values: Vec<(Box<str>, Option<Json>)>,
        patch: Map<String, Value>,
        options: &StateOptions,
    ) -> Result<StateChange, StateRefusal> {
        let (mut n_names, mut length, mut weight) = (self.n_names, self.length, self.weight);
        for (name, after) in &values {
            let before = self.value(name);
            let bytes = |it: Option<&Json>| it.map_or(0, |it| Length::of(name, it));
            length = length.after(bytes(before), bytes(after.as_ref()));
            let memory = |it: Option<&Json>| it.map_or(0, |it| weight_of_state(name, it));
            weight = (weight + memory(after.as_ref())).saturating_sub(memory(before));
            n_names = n_names + usize::from(after.is_some()) - usize::from(before.is_some());
        }
        // A state over a limit that was lowered since may still get smaller.
        if options.names < n_names && self.n_names < n_names {
            return Err(StateRefusal::TooManyNames { limit: options.names });
        }
        if options.document_bytes < length.bytes() && self.length.bytes() < length.bytes() {
            let (bytes, limit) = (length.bytes(), options.document_bytes);
            return Err(StateRefusal::DocumentTooLarge { bytes, limit });
        }
        Ok(StateChange { values, patch, n_names, length, weight })
    }

    /// Makes a change, which has a revision of its own.
    pub(super) fn apply(&mut self, change: StateChange) {
        self.rev += 1;
        self.n_names = change.n_names;
        self.length = change.length;
        self.weight = change.weight;
        self.state.extend(change.values);
    }

    /// Sets or removes a member. Returns how the others learn of it, or `None` if nothing changes.
    pub(super) fn tell(&mut self, client: ClientKey, wanted: Option<&Json>) -> Option<Value> {
        let before = self.member(&client).cloned();
        let before = before.as_ref();
        if before.map(|it| it.get()) == wanted.map(|it| it.get()) {
            return None;
        }
        let told = match (before, wanted) {
            (_, None) => Value::Null,
            (None, Some(wanted)) => parsed(wanted),
            (Some(before), Some(wanted)) => {
                let mut after = parsed(wanted);
                patch::whole_with_removals(&parsed(before), &mut after);
                after
            }
        };
        let memory = |it: Option<&Json>| it.map_or(0, |it| weight_of_member(it));
        self.weight = (self.weight + memory(wanted)).saturating_sub(memory(before));
        let was_there = before.is_some();
        self.n_members = self.n_members + usize::from(wanted.is_some()) - usize::from(was_there);
        self.members.insert(client, wanted.cloned());
        Some(told)
    }
}
