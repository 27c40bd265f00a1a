//! Documents about a subscription, in both dialects of Mercure.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::{Event, Lane, Update};

/// The JSON-LD context of documents in the old dialect.
pub const OLD_CONTEXT: &str = "https://mercure.rocks/";

/// A subscription as described by draft-08 ("Active subscriptions").
#[derive(Debug, Serialize, Deserialize)]
pub struct SubscriptionDocument<'a> {
    /// Its path, which is also the topic of its events.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Always `subscription`.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// The type of its matcher.
    #[serde(borrow)]
    pub match_type: Cow<'a, str>,
    /// The matcher.
    #[serde(rename = "match", borrow)]
    pub matcher: Cow<'a, str>,
    /// The subscriber's id.
    #[serde(borrow)]
    pub subscriber: Cow<'a, str>,
    /// Whether it is active, or has just ended.
    pub active: bool,
    /// The payload from the subscriber's access token.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a RawValue>,
}

/// A subscription as described by draft-07, in JSON-LD.
#[derive(Debug, Serialize)]
pub struct OldSubscriptionDocument<'a> {
    /// Omitted within a list, which has its own.
    #[serde(rename = "@context", skip_serializing_if = "Option::is_none")]
    pub context: Option<&'static str>,
    /// Its path.
    pub id: &'a str,
    /// Always `Subscription`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The matcher, whatever its type.
    pub topic: &'a str,
    /// The subscriber's id.
    pub subscriber: &'a str,
    /// Whether it is active, or has just ended.
    pub active: bool,
    /// The payload from the subscriber's access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a RawValue>,
}

impl<'a> SubscriptionDocument<'a> {
    /// Converts to the old dialect, where its path is `id`.
    #[must_use]
    pub fn to_old(
        &'a self,
        id: &'a str,
        context: Option<&'static str>,
    ) -> OldSubscriptionDocument<'a> {
        OldSubscriptionDocument {
            context,
            id,
            kind: "Subscription",
            topic: &self.matcher,
            subscriber: &self.subscriber,
            active: self.active,
            payload: self.payload,
        }
    }
}

/// The event for subscribers of the old dialect. An event about a subscription has another document
/// and topic there, and no type. All other events are unchanged.
#[must_use]
pub fn in_old_dialect(event: &Event) -> &Event {
    match event.update.lane {
        Lane::Subscriptions => event.variant(old_event),
        Lane::Ordinary | Lane::Clients | Lane::State | Lane::Nodes => event,
    }
}

fn old_event(event: &Event) -> Option<Event> {
    let update = &*event.update;
    let document: SubscriptionDocument<'_> = serde_json::from_str(&update.data).ok()?;
    let topic = update.topics.last()?;
    let data = serde_json::to_string(&document.to_old(topic.as_str(), Some(OLD_CONTEXT))).ok()?;
    let update = Update {
        topics: Box::new([topic.clone()]),
        data: data.into(),
        id: update.id.clone(),
        kind: None,
        retry: update.retry,
        private: update.private,
        except: update.except.clone(),
        lane: update.lane,
        from: update.from.clone(),
    };
    Some(Event::new(event.position, event.accepted_at, update.into()))
}
