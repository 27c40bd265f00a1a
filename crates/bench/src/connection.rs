//! Connections, plain or over TLS.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::client::TlsStream;

use super::target::Target;

/// The most connections that share one loopback source address. An untuned Linux has about 28,000
/// ephemeral ports per address, and ports of recently closed connections are not free.
const PER_SOURCE: u32 = 10_000;

/// A connection to the server. With TLS it has buffers of its own, about 20 KiB.
#[derive(Debug)]
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Connects to the first address that accepts. The connection's `number` selects its source
    /// address on the loopback.
    pub(super) async fn open(target: &Target, number: u32) -> io::Result<Self> {
        let mut outcome = Err(io::Error::other("the name has no address"));
        for address in &target.addresses {
            outcome = connect(*address, number).await;
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        Ok(match &target.tls {
            None => Self::Plain(stream),
            Some(tls) => {
                // Boxed: the handshake future is far larger than the finished stream.
                let handshake = Box::pin(tls.connector.connect(tls.name.clone(), stream));
                Self::Tls(Box::new(handshake.await?))
            }
        })
    }
}

async fn connect(address: SocketAddr, number: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // Reset on close, so that no ports stay in TIME_WAIT for the next run.
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(source) = source(address, number) {
        // Defers the choice of a port until both ends are known. At `bind` the kernel would demand
        // a port that is unused towards every destination.
        #[cfg(target_os = "linux")]
        nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::IpBindAddressNoPort,
            &true,
        )?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// Returns the source address for a connection to the loopback, if one must be set. Only Linux has
/// more than one such address.
fn source(address: SocketAddr, number: u32) -> Option<Ipv4Addr> {
    let group = number / PER_SOURCE;
    if !cfg!(target_os = "linux") || group == 0 || !address.ip().is_loopback() {
        return None;
    }
    address.is_ipv4().then(|| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + group))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn many_connections_to_the_loopback_come_from_several_addresses() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 3000));
        assert_eq!(source(loopback, 9_999), None);
        assert_eq!(source(loopback, 10_000), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source(loopback, 99_999), Some(Ipv4Addr::new(127, 0, 0, 10)));
        assert_eq!(source(SocketAddr::from(([192, 0, 2, 1], 3000)), 99_999), None);
    }
}
