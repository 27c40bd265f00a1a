//! The history in memory, in two parts: the events of publishers, and the hub's own subscription
//! events. The parts share positions, but have separate limits, so that neither evicts the other's
//! events.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Budget, Located, Meter, Missing, Page, Search, Start,
    lost::Begin,
    part::{Part, Retention},
};
use crate::{
    event::{Event, Lane, Position, Update},
    matching::Interest,
};

/// Subscription events that are tested to find out whether a subscriber wants any.
const SAMPLE: usize = 64;

#[derive(Debug)]
pub(super) struct Parts {
    published: Part,
    subscriptions: Part,
    /// The newest position in use. It may be after all events.
    last: Position,
}

impl Parts {
    pub(super) fn new(published: Retention, subscriptions: Retention) -> Self {
        Self {
            published: Part::new(published),
            subscriptions: Part::new(subscriptions),
            last: Position::START,
        }
    }

    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Uses up a position without an event.
    pub(super) fn skip(&mut self) {
        self.last = Position(self.last.0 + 1);
    }

    pub(super) fn append(&mut self, update: Arc<Update>, now: Timestamp) -> Arc<Event> {
        self.skip();
        let part = match update.lane {
            Lane::Ordinary | Lane::Clients | Lane::State | Lane::Nodes => &mut self.published,
            Lane::Subscriptions => &mut self.subscriptions,
        };
        part.append(self.last, update, now)
    }

    pub(super) fn trim(&mut self, now: Timestamp) {
        self.published.trim(now);
        self.subscriptions.trim(now);
    }

    /// Returns the page of both parts. A gap in the subscription events is reported only when a
    /// subscriber starts, see [`Parts::locate`], and not when it falls behind later.
    pub(super) fn page(&self, after: Position, interest: &Interest, budget: Budget) -> Page {
        let mut page = self.published.page(after, interest, budget);
        page.scanned_to = if page.more { page.scanned_to } else { self.last().max(after) };
        if self.subscriptions.is_empty() {
            return page;
        }
        let other = self.subscriptions.page(after, interest, budget);
        if other.more {
            page.scanned_to = page.scanned_to.min(other.scanned_to);
            page.more = true;
        }
        page.events.extend(other.events);
        // One part may have been scanned further than the other; its surplus waits for the next
        // page.
        page.events.retain(|event| event.position <= page.scanned_to);
        page.events.sort_unstable_by_key(|event| event.position);
        let mut bytes = 0;
        let mut n_within = 0;
        for event in &page.events {
            if budget.events <= n_within || budget.bytes <= bytes {
                break;
            }
            bytes += event.weight();
            n_within += 1;
        }
        if n_within < page.events.len() {
            page.events.truncate(n_within);
            page.more = true;
            page.scanned_to = page.events.last().map_or(after, |it| it.position);
        }
        page
    }

    pub(super) fn locate(&self, start: &Start, interest: &Interest) -> Located {
        let n_dropped = self.published.lost.n_dropped();
        match start {
            Start::Now => Located { after: self.last(), missing: None, n_dropped },
            Start::Earliest => {
                Located { after: self.published.lost.last(), missing: None, n_dropped }
            }
            Start::Unknown => {
                let after = self.published.lost.last();
                Located { after, missing: Some(Missing::Unknown), n_dropped }
            }
            Start::Position(position) if self.last() < *position => {
                self.locate(&Start::Unknown, interest)
            }
            Start::Position(position) => {
                let located = self.published.locate_position(*position, interest);
                if located.missing.is_none() {
                    let is_torn = self.is_torn(Begin::Behind(*position), interest);
                    // All events of publishers after the position are kept, and so are the
                    // remaining subscription events.
                    return Located {
                        after: *position,
                        missing: is_torn.then_some(Missing::Trimmed),
                        n_dropped,
                    };
                }
                located
            }
            Start::Id(id) => {
                let position = self.published.position_of(id, interest);
                let position = position.or_else(|| self.subscriptions.position_of(id, interest));
                let start = position.map_or(Start::Unknown, Start::Position);
                self.locate(&start, interest)
            }
            Start::Since(time) => {
                let mut located = self.published.locate_time(*time, interest);
                // In each part, events before this position were accepted before that time.
                let other = self.subscriptions.before(*time).unwrap_or(Position::START);
                located.after = located.after.max(other);
                if located.missing.is_none() && self.is_torn(Begin::Since(*time), interest) {
                    located.missing = Some(Missing::Trimmed);
                }
                located
            }
        }
    }

    /// Whether subscription events are missing that the subscriber may have received.
    fn is_torn(&self, begin: Begin, interest: &Interest) -> bool {
        let part = &self.subscriptions;
        part.lost.may_concern(begin, interest)
            && (interest.exact_topics().is_some() || part.has_new_for(interest, SAMPLE))
    }

    /// Runs the next step of a search for the newest events.
    pub(super) fn step_back(&self, mut search: Search, interest: &Interest) -> Search {
        let mut published = self.published.newest_first(search.after, interest).peekable();
        let mut subscriptions = self.subscriptions.newest_first(search.after, interest).peekable();
        let mut meter = Meter::new(interest);
        while !search.has_to_rest(&meter) {
            let newest = published.peek().map(|it| it.position);
            let is_of_subscription = newest < subscriptions.peek().map(|it| it.position);
            let next = if is_of_subscription { subscriptions.next() } else { published.next() };
            let Some(record) = next else { break };
            meter.spend(&record.update);
            search.note(record.position, interest.covers(&record.update));
        }
        if search.is_over {
            return search;
        }
        if published.peek().is_none() && subscriptions.peek().is_none() {
            let after = self.published.lost.last().min(search.after);
            return Search { after, is_over: true, ..search };
        }
        search
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::{
        event::{EventId, EventType, Topic},
        matching::{Matcher, Matchers, Rights},
    };

    fn retention(events: usize) -> Retention {
        Retention { bytes: usize::MAX, events, age: SignedDuration::MAX, remembered: 100 }
    }

    fn update(topic: &str, kind: Option<EventType>) -> Arc<Update> {
        Arc::new(Update {
            topics: Box::new([Topic::parse(topic, 99).expect("valid")]),
            lane: Lane::of_stored(kind.as_ref()),
            data: topic.into(),
            id: EventId::random(),
            kind,
            retry: None,
            private: false,
            except: Box::default(),
            from: None,
        })
    }

    fn everything() -> Interest {
        Interest::new(Matchers::new([Matcher::Everything]), None, Rights::Everything)
    }

    fn filled() -> Parts {
        let mut parts = Parts::new(retention(100), retention(3));
        for _ in 0..5 {
            parts.append(update("a", None), Timestamp::UNIX_EPOCH);
            let kind = Some(EventType::of_hub(EventType::SUBSCRIPTION));
            parts.append(update("s", kind), Timestamp::UNIX_EPOCH);
        }
        parts.trim(Timestamp::UNIX_EPOCH);
        parts
    }

    #[test]
    fn events_of_subscriptions_evict_only_their_own_kind() {
        let parts = filled();
        for budget in [1, 2, 3, 100] {
            let (mut after, mut positions) = (Position::START, Vec::new());
            loop {
                let budget = Budget { events: budget, bytes: usize::MAX };
                let page = parts.page(after, &everything(), budget);
                positions.extend(page.events.iter().map(|it| it.position.0));
                assert!(page.events.len() <= budget.events && page.torn.is_none());
                after = page.scanned_to;
                if !page.more {
                    break;
                }
            }
            assert_eq!(positions, [1, 3, 5, 6, 7, 8, 9, 10], "{budget}");
            assert_eq!(after, Position(10));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_hides_no_dropped_event() {
        let mut parts = Parts::new(retention(0), retention(0));
        let seconds = |it| Timestamp::from_second(it).expect("a time");
        for now in [100, 50] {
            parts.append(update("a", None), seconds(now));
            parts.trim(seconds(now));
        }
        let located = parts.locate(&Start::Since(seconds(60)), &everything());
        assert_eq!(located.missing, Some(Missing::Trimmed));
    }

    #[test]
    fn what_is_missing_of_subscriptions_concerns_only_those_who_ask_for_them() {
        let parts = filled();
        let exact = |topic| {
            let matcher = Matcher::exact(topic, 99).expect("valid");
            Interest::new(Matchers::new([matcher]), None, Rights::Everything)
        };
        let located = |position, interest: &Interest| {
            parts.locate(&Start::Position(Position(position)), interest)
        };
        assert_eq!(located(1, &exact("a")).missing, None);
        let torn = located(1, &exact("s"));
        assert_eq!((torn.after, torn.missing), (Position(1), Some(Missing::Trimmed)));
        assert_eq!(located(5, &exact("s")).missing, None);
        let newest = |count| {
            let mut search = Search::new(count, parts.last(), usize::MAX);
            while !search.is_over {
                search = parts.step_back(search, &everything());
            }
            search.after
        };
        assert_eq!([newest(0), newest(1), newest(4), newest(6)].map(|it| it.0), [10, 9, 6, 4]);
        assert_eq!(newest(100), Position::START);
    }
}
