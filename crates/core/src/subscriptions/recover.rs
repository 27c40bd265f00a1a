//! Subscriptions left behind by a crash: their start was announced, but not their end.

use std::{collections::HashMap, sync::Arc};

use tracing::warn;
use url::Url;

use super::{Names, update};
use crate::{
    event::{Event, Lane, Position, Topic, Update},
    history::{Budget, HistoryError},
    hub::Hub,
    matching::{Interest, MatcherKind, MatcherLimits, Matchers, Rights},
    transport::subscription::SubscriptionDocument,
};

/// Size of a page read from the history.
const PAGE: Budget = Budget { events: 1000, bytes: 1 << 20 };

/// A subscription whose end was not announced.
#[derive(Debug)]
pub(super) struct Left {
    /// The position of its start.
    position: Position,
    topics: Box<[Topic]>,
    /// The document about its end.
    ended: Box<str>,
}

impl Left {
    fn new(start: &Event, document: SubscriptionDocument<'_>) -> Self {
        let ended = update::text(&SubscriptionDocument { active: false, ..document }).into();
        Self { position: start.position, topics: start.update.topics.clone(), ended }
    }

    /// The update that announces its end.
    pub(super) fn end(&self) -> Update {
        update::update_with(self.topics.clone(), &self.ended)
    }
}

fn read(update: &Update) -> Option<SubscriptionDocument<'_>> {
    serde_json::from_str(&update.data).ok()
}

/// The subscriptions whose start is in the history and whose end is not, in the order of their
/// starts; at most `limit`.
pub(super) async fn left_behind(
    hub: &Hub,
    names: &Names,
    limit: usize,
) -> Result<Vec<Left>, HistoryError> {
    let history = hub.history();
    let interest = Arc::new(interest(names));
    let mut active: HashMap<Topic, Left> = HashMap::new();
    let mut after = Position::START;
    loop {
        let page = history.read_after(after, &interest, PAGE).await?;
        for event in page.events.into_iter().filter(|it| it.update.lane == Lane::Subscriptions) {
            let (Some(topic), Some(document)) = (event.update.topics.first(), read(&event.update))
            else {
                continue;
            };
            // Ended subscriptions are dropped as the history is read, so at most `limit` are in
            // memory.
            if !document.active {
                active.remove(topic);
            } else if active.len() < limit {
                active.insert(topic.clone(), Left::new(&event, document));
            } else {
                warn!(limit, "more have subscribed before than there may be");
            }
        }
        after = page.scanned_to;
        if !page.more {
            break;
        }
    }
    let mut left: Vec<Left> = active.into_values().collect();
    left.sort_unstable_by_key(|it| it.position);
    Ok(left)
}

/// The interest in all events about subscriptions.
pub(super) fn interest(names: &Names) -> Interest {
    let pattern = format!("{}/:type/:match/:subscriber", names.root);
    // The operator's limits are for patterns of clients.
    let limits = MatcherLimits {
        matchers: 1,
        bytes: usize::MAX,
        cost: usize::MAX,
        cost_of_set: usize::MAX,
        cost_of_all: usize::MAX,
    };
    let base = Url::parse("http://localhost/").expect("a constant that is an absolute URL");
    let values = [(MatcherKind::UrlPattern, pattern.as_str())];
    let matchers = Matchers::parse(values.into_iter(), &base, &limits);
    Interest::new(matchers.unwrap_or_default(), None, Rights::Everything)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::{
        clock::Clock,
        history::{Memory, Retention},
    };

    #[tokio::test]
    async fn the_end_of_what_was_left_behind_is_told_once() {
        let retention = Retention {
            bytes: usize::MAX,
            events: usize::MAX,
            age: SignedDuration::MAX,
            remembered: 10,
        };
        let history = Arc::new(Memory::new(retention, Clock::system()));
        let hub = Hub::start(history, 1 << 20, true).expect("a thread");
        let names = Names { root: "/subscriptions".to_owned(), has_old: true };
        let told = |subscriber: &str, active| {
            let path = names.path(&format!("exact/a/{subscriber}"));
            let document = SubscriptionDocument {
                id: path.as_str().into(),
                kind: "subscription".into(),
                match_type: "exact".into(),
                matcher: "a".into(),
                subscriber: subscriber.into(),
                active,
                payload: None,
            };
            update::update(Box::new([Topic::of_subscription(&path)]), &document)
        };
        let updates = vec![told("1", true), told("2", true), told("1", false), told("3", true)];
        hub.publish(updates).await.expect("room");
        let left = left_behind(&hub, &names, 10).await.expect("memory");
        let ends: Vec<Update> = left.iter().map(Left::end).collect();
        let subscribers = |ends: &[Update]| -> Vec<String> {
            let ends = ends.iter().map(|it| read(it).expect("a document"));
            ends.filter(|it| !it.active).map(|it| it.subscriber.into_owned()).collect()
        };
        assert_eq!(subscribers(&ends), ["2", "3"]);
        assert_eq!(left_behind(&hub, &names, 1).await.expect("memory").len(), 1);
        hub.publish(ends).await.expect("room");
        assert!(left_behind(&hub, &names, 10).await.expect("memory").is_empty());
    }
}
