//! Plain sockets, for what no HTTP client would do or show.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::DEADLINE;

/// A connection, and what was read from it.
pub struct Raw {
    pub stream: TcpStream,
    pub read: Vec<u8>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a connection"), read: Vec::new() }
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

    /// Reads to the end of the connection.
    pub async fn until_end(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.read)).expect("text")
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.read)).await;
        read.expect("bytes in time").is_ok_and(|count| 0 < count)
    }
}
