//! The stored form of documents, on [`Shelf::State`].
//!
//! A document has a head under its topic, and one record for each top-level member of its state and
//! for each member of its topic. Every change is written under the condition that the head is as it
//! was. So two processes cannot both give out the same revision of a document.
//!
//! A topic that has neither state nor members has no records, but its revisions must not begin
//! again at 1: a page or a backend that still knows revision 2 of the earlier state would take the
//! new revision 3 for the next one, and compare-and-set would accept it. A record of each such
//! topic would grow without bound. Instead topics share 4096 *floors*, by the hash of the topic. A
//! floor is the highest revision that any of its removed documents had, and a new document begins
//! above it. Creating a document also writes the floor, under the condition that it is as it was,
//! because another process may have created and removed the document meanwhile.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{draft::Draft, member::Json};
use crate::{
    event::{ClientKey, Position, Topic},
    history::{Expect, Record, Shelf, Write},
};

/// The version of the head.
const VERSION: u8 = 1;

/// Ends the topic in a key. No topic has this character.
const END: u8 = 0;

/// What follows the topic in the key of a record.
const OF_STATE: u8 = b's';
const OF_MEMBER: u8 = b'm';
const OF_FLOOR: u8 = b'f';

/// The number of a floor.
pub(super) type FloorNumber = u16;

/// The number of floors.
const FLOORS: FloorNumber = 4096;

/// A head as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    v: u8,
    pub(super) rev: u64,
    /// The number of members of the state, by which damage is found.
    pub(super) names: usize,
    /// The number of members of the topic.
    pub(super) members: usize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) counted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<i64>,
}

/// What a key names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key<'k> {
    Head(&'k str),
    State(&'k str, &'k str),
    Member(&'k str, ClientKey),
    Floor(FloorNumber),
}

impl<'k> Key<'k> {
    /// Parses the key of a record. `None` if this program did not write it.
    pub(super) fn parse(key: &'k [u8]) -> Option<Self> {
        let Some(end) = key.iter().position(|it| *it == END) else {
            return Some(Self::Head(std::str::from_utf8(key).ok()?));
        };
        let (topic, rest) = (std::str::from_utf8(&key[..end]).ok()?, &key[end + 1..]);
        let (kind, rest) = rest.split_first()?;
        match *kind {
            OF_STATE => Some(Self::State(topic, std::str::from_utf8(rest).ok()?)),
            OF_MEMBER => {
                let id = std::str::from_utf8(rest).ok()?;
                Some(Self::Member(topic, ClientKey::from_id(id)?))
            }
            OF_FLOOR => Some(Self::Floor(FloorNumber::from_be_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }

    fn to_bytes(&self) -> Box<[u8]> {
        let of =
            |topic: &str, kind: u8, rest: &[u8]| [topic.as_bytes(), &[END, kind], rest].concat();
        match self {
            Self::Head(topic) => topic.as_bytes().into(),
            Self::State(topic, name) => of(topic, OF_STATE, name.as_bytes()).into(),
            Self::Member(topic, client) => of(topic, OF_MEMBER, client.id().as_bytes()).into(),
            Self::Floor(number) => of("", OF_FLOOR, &number.to_be_bytes()).into(),
        }
    }

    /// Makes the write of a record under this key.
    pub(super) fn write(&self, value: Option<Box<[u8]>>, expect: Expect) -> Write {
        Write { record: Record { shelf: Shelf::State, key: self.to_bytes(), value }, expect }
    }
}

/// The number of a topic's floor.
pub(super) fn floor_of(topic: &Topic) -> FloorNumber {
    let digest = Sha256::digest(topic.as_str().as_bytes());
    FloorNumber::from_be_bytes([digest[0], digest[1]]) % FLOORS
}

impl Head {
    /// The head of a changed document.
    pub(super) fn of(draft: &Draft<'_>) -> Self {
        Self {
            v: VERSION,
            rev: draft.rev,
            names: draft.n_names,
            members: draft.n_members,
            counted: draft.is_counted,
            until: draft.until,
        }
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, String> {
        let head: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if VERSION < head.v {
            return Err(format!(
                "version {} of stored state; this program knows {VERSION}",
                head.v
            ));
        }
        Ok(head)
    }

    pub(super) fn value(&self) -> Box<[u8]> {
        // Numbers under constant names are written without an error.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// The value of a record with JSON.
pub(super) fn value_of(json: Option<&Json>) -> Option<Box<[u8]>> {
    json.map(|it| it.get().as_bytes().into())
}

/// The value of a floor.
pub(super) fn value_of_floor(rev: u64) -> Option<Box<[u8]>> {
    Some(Box::new(rev.to_be_bytes()))
}

/// Reads the value of a floor.
pub(super) fn floor(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// The condition that a record still has this revision.
pub(super) fn unchanged(revision: Option<Position>) -> Expect {
    revision.map_or(Expect::Absent, Expect::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let client = ClientKey::parse("client", "me", 99).expect("a key");
        for key in [
            Key::Head("/rooms/7"),
            Key::State("/rooms/7", ""),
            Key::State("/rooms/7", "a\0m\u{2028}"),
            Key::Member("/rooms/7", client),
            Key::Floor(4095),
        ] {
            assert_eq!(Key::parse(&key.to_bytes()), Some(key));
        }
        assert_eq!(Key::parse(b"t\0x"), None);
        assert_eq!(Key::parse(b"t\0"), None);
        assert_eq!(Key::parse(b"\xff"), None);
    }

    #[test]
    fn the_records_of_a_topic_stand_together() {
        let key = |it: Key<'_>| it.to_bytes();
        assert!(key(Key::Head("a")) < key(Key::State("a", "z")));
        assert!(key(Key::State("a", "z")) < key(Key::Head("a!")));
    }
}
