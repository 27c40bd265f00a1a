//! Finds incomplete heads in the frames of an HTTP/2 connection, so that they have a time limit.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::presence::Presence;

/// Bytes of the connection preface (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// Bytes of a frame's header (RFC 9113, section 4.1).
const HEADER: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A connection that notifies its presence when a head is incomplete.
pub(super) struct Frames<S> {
    stream: S,
    presence: Rc<Presence>,
    reader: Reader,
}

impl<S> Frames<S> {
    pub(super) fn new(stream: S, presence: Rc<Presence>) -> Self {
        Self { stream, presence, reader: Reader::default() }
    }
}

/// Reads the headers of frames, not their payloads.
#[derive(Debug)]
struct Reader {
    header: [u8; HEADER],
    n_header: usize,
    /// Bytes left of the current frame.
    left: usize,
    /// Whether the frame is part of a head.
    is_head: bool,
    /// Whether the head continues in another frame.
    continues: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { header: [0; HEADER], n_header: 0, left: PREFACE, is_head: false, continues: false }
    }
}

impl Reader {
    /// Reads the next bytes. Returns whether they end within a head.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if 0 < self.left {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.n_header] = bytes[0];
            self.n_header += 1;
            bytes = &bytes[1..];
            if self.n_header == HEADER {
                self.n_header = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.is_head = matches!(kind, HEADERS | CONTINUATION);
                if self.is_head {
                    self.continues = flags & END_HEADERS == 0;
                }
            }
        }
        self.continues || 0 < self.n_header || (self.is_head && 0 < self.left)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if before < buffer.filled().len() {
            let is_within = self.reader.read(&buffer.filled()[before..]);
            self.presence.is_within_head(is_within);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
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
    use super::*;

    #[test]
    fn a_head_is_on_its_way_until_its_last_frame_is_whole() {
        let frame = |kind, flags, length: u8| {
            let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
            frame.extend(vec![0; usize::from(length)]);
            frame
        };
        let mut reader = Reader::default();
        assert!(!reader.read(&[0; PREFACE]));
        assert!(!reader.read(&frame(4, 0, 6)), "settings are no head");
        assert!(!reader.read(&frame(HEADERS, END_HEADERS, 20)));
        assert!(reader.read(&frame(HEADERS, 0, 20)));
        assert!(reader.read(&frame(CONTINUATION, 0, 20)));
        assert!(!reader.read(&frame(CONTINUATION, END_HEADERS, 0)));
        let half = frame(HEADERS, END_HEADERS, 20);
        for part in [&half[..3], &half[3..12], &half[12..28]] {
            assert!(reader.read(part));
        }
        assert!(!reader.read(&half[28..]));
        assert!(!reader.read(&frame(0, 0, 200)[..50]), "half of a body is no head");
    }
}
