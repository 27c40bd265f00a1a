//! All documents, as the history has announced them.

use std::{
    collections::{BTreeSet, HashMap},
    io,
};

use foldhash::fast::RandomState;
use serde_json::value::RawValue;
use tracing::error;

use super::{
    document::{Document, View},
    member::Json,
    record::{Head, Key, floor, floor_of},
};
use crate::{
    event::{Position, Topic},
    history::{Record, Revised},
};

/// The documents of all topics that have state or members.
#[derive(Debug, Default)]
pub(super) struct Table {
    documents: HashMap<Topic, Document, RandomState>,
    floors: HashMap<u16, Floor, RandomState>,
    /// When state is removed, in milliseconds since 1970.
    deadlines: BTreeSet<(i64, Topic)>,
    bytes: usize,
    n_members: usize,
    n_changes: u64,
    /// The newest revision that is applied.
    newest: Position,
}

/// The highest revision that a removed document of some topics had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) rev: u64,
    /// The revision of the record.
    pub(super) revision: Position,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Topics that have state or members.
    pub documents: usize,
    /// Members of all topics.
    pub members: usize,
    /// The approximate memory of all, in bytes.
    pub bytes: usize,
    /// Changes since the start.
    pub changes: u64,
}

impl Table {
    pub(super) fn get(&self, topic: &Topic) -> Option<&Document> {
        self.documents.get(topic)
    }

    /// The topics and their documents.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Topic, &Document)> {
        self.documents.iter()
    }

    pub(super) fn view(&self, topic: &Topic) -> View {
        match self.documents.get(topic) {
            Some(document) => document.view(),
            None => View::empty(self.floor(floor_of(topic)).map_or(0, |it| it.rev)),
        }
    }

    pub(super) fn floor(&self, number: u16) -> Option<Floor> {
        self.floors.get(&number).copied()
    }

    pub(super) fn counts(&self) -> StateCounts {
        StateCounts {
            documents: self.documents.len(),
            members: self.n_members,
            bytes: self.bytes,
            changes: self.n_changes,
        }
    }

    /// The revision up to which everything is applied.
    pub(super) fn newest(&self) -> Position {
        self.newest
    }

    /// When the next state is removed.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|it| it.0)
    }

    /// At most `limit` topics whose state is over at `now`.
    pub(super) fn over(&self, now: i64, limit: usize) -> Vec<Topic> {
        let over = self.deadlines.iter().take_while(|(due, _)| *due <= now);
        over.take(limit).map(|it| it.1.clone()).collect()
    }

    /// Applies records in the order of their revisions. The head of a document comes before its
    /// other records.
    pub(super) fn learn<'r>(&mut self, records: impl IntoIterator<Item = &'r Revised>) {
        for Revised { record, revision } in records {
            self.newest = self.newest.max(*revision);
            if let Err(error) = self.apply(record, *revision) {
                error!(%error, "a record of the state of a topic cannot be used");
            }
        }
    }

    fn apply(&mut self, record: &Record, revision: Position) -> Result<(), String> {
        let key = Key::parse(&record.key).ok_or("its key is unknown")?;
        match (key, record.value.as_deref()) {
            (Key::Head(topic), None) => self.remove(&Topic::kept(topic)),
            (Key::Head(topic), Some(value)) => {
                let head = Head::parse(value)?;
                self.set_head(Topic::kept(topic), &head, revision);
            }
            (Key::State(topic, name), value) => {
                let value = value.map(json).transpose()?;
                let Some(document) = self.documents.get_mut(&Topic::kept(topic)) else {
                    return Ok(());
                };
                self.bytes -= document.weight;
                document.set_state(name, value);
                self.bytes += document.weight;
            }
            (Key::Member(topic, client), value) => {
                let value = value.map(json).transpose()?;
                let Some(document) = self.documents.get_mut(&Topic::kept(topic)) else {
                    return Ok(());
                };
                self.bytes -= document.weight;
                self.n_members -= document.members.len();
                document.set_member(client, value);
                self.n_members += document.members.len();
                self.bytes += document.weight;
            }
            (Key::Floor(number), Some(value)) => {
                let rev = floor(value).ok_or("its value is damaged")?;
                self.floors.insert(number, Floor { rev, revision });
            }
            (Key::Floor(number), None) => drop(self.floors.remove(&number)),
        }
        Ok(())
    }

    fn set_head(&mut self, topic: Topic, head: &Head, revision: Position) {
        let floor = self.floor(floor_of(&topic)).map_or(0, |it| it.rev);
        let document = match self.documents.get_mut(&topic) {
            Some(document) => document,
            None => {
                let document = Document { rev: floor, ..Document::new(topic.as_str()) };
                self.bytes += document.weight;
                self.documents.entry(topic.clone()).or_insert(document)
            }
        };
        let until = std::mem::replace(&mut document.until, head.until);
        // One record may be for several changes.
        self.n_changes += head.rev.saturating_sub(document.rev);
        document.rev = head.rev;
        document.revision = revision;
        document.is_counted = head.counted;
        if until != head.until {
            if let Some(until) = until {
                self.deadlines.remove(&(until, topic.clone()));
            }
            if let Some(until) = head.until {
                self.deadlines.insert((until, topic));
            }
        }
    }

    fn remove(&mut self, topic: &Topic) {
        let Some(document) = self.documents.remove(topic) else { return };
        self.n_changes += 1;
        self.n_members -= document.members.len();
        self.bytes -= document.weight;
        if let Some(until) = document.until {
            self.deadlines.remove(&(until, topic.clone()));
        }
    }

    /// Takes over what a history has stored.
    ///
    /// # Errors
    /// If a later version of this program wrote it, or records are missing.
    pub(super) fn restore(&mut self, records: &[Revised]) -> io::Result<()> {
        let refused = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut heads = Vec::new();
        for Revised { record, revision } in records {
            self.newest = self.newest.max(*revision);
            self.apply(record, *revision).map_err(refused)?;
            if let (Some(Key::Head(topic)), Some(value)) = (Key::parse(&record.key), &record.value)
            {
                heads.push((Topic::kept(topic), Head::parse(value).map_err(refused)?));
            }
        }
        self.n_changes = 0;
        for (topic, head) in heads {
            let found = self.get(&topic).map(|it| (it.state.len(), it.members.len()));
            if found != Some((head.names, head.members)) {
                error!(%topic, ?found, ?head, "records of the state of a topic are missing");
            }
        }
        Ok(())
    }
}

fn json(value: &[u8]) -> Result<Json, String> {
    let text: Box<RawValue> = serde_json::from_slice(value).map_err(|it| it.to_string())?;
    Ok(text.into())
}
