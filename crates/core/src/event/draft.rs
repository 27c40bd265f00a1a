//! Validation: from the raw fields of an update to a valid one.

use serde::Serialize;
use url::Url;

use super::{ClientKey, EventId, EventType, Invalid, Lane, Topic, Update, text, topic::WILDCARD};

/// The longest reconnection time in milliseconds. Browser timers are signed 32-bit integers.
const LONGEST_RETRY: u64 = i32::MAX as u64;

/// The limits for the fields of an update.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Topics of one update.
    pub topics: usize,
    /// Bytes of one topic.
    pub topic_bytes: usize,
    /// Bytes of an id.
    pub id_bytes: usize,
    /// Bytes of a type.
    pub type_bytes: usize,
    /// Client keys that one update may except.
    pub except: usize,
    /// Bytes of a client key.
    pub client_key_bytes: usize,
}

/// The fields of an update as received. The same rules apply to every request format.
///
/// ```
/// use tidegate_core::event::Draft;
///
/// let draft = Draft {
///     topics: vec!["https://example.com/books/1".into(), "books".into()],
///     data: r#"{"title":"Snow"}"#.into(),
///     kind: Some("added".into()),
///     private: true,
///     ..Draft::default()
/// };
/// ```
#[derive(Debug, Default)]
pub struct Draft {
    /// The canonical topic, then the alternate ones.
    pub topics: Vec<String>,
    /// The payload.
    pub data: String,
    /// The publisher's id; empty counts as absent.
    pub id: Option<String>,
    /// The type; empty counts as absent.
    pub kind: Option<String>,
    /// The reconnection time in milliseconds.
    pub retry: Option<u64>,
    /// Whether the update is private.
    pub private: bool,
    /// The client keys of subscribers that must not receive the update.
    pub except: Vec<String>,
}

impl Draft {
    /// Creates a draft whose payload is a value as JSON.
    ///
    /// ```
    /// # use tidegate_core::event::Draft;
    /// # fn main() -> Result<(), serde_json::Error> {
    /// let draft = Draft::json("books", &serde_json::json!({ "title": "Snow" }))?;
    /// assert_eq!(draft.data, r#"{"title":"Snow"}"#);
    ///
    /// let private = Draft { private: true, ..Draft::json("books", &["Snow"])? };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If `value` cannot be written as JSON.
    pub fn json(
        topic: impl Into<String>,
        value: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        let data = serde_json::to_string(value)?;
        Ok(Self { topics: vec![topic.into()], data, ..Self::default() })
    }

    /// Checks every field. Counts come first, so that a bad request is refused before it costs
    /// anything.
    ///
    /// ```
    /// # use tidegate_core::event::{Draft, Invalid, Limits};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = "https://example.com/.well-known/mercure".parse()?;
    /// # let limits = Limits {
    /// #     topics: 100,
    /// #     topic_bytes: 4096,
    /// #     id_bytes: 1024,
    /// #     type_bytes: 256,
    /// #     except: 100,
    /// #     client_key_bytes: 256,
    /// # };
    /// let draft = Draft { topics: vec!["news".into()], ..Draft::default() };
    /// let update = draft.validate(&limits, &hub)?;
    /// assert!(update.id.as_str().starts_with("urn:uuid:"));
    ///
    /// let refused = Draft::default().validate(&limits, &hub).expect_err("there is no topic");
    /// assert_eq!(refused, Invalid::Missing { field: "topic" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the first rule that a field breaks. `hub` is the hub's own address, which reserved
    /// topics are resolved against.
    pub fn validate(self, limits: &Limits, hub: &Url) -> Result<Update, Invalid> {
        if self.topics.is_empty() {
            return Err(Invalid::Missing { field: "topic" });
        }
        if limits.topics < self.topics.len() {
            return Err(Invalid::TooMany { field: "topic", limit: limits.topics });
        }
        if limits.except < self.except.len() {
            return Err(Invalid::TooMany { field: "except", limit: limits.except });
        }
        let topics = self
            .topics
            .iter()
            .map(|topic| publishable(topic, limits, hub))
            .collect::<Result<_, _>>()?;
        let id = match present(self.id.as_deref()) {
            Some(id) => EventId::parse(id, limits.id_bytes)?,
            None => EventId::random(),
        };
        let kind = present(self.kind.as_deref())
            .map(|kind| EventType::parse(kind, limits.type_bytes))
            .transpose()?;
        check_retry(self.retry)?;
        let except = self
            .except
            .iter()
            .map(|key| ClientKey::parse("except", key, limits.client_key_bytes))
            .collect::<Result<_, _>>()?;
        Ok(Update {
            topics,
            data: self.data.into(),
            id,
            kind,
            retry: self.retry,
            private: self.private,
            except,
            lane: Lane::Ordinary,
            from: None,
        })
    }
}

impl Update {
    /// Checks an update that another gateway has accepted by the rules of [`Draft::validate`].
    /// Limits do not apply, because they may have been lowered since. Reserved topics and types are
    /// allowed, because the hub's own updates have them.
    ///
    /// # Errors
    /// Returns the first rule that a field breaks.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        if self.topics.is_empty() {
            return Err(Invalid::Missing { field: "topic" });
        }
        for topic in &self.topics {
            not_wildcard(Topic::parse(topic.as_str(), usize::MAX)?)?;
        }
        if self.id.as_str().is_empty() {
            return Err(Invalid::Missing { field: "id" });
        }
        EventId::parse(self.id.as_str(), usize::MAX)?;
        if let Some(kind) = &self.kind {
            text::check("type", kind.as_str(), usize::MAX)?;
        }
        if let Some(from) = &self.from {
            text::check("from", from, usize::MAX)?;
        }
        check_retry(self.retry)
    }
}

fn check_retry(retry: Option<u64>) -> Result<(), Invalid> {
    if retry.is_some_and(|it| LONGEST_RETRY < it) {
        return Err(Invalid::Rule {
            field: "retry",
            rule: "is more than 2147483647 milliseconds, the longest time that browsers can wait",
        });
    }
    Ok(())
}

fn not_wildcard(topic: Topic) -> Result<Topic, Invalid> {
    if topic.as_str() == WILDCARD {
        return Err(Invalid::Rule {
            field: "topic",
            rule: "is `*`, which stands for every topic and cannot be published to",
        });
    }
    Ok(topic)
}

fn present(value: Option<&str>) -> Option<&str> {
    value.filter(|it| !it.is_empty())
}

fn publishable(topic: &str, limits: &Limits, hub: &Url) -> Result<Topic, Invalid> {
    if topic.is_empty() {
        return Err(Invalid::Rule { field: "topic", rule: "is empty" });
    }
    let topic = not_wildcard(Topic::parse(topic, limits.topic_bytes)?)?;
    if topic.is_reserved(hub) {
        return Err(Invalid::Rule {
            field: "topic",
            rule: "lies in a namespace that only the hub itself may publish to",
        });
    }
    Ok(topic)
}
