//! Plain sockets, for requests and details that no HTTP client offers.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    deadline::in_time,
    sse::{Dispatched, Parser},
};

/// A connection and the bytes read from it. Chunk frames are removed, unless they are kept.
#[derive(Debug)]
pub struct Raw {
    /// The connection.
    pub stream: TcpStream,
    /// The bytes that no method has returned so far.
    pub read: Vec<u8>,
    /// How chunk frames are handled.
    pub framing: Framing,
}

/// How chunk frames are handled.
#[derive(Debug)]
pub enum Framing {
    /// No response has been chunked so far.
    None,
    /// They are removed.
    Chunked(Chunks),
    /// They are kept like other bytes.
    Kept,
}

/// Removes the frames of chunks (RFC 9112, section 7.1), and is strict about them.
#[derive(Debug, Default)]
pub struct Chunks {
    /// The received part of a chunk.
    part: Vec<u8>,
    /// Whether the last chunk has arrived.
    pub is_complete: bool,
}

impl Chunks {
    /// Returns the data in the chunks.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.part.extend_from_slice(bytes);
        let mut data = Vec::new();
        let mut rest = &*self.part;
        while let Some(at) = rest.windows(2).position(|it| it == b"\r\n") {
            let digits = std::str::from_utf8(&rest[..at]).expect("a size");
            let size = usize::from_str_radix(digits, 16).expect("a size");
            assert!(!self.is_complete && (size == 0 || !digits.starts_with('0')), "{digits:?}");
            let Some(chunk) = rest.get(at + 2..at + 2 + size + 2) else { break };
            assert!(chunk.ends_with(b"\r\n"), "a chunk as long as it says");
            data.extend_from_slice(&chunk[..size]);
            self.is_complete = size == 0;
            rest = &rest[at + 2 + size + 2..];
        }
        self.part = rest.to_vec();
        data
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("a connection"))
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new(), framing: Framing::None }
    }

    /// Connects with a small receive buffer, so that little is in flight to a client that does not
    /// read.
    pub async fn stalled(address: SocketAddr, target: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a socket option");
        let stream = socket.connect(address).await.expect("a connection");
        let mut raw = Self::over(stream);
        raw.send(&format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
        raw
    }

    /// Resets the connection instead of closing it.
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

    /// Sends text.
    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("a writable connection");
    }

    /// Reads until `text` has arrived, and returns everything up to its end. The rest stays.
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

    /// Reads a response with a length. The rest stays.
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

    /// Returns the next `count` events, or fewer if the stream ends.
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

    /// Reads what has arrived, or waits for bytes. Returns `false` at the end.
    pub async fn more(&mut self) -> bool {
        self.more_of(16 * 1024).await
    }

    /// Reads at most `limit` bytes, or waits for some. Returns `false` at the end.
    pub async fn more_of(&mut self, limit: usize) -> bool {
        let mut piece = vec![0; limit];
        let read = in_time("bytes", self.stream.read(&mut piece)).await;
        let Ok(count @ 1..) = read else { return false };
        self.take_in(&piece[..count]);
        true
    }

    /// Whether the last chunk of a body has arrived.
    pub fn is_complete(&self) -> bool {
        matches!(&self.framing, Framing::Chunked(chunks) if chunks.is_complete)
    }

    fn take_in(&mut self, bytes: &[u8]) {
        match &mut self.framing {
            Framing::Chunked(chunks) => self.read.extend(chunks.feed(bytes)),
            Framing::Kept => self.read.extend_from_slice(bytes),
            Framing::None => {
                self.read.extend_from_slice(bytes);
                let find = |text: &[u8], after: usize| {
                    let found = self.read[after..].windows(text.len()).position(|it| it == text);
                    found.map(|at| after + at)
                };
                let end = find(b"\r\ntransfer-encoding: chunked\r\n", 0)
                    .and_then(|at| find(b"\r\n\r\n", at));
                if let Some(end) = end {
                    let body = self.read.split_off(end + 4);
                    let mut chunks = Chunks::default();
                    self.read.extend(chunks.feed(&body));
                    self.framing = Framing::Chunked(chunks);
                }
            }
        }
    }
}
