//! The stored form of a client.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, JoinedBy, Membership};
use crate::{
    event::{ClientKey, Position, Topic},
    history::{Expect, Record, Shelf, Write},
};

/// The version of the stored form.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    topics: BTreeMap<String, StoredMembership>,
    #[serde(default)]
    seq: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    done: Vec<Value>,
    #[serde(default)]
    is_complete: bool,
    began: u64,
    #[serde(default)]
    is_admitted: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredMembership {
    since: u64,
    listens: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    by: String,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the record of a client cannot be read: {0}")]
pub(super) struct Unreadable(String);

/// The record of a client, on the condition that it has not changed since `revision`.
pub(super) fn written(id: &ClientKey, client: &Client, revision: Position) -> Write {
    let topics = client.topics.iter().map(|(topic, it)| {
        let stored = StoredMembership {
            since: it.since.unwrap_or_default().0,
            listens: it.listens,
            data: it.data.clone(),
            by: it.by.as_str().to_owned(),
        };
        (topic.as_str().to_owned(), stored)
    });
    let stored = Stored {
        version: VERSION,
        user: client.user.clone(),
        topics: topics.collect(),
        seq: client.seq,
        done: client.done.clone(),
        is_complete: client.is_complete,
        began: client.began.0,
        is_admitted: client.is_admitted,
    };
    let value = serde_json::to_vec(&stored).expect("all map keys are strings");
    write(id, Some(value.into()), revision)
}

/// The removal of a client's record.
pub(super) fn removed(id: &ClientKey, revision: Position) -> Write {
    write(id, None, revision)
}

fn write(id: &ClientKey, value: Option<Box<[u8]>>, revision: Position) -> Write {
    let expect = if revision == Position::START { Expect::Absent } else { Expect::At(revision) };
    let key = id.as_bytes().to_vec().into();
    Write { record: Record { shelf: Shelf::Clients, key, value }, expect }
}

/// The client that a record is of.
pub(super) fn key(record: &Record) -> Result<ClientKey, Unreadable> {
    let hash = <[u8; 16]>::try_from(&*record.key);
    hash.map(ClientKey::kept).map_err(|_| Unreadable("the key has a wrong length".to_owned()))
}

/// Reads a stored client.
pub(super) fn read(value: &[u8]) -> Result<Client, Unreadable> {
    let stored: Stored =
        serde_json::from_slice(value).map_err(|error| Unreadable(error.to_string()))?;
    if VERSION < stored.version {
        return Err(Unreadable(format!("version {} is of a later gateway", stored.version)));
    }
    let membership = |(topic, it): (String, StoredMembership)| {
        let membership = Membership {
            since: Some(Position(it.since)),
            listens: it.listens,
            data: it.data,
            by: JoinedBy::from_name(&it.by).unwrap_or(JoinedBy::Grant),
        };
        (Topic::kept(&topic), membership)
    };
    Ok(Client {
        user: stored.user,
        topics: stored.topics.into_iter().map(membership).collect(),
        seq: stored.seq,
        done: stored.done,
        is_complete: stored.is_complete,
        began: Position(stored.began),
        is_admitted: stored.is_admitted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_same_after_it_was_stored() {
        let membership = Membership {
            since: Some(Position(7)),
            listens: true,
            data: Some(serde_json::json!({ "name": "Ann", "__proto__": null })),
            by: JoinedBy::Server,
        };
        let client = Client {
            user: Some("ann".into()),
            topics: [(Topic::kept("/rooms/7"), membership)].into(),
            seq: 9,
            done: vec![serde_json::json!({ "id": "urn:uuid:1" })],
            is_complete: true,
            began: Position(3),
            is_admitted: true,
        };
        let id = ClientKey::kept([5; 16]);
        let write = written(&id, &client, Position(8));
        assert_eq!(write.expect, Expect::At(Position(8)));
        assert_eq!(key(&write.record).expect("a key"), id);
        let value = write.record.value.expect("a value");
        assert_eq!(read(&value).expect("readable"), client);
        assert!(read(b"{}").is_err());
        assert!(read(br#"{"version":2,"began":0}"#).is_err());
        assert_eq!(removed(&id, Position::START).expect, Expect::Absent);
    }
}
