//! The updates about subscriptions, and the documents in them.

use super::{Names, name, registry::Matched};
use crate::{
    event::{EventType, Lane, Topic, Update},
    transport::subscription::SubscriptionDocument,
};

/// The document about a subscription.
pub fn document<'a>(
    names: &Names,
    matched: &'a Matched,
    subscriber: &'a str,
    active: bool,
) -> SubscriptionDocument<'a> {
    SubscriptionDocument {
        id: names.path(&name::key(matched.kind, &matched.matcher, subscriber)).into(),
        kind: "subscription".into(),
        match_type: matched.kind.as_str().into(),
        matcher: (&*matched.matcher).into(),
        subscriber: subscriber.into(),
        active,
        payload: matched.payload.as_deref(),
    }
}

/// The update about a subscription. It has the topics of both dialects, because the receiver's
/// dialect decides how it is written.
pub(super) fn update(topics: Box<[Topic]>, document: &SubscriptionDocument<'_>) -> Update {
    update_with(topics, &text(document))
}

/// The document as the data of an update.
pub(super) fn text(document: &SubscriptionDocument<'_>) -> String {
    serde_json::to_string(document).expect("it has no map, and no field whose `Serialize` fails")
}

/// The update with a document that is text already.
pub(super) fn update_with(topics: Box<[Topic]>, document: &str) -> Update {
    let kind = EventType::SUBSCRIPTION;
    Update { private: true, ..Update::of_hub(Lane::Subscriptions, topics, kind, document) }
}
