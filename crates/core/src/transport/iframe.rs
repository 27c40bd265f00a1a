//! Script elements of the forever iframe. Each calls `tidegate`, a function defined in the head of
//! the document, with one JSON argument.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::json;
use crate::{event::Event, history::CursorKey, transport::EndReason};

/// An event and the cursor token for its position.
#[must_use]
pub fn event(event: &Event, nonce: &str, key: &CursorKey) -> Bytes {
    let object = json::event(event);
    let object = std::str::from_utf8(object).expect("JSON is UTF-8");
    let token = key.seal_event(event.position);
    call(nonce, &format!(r#"{{"event":{object},"cursor":"{token}"}}"#))
}

/// What the stream itself says, in the shape of an event, and the cursor token for where delivery
/// resumes.
#[must_use]
pub fn named(kind: &str, data: &str, token: &str, retry: Option<Duration>, nonce: &str) -> Bytes {
    let object = json::named(kind, data, token, retry);
    call(nonce, &format!(r#"{{"event":{object},"cursor":"{token}"}}"#))
}

/// A heartbeat and the cursor token for the position reached.
#[must_use]
pub fn heartbeat(token: &str, nonce: &str) -> Bytes {
    call(nonce, &json::script_safe(&json!({ "heartbeat": true, "cursor": token })))
}

/// The end: the reason, the reconnection delay, and the cursor token to resume from.
#[must_use]
pub fn end(reason: EndReason, retry: Duration, token: &str, nonce: &str) -> Bytes {
    let argument = json!({
        "end": reason.as_str(), "retry": retry.as_secs_f64() * 1000.0, "cursor": token,
    });
    let mut bytes = call(nonce, &json::script_safe(&argument)).to_vec();
    bytes.extend_from_slice(b"</body></html>\n");
    bytes.into()
}

/// The refusal of the request: the status, and what is wrong.
#[must_use]
pub fn refusal(status: u16, detail: &str, nonce: &str) -> Bytes {
    let argument = json!({ "refused": { "status": status, "detail": detail } });
    let mut bytes = call(nonce, &json::script_safe(&argument)).to_vec();
    bytes.extend_from_slice(b"</body></html>\n");
    bytes.into()
}

fn call(nonce: &str, argument: &str) -> Bytes {
    format!("<script nonce=\"{nonce}\">tidegate({argument})</script>\n").into()
}
