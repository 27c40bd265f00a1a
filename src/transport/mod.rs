//! As which bytes: the encoders of the transports, and nothing else.
//!
//! An event, a gap, a heartbeat or an end comes in; bytes go out. What depends on an event is encoded once, whoever
//! asks first, and shared by all; it depends on no subscriber.

pub mod iframe;
pub mod json;
pub mod sse;
pub mod subscription;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    delivery::{EndReason, Gap},
    event::{Event, Form},
    history::TokenKey,
};

/// How a subscriber is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// EventSource.
    Sse,
    /// The forever iframe.
    Iframe,
    /// Long poll.
    Poll,
}

impl Transport {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; Self::COUNT] = [Self::Sse, Self::Iframe, Self::Poll];

    /// The name in settings, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Iframe => "iframe",
            Self::Poll => "poll",
        }
    }
}

/// Writes the items of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamWriter {
    /// As `text/event-stream`.
    Sse {
        /// Whether heartbeats are events that a script can see.
        visible_heartbeats: bool,
        /// Whether each item is a chunk of an HTTP/1.1 body. Where something else frames the body, it is not.
        is_chunked: bool,
    },
    /// As script elements.
    Iframe {
        /// The nonce that the document's Content-Security-Policy allows.
        nonce: Arc<str>,
    },
}

impl StreamWriter {
    /// Whether a stream of this kind may be chunked. Chromium takes a chunked document that is cut off for one that
    /// still loads, so that the iframe's script would see the end only by the silence.
    #[must_use]
    pub fn is_chunkable(&self) -> bool {
        matches!(self, Self::Sse { .. })
    }

    /// Makes each item a chunk of an HTTP/1.1 body, if that may be.
    pub fn chunk(&mut self) {
        if let Self::Sse { is_chunked, .. } = self {
            *is_chunked = true;
        }
    }

    /// Whether the topics of an event are among its bytes.
    #[must_use]
    pub fn shows_topics(&self) -> bool {
        matches!(self, Self::Iframe { .. })
    }

    /// The bytes of an event.
    #[must_use]
    pub fn event<'event>(&self, event: &'event Event, key: &TokenKey) -> &'event Bytes {
        match self {
            Self::Sse { is_chunked: true, .. } => event.encoded(Form::SseChunk, sse::event_chunk),
            Self::Sse { .. } => event.encoded(Form::Sse, sse::event),
            Self::Iframe { nonce } => {
                event.encoded(Form::Script, |event| iframe::event(event, nonce, key))
            }
        }
    }

    /// The bytes that tell of a gap.
    #[must_use]
    pub fn gap(&self, gap: &Gap, key: &TokenKey) -> Bytes {
        match self {
            Self::Sse { .. } => self.framed(sse::gap(gap, key)),
            Self::Iframe { nonce } => iframe::gap(gap, nonce, key),
        }
    }

    /// The bytes that keep a silent connection alive; `token` stands for everything so far.
    #[must_use]
    pub fn heartbeat(&self, token: &str) -> Bytes {
        match self {
            Self::Sse { visible_heartbeats: true, .. } => {
                self.framed(sse::visible_heartbeat(token))
            }
            Self::Sse { is_chunked, .. } => sse::heartbeat(*is_chunked),
            Self::Iframe { nonce } => iframe::heartbeat(token, nonce),
        }
    }

    /// The last bytes; the client should return after `retry`.
    #[must_use]
    pub fn end(&self, reason: EndReason, retry: Duration, token: &str) -> Bytes {
        match self {
            Self::Sse { is_chunked: true, .. } => {
                [&sse::chunk(&sse::end(retry)), sse::LAST_CHUNK].concat().into()
            }
            Self::Sse { .. } => sse::end(retry),
            Self::Iframe { nonce } => iframe::end(reason, retry, token, nonce),
        }
    }

    /// What follows the last event of a stream that ends with an event.
    #[must_use]
    pub fn close(&self) -> Option<Bytes> {
        match self {
            Self::Sse { is_chunked: true, .. } => Some(Bytes::from_static(sse::LAST_CHUNK)),
            Self::Sse { .. } | Self::Iframe { .. } => None,
        }
    }

    fn framed(&self, bytes: Bytes) -> Bytes {
        match self {
            Self::Sse { is_chunked: true, .. } => sse::chunk(&bytes),
            Self::Sse { .. } | Self::Iframe { .. } => bytes,
        }
    }
}
