//! The encoding of events and of what is remembered of dropped ones.
//!
//! A record begins with its version and ends with its checksum (see `seal`). Lengths have 32 bits
//! and are little-endian. The data fills the rest before the checksum, so that it is copied once.

use std::sync::Arc;

use jiff::Timestamp;

use super::{damage::Unreadable, seal::Place};
use crate::{
    event::{ClientKey, Event, EventId, EventType, Lane, Position, Topic, Update},
    history::{
        hash::{Hash, hash},
        lost::{Dropped, Lost, Trace},
        reach::Reach,
    },
    matching::Interest,
};

/// The version of these records.
const VERSION: u8 = 1;

const PRIVATE: u8 = 1;
const KIND: u8 = 2;
const RETRY: u8 = 4;
const FROM: u8 = 8;

/// The bits of the lane in the flags: its number. 0 is an event of a version that stored no lane.
const LANE: u8 = 0b0111_0000;
const LANE_SHIFT: u32 = LANE.trailing_zeros();

fn lane_bits(lane: Lane) -> u8 {
    let number: u8 = match lane {
        Lane::Ordinary => 1,
        Lane::Subscriptions => 2,
        Lane::Clients => 3,
        Lane::State => 4,
        Lane::Nodes => 5,
    };
    number << LANE_SHIFT
}

fn lane(flags: u8, kind: Option<&EventType>) -> Result<Lane, Unreadable> {
    match flags & LANE {
        0 => Ok(Lane::of_stored(kind)),
        bits => {
            let lane = Lane::ALL.into_iter().find(|lane| lane_bits(*lane) == bits);
            lane.ok_or(Unreadable::Damaged)
        }
    }
}

/// The stored form of a time: microseconds since 1970.
pub(in crate::history) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// Restores a stored time.
pub(in crate::history) fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN)
}

/// Encodes an event.
pub(super) fn encode(position: Position, accepted: i64, update: &Update) -> Vec<u8> {
    let record = encode_update(accepted, update);
    Place::new("events", &position.0.to_be_bytes()).seal(record)
}

/// Encodes an event without its position and a checksum.
pub(in crate::history) fn encode_update(accepted: i64, update: &Update) -> Vec<u8> {
    let mut record = Vec::with_capacity(update.weight());
    record.push(VERSION);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    record.push(
        flag(update.private, PRIVATE)
            | flag(update.kind.is_some(), KIND)
            | flag(update.retry.is_some(), RETRY)
            | flag(update.from.is_some(), FROM)
            | lane_bits(update.lane),
    );
    record.extend_from_slice(&accepted.to_le_bytes());
    put(&mut record, update.id.as_str().as_bytes());
    put_length(&mut record, update.topics.len());
    for topic in &update.topics {
        put(&mut record, topic.as_str().as_bytes());
    }
    if let Some(kind) = &update.kind {
        put(&mut record, kind.as_str().as_bytes());
    }
    if let Some(retry) = update.retry {
        record.extend_from_slice(&retry.to_le_bytes());
    }
    if let Some(from) = &update.from {
        put(&mut record, from.as_bytes());
    }
    put_length(&mut record, update.except.len());
    for client in &update.except {
        record.extend_from_slice(client.as_bytes());
    }
    record.extend_from_slice(update.data.as_bytes());
    record
}

/// Appends a length or a count.
pub(in crate::history) fn put_length(record: &mut Vec<u8>, length: usize) {
    let length =
        u32::try_from(length).expect("the settings limit each text to 1 GiB (limits.body_bytes)");
    record.extend_from_slice(&length.to_le_bytes());
}

/// Appends bytes after their length.
pub(in crate::history) fn put(record: &mut Vec<u8>, bytes: &[u8]) {
    put_length(record, bytes.len());
    record.extend_from_slice(bytes);
}

/// The time of acceptance in an event's record.
pub(super) fn accepted(position: Position, sealed: &[u8]) -> Result<i64, Unreadable> {
    let record = Place::new("events", &position.0.to_be_bytes()).unseal(sealed)?;
    Ok(head(&mut Input(record))?.1)
}

/// Decodes an event.
pub(super) fn decode(position: Position, sealed: &[u8]) -> Result<Event, Unreadable> {
    let record = Place::new("events", &position.0.to_be_bytes()).unseal(sealed)?;
    let (accepted, update) = decode_update(record)?;
    Ok(Event::new(position, time(accepted), Arc::new(update)))
}

/// Decodes what [`encode_update`] has encoded. Returns the time of acceptance as well.
pub(in crate::history) fn decode_update(record: &[u8]) -> Result<(i64, Update), Unreadable> {
    let mut input = Input(record);
    let (flags, accepted) = head(&mut input)?;
    let id = EventId::kept(input.text()?);
    let count = input.length()?;
    let topics = (0..count).map(|_| Ok(Topic::kept(input.text()?))).collect::<Result<_, _>>()?;
    let kind = match flags & KIND {
        0 => None,
        _ => Some(EventType::kept(input.text()?)),
    };
    let retry = match flags & RETRY {
        0 => None,
        _ => Some(u64::from_le_bytes(input.array()?)),
    };
    let from = match flags & FROM {
        0 => None,
        _ => Some(input.text()?.into()),
    };
    let count = input.length()?;
    let except =
        (0..count).map(|_| Ok(ClientKey::kept(input.array()?))).collect::<Result<_, _>>()?;
    let data = std::str::from_utf8(input.0).map_err(|_| Unreadable::Damaged)?.into();
    let private = flags & PRIVATE != 0;
    let lane = lane(flags, kind.as_ref())?;
    let update = Update { topics, data, id, kind, retry, private, except, lane, from };
    Ok((accepted, update))
}

fn head(input: &mut Input<'_>) -> Result<(u8, i64), Unreadable> {
    let [version, flags] = input.array()?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    Ok((flags, i64::from_le_bytes(input.array()?)))
}

/// Bytes that are still to be decoded.
pub(in crate::history) struct Input<'a>(pub(in crate::history) &'a [u8]);

impl<'a> Input<'a> {
    pub(in crate::history) fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(in crate::history) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable::Damaged)
    }

    pub(in crate::history) fn length(&mut self) -> Result<usize, Unreadable> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        // A damaged count must not reserve much memory.
        if self.0.len() < length { Err(Unreadable::Damaged) } else { Ok(length) }
    }

    pub(in crate::history) fn text(&mut self) -> Result<&'a str, Unreadable> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Unreadable::Damaged)
    }
}

/// What is remembered of a dropped event.
pub(super) struct Remembered {
    pub(super) accepted: i64,
    pub(super) id: Hash,
    trace: Trace,
    /// Whether the reach is known. Earlier versions did not store it.
    has_reach: bool,
}

impl Remembered {
    /// What is remembered of an event; `None` if no subscriber can miss it.
    pub(super) fn of(event: &Event) -> Option<Self> {
        Trace::of(&event.update).map(|trace| Self {
            accepted: micros(event.accepted_at),
            id: hash(event.update.id.as_str()),
            trace,
            has_reach: true,
        })
    }

    pub(super) fn encode(&self, position: Position) -> Vec<u8> {
        let topics = self.trace.topics.iter().flat_map(|it| it.to_be_bytes());
        let reach = self.has_reach.then(|| self.trace.reach.as_byte());
        let head = self.accepted.to_le_bytes().into_iter().chain(self.id);
        let record = head.chain(topics).chain(reach).collect();
        Place::new("dropped", &position.0.to_be_bytes()).seal(record)
    }

    pub(super) fn decode(position: Position, sealed: &[u8]) -> Result<Self, Unreadable> {
        let place = position.0.to_be_bytes();
        let mut input = Input(Place::new("dropped", &place).unseal(sealed)?);
        let accepted = i64::from_le_bytes(input.array()?);
        let id = input.array()?;
        let (topics, rest) = input.0.as_chunks();
        let topics = topics.iter().map(|it| u64::from_be_bytes(*it)).collect();
        let reach = match rest {
            [] => None,
            [byte] => Some(Reach::from_byte(*byte).ok_or(Unreadable::Damaged)?),
            _ => return Err(Unreadable::Damaged),
        };
        let trace = Trace { reach: reach.unwrap_or(Reach::Open), topics };
        Ok(Self { accepted, id, trace, has_reach: reach.is_some() })
    }

    /// The reaches that it may have had: its own, or all if that is not known.
    pub(super) fn reaches(&self) -> &[Reach] {
        if self.has_reach { std::slice::from_ref(&self.trace.reach) } else { &Reach::ALL }
    }

    /// Notes the dropped event.
    pub(super) fn note_in(&self, lost: &mut Lost, position: Position) {
        let dropped = Dropped { position, accepted_at: time(self.accepted) };
        for reach in self.reaches() {
            lost.note(dropped, &Trace { reach: *reach, topics: self.trace.topics.clone() });
        }
    }

    /// Whether a subscriber with this interest may learn that such an event existed.
    pub(super) fn may_be_known(&self, interest: &Interest) -> bool {
        !self.has_reach || self.trace.may_be_known(interest)
    }
}

/// Encodes a reply with the time when it was given.
pub(super) fn encode_reply(key: &str, number: u64, given: i64, value: &[u8]) -> Vec<u8> {
    let record = [&given.to_le_bytes(), value].concat();
    Place::new("replies", &reply_place(key, number)).seal(record)
}

/// Decodes a reply. Returns the time when it was given, and its value.
pub(super) fn decode_reply<'s>(
    key: &str,
    number: u64,
    sealed: &'s [u8],
) -> Result<(i64, &'s [u8]), Unreadable> {
    let mut input = Input(Place::new("replies", &reply_place(key, number)).unseal(sealed)?);
    Ok((i64::from_le_bytes(input.array()?), input.0))
}

fn reply_place(key: &str, number: u64) -> Vec<u8> {
    [&number.to_be_bytes(), key.as_bytes()].concat()
}

/// Decodes `input` as a record of an event, and checks that encoding and decoding it again changes
/// nothing.
#[cfg(any(test, feature = "fuzzing"))]
pub fn read_back(input: &[u8]) {
    let position = Position(7);
    let sealed = Place::new("events", &position.0.to_be_bytes()).seal(input.to_vec());
    let _ = Remembered::decode(position, &sealed);
    let Ok(event) = decode(position, &sealed) else { return };
    let again = encode(position, micros(event.accepted_at), &event.update);
    let again = decode(position, &again).expect("what was written is readable");
    assert_eq!(format!("{:?}", again.update), format!("{:?}", event.update));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn update() -> impl Strategy<Value = Update> {
        (
            prop::collection::vec(".{0,20}", 1..4),
            (".{0,300}", ".{1,20}"),
            prop::option::of(".{0,9}"),
            prop::option::of(any::<u64>()),
            any::<bool>(),
            prop::collection::vec(any::<[u8; 16]>(), 0..3),
            (prop::sample::select(Lane::ALL.to_vec()), prop::option::of(".{0,22}")),
        )
            .prop_map(
                |(topics, (data, id), kind, retry, private, except, (lane, from))| Update {
                    topics: topics.iter().map(|it| Topic::kept(it)).collect(),
                    data: data.into(),
                    id: EventId::kept(&id),
                    kind: kind.map(|it| EventType::kept(&it)),
                    retry,
                    private,
                    except: except.into_iter().map(ClientKey::kept).collect(),
                    lane,
                    from: from.map(Into::into),
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(update in update(), accepted in 0..i64::MAX / 100_000) {
            let record = encode(Position(7), accepted, &update);
            let event = decode(Position(7), &record).expect("readable");
            prop_assert_eq!(format!("{:?}", event.update), format!("{:?}", Arc::new(update)));
            prop_assert_eq!(micros(event.accepted_at), accepted);
            let Some(remembered) = Remembered::of(&event) else {
                prop_assert_eq!(event.update.lane, Lane::Nodes);
                return Ok(());
            };
            let record = remembered.encode(Position(7));
            let decoded = Remembered::decode(Position(7), &record).expect("readable");
            prop_assert_eq!(decoded.id, hash(event.update.id.as_str()));
            prop_assert_eq!(decoded.trace, remembered.trace);
        }

        #[test]
        fn a_record_without_a_lane_has_the_one_of_its_type(update in update(), is_told in any::<bool>()) {
            let kind = is_told.then(|| EventType::of_hub(EventType::SUBSCRIPTION));
            let place = 7_u64.to_be_bytes();
            let sealed = encode(Position(7), 1, &Update { kind, ..update });
            let mut record = Place::new("events", &place).unseal(&sealed).expect("sealed").to_vec();
            record[1] &= !LANE;
            let read = decode(Position(7), &Place::new("events", &place).seal(record)).expect("readable");
            let expected = if is_told { Lane::Subscriptions } else { Lane::Ordinary };
            prop_assert_eq!(read.update.lane, expected);
        }

        #[test]
        fn damaged_records_are_refused_without_a_panic(
            update in update(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut record = encode(Position(1), 1, &update);
            record.truncate(record.len() - 4);
            let at = at.index(record.len());
            record[at] = byte;
            record.truncate(cut.index(record.len()));
            // The checksum is right, so that the record is decoded at all.
            let place = 1_u64.to_be_bytes();
            let _ = decode(Position(1), &Place::new("events", &place).seal(record.clone()));
            let _ = Remembered::decode(Position(1), &Place::new("dropped", &place).seal(record));
        }
    }

    #[test]
    fn a_newer_record_is_named_so() {
        let record = Place::new("events", &1_u64.to_be_bytes()).seal(vec![VERSION + 1, 0]);
        let expected = Some(Unreadable::Version(VERSION + 1));
        assert_eq!(accepted(Position(1), &record).err(), expected);
    }
}
