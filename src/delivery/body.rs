//! A subscription as a stream of chunks, for streaming transports.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::{EndReason, Feed, Item};
use crate::{
    event::Event,
    history::TokenKey,
    hub::Interest,
    transport::{StreamWriter, subscription},
};

/// Size of the largest chunk. actix requests more while it has less than 4 KiB to write, and never
/// shrinks its buffer. With this size, its initial 8 KiB always suffice.
const CHUNK: usize = 4000;

/// Consecutive chunks after which the task yields.
const CHUNKS_IN_A_ROW: u32 = 64;

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
    pub(super) fn shown<'event>(&self, event: &'event Event, interest: &Interest) -> &'event Event {
        let event = if self.is_old_dialect { subscription::in_old_dialect(event) } else { event };
        if self.writer.shows_topics() { interest.shown(event) } else { event }
    }

    /// The bytes of an event that was made by [`shown`](Self::shown).
    pub(super) fn event<'event>(&self, event: &'event Event, key: &TokenKey) -> &'event Bytes {
        self.writer.event(event, key)
    }

    /// The last bytes of a stream that ends for `reason`. Its client can resume from `token`.
    pub(super) fn end(&self, reason: EndReason, token: &str) -> Bytes {
        let Ending { retry, retry_spread, .. } = self.ending;
        let retry = match reason {
            EndReason::Lifetime | EndReason::Recycled => retry,
            EndReason::Drain | EndReason::Unavailable => {
                retry + retry_spread.mul_f64(fastrand::f64())
            }
        };
        self.writer.end(reason, retry, token)
    }

    /// Whether the stream ends after `event`.
    pub(super) fn is_last(&self, event: &Event) -> bool {
        let kind = event.update.kind.as_ref().map(|kind| kind.as_str());
        kind.is_some() && kind == self.ending.last_event
    }

    /// Whether a stream with `n_bytes` after its head is to be recycled.
    pub(super) fn is_full(&self, n_bytes: usize) -> bool {
        self.ending.recycle_after.is_some_and(|limit| limit.max(1) <= n_bytes)
    }
}

/// The body of a streaming response: a head, then the encoded items of the feed.
#[derive(Debug)]
pub struct Body {
    feed: Feed,
    style: Style,
    /// Encoded bytes not yet returned.
    rest: Bytes,
    /// Bytes of the head not yet returned.
    n_head: usize,
    /// Bytes returned after the head.
    written: usize,
    in_a_row: u32,
    has_ended: bool,
}

impl Body {
    /// Creates a body that begins with `head`.
    #[must_use]
    pub fn new(feed: Feed, style: Style, head: Bytes) -> Self {
        let n_head = head.len();
        Self { feed, style, rest: head, n_head, written: 0, in_a_row: 0, has_ended: false }
    }

    /// Polls for the next chunk; `None` is the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.rest.is_empty() {
            if self.has_ended {
                return Poll::Ready(None);
            }
            if CHUNKS_IN_A_ROW <= self.in_a_row {
                self.in_a_row = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Poll::Ready(encoded) = self.poll_encoded(cx) else {
                self.in_a_row = 0;
                return Poll::Pending;
            };
            self.rest = encoded;
        }
        self.in_a_row += 1;
        let chunk = self.rest.split_to(self.rest.len().min(CHUNK));
        let of_head = self.n_head.min(chunk.len());
        self.n_head -= of_head;
        self.written += chunk.len() - of_head;
        Poll::Ready(Some(chunk))
    }

    fn poll_encoded(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.style.is_full(self.written) {
            return Poll::Ready(self.end(EndReason::Recycled));
        }
        let item = ready!(self.feed.poll_next(cx));
        let key = self.feed.token_key();
        Poll::Ready(match item {
            Item::Event(event) => {
                self.has_ended = self.style.is_last(&event);
                let event = self.style.shown(&event, self.feed.interest());
                self.style.event(event, key).clone()
            }
            Item::Gap(gap) => self.style.writer.gap(&gap, key),
            Item::Heartbeat(position) => self.style.writer.heartbeat(&key.seal(position)),
            Item::End(reason) => self.end(reason),
        })
    }

    fn end(&mut self, reason: EndReason) -> Bytes {
        self.has_ended = true;
        self.style.end(reason, &self.feed.token())
    }
}
