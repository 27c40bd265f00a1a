//! A client as a plain value: what it has joined and done.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::event::{Position, Topic};

/// What outlives the process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Client {
    /// The subject of its access token; it belongs to this user for good.
    pub user: Option<Box<str>>,
    /// The topics that it has joined.
    pub topics: BTreeMap<Topic, Membership>,
    /// The number of its last ordered request, or 0.
    pub seq: u64,
    /// The results of that request so far, one for each action.
    pub done: Vec<Value>,
    /// Whether that request has no further actions.
    pub is_complete: bool,
    /// The position at which it came into being. Its first stream begins there.
    pub began: Position,
    /// Whether it was admitted by the application, which is asked once.
    pub is_admitted: bool,
}

/// A topic that a client has joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// The position after which the client hears the topic; `None` until its stream has changed.
    pub since: Option<Position>,
    /// Whether the client hears the topic, or is only seen there.
    pub listens: bool,
    /// What it shows of itself to the topic's members, a JSON object; `None` if it is not seen.
    pub data: Option<Value>,
    /// Who made it join.
    pub by: JoinedBy,
}

/// Who made a client join a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinedBy {
    /// The client, where anyone may.
    Anyone,
    /// The client, with a grant of its access token. Without the grant it has to leave.
    Grant,
    /// The server or a backend.
    Server,
}

impl JoinedBy {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Grant => "grant",
            Self::Server => "server",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Anyone, Self::Grant, Self::Server].into_iter().find(|it| it.as_str() == name)
    }
}
