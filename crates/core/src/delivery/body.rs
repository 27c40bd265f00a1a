//! A subscription as a stream of chunks, for streaming transports.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Feed, Item};
use crate::transport::{EndReason, Style};

/// Size of the largest chunk. actix requests more while it has less than 4 KiB to write, and never
/// shrinks its buffer. With this size, its initial 8 KiB always suffice.
const CHUNK: usize = 4000;

/// Consecutive chunks after which the task yields.
const CHUNKS_IN_A_ROW: u32 = 64;

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
        let is_full = self.style.is_full(self.written);
        let item = ready!(self.feed.poll_turn(cx, is_full));
        let key = self.feed.cursor_key();
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
