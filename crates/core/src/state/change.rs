//! The event that tells of a change: `tidegate.change`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::TopicTerms;
use crate::{
    event::{ClientKey, Lane, Topic, Update},
    transport::json::script_safe,
};

/// The type of the event.
const KIND: &str = "tidegate.change";

/// What a change tells.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told<'a> {
    pub(super) rev: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// A merge patch of the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<&'a Map<String, Value>>,
    /// A merge patch of the members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) members: Option<&'a BTreeMap<String, Value>>,
    /// The number of members, in place of the members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<usize>,
}

impl Told<'_> {
    /// Adds the client that made the change, unless its topic does not tell.
    pub(super) fn from(self, client: Option<&ClientKey>, terms: &TopicTerms) -> Self {
        Self { from: client.filter(|_| terms.tell_from).map(ClientKey::id), ..self }
    }

    /// Makes the event. That of a client's own topic reaches only the client.
    pub(super) fn event(self, topic: &Topic, terms: &TopicTerms) -> Update {
        let lane = if topic.is_client() { Lane::Clients } else { Lane::State };
        let mut update = Update::of_hub(lane, Box::new([topic.clone()]), KIND, script_safe(&self));
        update.private = terms.private;
        update.from = self.from.map(Into::into);
        update
    }
}
