//! Ports for programs that are restarted at the same address.

use std::{iter, net::TcpListener, ops::Range};

/// Ports below those that the system assigns to outgoing connections. A port is therefore still
/// free after its program was down for a while.
const PORTS: Range<u16> = 12_000..32_000;

/// Returns a port of 127.0.0.1 without a listener.
pub fn free_port() -> u16 {
    iter::repeat_with(|| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("the iterator does not end")
}
