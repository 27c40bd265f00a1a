//! An event stream as a browser reads it (WHATWG HTML, "Interpreting an event stream").

use reqwest::{RequestBuilder, Response, header::HeaderMap};

use crate::deadline::in_time;

/// An event that a browser would dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dispatched {
    /// Its type.
    pub kind: String,
    /// Its data.
    pub data: String,
    /// The last event id.
    pub id: String,
}

/// The parser's state.
#[derive(Debug, Default)]
pub struct Parser {
    unread: Vec<u8>,
    /// Leading bytes of `unread` without a line end.
    searched: usize,
    kind: String,
    data: String,
    id: String,
    last_event_id: String,
    /// The last reconnection time, in milliseconds.
    pub retry: Option<u64>,
    /// All comments.
    pub comments: Vec<String>,
    /// Blank lines that dispatched nothing. Some libraries take them for events.
    pub empty_dispatches: usize,
}

impl Parser {
    /// Reads bytes and returns the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Dispatched> {
        self.unread.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some((line, length)) = self.line() {
            self.unread.drain(..length);
            self.searched = 0;
            events.extend(self.take(&line));
        }
        events
    }

    /// Returns the first complete line, and its length with its end. A final CR may be half a line
    /// end.
    fn line(&mut self) -> Option<(String, usize)> {
        let rest = &self.unread[self.searched..];
        let Some(at) = rest.iter().position(|it| matches!(it, b'\r' | b'\n')) else {
            self.searched = self.unread.len();
            return None;
        };
        let at = self.searched + at;
        let length = match (self.unread[at], self.unread.get(at + 1)) {
            (b'\r', Some(b'\n')) => at + 2,
            (b'\r', None) => return None,
            _ => at + 1,
        };
        Some((String::from_utf8(self.unread[..at].to_vec()).expect("streams are UTF-8"), length))
    }

    fn take(&mut self, line: &str) -> Option<Dispatched> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => self.comments.push(value.to_owned()),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if value.bytes().all(|it| it.is_ascii_digit()) => {
                self.retry = value.parse().ok()
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Dispatched> {
        self.last_event_id.clone_from(&self.id);
        let (mut data, kind) = (std::mem::take(&mut self.data), std::mem::take(&mut self.kind));
        if data.pop().is_none() {
            self.empty_dispatches += 1;
            return None;
        }
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        Some(Dispatched { kind, data, id: self.last_event_id.clone() })
    }
}

/// An open event stream.
#[derive(Debug)]
pub struct Stream {
    response: Response,
    /// Its parser.
    pub parser: Parser,
    ready: std::collections::VecDeque<Dispatched>,
}

impl Stream {
    /// Sends a request whose response must be an event stream.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = in_time("the head of a stream", request.send()).await.expect("a response");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, parser: Parser::default(), ready: Default::default() }
    }

    /// The head of the response.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next event, or `None` at the end of the stream.
    pub async fn next_or_end(&mut self) -> Option<Dispatched> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match in_time("an event", self.response.chunk()).await {
                Ok(Some(bytes)) => self.ready.extend(self.parser.feed(&bytes)),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Waits for the end of the stream, orderly or not.
    pub async fn end(mut self) {
        while self.next_or_end().await.is_some() {}
    }

    /// The next event.
    pub async fn next(&mut self) -> Dispatched {
        self.next_or_end().await.expect("an event before the end")
    }

    /// The data of the next events.
    pub async fn data(&mut self, count: usize) -> Vec<String> {
        let mut data = Vec::new();
        while data.len() < count {
            data.push(self.next().await.data);
        }
        data
    }
}
