//! The encoders of the transports.
//!
//! They turn an event, a gap, a heartbeat or an end into bytes. The bytes of an event depend on no
//! subscriber: they are encoded once, on first use, and shared.

mod gap;
pub mod iframe;
pub mod json;
pub mod sse;
mod style;
pub mod subscription;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    gap::Gap,
    style::{EndReason, Ending, StreamId, Style},
};
use crate::{
    event::{Event, Form},
    history::CursorKey,
};

/// The transport to a subscriber.
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
    /// The number of transports.
    pub const COUNT: usize = 3;
    /// All transports, in the order of their discriminants.
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

/// Encodes the items of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamWriter {
    /// As `text/event-stream`.
    Sse {
        /// Whether heartbeats are events that a script can see.
        visible_heartbeats: bool,
        /// Whether each event is one JSON object, without a type of its own.
        is_json: bool,
        /// Whether each item is a chunk of an HTTP/1.1 body. Not set where something else frames
        /// the body.
        is_chunked: bool,
    },
    /// As script elements.
    Iframe {
        /// The nonce that the document's Content-Security-Policy allows.
        nonce: Arc<str>,
    },
}

impl StreamWriter {
    /// The transport that the stream belongs to.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self {
            Self::Sse { .. } => Transport::Sse,
            Self::Iframe { .. } => Transport::Iframe,
        }
    }

    /// Whether a stream of this kind may be chunked. Chromium takes a chunked document that is cut
    /// off for one that is still loading. The iframe's script would then notice the end only by the
    /// silence.
    #[must_use]
    pub fn is_chunkable(&self) -> bool {
        matches!(self, Self::Sse { .. })
    }

    /// Makes each item a chunk of an HTTP/1.1 body, if this kind of stream may be chunked.
    pub fn chunk(&mut self) {
        if let Self::Sse { is_chunked, .. } = self {
            *is_chunked = true;
        }
    }

    /// Whether the encoded bytes contain the event's topics.
    #[must_use]
    pub(crate) fn shows_topics(&self) -> bool {
        matches!(self, Self::Iframe { .. } | Self::Sse { is_json: true, .. })
    }

    /// The bytes of an event.
    #[must_use]
    pub fn event<'event>(&self, event: &'event Event, key: &CursorKey) -> &'event Bytes {
        match self {
            Self::Sse { is_json: false, is_chunked: true, .. } => {
                event.encoded(Form::SseChunk, sse::event_chunk)
            }
            Self::Sse { is_json: false, .. } => event.encoded(Form::Sse, sse::event),
            Self::Sse { is_chunked: true, .. } => {
                event.encoded(Form::SseJsonChunk, sse::json_event_chunk)
            }
            Self::Sse { .. } => event.encoded(Form::SseJson, sse::json_event),
            Self::Iframe { nonce } => {
                event.encoded(Form::Script, |event| iframe::event(event, nonce, key))
            }
        }
    }

    /// What the stream itself says, as an event of the type `kind` whose id is the cursor token
    /// `token`.
    #[must_use]
    pub fn named(&self, kind: &str, data: &str, token: &str) -> Bytes {
        self.named_with(kind, data, token, None)
    }

    /// The same, with the reconnection delay where scripts see it: in the JSON object.
    #[must_use]
    pub fn named_with(
        &self,
        kind: &str,
        data: &str,
        token: &str,
        retry: Option<Duration>,
    ) -> Bytes {
        match self {
            Self::Sse { is_json: false, .. } => self.framed(sse::named(kind, data, token)),
            Self::Sse { .. } => {
                let object = json::named(kind, data, token, retry);
                self.framed(sse::json_object(&object, token))
            }
            Self::Iframe { nonce } => iframe::named(kind, data, token, retry, nonce),
        }
    }

    /// The bytes that report a gap. Their id is the cursor token for where delivery resumes.
    #[must_use]
    pub fn gap(&self, gap: &Gap, key: &CursorKey) -> Bytes {
        self.named("tidegate.gap", &json::gap(gap), &key.seal(gap.after))
    }

    /// The bytes that keep an idle connection alive. `token` is the cursor token for the position
    /// reached.
    #[must_use]
    pub fn heartbeat(&self, token: &str) -> Bytes {
        match self {
            Self::Sse { visible_heartbeats: true, .. } => {
                self.named("tidegate.heartbeat", &json::cursor(token), token)
            }
            Self::Sse { is_chunked, .. } => sse::heartbeat(*is_chunked),
            Self::Iframe { nonce } => iframe::heartbeat(token, nonce),
        }
    }

    /// The last bytes, which tell the client to reconnect after `retry`.
    #[must_use]
    pub fn end(&self, reason: EndReason, retry: Duration, token: &str) -> Bytes {
        let replaced = match reason {
            EndReason::Replaced(stream) => {
                let data = json::script_safe(&serde_json::json!({ "stream": stream.to_string() }));
                self.named("tidegate.replaced", &data, token)
            }
            _ => Bytes::new(),
        };
        let end = match self {
            Self::Sse { is_chunked: true, .. } => {
                [&sse::chunk(&sse::end(retry)), sse::LAST_CHUNK].concat().into()
            }
            Self::Sse { .. } => sse::end(retry),
            Self::Iframe { nonce } => iframe::end(reason, retry, token, nonce),
        };
        if replaced.is_empty() { end } else { [replaced, end].concat().into() }
    }

    /// The bytes after the last event of a stream that ends with an event.
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
