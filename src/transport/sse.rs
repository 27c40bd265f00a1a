//! `text/event-stream` (WHATWG HTML, "Server-sent events").
//!
//! The id of an event stands behind its data, so that a client that is cut off midway does not adopt the id of an
//! event that it never got. A heartbeat is a lone comment, never followed by a blank line: some client libraries
//! dispatch an empty event at each blank line.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;

use super::json;
use crate::{delivery::Gap, event::Event, history::TokenKey};

/// What a stream begins with: a comment, which makes proxies and browsers see that it is open, and the time after
/// which a client returns.
#[must_use]
pub fn head(retry: Duration) -> Bytes {
    format!(":\nretry: {}\n", retry.as_millis()).into()
}

/// An event.
#[must_use]
pub fn event(event: &Event) -> Bytes {
    let update = &*event.update;
    let mut lines = Lines::with_capacity(update.data.len() + 128);
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
    lines.dispatch()
}

/// A gap, as an event whose id is the point where it goes on.
#[must_use]
pub fn gap(gap: &Gap, key: &TokenKey) -> Bytes {
    named("tidegate.gap", &json::gap(gap), &key.seal(gap.after))
}

/// A heartbeat that scripts do not see.
#[must_use]
pub fn heartbeat() -> Bytes {
    Bytes::from_static(b":\n")
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
