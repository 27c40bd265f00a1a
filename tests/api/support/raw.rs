//! Plain sockets, for what no HTTP client would do or show.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::{
    DEADLINE,
    sse::{Dispatched, Parser},
};

/// A connection, and what was read from it.
pub struct Raw {
    pub stream: TcpStream,
    pub read: Vec<u8>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a connection"), read: Vec::new() }
    }

    /// Connects with a receive buffer so small that little is on its way to a client that does not read.
    pub async fn stalled(address: SocketAddr, target: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a socket option");
        let stream = socket.connect(address).await.expect("a connection");
        let mut raw = Self { stream, read: Vec::new() };
        raw.send(&format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
        raw
    }

    /// Has the connection be reset instead of closed.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
    }

    /// Connects and sends a request head.
    pub async fn get(address: SocketAddr, target: &str) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(&format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
        raw
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("a writable connection");
    }

    /// Reads until `text` has come, and returns everything up to the end of it; what follows stays.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let found = self.read.windows(text.len()).position(|it| it == text.as_bytes());
            if let Some(at) = found {
                let rest = self.read.split_off(at + text.len());
                let taken = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(taken).expect("text");
            }
            assert!(self.more().await, "{text:?} in {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// Reads a response that says how long it is; what follows stays.
    pub async fn response(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n").await;
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
        });
        let length: usize = length.unwrap_or_else(|| panic!("a length in {head}"));
        while self.read.len() < length {
            assert!(self.more().await, "a whole body behind {head}");
        }
        let rest = self.read.split_off(length);
        let body = std::mem::replace(&mut self.read, rest);
        (head, String::from_utf8(body).expect("text"))
    }

    /// The events that come until there are so many, or the stream ends.
    pub async fn events(&mut self, parser: &mut Parser, count: usize) -> Vec<Dispatched> {
        let mut events = parser.feed(&std::mem::take(&mut self.read));
        while events.len() < count && self.more().await {
            events.extend(parser.feed(&std::mem::take(&mut self.read)));
        }
        events
    }

    /// Reads to the end of the connection.
    pub async fn until_end(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.read)).expect("text")
    }

    /// Reads what has come, or waits for something; `false` at the end.
    pub async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.read)).await;
        read.expect("bytes in time").is_ok_and(|count| 0 < count)
    }
}
