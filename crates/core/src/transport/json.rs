//! JSON that is safe in a reply, in a line of an event stream, and in a script element.
//!
//! `<`, `>`, `&`, U+2028 and U+2029 are escaped, so that nothing a publisher sends can end its
//! string.

use std::{io, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{json, ser::Formatter};

use crate::{
    event::{Event, Form},
    history::{CursorKey, Missing},
    transport::Gap,
};

/// Serializes `value` so that it is safe in a script element.
///
/// # Panics
/// If `value` has a map whose keys are not strings, or its `Serialize` fails.
#[must_use]
pub fn script_safe(value: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, ScriptSafe);
    value
        .serialize(&mut serializer)
        .expect("all map keys are strings, and no `Serialize` here fails");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// An event as the object in long-poll replies and for the iframe's function.
#[must_use]
pub fn event(event: &Event) -> &Bytes {
    event.encoded(Form::Json, |event| {
        let update = &*event.update;
        script_safe(&EventObject {
            id: update.id.as_str(),
            kind: update.kind.as_ref().map(|kind| kind.as_str()),
            data: &update.data,
            topics: update.topics.iter().map(|topic| topic.as_str()).collect(),
            retry: update.retry,
            time: time(event.accepted_at),
            private: update.private,
            from: update.from.as_deref(),
            except: update.except.iter().map(|it| it.id()).collect(),
        })
        .into()
    })
}

#[derive(Serialize)]
struct EventObject<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    data: &'a str,
    topics: Vec<&'a str>,
    retry: Option<u64>,
    time: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    private: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    /// A page that shares its stream leaves out what excepts itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except: Vec<String>,
}

/// A time as RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The data of `tidegate.gap`: the cursor, why it cannot be served, and what follows instead. For a
/// search that ended early: the number of events that it examined.
#[must_use]
pub fn gap(gap: &Gap) -> String {
    let reason = match gap.missing {
        Missing::Unknown => "unknown",
        Missing::Trimmed => "trimmed",
        Missing::Searched(n_events) => {
            return script_safe(&json!({ "reason": "searched", "events": n_events }));
        }
    };
    script_safe(&json!({ "cursor": gap.cursor, "reason": reason, "follows": "earliest" }))
}

/// A gap in the shape of an event, whose id is the cursor token for where delivery resumes.
#[must_use]
pub fn gap_event(told: &Gap, key: &CursorKey) -> String {
    named("tidegate.gap", &gap(told), &key.seal(told.after), None)
}

/// What a stream itself says, in the shape of an event whose id is the cursor token `id`. It was
/// never accepted, so its time is `null`.
#[must_use]
pub fn named(kind: &str, data: &str, id: &str, retry: Option<Duration>) -> String {
    let retry = retry.map(|it| it.as_millis());
    script_safe(&json!({
        "id": id, "type": kind, "data": data, "topics": [], "retry": retry, "time": null,
    }))
}

/// The data of `tidegate.heartbeat`.
#[must_use]
pub fn cursor(token: &str) -> String {
    script_safe(&json!({ "cursor": token }))
}

struct ScriptSafe;

impl Formatter for ScriptSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_special) {
            let (before, behind) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut characters = behind.chars();
            if let Some(special) = characters.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

fn is_special(character: char) -> bool {
    matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}
