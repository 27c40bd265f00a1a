//! A connection as actix-http, or TLS below it, sees it: it ends in time, and a subscription can take its socket.
//!
//! A stream needs actix for its head only. Its body arms the connection and says nothing more; when actix next flushes,
//! the kernel has the whole head, and everything that was pipelined before it. Then the socket goes to a shard, and actix
//! is told that the connection is broken, whereupon it forgets it without a word. What this rests on is pinned down in
//! tests/api/handover.rs.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_tls::accept::rustls_0_23::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{addresses::Counted, peer::Peer, presence::Presence};

/// What is done with a socket that was taken from actix.
type TakeOver = Box<dyn FnOnce(std::net::TcpStream)>;

/// A handle to a plain connection, in the extensions of each of its requests.
#[derive(Clone, Default)]
pub(crate) struct Handle(Rc<RefCell<Option<TakeOver>>>);

impl Handle {
    /// Has the connection's socket given to `take_over` as soon as the kernel has everything that was written.
    pub(crate) fn arm(&self, take_over: impl FnOnce(std::net::TcpStream) + 'static) {
        *self.0.borrow_mut() = Some(Box::new(take_over));
    }
}

/// A connection.
pub(super) struct Connection {
    /// `None` when it was taken.
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
        self.peer.has_sent(&read, buffer.filled().len() == before);
        match &read {
            Poll::Ready(Ok(())) if before < buffer.filled().len() => self.presence.has_read(),
            Poll::Ready(_) => {}
            // The end, as if the peer had closed: there is no answer to half a head.
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
            // A response may be over, and with it the request. What is over is found out at the next read.
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

/// What is within the TLS of a connection. The peer may end its side there, and leave the socket as it is.
pub(super) struct Decrypted {
    stream: TlsStream<Connection>,
    peer: Peer,
}

impl Decrypted {
    pub(super) fn new(stream: TlsStream<Connection>) -> Self {
        let peer = stream.get_ref().0.peer();
        Self { stream, peer }
    }

    pub(super) fn connection(&self) -> &Connection {
        self.stream.get_ref().0
    }
}

impl AsyncRead for Decrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.peer.has_sent(&read, buffer.filled().len() == before);
        read
    }
}

impl AsyncWrite for Decrypted {
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
