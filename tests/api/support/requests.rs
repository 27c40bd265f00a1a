//! Requests that only these tests send, and what their replies must be.

use reqwest::Response;
use serde_json::Value;
use tidegate_testkit::sse::Stream;

use super::Gateway;

impl Gateway {
    /// Gets a path with a token.
    pub async fn get_as(&self, token: &str, path: &str) -> Response {
        self.client.get(self.url(path)).bearer_auth(token).send().await.expect("a reply")
    }

    /// Opens an event stream.
    pub async fn open(&self, path: &str) -> Stream {
        Stream::open(self.client.get(self.url(path))).await
    }

    /// Opens an event stream with a token.
    pub async fn open_as(&self, token: &str, path: &str) -> Stream {
        Stream::open(self.client.get(self.url(path)).bearer_auth(token)).await
    }

    /// Publishes data under a topic and returns the id.
    pub async fn publish(&self, topic: &str, data: &str) -> String {
        let reply = self.post(&[("topic", topic), ("data", data)]).await;
        assert_eq!(reply.status(), 200);
        reply.text().await.expect("the id")
    }

    /// Polls and returns the reply's JSON.
    pub async fn poll(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status(), 200);
        reply.json().await.expect("a JSON reply")
    }
}

/// Checks that a reply is a problem document with a status, and returns it.
pub async fn problem(reply: Response, status: u16) -> Value {
    let kind = reply
        .headers()
        .get("content-type")
        .expect("a content type")
        .to_str()
        .expect("text")
        .to_owned();
    let actual = reply.status();
    let text = reply.text().await.expect("a body");
    assert_eq!(actual, status, "{text}");
    assert_eq!(kind, "application/problem+json");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().is_some_and(|it| !it.is_empty()), "{text}");
    document
}

/// Returns the text at a JSON pointer.
pub fn text_at(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer} in {value}")).to_owned()
}

/// An event of a reply without its time, which must be one.
pub fn untimed(event: &Value) -> Value {
    let mut event = event.clone();
    let time = event.as_object_mut().and_then(|it| it.remove("time")).expect("a time");
    let time = time.as_str().expect("text");
    assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");
    time.parse::<jiff::Timestamp>().expect("RFC 3339");
    event
}
