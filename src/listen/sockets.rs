//! Listening sockets. Connections inherit their options, so setting them costs nothing per
//! connection.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::settings::Settings;

/// The most unsent bytes that the kernel accepts for a connection. What a slow client has not read
/// stays in the shared tail, instead of in megabytes of socket buffer.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 16 * 1024;

/// Silence after which the kernel probes the peer, and the interval between probes.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Listeners passed on by the parent process (`LISTEN_FDS`, as with systemd's socket units).
/// Connections queue in them while no process accepts, so that a restart refuses none.
pub(crate) struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// Takes the listeners over.
    pub(crate) fn take() -> io::Result<Self> {
        let mut passed_on = ListenFd::from_env();
        let mut listeners = Vec::new();
        for at in 0..passed_on.len() {
            let listener = passed_on.take_tcp_listener(at).map_err(|error| {
                io::Error::new(error.kind(), format!("LISTEN_FDS: descriptor {at}: {error}"))
            })?;
            listeners.extend(listener);
        }
        Ok(Self(listeners))
    }

    /// Fails if the settings do not name one of the remaining listeners.
    pub(crate) fn check_none_left(&self) -> io::Result<()> {
        let Some(address) = self.0.iter().find_map(|it| it.local_addr().ok()) else {
            return Ok(());
        };
        let error = format!(
            "LISTEN_FDS passes on a listener of {address}, which neither server.listen nor tls.listen names"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    fn of(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|it| it.local_addr().is_ok_and(|it| it == address))?;
        Some(self.0.swap_remove(at))
    }
}

/// Listens on `address`, which the setting `key` names. Uses the inherited listener for it, if any.
pub(crate) fn bind(
    key: &str,
    address: SocketAddr,
    inherited: &mut Inherited,
    settings: &Settings,
) -> io::Result<TcpListener> {
    try_bind(address, inherited, settings).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => in_use(address, key),
            io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "; a port below 1024 needs the right to it (CAP_NET_BIND_SERVICE)".to_owned()
            }
            _ => String::new(),
        };
        let message = format!("cannot listen on {address} ({key}): {error}{advice}");
        io::Error::new(error.kind(), message)
    })
}

/// Says which process has a port, if the system tells, and how to choose another one.
fn in_use(address: SocketAddr, key: &str) -> String {
    let holder = holder(address).map(|it| format!(" by {it}")).unwrap_or_default();
    let flag = if key == "server.listen" { "--listen ADDRESS or " } else { "" };
    format!("{holder}; end that process, or choose another address with {flag}{key}")
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn holder(address: SocketAddr) -> Option<String> {
    use listeners::{Protocol, SocketState};
    let covers = |it: &listeners::Listener| {
        let is_there = it.socket.ip() == address.ip() || it.socket.ip().is_unspecified();
        let is_listening = it.protocol == Protocol::TCP && it.state == SocketState::Listen;
        is_listening && it.socket.port() == address.port() && is_there
    };
    // The system shows the processes of the own user only, unless that is root.
    let found = listeners::get_all().ok()?.into_iter().find(covers)?;
    Some(format!("`{}` (process {})", found.process.name, found.process.pid))
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn holder(_: SocketAddr) -> Option<String> {
    None
}

fn try_bind(
    address: SocketAddr,
    inherited: &mut Inherited,
    settings: &Settings,
) -> io::Result<TcpListener> {
    if let Some(listener) = inherited.of(address) {
        tune(&SockRef::from(&listener), settings)?;
        return Ok(listener);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    tune(&SockRef::from(&socket), settings)?;
    socket.bind(&address.into())?;
    socket.listen(settings.server.backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Sets the options that connections inherit.
fn tune(socket: &SockRef<'_>, settings: &Settings) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keep_alive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(settings.delivery.write_deadline))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    socket.set_nonblocking(true)
}
