//! A plain connection as actix-http sees it, from which a subscription can take the socket.
//!
//! A stream needs actix for its head only. Its body arms the connection and says nothing more; when actix next flushes,
//! the kernel has the whole head, and everything that was pipelined before it. Then the socket goes to a shard, and actix
//! is told that the connection is broken, whereupon it forgets it without a word. What this rests on is pinned down in
//! tests/api/handover.rs.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

/// A plain connection.
pub(super) struct Connection {
    /// `None` when it was taken.
    stream: Option<TcpStream>,
    handle: Handle,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), handle: Handle::default() }
    }

    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.stream.as_ref()?.peer_addr().ok()
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(take_over) = self.handle.0.take() else {
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
