//! A connection as actix-http, or the TLS library, sees it. It ends in time, and a subscription can
//! take its socket.
//!
//! A stream needs actix for its head only. The body of the response arms the connection and yields
//! nothing. When actix flushes next, the kernel has the whole head and all earlier responses. The
//! socket then moves to a shard, and actix gets an error, after which it drops the connection
//! silently. tests/api/handover.rs tests the properties of actix that this relies on.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{addresses::Counted, peer::Peer, presence::Presence};

/// Marks requests that came over TLS: in the data of the connection, or over HTTP/2 in the
/// extensions of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encrypted;

/// Receives a socket that was taken from actix.
type TakeOver = Box<dyn FnOnce(std::net::TcpStream)>;

/// A handle to a plain connection, in the extensions of each of its requests.
#[derive(Clone, Default)]
pub(crate) struct Handle(Rc<RefCell<Option<TakeOver>>>);

impl Handle {
    /// Passes the connection's socket to `take_over` as soon as the kernel has everything written.
    pub(crate) fn arm(&self, take_over: impl FnOnce(std::net::TcpStream) + 'static) {
        *self.0.borrow_mut() = Some(Box::new(take_over));
    }
}

/// A connection.
pub(super) struct Connection {
    /// `None` after it was taken.
    stream: Option<TcpStream>,
    handle: Handle,
    presence: Rc<Presence>,
    peer: Peer,
    _counted: Counted,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, presence: Rc<Presence>, counted: Counted) -> Self {
        let (handle, peer) = Default::default();
        Self { stream: Some(stream), handle, presence, peer, _counted: counted }
    }

    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.stream.as_ref()?.peer_addr().ok()
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(super) fn presence(&self) -> Rc<Presence> {
        self.presence.clone()
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer.clone()
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.end();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.stream()?.poll_read(cx, buffer);
        match &read {
            Poll::Ready(Ok(())) if before < buffer.filled().len() => self.presence.has_read(),
            Poll::Ready(_) => {}
            // Reported as the end of the stream: half a head gets no answer.
            Poll::Pending => return self.presence.poll_over(cx).map(Ok),
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(cx, bytes);
        self.presence.has_written(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(cx, slices);
        self.presence.has_written(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(take_over) = self.handle.0.take() else {
            // A response may have ended. The next read finds out whether the connection has to.
            if self.presence.poll_over(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return self.stream()?.poll_flush(cx);
        };
        if let Some(stream) = self.stream.take() {
            take_over(stream.into_std()?);
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl ActixStream for Connection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.stream {
            Some(stream) => ActixStream::poll_read_ready(stream, cx),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.stream {
            Some(stream) => ActixStream::poll_write_ready(stream, cx),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}
