//! A subscription as a stream of chunks, for transports that stream.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::{EndReason, Feed, Item};
use crate::transport::StreamWriter;

/// The most that is handed over at once. actix asks for more while it has less than 4 KiB to write, and keeps for good
/// what its buffer has grown to; like this the 8 KiB that it starts with are always enough.
const CHUNK: usize = 4000;

/// Chunks in a row after which others get their turn.
const CHUNKS_IN_A_ROW: u32 = 64;

/// How a stream ends, and when.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// Bytes behind the head after which the document is recycled, `None` for never.
    pub recycle_after: Option<usize>,
    /// The type of the event after which nothing comes.
    pub last_event: Option<&'static str>,
    /// The shortest time after which a client should return when the gateway stops.
    pub retry: Duration,
    /// By how much that time is spread at random, so that clients do not all return at once.
    pub retry_spread: Duration,
}

/// The body of a streaming response: a head, then whatever the feed has, encoded.
#[derive(Debug)]
pub struct Body {
    feed: Feed,
    writer: StreamWriter,
    ending: Ending,
    /// What is encoded and not handed over yet.
    rest: Bytes,
    written: usize,
    in_a_row: u32,
    has_ended: bool,
}

impl Body {
    /// A body that begins with `head`.
    #[must_use]
    pub fn new(feed: Feed, writer: StreamWriter, head: Bytes, ending: Ending) -> Self {
        // What is recycled is what has been delivered, not the head.
        let recycle_after =
            ending.recycle_after.map(|bytes| bytes.max(1).saturating_add(head.len()));
        let ending = Ending { recycle_after, ..ending };
        Self { feed, writer, ending, rest: head, written: 0, in_a_row: 0, has_ended: false }
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
        self.written += chunk.len();
        Poll::Ready(Some(chunk))
    }

    fn poll_encoded(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.ending.recycle_after.is_some_and(|limit| limit <= self.written) {
            return Poll::Ready(self.end(EndReason::Recycled));
        }
        let item = ready!(self.feed.poll_next(cx));
        let key = self.feed.token_key();
        Poll::Ready(match item {
            Item::Event(event) => {
                let kind = event.update.kind.as_ref().map(|kind| kind.as_str());
                self.has_ended = kind.is_some() && kind == self.ending.last_event;
                self.writer.event(&event, key)
            }
            Item::Gap(gap) => self.writer.gap(&gap, key),
            Item::Heartbeat(position) => self.writer.heartbeat(&key.seal(position)),
            Item::End(reason) => self.end(reason),
        })
    }

    fn end(&mut self, reason: EndReason) -> Bytes {
        self.has_ended = true;
        let retry = match reason {
            EndReason::Lifetime | EndReason::Recycled => self.ending.retry,
            EndReason::Drain | EndReason::Unavailable => {
                self.ending.retry + self.ending.retry_spread.mul_f64(fastrand::f64())
            }
        };
        self.writer.end(reason, retry, &self.feed.token())
    }
}
