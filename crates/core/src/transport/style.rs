//! How the streams of one kind are written, and how they end.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{StreamWriter, subscription};
use crate::{event::Event, history::CursorKey, matching::Interest};

/// The reconnection delay of a replaced stream: it is not to return, or two pages with one key
/// would replace each other for ever.
const REPLACED: Duration = Duration::from_hours(24);

/// How streams of one kind are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// The encoder.
    pub writer: StreamWriter,
    /// Whether events about subscriptions are written in the old dialect of Mercure.
    pub is_old_dialect: bool,
    /// How the streams end.
    pub ending: Ending,
    /// Time without progress after which a blocked socket is closed.
    pub write_deadline: Duration,
}

/// How a stream ends, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Bytes after the head at which the document is recycled; `None` for never.
    pub recycle_after: Option<usize>,
    /// The type of the event after which the stream ends.
    pub last_event: Option<&'static str>,
    /// The reconnection delay for clients; the minimum if the gateway stops or the history fails.
    pub retry: Duration,
    /// The maximum random addition in these two cases, so that clients do not all return at once.
    pub retry_spread: Duration,
}

impl Style {
    /// The event as shown to a subscriber: in its dialect, and without topics that it may not see.
    pub fn shown<'event>(&self, event: &'event Event, interest: &Interest) -> &'event Event {
        let event = if self.is_old_dialect { subscription::in_old_dialect(event) } else { event };
        if self.writer.shows_topics() { interest.shown(event) } else { event }
    }

    /// The bytes of an event that was made by [`shown`](Self::shown).
    pub fn event<'event>(&self, event: &'event Event, key: &CursorKey) -> &'event Bytes {
        self.writer.event(event, key)
    }

    /// The last bytes of a stream that ends for `reason`. Its client can resume from `token`.
    pub fn end(&self, reason: EndReason, token: &str) -> Bytes {
        let Ending { retry, retry_spread, .. } = self.ending;
        let retry = match reason {
            EndReason::Lifetime | EndReason::Recycled | EndReason::Ended => retry,
            EndReason::Drain | EndReason::Unavailable => {
                retry + retry_spread.mul_f64(fastrand::f64())
            }
            EndReason::Replaced(_) => REPLACED,
        };
        self.writer.end(reason, retry, token)
    }

    /// Whether the stream ends after `event`.
    pub fn is_last(&self, event: &Event) -> bool {
        let kind = event.update.kind.as_ref().map(|kind| kind.as_str());
        kind.is_some() && kind == self.ending.last_event
    }

    /// Whether a stream with `n_bytes` after its head is to be recycled.
    pub(crate) fn is_full(&self, n_bytes: usize) -> bool {
        self.ending.recycle_after.is_some_and(|limit| limit.max(1) <= n_bytes)
    }
}

/// Why a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It has reached its maximum lifetime.
    Lifetime,
    /// The gateway is stopping.
    Drain,
    /// The document has reached its maximum size.
    Recycled,
    /// The history cannot be read.
    Unavailable,
    /// Another stream of the same client has begun, the one with this id.
    Replaced(StreamId),
    /// The gateway or a backend has ended the client.
    Ended,
}

/// The id of a stream, by which its client tells it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId(u64);

impl StreamId {
    /// Creates a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }

    /// Reads an id; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 16 && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_id.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl EndReason {
    /// The reason's name for clients.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Drain => "drain",
            Self::Recycled => "recycled",
            Self::Unavailable => "unavailable",
            Self::Replaced(_) => "replaced",
            Self::Ended => "ended",
        }
    }
}
