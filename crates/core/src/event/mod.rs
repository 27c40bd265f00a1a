//! The update that a publisher posts, and the event that it becomes once the history has accepted
//! it.
//!
//! Raw fields come in, validated immutable values go out. This module does not know who receives an
//! event or how it is written to a socket. It depends on no other module.

mod draft;
mod id;
mod lane;
mod text;
mod topic;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;

pub use self::{
    draft::{Draft, Limits},
    id::{ClientKey, EventId, EventType, Position},
    lane::Lane,
    text::Invalid,
    topic::Topic,
};
pub(crate) use self::{lane::Audience, topic::WILDCARD};

/// A valid and complete update: it has at least one topic and an id.
#[derive(Debug, Clone)]
pub struct Update {
    /// The canonical topic, then the alternate ones; never empty.
    pub topics: Box<[Topic]>,
    /// The payload. It may be empty or have several lines.
    pub data: Box<str>,
    /// The publisher's id, or a generated one.
    pub id: EventId,
    /// The SSE event type. Browsers call an event without one `message`.
    pub kind: Option<EventType>,
    /// The reconnection time in milliseconds that clients should adopt.
    pub retry: Option<u64>,
    /// Whether only subscribers with a grant may receive the update.
    pub private: bool,
    /// The client keys of subscribers that must not receive the update.
    pub except: Box<[ClientKey]>,
    /// What it is, which decides who may see it and how long it is kept.
    pub lane: Lane,
    /// The id of the client that sent it. Only the gateway sets it, never a publisher.
    pub from: Option<Box<str>>,
}

impl Update {
    /// Creates a public update of the hub's own, with a random id.
    pub(crate) fn of_hub(
        lane: Lane,
        topics: Box<[Topic]>,
        kind: &'static str,
        data: impl Into<Box<str>>,
    ) -> Self {
        Self {
            topics,
            data: data.into(),
            id: EventId::random(),
            kind: Some(EventType::of_hub(kind)),
            retry: None,
            private: false,
            except: Box::default(),
            lane,
            from: None,
        }
    }

    /// Creates an update of the hub's own on the topic of a client, which only this client hears.
    #[must_use]
    pub fn for_client(
        client: &ClientKey,
        kind: &'static str,
        data: &impl serde::Serialize,
    ) -> Self {
        let data = serde_json::to_string(data).unwrap_or_default();
        Self::of_hub(Lane::Clients, Box::new([Topic::of_client(client)]), kind, data)
    }

    /// The same update on the topic of a client, which only this client hears.
    #[must_use]
    pub fn only_for(self, client: &ClientKey) -> Self {
        let topics = Box::new([Topic::of_client(client)]);
        Self { topics, lane: Lane::Clients, ..self }
    }

    /// Creates an update of the hub's own on a topic of others.
    #[must_use]
    pub fn for_topic(
        topic: &Topic,
        kind: &'static str,
        data: &impl serde::Serialize,
        private: bool,
    ) -> Self {
        let data = serde_json::to_string(data).unwrap_or_default();
        Self { private, ..Self::of_hub(Lane::Ordinary, Box::new([topic.clone()]), kind, data) }
    }

    /// Whether a subscriber that asked for one of its topics, or for all topics, may be refused the
    /// update.
    #[must_use]
    pub(crate) fn is_restricted(&self) -> bool {
        self.private
            || !self.except.is_empty()
            || self.lane.audience() != Audience::Matching
            || self.topics.iter().any(Topic::is_job)
    }

    /// The approximate memory cost of this update in bytes: its text, its lists and its index
    /// entries.
    #[must_use]
    pub fn weight(&self) -> usize {
        const FIXED: usize = 256;
        const PER_TOPIC: usize = 48;
        let topics: usize = self.topics.iter().map(|topic| topic.as_str().len() + PER_TOPIC).sum();
        FIXED
            + topics
            + self.data.len()
            + self.id.as_str().len()
            + self.except.len() * size_of::<ClientKey>()
            + self.from.as_ref().map_or(0, |it| it.len())
    }
}

/// The forms of an encoded event. Each is encoded at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `text/event-stream` lines. Shares the bytes of [`Form::SseChunk`], which contains it.
    Sse,
    /// A script element for the forever iframe.
    Script,
    /// The JSON object for a long-poll reply.
    Json,
    /// `text/event-stream` lines as a chunk of an HTTP/1.1 body.
    SseChunk,
    /// The JSON object in a `text/event-stream`. Shares the bytes of [`Form::SseJsonChunk`].
    SseJson,
    /// The JSON object in a `text/event-stream`, as a chunk of an HTTP/1.1 body.
    SseJsonChunk,
}

/// An accepted update with its position: immutable, shared, and encoded at most once per form.
#[derive(Debug)]
pub struct Event {
    /// Its place in the history.
    pub position: Position,
    /// The time when the history accepted it.
    pub accepted_at: Timestamp,
    /// The published update. The history keeps only this part, so that encoded bytes live no longer
    /// than the tail.
    pub update: Arc<Update>,
    encodings: Encodings,
    /// The variant that some subscribers receive instead.
    variant: OnceLock<Option<Box<Self>>>,
    /// Copies of this event with fewer topics, for subscribers that may not see all of them.
    partial: OnceLock<Box<Partial>>,
}

/// The bytes of an event in each form.
#[derive(Debug, Default)]
struct Encodings {
    sse: OnceLock<Bytes>,
    script: OnceLock<Bytes>,
    json: OnceLock<Bytes>,
    sse_chunk: OnceLock<Bytes>,
    /// Boxed, because only streams of clients have these forms.
    sse_json: OnceLock<Box<SseJson>>,
}

/// The JSON object in a `text/event-stream`, bare and as a chunk.
#[derive(Debug, Default)]
struct SseJson {
    bare: OnceLock<Bytes>,
    chunk: OnceLock<Bytes>,
}

impl Encodings {
    fn place(&self, form: Form) -> &OnceLock<Bytes> {
        match form {
            Form::Sse => &self.sse,
            Form::Script => &self.script,
            Form::Json => &self.json,
            Form::SseChunk => &self.sse_chunk,
            Form::SseJson => &self.sse_json.get_or_init(Box::default).bare,
            Form::SseJsonChunk => &self.sse_json.get_or_init(Box::default).chunk,
        }
    }
}

/// A copy of an event with some of its topics, and a link to the next copy.
#[derive(Debug)]
struct Partial {
    event: Event,
    next: OnceLock<Box<Self>>,
}

/// The topic selections that an event keeps, each with its own encodings. Subscribers with a
/// further selection receive a copy without topics.
const PARTIALS: usize = 4;

impl Event {
    /// Creates an event that is not yet encoded.
    #[must_use]
    pub fn new(position: Position, accepted_at: Timestamp, update: Arc<Update>) -> Self {
        Self {
            position,
            accepted_at,
            update,
            encodings: Encodings::default(),
            variant: OnceLock::new(),
            partial: OnceLock::new(),
        }
    }

    /// Returns the bytes of this event in `form`. The first call makes them with `encode`.
    pub fn encoded(&self, form: Form, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encodings.place(form).get_or_init(|| encode(self))
    }

    /// Returns the variant of this event for some subscribers, or the event itself if it has none.
    /// The first call makes it with `make`.
    pub(crate) fn variant(&self, make: impl FnOnce(&Self) -> Option<Self>) -> &Self {
        self.variant.get_or_init(|| make(self).map(Box::new)).as_deref().unwrap_or(self)
    }

    /// Returns this event with only those topics that `is_shown` accepts. Subscribers that may see
    /// the same topics share one copy, so it is encoded once for them.
    pub(crate) fn showing(&self, is_shown: impl Fn(&Topic) -> bool) -> &Self {
        let topics: Vec<&Topic> = self.update.topics.iter().filter(|it| is_shown(it)).collect();
        if topics.len() == self.update.topics.len() {
            return self;
        }
        let mut place = &self.partial;
        for _ in 0..PARTIALS {
            let made = place.get_or_init(|| Box::new(self.partial(&topics)));
            if made.event.update.topics.iter().eq(topics.iter().copied()) {
                return &made.event;
            }
            place = &made.next;
        }
        &place.get_or_init(|| Box::new(self.partial(&[]))).event
    }

    fn partial(&self, topics: &[&Topic]) -> Partial {
        let it = &*self.update;
        let update = Update {
            topics: topics.iter().copied().cloned().collect(),
            data: it.data.clone(),
            id: it.id.clone(),
            kind: it.kind.clone(),
            retry: it.retry,
            private: it.private,
            except: it.except.clone(),
            lane: it.lane,
            from: it.from.clone(),
        };
        let event = Self::new(self.position, self.accepted_at, update.into());
        Partial { event, next: OnceLock::new() }
    }

    /// The approximate memory cost of this event in the tail, in bytes: its update and all its
    /// forms.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// The copies of the data. Both SSE forms share one.
        const COPIES: usize = 3;
        self.update.weight() + COPIES * self.update.data.len()
    }
}
