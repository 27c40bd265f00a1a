//! What travels: the update that a publisher posts, and the event that it becomes once the history has accepted it.
//!
//! Raw fields come in, validated immutable values go out. Nothing here knows who receives an event or how it is
//! written to a socket; this stage depends on no other.

mod draft;
mod id;
mod text;
mod topic;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;

pub use self::{
    draft::{Draft, Limits},
    id::{ClientKey, EventId, EventType, Position},
    text::Invalid,
    topic::{Topic, WILDCARD},
};

/// What a publisher posts, valid and complete: it has at least one topic and it has an id.
#[derive(Debug)]
pub struct Update {
    /// The canonical topic, then the alternate ones; never empty.
    pub topics: Box<[Topic]>,
    /// The payload; may be empty, may have several lines.
    pub data: Box<str>,
    /// The publisher's id, or a generated one.
    pub id: EventId,
    /// The SSE event type; browsers call an event without one `message`.
    pub kind: Option<EventType>,
    /// The reconnection time in milliseconds that clients should adopt.
    pub retry: Option<u64>,
    /// Whether only subscribers with a grant may see it.
    pub private: bool,
    /// Subscribers with one of these keys do not get it.
    pub except: Box<[ClientKey]>,
}

impl Update {
    /// Whether there may be somebody who asked for one of its topics, or for all, and does not get it.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.private || !self.except.is_empty() || self.topics.iter().any(Topic::is_job)
    }

    /// Whether it tells that a subscription has begun or ended, which only the hub does.
    #[must_use]
    pub fn tells_of_subscription(&self) -> bool {
        self.kind.as_ref().is_some_and(|kind| kind.as_str() == EventType::SUBSCRIPTION)
    }

    /// Bytes of memory that keeping this update costs, about: its text, its lists, and the index entries for it.
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
    }
}

/// The forms in which an event is written, each encoded at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `text/event-stream` lines; a part of [`Form::SseChunk`], whose bytes it shares.
    Sse,
    /// A script element of the forever iframe.
    Script,
    /// The JSON object of a long-poll reply.
    Json,
    /// `text/event-stream` lines as a chunk of an HTTP/1.1 body.
    SseChunk,
}

/// An accepted update with its position: immutable, shared, encoded at most once per form.
#[derive(Debug)]
pub struct Event {
    /// Its place in the history.
    pub position: Position,
    /// When the history accepted it.
    pub accepted_at: Timestamp,
    /// What was published. The history keeps this part alone, so that encoded bytes live no longer than the tail.
    pub update: Arc<Update>,
    encodings: [OnceLock<Bytes>; 4],
    /// What some subscribers get instead.
    variant: OnceLock<Option<Box<Self>>>,
    /// The same event with fewer topics, for subscribers that may not see all of them.
    partial: OnceLock<Box<Partial>>,
}

/// An event with some of its topics; the next one has others.
#[derive(Debug)]
struct Partial {
    event: Event,
    next: OnceLock<Box<Self>>,
}

/// Selections of topics that an event keeps, each with its encodings. Those that come later get none of the topics.
const PARTIALS: usize = 4;

impl Event {
    /// An event of `update` at `position`, not yet encoded.
    #[must_use]
    pub fn new(position: Position, accepted_at: Timestamp, update: Arc<Update>) -> Self {
        Self {
            position,
            accepted_at,
            update,
            encodings: Default::default(),
            variant: OnceLock::new(),
            partial: OnceLock::new(),
        }
    }

    /// The bytes of this event in `form`, made by `encode` the first time that anybody asks.
    pub fn encoded(&self, form: Form, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encodings[form as usize].get_or_init(|| encode(self))
    }

    /// This event as some subscribers get it, made by `make` the first time that anybody asks; itself if there is no other.
    pub fn variant(&self, make: impl FnOnce(&Self) -> Option<Self>) -> &Self {
        self.variant.get_or_init(|| make(self).map(Box::new)).as_deref().unwrap_or(self)
    }

    /// This event with those topics that `is_shown`. All subscribers that are shown the same topics share one, so that it
    /// is encoded once for them.
    pub fn showing(&self, is_shown: impl Fn(&Topic) -> bool) -> &Self {
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
        };
        let event = Self::new(self.position, self.accepted_at, update.into());
        Partial { event, next: OnceLock::new() }
    }

    /// Bytes of memory that this event costs while it is in the tail, about: the update, and each form of it.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Copies of the data. Both SSE forms share one.
        const COPIES: usize = 3;
        self.update.weight() + COPIES * self.update.data.len()
    }
}
