//! Frames: what one node commits at once, as it stands in the log.
//!
//! A frame is an entry of the stream. Its fields are the frame before it (`p`), its origin (`b`),
//! the time (`t`) and pieces (`s`), or the nonce (`k`) of a term that begins. A piece has
//! submissions, each with its number in the frame. Positions follow from counting: a submission has
//! one for each of its events, or one if it has none.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use redis::Value;

use crate::{
    event::{Position, Update},
    history::{
        Batch, Expect, KeyedReply, Record, Shelf, Write,
        disk::codec::{Input, decode_update, encode_update, put, put_length},
        disk::damage::Unreadable,
        disk::tables::shelf_name,
        token::NUMBER_BITS,
    },
};

/// The format of frames and of the log's other keys. A node refuses a log of a newer one.
pub(super) const FORMAT: u8 = 1;

/// The bytes of a piece before its first submission: the format.
const HEAD: usize = 1;

/// The bytes before a submission in a piece: its number in the frame, and its length.
const PREFIX: usize = 6;

/// A place in the log, as Redis writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) term: u64,
    pub(super) number: u64,
}

impl Id {
    /// Before everything.
    pub(super) const START: Self = Self { term: 0, number: 0 };

    /// The highest number of a term, and the highest term.
    const LIMITS: (u64, u64) = (1 << NUMBER_BITS, 1 << (64 - NUMBER_BITS));

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (term, number) = text.split_once('-')?;
        let id = Self { term: term.parse().ok()?, number: number.parse().ok()? };
        let (numbers, terms) = Self::LIMITS;
        (id.term < terms && id.number < numbers).then_some(id)
    }

    pub(super) fn position(self) -> Position {
        Position(self.term << NUMBER_BITS | self.number)
    }

    /// The place of a position.
    pub(super) fn of(position: Position) -> Self {
        let (numbers, _) = Self::LIMITS;
        Self { term: position.0 >> NUMBER_BITS, number: position.0 & (numbers - 1) }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.term, self.number)
    }
}

/// Who committed a frame: the node, its session, and the number of the frame in that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) node: Arc<str>,
    pub(super) session: u64,
    pub(super) number: u64,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, ':');
        let (number, session) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { node: parts.next()?.into(), session, number })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.node, self.session, self.number)
    }
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Its last position.
    pub(super) id: Id,
    /// The frame before it.
    pub(super) predecessor: Id,
    /// The time of acceptance, in microseconds since 1970.
    pub(super) time: i64,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A term begins, with this nonce.
    Term(Arc<str>),
    /// A node has committed something.
    Pieces { origin: Origin, pieces: Vec<Bytes> },
}

/// An entry that this program cannot understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unintelligible {
    #[error("the entry {0} of the log has format {1}, and this program knows only {FORMAT}")]
    Newer(String, u8),
    #[error("the entry {0} of the log is damaged")]
    Damaged(String),
}

impl Frame {
    /// Reads an entry as `XRANGE` and `XREAD` return it.
    pub(super) fn read(entry: &Value) -> Result<Self, Unintelligible> {
        let [id, fields] = items(entry) else {
            return Err(Unintelligible::Damaged(String::new()));
        };
        let text = text(id).unwrap_or_default();
        Self::read_fields(&text, items(fields)).ok_or(Unintelligible::Damaged(text))
    }

    fn read_fields(id: &str, fields: &[Value]) -> Option<Self> {
        let (mut predecessor, mut time, mut origin, mut nonce) = (None, None, None, None);
        let mut pieces = Vec::new();
        for pair in fields.chunks_exact(2) {
            let [name, value] = pair else { return None };
            match text(name)?.as_str() {
                "p" => predecessor = Id::parse(&text(value)?),
                "t" => time = text(value)?.parse().ok(),
                "b" => origin = Origin::parse(&text(value)?),
                "k" => nonce = Some(text(value)?.into()),
                "s" => pieces.push(bytes(value)?),
                _ => return None,
            }
        }
        let content = match (nonce, origin) {
            (Some(nonce), None) => Content::Term(nonce),
            (None, Some(origin)) => Content::Pieces { origin, pieces },
            _ => return None,
        };
        let (id, predecessor, time) = (Id::parse(id)?, predecessor?, time?);
        Some(Self { id, predecessor, time, content })
    }

    /// The fields of the entry.
    pub(super) fn fields(&self) -> Vec<(&'static str, Bytes)> {
        let own = |text: String| Bytes::from(text);
        let mut fields = vec![("p", own(self.predecessor.to_string()))];
        match &self.content {
            Content::Term(nonce) => {
                fields.push(("t", own(self.time.to_string())));
                fields.push(("k", own(nonce.to_string())));
            }
            Content::Pieces { origin, pieces } => {
                fields.push(("b", own(origin.to_string())));
                fields.push(("t", own(self.time.to_string())));
                fields.extend(pieces.iter().map(|piece| ("s", piece.clone())));
            }
        }
        fields
    }

    /// The bytes of its pieces.
    pub(super) fn size(&self) -> usize {
        match &self.content {
            Content::Term(_) => 0,
            Content::Pieces { pieces, .. } => pieces.iter().map(Bytes::len).sum(),
        }
    }

    /// The submissions in the frame, with the last position of each.
    pub(super) fn submissions(&self) -> Result<Vec<(Id, Submitted)>, Unintelligible> {
        let Content::Pieces { pieces, .. } = &self.content else { return Ok(Vec::new()) };
        let mut here = Id { term: self.id.term, number: self.predecessor.number };
        let mut submissions = Vec::new();
        for piece in pieces {
            let read = read_piece(piece).map_err(|error| match error {
                Unreadable::Version(version) => Unintelligible::Newer(self.id.to_string(), version),
                Unreadable::Damaged | Unreadable::Checksum { .. } => {
                    Unintelligible::Damaged(self.id.to_string())
                }
            })?;
            for submitted in read {
                here.number += positions(submitted.updates.len());
                submissions.push((here, submitted));
            }
        }
        if here == self.id {
            Ok(submissions)
        } else {
            Err(Unintelligible::Damaged(self.id.to_string()))
        }
    }
}

/// The positions that a submission with this many events takes.
fn positions(n_events: usize) -> u64 {
    n_events.max(1) as u64
}

/// A submission as the log has it.
#[derive(Debug)]
pub(super) struct Submitted {
    /// Its number in the frame that its node has sent.
    pub(super) number: u16,
    pub(super) updates: Vec<Update>,
    pub(super) records: Vec<Record>,
    pub(super) replies: Vec<KeyedReply>,
}

fn read_piece(piece: &[u8]) -> Result<Vec<Submitted>, Unreadable> {
    let mut input = Input(piece);
    let [format] = input.array()?;
    if format != FORMAT {
        return Err(Unreadable::Version(format));
    }
    let mut submissions = Vec::new();
    while !input.0.is_empty() {
        let number = u16::from_le_bytes(input.array()?);
        let length = input.length()?;
        let body = &mut Input(input.take(length)?);
        submissions.push(read_body(number, body)?);
    }
    Ok(submissions)
}

fn read_body(number: u16, body: &mut Input<'_>) -> Result<Submitted, Unreadable> {
    let count = body.length()?;
    let updates = (0..count).map(|_| {
        let length = body.length()?;
        Ok(decode_update(body.take(length)?)?.1)
    });
    let updates = updates.collect::<Result<_, Unreadable>>()?;
    let count = body.length()?;
    let records = (0..count).map(|_| {
        let name = body.text()?;
        let shelf = Shelf::ALL.into_iter().find(|it| shelf_name(*it) == name);
        let shelf = shelf.ok_or(Unreadable::Damaged)?;
        let length = body.length()?;
        let key = body.take(length)?.into();
        let value = match body.array()? {
            [0] => None,
            _ => {
                let length = body.length()?;
                Some(body.take(length)?.into())
            }
        };
        Ok(Record { shelf, key, value })
    });
    let records = records.collect::<Result<_, Unreadable>>()?;
    let count = body.length()?;
    let replies = (0..count).map(|_| {
        let key = body.text()?.to_owned();
        let length = body.length()?;
        Ok(KeyedReply { key, value: body.take(length)?.into() })
    });
    let replies = replies.collect::<Result<_, Unreadable>>()?;
    if body.0.is_empty() {
        Ok(Submitted { number, updates, records, replies })
    } else {
        Err(Unreadable::Damaged)
    }
}

/// A submission as it is sent, with the places of what the script stores beside it.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    body: Vec<u8>,
    pub(super) positions: u64,
    /// Keys of replies, and the places of the values in the body.
    pub(super) replies: Vec<(String, Range<usize>)>,
    pub(super) records: Vec<EncodedRecord>,
}

/// A record of a submission.
#[derive(Debug, Clone)]
pub(super) struct EncodedRecord {
    pub(super) shelf: Shelf,
    pub(super) key: Box<[u8]>,
    pub(super) expect: Expect,
    /// The place of the value in the body; `None` if the record is removed.
    pub(super) value: Option<Range<usize>>,
}

impl Encoded {
    pub(super) fn new(batch: &Batch) -> Self {
        let mut body = Vec::new();
        put_length(&mut body, batch.updates.len());
        for update in &batch.updates {
            put(&mut body, &encode_update(0, update));
        }
        put_length(&mut body, batch.records.len());
        let mut records = Vec::with_capacity(batch.records.len());
        for Write { record, expect } in &batch.records {
            put(&mut body, shelf_name(record.shelf).as_bytes());
            put(&mut body, &record.key);
            body.push(u8::from(record.value.is_some()));
            let value = record.value.as_ref().map(|value| {
                put(&mut body, value);
                body.len() - value.len()..body.len()
            });
            let (shelf, key, expect) = (record.shelf, record.key.clone(), *expect);
            records.push(EncodedRecord { shelf, key, expect, value });
        }
        put_length(&mut body, batch.replies.len());
        let mut replies = Vec::with_capacity(batch.replies.len());
        for KeyedReply { key, value } in &batch.replies {
            put(&mut body, key.as_bytes());
            put(&mut body, value);
            replies.push((key.clone(), body.len() - value.len()..body.len()));
        }
        Self { body, positions: positions(batch.updates.len()), replies, records }
    }

    /// Whether the script accepts it without looking into it.
    pub(super) fn is_plain(&self) -> bool {
        self.replies.is_empty() && self.records.is_empty()
    }

    /// The bytes that it takes in a frame.
    pub(super) fn size(&self) -> usize {
        HEAD + PREFIX + self.body.len()
    }
}

/// A piece of a frame that is to be sent.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) payload: Vec<u8>,
    pub(super) positions: u64,
}

impl Piece {
    pub(super) fn new() -> Self {
        Self { payload: vec![FORMAT], positions: 0 }
    }

    /// Adds a submission. Returns the place of its body in the payload.
    pub(super) fn push(&mut self, number: u16, encoded: &Encoded) -> usize {
        self.payload.extend_from_slice(&number.to_le_bytes());
        put(&mut self.payload, &encoded.body);
        self.positions += encoded.positions;
        self.payload.len() - encoded.body.len()
    }
}

/// The elements of an array.
pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// A text or a number as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(std::str::from_utf8(bytes).ok()?.to_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The bytes of a value.
pub(super) fn bytes(value: &Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(Bytes::copy_from_slice(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::disk::tests as on_disk;

    fn batch() -> Batch {
        let record = |key: u8, value: Option<&[u8]>| Write {
            record: Record { shelf: Shelf::Jobs, key: [key].into(), value: value.map(Into::into) },
            expect: Expect::Absent,
        };
        Batch {
            updates: vec![on_disk::update(&[0], 1, 1), on_disk::update(&[0, 1], 2, 100)],
            records: vec![record(1, Some(b"one")), record(2, None), record(3, Some(b""))],
            replies: vec![KeyedReply { key: "k".to_owned(), value: b"reply".as_slice().into() }],
        }
    }

    fn frame(pieces: Vec<Bytes>, number: u64) -> Frame {
        let origin = Origin { node: "a:b".into(), session: 3, number: 4 };
        Frame {
            id: Id { term: 2, number },
            predecessor: Id { term: 1, number: 10 },
            time: 5,
            content: Content::Pieces { origin, pieces },
        }
    }

    #[test]
    fn what_is_read_is_what_was_sent_and_values_are_where_they_are_said_to_be() {
        let (with, without) = (batch(), Batch { updates: Vec::new(), ..batch() });
        let mut piece = Piece::new();
        let encoded = Encoded::new(&with);
        let body = piece.push(7, &encoded);
        piece.push(9, &Encoded::new(&without));
        let at = |range: &Range<usize>| &piece.payload[body + range.start..body + range.end];
        assert_eq!(at(&encoded.replies[0].1), b"reply");
        let values = encoded.records.iter().map(|it| it.value.as_ref().map(at));
        assert_eq!(values.collect::<Vec<_>>(), [Some(&b"one"[..]), None, Some(b"")]);
        assert_eq!(piece.positions, 3);
        let frame = frame(vec![piece.payload.into()], 13);
        let value = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let fields = frame.fields();
        let fields = fields.iter().flat_map(|(name, it)| [value(name.as_bytes()), value(it)]);
        let entry = Value::Array(vec![value(b"2-13"), Value::Array(fields.collect())]);
        let read = Frame::read(&entry).expect("it was written so");
        assert_eq!(format!("{read:?}"), format!("{frame:?}"));
        let submissions = read.submissions().expect("readable");
        let numbers: Vec<_> = submissions.iter().map(|it| (it.0.number, it.1.number)).collect();
        assert_eq!(numbers, [(12, 7), (13, 9)]);
        for ((_, submitted), batch) in submissions.iter().zip([with, without]) {
            let records: Vec<Record> = batch.records.into_iter().map(|it| it.record).collect();
            assert_eq!(submitted.records, records);
            assert_eq!(submitted.replies, batch.replies);
            assert_eq!(format!("{:?}", submitted.updates), format!("{:?}", batch.updates));
        }
    }

    #[test]
    fn a_damaged_frame_is_refused_without_a_panic() {
        let mut piece = Piece::new();
        piece.push(0, &Encoded::new(&batch()));
        let whole = piece.payload;
        for length in 0..whole.len() {
            let cut = frame(vec![Bytes::copy_from_slice(&whole[..length])], 12);
            assert!(cut.submissions().is_err(), "{length}");
            let mut changed = whole.clone();
            changed[length] ^= 0x80;
            let _ = frame(vec![changed.into()], 12).submissions();
        }
        let newer = Bytes::from_static(&[FORMAT + 1, 0, 0]);
        let expected = Unintelligible::Newer("2-12".to_owned(), FORMAT + 1);
        assert_eq!(frame(vec![newer], 12).submissions().err(), Some(expected));
        assert!(frame(vec![whole.into()], 13).submissions().is_err(), "it has too few positions");
    }

    #[test]
    fn places_are_ordered_as_positions() {
        let ids = ["0-0", "1-0", "1-7", "2-7", "65535-281474976710655"];
        let ids = ids.map(|it| Id::parse(it).expect("a place"));
        assert!(ids.is_sorted() && ids.map(Id::position).is_sorted());
        assert_eq!(ids.map(Id::position).map(Id::of), ids);
        for wrong in ["", "1", "1-", "a-1", "65536-1", "1-281474976710656"] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }
}
