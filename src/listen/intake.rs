//! Passes the bytes of an HTTP/1 connection to actix-http one request at a time.
//!
//! actix-http parses all requests in its buffer at once, which takes some kilobytes for each. Once
//! its buffer holds 128 KiB, it wakes itself in a loop without reading. Here a request is passed on
//! only after the previous one was answered and the peer has taken the answer. A few bytes are read
//! ahead, so that the end of the connection is noticed. The rest stays in the kernel. Bytes are
//! delayed, never changed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::web::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    allowance::{Allowance, Body},
    framing::Line,
    peer::Peer,
    presence::Presence,
};

/// The most bytes of a head that are passed on at once, and that are read ahead.
const STEP: usize = 4096;

/// The most bytes of a body of known length that are passed on at once.
const BODY_STEP: usize = 64 << 10;

/// Parts of a head that are passed on before actix-http has to parse them.
const PARTS_IN_A_ROW: u8 = 4;

/// A connection whose input is passed on one request at a time.
pub(super) struct Intake<S> {
    stream: S,
    presence: Rc<Presence>,
    peer: Peer,
    ahead: BytesMut,
    /// Bytes passed on with the last head, kept until the framing of the body is known.
    early: BytesMut,
    has_ended: bool,
    in_a_row: u8,
    /// Whether actix-http had the chance to parse the last head.
    has_waited: bool,
}

impl<S: AsyncRead + Unpin> Intake<S> {
    pub(super) fn new(stream: S, presence: Rc<Presence>, peer: Peer) -> Self {
        Self {
            stream,
            presence,
            peer,
            ahead: BytesMut::new(),
            early: BytesMut::new(),
            has_ended: false,
            in_a_row: 0,
            has_waited: false,
        }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Passes on a part of a head. Bytes after its end follow only if they contain no other head.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if PARTS_IN_A_ROW <= self.in_a_row {
            return self.pause(cx);
        }
        let presence = self.presence.clone();
        let Allowance { after_head, line, .. } = presence.allowance();
        if after_head.get().is_some() {
            if !std::mem::replace(&mut self.has_waited, true) {
                return self.poll_parsed(cx);
            }
            // actix-http did not serve the head: it may be discarding a refused body.
            after_head.set(None);
        }
        let before = buffer.filled().len();
        ready!(self.poll_some(cx, buffer, STEP))?;
        self.in_a_row += 1;
        let mut reading = line.get();
        let end = reading.end_of_head(&buffer.filled()[before..]);
        line.set(reading);
        if let Some(end) = end {
            self.has_waited = false;
            let rest = &buffer.filled()[before + end..];
            self.early = BytesMut::new();
            if Line::Start.end_of_head(rest).is_none() {
                self.early.extend_from_slice(rest);
                after_head.set(Some(rest.len() as u64));
            } else {
                self.take_back(buffer, before + end);
                after_head.set(Some(0));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on nothing until actix-http has parsed the head.
    fn poll_parsed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_ahead(cx);
        if polled.is_pending() && !self.ahead.is_empty() {
            return self.pause(cx);
        }
        polled
    }

    /// Passes on a part of a body, at most up to its end.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        body: Body,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let body = match body {
            Body::Nothing => return self.poll_ahead(cx),
            Body::Bytes(left) => {
                let most = usize::try_from(left).unwrap_or(BODY_STEP).min(BODY_STEP);
                let left = left - ready!(self.poll_some(cx, buffer, most))? as u64;
                if left == 0 { Body::Nothing } else { Body::Bytes(left) }
            }
            Body::Chunked(mut chunks) => {
                // Bytes passed on with the head do not contain the end of the body.
                chunks.end_of_body(&std::mem::take(&mut self.early));
                // Small, because what follows the body is kept.
                ready!(self.poll_some(cx, buffer, STEP))?;
                match chunks.end_of_body(&buffer.filled()[before..]) {
                    Some(end) => {
                        self.take_back(buffer, before + end);
                        Body::Nothing
                    }
                    None => Body::Chunked(chunks),
                }
            }
        };
        self.presence.allowance().body.set(body);
        Poll::Ready(Ok(()))
    }

    /// Removes the bytes after `end` from `buffer` and keeps them for later.
    fn take_back(&mut self, buffer: &mut ReadBuf<'_>, end: usize) {
        let rest = &buffer.filled()[end..];
        let mut ahead = BytesMut::with_capacity(rest.len() + self.ahead.len());
        ahead.extend_from_slice(rest);
        ahead.extend_from_slice(&self.ahead);
        self.keep_ahead(ahead);
        buffer.set_filled(end);
    }

    /// Reads ahead, and passes on nothing but the end of the connection.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; STEP];
        while !self.has_ended && self.ahead.len() < STEP {
            let mut buffer = ReadBuf::new(&mut bytes[self.ahead.len()..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.has_ended = buffer.filled().is_empty();
            let mut ahead = std::mem::take(&mut self.ahead);
            ahead.extend_from_slice(buffer.filled());
            self.keep_ahead(ahead);
        }
        if self.has_ended {
            self.peer.end();
            if self.ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        self.presence.poll_over(cx).map(Ok)
    }

    /// Reads at most `most` bytes, first those read ahead. Returns their number, or 0 at the end of
    /// the connection.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let most = most.min(buffer.remaining());
        if !self.ahead.is_empty() {
            let count = most.min(self.ahead.len());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            let ahead = std::mem::take(&mut self.ahead);
            self.keep_ahead(ahead);
            self.presence.has_read();
            return Poll::Ready(Ok(count));
        }
        let mut count = 0;
        if !self.has_ended {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
            count = part.filled().len();
            buffer.advance(count);
        }
        if count == 0 {
            self.has_ended = true;
            self.peer.end();
        }
        Poll::Ready(Ok(count))
    }

    fn keep_ahead(&mut self, ahead: BytesMut) {
        self.presence.allowance().is_ahead.set(!ahead.is_empty());
        // An empty buffer would keep its allocation.
        self.ahead = if ahead.is_empty() { BytesMut::new() } else { ahead };
    }

    /// Makes actix-http parse what it has.
    fn pause(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_a_row = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Intake<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = if self.presence.is_serving() {
            let body = self.presence.allowance().body.get();
            self.poll_body(cx, buffer, body)
        } else if self.presence.is_blocked() {
            self.poll_ahead(cx)
        } else {
            self.poll_head(cx, buffer)
        };
        if read.is_pending() {
            self.in_a_row = 0;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Intake<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_is_handed_over_in_its_order(
            sent in "[a\r\n]{0,600}", serving in prop::collection::vec(any::<bool>(), 1..400),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let read = runtime.block_on(async {
                let presence = Presence::for_tests();
                let stream = io::Cursor::new(sent.clone());
                let mut intake = Intake::new(stream, presence.clone(), Peer::default());
                let (mut read, mut turns) = (Vec::new(), serving.into_iter());
                loop {
                    // At first requests come and go; later none is in progress.
                    let _guard = turns.next().unwrap_or(false).then(|| Presence::serve(&presence));
                    let mut bytes = [0; 7];
                    let mut buffer = ReadBuf::new(&mut bytes);
                    let context = &mut Context::from_waker(std::task::Waker::noop());
                    match Pin::new(&mut intake).poll_read(context, &mut buffer) {
                        Poll::Ready(Ok(())) if buffer.filled().is_empty() => break,
                        Poll::Ready(outcome) => outcome.expect("readable"),
                        Poll::Pending => {}
                    }
                    read.extend_from_slice(buffer.filled());
                }
                read
            });
            prop_assert_eq!(String::from_utf8(read).expect("ASCII"), sent);
        }
    }
}
