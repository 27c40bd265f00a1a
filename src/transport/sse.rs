//! `text/event-stream` (WHATWG HTML, "Server-sent events").
//!
//! The id of an event stands behind its data, so that a client that is cut off midway does not adopt the id of an
//! event that it never got. A heartbeat is a lone comment, never followed by a blank line: some client libraries
//! dispatch an empty event at each blank line.
//!
//! On HTTP/1.1 a stream is chunked: libraries that read a fixed number of bytes from other bodies, like those over
//! Python's `requests`, hand on a chunk as soon as it has arrived. The frame is a part of the bytes of an event, so
//! it costs nothing per subscriber.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use bytes::Bytes;

use super::json;
use crate::{
    delivery::Gap,
    event::{Event, Form},
    history::TokenKey,
};

/// The last chunk of a body, which says that nothing was cut off.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Room for the size of a chunk: the hexadecimal digits of any `usize`, and a line end.
const SIZE_LINE: usize = 2 * size_of::<usize>() + LINE_END.len();

/// What ends the size of a chunk, and the chunk.
const LINE_END: &str = "\r\n";

/// What a stream begins with: a comment, which makes proxies and browsers see that it is open, and the time after
/// which a client returns.
#[must_use]
pub fn head(retry: Duration) -> Bytes {
    format!(":\nretry: {}\n", retry.as_millis()).into()
}

/// An event. Shares the bytes of the chunk.
#[must_use]
pub fn event(event: &Event) -> Bytes {
    let chunk = event.encoded(Form::SseChunk, event_chunk);
    let size_line = chunk.iter().take_while(|byte| **byte != b'\n').count() + 1;
    chunk.slice(size_line..chunk.len() - LINE_END.len())
}

/// An event as a chunk.
#[must_use]
pub fn event_chunk(event: &Event) -> Bytes {
    let update = &*event.update;
    let mut lines = Lines::with_capacity(SIZE_LINE + update.data.len() + 128);
    // The size is known when the lines are there; until then its place is kept.
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

/// `bytes`, of which there are some, as a chunk.
#[must_use]
pub fn chunk(bytes: &[u8]) -> Bytes {
    let mut chunk = Vec::with_capacity(SIZE_LINE + bytes.len() + LINE_END.len());
    write!(chunk, "{:x}{LINE_END}", bytes.len()).expect("writing to a vector does not fail");
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(LINE_END.as_bytes());
    chunk.into()
}

/// A gap, as an event whose id is the point where it goes on.
#[must_use]
pub fn gap(gap: &Gap, key: &TokenKey) -> Bytes {
    named("tidegate.gap", &json::gap(gap), &key.seal(gap.after))
}

/// A heartbeat that scripts do not see, on its own or as a chunk.
#[must_use]
pub fn heartbeat(is_chunked: bool) -> Bytes {
    Bytes::from_static(if is_chunked { b"2\r\n:\n\r\n" } else { b":\n" })
}

/// A heartbeat as an event, whose id is a token for everything so far.
#[must_use]
pub fn visible_heartbeat(token: &str) -> Bytes {
    named("tidegate.heartbeat", &json::cursor(token), token)
}

/// The end of a stream: when to return.
#[must_use]
pub fn end(retry: Duration) -> Bytes {
    format!("retry: {}\n", retry.as_millis()).into()
}

pub(crate) fn named(kind: &str, data: &str, id: &str) -> Bytes {
    let mut lines = Lines::with_capacity(data.len() + 128);
    lines.field("event", kind);
    // A problem document of a worker stands here as it was written, line ends included.
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

    /// Adds a field; the value has no line ends.
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{name}: {value}").expect("writing to a string does not fail");
    }

    fn dispatch(mut self) -> Bytes {
        self.0.push('\n');
        self.0.into()
    }
}

/// The lines of `data`: it is split at CR, LF and CRLF, and has at least one.
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
