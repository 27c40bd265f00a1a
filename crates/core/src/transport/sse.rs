//! `text/event-stream` (WHATWG HTML, "Server-sent events").
//!
//! The id of an event comes after its data. So a client that is cut off midway does not adopt the
//! id of an incomplete event. A heartbeat is a single comment, never followed by a blank line: some
//! client libraries dispatch an empty event at each blank line.
//!
//! On HTTP/1.1 a stream is chunked. Libraries that read other bodies in blocks of fixed size, like
//! those over Python's `requests`, return a chunk as soon as it arrives. The frame is a part of the
//! bytes of an event, so it costs nothing per subscriber.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use bytes::Bytes;

use super::json;
use crate::event::{Event, Form};

/// The last chunk, which marks the body as complete.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Space for the size line of a chunk: the hexadecimal digits of any `usize`, and a line end.
const SIZE_LINE: usize = 2 * size_of::<usize>() + LINE_END.len();

/// The line end after the size of a chunk, and after the chunk.
const LINE_END: &str = "\r\n";

/// The beginning of a stream: a comment and the reconnection delay. The comment makes proxies and
/// browsers see that the stream is open.
#[must_use]
pub fn head(retry: Duration) -> Bytes {
    format!(":\nretry: {}\n", retry.as_millis()).into()
}

/// A comment of `length` bytes.
#[must_use]
pub fn padding(length: usize) -> Bytes {
    let mut comment = vec![b' '; length.max(2)];
    comment[0] = b':';
    if let Some(last) = comment.last_mut() {
        *last = b'\n';
    }
    comment.into()
}

/// The bytes of an event. Shares those of the chunk.
#[must_use]
pub fn event(event: &Event) -> Bytes {
    unchunked(event.encoded(Form::SseChunk, event_chunk))
}

/// The bytes of an event as one JSON object. Shares those of the chunk.
#[must_use]
pub fn json_event(event: &Event) -> Bytes {
    unchunked(event.encoded(Form::SseJsonChunk, json_event_chunk))
}

/// The same as a chunk.
#[must_use]
pub(crate) fn json_event_chunk(event: &Event) -> Bytes {
    let object = json::event(event);
    let object = std::str::from_utf8(object).expect("JSON is UTF-8");
    chunk(&json_object(object, event.update.id.as_str()))
}

/// An event that consists of one JSON object, in one line, and an id.
#[must_use]
pub fn json_object(object: &str, id: &str) -> Bytes {
    let mut lines = Lines::with_capacity(object.len() + id.len() + 16);
    lines.field("data", object);
    lines.field("id", id);
    lines.dispatch()
}

/// The content of a chunk.
fn unchunked(chunk: &Bytes) -> Bytes {
    let size_line = chunk.iter().take_while(|byte| **byte != b'\n').count() + 1;
    chunk.slice(size_line..chunk.len() - LINE_END.len())
}

/// The bytes of an event as a chunk.
#[must_use]
pub(crate) fn event_chunk(event: &Event) -> Bytes {
    let update = &*event.update;
    let mut lines = Lines::with_capacity(SIZE_LINE + update.data.len() + 128);
    // The size is known only after the lines are written, so its space is reserved.
    lines.0.extend(std::iter::repeat_n('0', SIZE_LINE));
    if let Some(kind) = &update.kind {
        lines.field("event", kind.as_str());
    }
    if let Some(retry) = update.retry {
        lines.field("retry", retry);
    }
    for line in split(&update.data) {
        lines.field("data", line);
    }
    lines.field("id", update.id.as_str());
    lines.0.push('\n');
    let n_bytes = lines.0.len() - SIZE_LINE;
    lines.0.push_str(LINE_END);
    let size_line = format!("{n_bytes:x}{LINE_END}");
    let start = SIZE_LINE - size_line.len();
    let mut chunk = lines.0.into_bytes();
    chunk[start..SIZE_LINE].copy_from_slice(size_line.as_bytes());
    Bytes::from(chunk).slice(start..)
}

/// The chunk of `bytes`, which must not be empty.
#[must_use]
pub fn chunk(bytes: &[u8]) -> Bytes {
    let mut chunk = Vec::with_capacity(SIZE_LINE + bytes.len() + LINE_END.len());
    write!(chunk, "{:x}{LINE_END}", bytes.len()).expect("writing to a vector does not fail");
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(LINE_END.as_bytes());
    chunk.into()
}

/// A heartbeat that scripts do not see, bare or as a chunk.
#[must_use]
pub fn heartbeat(is_chunked: bool) -> Bytes {
    Bytes::from_static(if is_chunked { b"2\r\n:\n\r\n" } else { b":\n" })
}

/// The end of a stream: the reconnection delay.
#[must_use]
pub fn end(retry: Duration) -> Bytes {
    format!("retry: {}\n", retry.as_millis()).into()
}

/// An event of the type `kind` with the cursor token `id`.
#[must_use]
pub fn named(kind: &str, data: &str, id: &str) -> Bytes {
    let mut lines = Lines::with_capacity(data.len() + 128);
    lines.field("event", kind);
    // A worker's problem document is passed here verbatim, including line ends.
    for line in split(data) {
        lines.field("data", line);
    }
    lines.field("id", id);
    lines.dispatch()
}

struct Lines(String);

impl Lines {
    fn with_capacity(capacity: usize) -> Self {
        Self(String::with_capacity(capacity))
    }

    /// Adds a field whose value has no line ends.
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{name}: {value}").expect("writing to a string does not fail");
    }

    fn dispatch(mut self) -> Bytes {
        self.0.push('\n');
        self.0.into()
    }
}

/// The lines of `data`, split at CR, LF and CRLF; at least one.
fn split(data: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((line, after)) = text.split_once(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let is_cr = text.as_bytes()[line.len()] == b'\r';
        rest = Some(if is_cr { after.strip_prefix('\n').unwrap_or(after) } else { after });
        Some(line)
    })
}
