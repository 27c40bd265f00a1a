//! The history in memory, in the parts that [`Rules`] make of it. They share positions, but have
//! separate limits.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    Budget, Located, Meter, Missing, Page, SAME_ID, Search, Start, Torn,
    hash::{Hash, hash},
    lost::{Begin, Dropped, Lost, Trace},
    part::{Part, Record, Records, Remembered, Retention, merge},
    rules::Rules,
};
use crate::{
    event::{Event, EventId, Lane, Position, Update},
    matching::Interest,
};

/// Subscription events that are tested to find out whether a subscriber wants any.
const SAMPLE: usize = 64;

#[derive(Debug)]
pub(super) struct Parts {
    rules: Rules,
    retention: Retention,
    parts: Box<[Part]>,
    /// The number and the weight of the events in all ordinary parts.
    total: (usize, usize),
    /// The newest position in use. It may be after all events.
    last: Position,
    /// The time of acceptance of the newest event, even after the event was dropped.
    accepted: Timestamp,
    /// The ids of kept and of remembered events.
    ids: BTreeSet<(Hash, Position)>,
    published: Oblivion,
    /// Separate, because many come and go, and few subscribers want them.
    subscriptions: Oblivion,
}

/// What is remembered of the dropped events of some parts.
#[derive(Debug)]
struct Oblivion {
    lost: Lost,
    /// The number of remembered events in the parts.
    n_remembered: usize,
}

impl Oblivion {
    fn new(capacity: usize) -> Self {
        Self { lost: Lost::new(capacity), n_remembered: 0 }
    }
}

impl Parts {
    pub(super) fn new(retention: Retention, rules: Rules) -> Self {
        let age = Duration::try_from(retention.age).unwrap_or_default();
        let part = |it| Part::new(rules.bounds(it, age), rules.limits(it));
        Self {
            parts: (0..rules.n_parts()).map(part).collect(),
            rules,
            total: (0, 0),
            last: Position::START,
            accepted: Timestamp::MIN,
            ids: BTreeSet::new(),
            published: Oblivion::new(retention.remembered),
            subscriptions: Oblivion::new(retention.remembered),
            retention,
        }
    }

    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// The position up to which all events have been dropped.
    fn floor(&self) -> Position {
        let oldest = self.parts.iter().filter_map(|part| part.records.first()).map(|it| it.0).min();
        oldest.map_or(self.last, |it| Position(it.0 - 1))
    }

    /// Uses up a position without an event.
    pub(super) fn skip(&mut self) {
        self.last = Position(self.last.0 + 1);
    }

    /// Creates parts with the same limits and nothing in them. Everything up to `base` counts as
    /// dropped, with topics that are not known.
    pub(super) fn restarted(&self, base: Position, accepted_at: Timestamp) -> Self {
        let mut restarted = Self::new(self.retention.clone(), self.rules.clone());
        let dropped = Dropped { position: base, accepted_at };
        restarted.last = base;
        restarted.accepted = accepted_at;
        restarted.published.lost = self.published.lost.restarted(dropped);
        restarted.subscriptions.lost = self.subscriptions.lost.restarted(dropped);
        restarted
    }

    /// Uses up all positions up to `position`.
    pub(super) fn skip_to(&mut self, position: Position) {
        self.last = self.last.max(position);
    }

    /// Appends an event at the next position.
    pub(super) fn append(&mut self, update: Arc<Update>, now: Timestamp) -> Arc<Event> {
        self.append_at(Position(self.last.0 + 1), update, now)
    }

    /// Appends an event at a position after all others.
    pub(super) fn append_at(
        &mut self,
        position: Position,
        update: Arc<Update>,
        now: Timestamp,
    ) -> Arc<Event> {
        self.last = position;
        let part = self.rules.part_of(&update);
        let weight = update.weight();
        // A clock that was set back must not make `since` unordered.
        self.accepted = self.accepted.max(now);
        self.ids.insert((hash(update.id.as_str()), position));
        if self.rules.is_ordinary(part) {
            self.total = (self.total.0 + 1, self.total.1 + weight);
        }
        let appended = self.parts[part].append(position, update, weight, self.accepted);
        let (event, superfluous) = appended;
        if let Some(superfluous) = superfluous {
            self.drop_event(part, superfluous);
        }
        event
    }

    pub(super) fn trim(&mut self, now: Timestamp) {
        let now = now.as_microsecond();
        for part in 0..self.parts.len() {
            while let Some(oldest) = self.parts[part].superfluous(now) {
                self.drop_event(part, oldest);
            }
        }
        while self.retention.events < self.total.0 || self.retention.bytes < self.total.1 {
            let oldest = self.parts.iter().enumerate().filter(|it| self.rules.is_ordinary(it.0));
            let oldest = oldest.filter_map(|(part, it)| Some((it.records.first()?.0, part))).min();
            let Some((position, part)) = oldest else { break };
            self.drop_event(part, position);
        }
    }

    /// Drops the events up to `floor`.
    pub(super) fn drop_to(&mut self, floor: Position) {
        for part in 0..self.parts.len() {
            while let Some((oldest, _)) = self.parts[part].records.first()
                && oldest <= floor
            {
                self.drop_event(part, oldest);
            }
        }
    }

    fn drop_event(&mut self, part: usize, position: Position) {
        let lane = self.rules.lane(part);
        let Some((record, weight)) = self.parts[part].take(position) else { return };
        if lane == Lane::Ordinary {
            self.total = (self.total.0 - 1, self.total.1 - weight);
        }
        let id = hash(record.update.id.as_str());
        let Some(trace) = Trace::of(&record.update) else {
            self.ids.remove(&(id, position));
            return;
        };
        let is_subscription = lane == Lane::Subscriptions;
        let oblivion = if is_subscription { &mut self.subscriptions } else { &mut self.published };
        oblivion.lost.note(Dropped { position, accepted_at: record.accepted_at }, &trace);
        oblivion.n_remembered += 1;
        self.parts[part].remembered.insert(position, Remembered { id, trace });
        if oblivion.n_remembered <= self.retention.remembered {
            return;
        }
        let same = self
            .parts
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| (self.rules.lane(*at) == Lane::Subscriptions) == is_subscription);
        let remembered = same.map(|it| &mut it.1.remembered);
        let oldest = remembered.min_by_key(|it| it.first().map_or(Position(u64::MAX), |it| it.0));
        if let Some(oldest) = oldest
            && let Some(position) = oldest.first().map(|it| it.0)
            && let Some(forgotten) = oldest.remove(position)
        {
            self.ids.remove(&(forgotten.id, position));
            oblivion.n_remembered -= 1;
        }
    }

    /// The records of all parts after `after` that `interest` may cover, oldest first.
    fn records_for<'a>(&'a self, after: Position, interest: &'a Interest) -> Records<'a> {
        let filled = self.parts.iter().filter(|it| !it.records.is_empty());
        let mut lists: Vec<_> = filled.map(|it| it.records_for(after, interest)).collect();
        match lists.len() {
            1 => lists.remove(0),
            _ => Box::new(merge(lists, |it| it.0)),
        }
    }

    /// Returns the page of all parts. Missing subscription events are reported only when a
    /// subscriber starts, see [`Parts::locate`], and not when it falls behind later.
    pub(super) fn page(&self, after: Position, interest: &Interest, budget: Budget) -> Page {
        let n_dropped = self.published.lost.concerning(Begin::Behind(after), interest);
        let torn = n_dropped.map(|n_dropped| Torn { begins: self.floor(), n_dropped });
        let mut page =
            Page { events: Vec::new(), scanned_to: self.last.max(after), more: false, torn };
        let mut meter = Meter::new(interest);
        let (mut bytes, mut scanned_to) = (0, after);
        for (position, record) in self.records_for(after, interest) {
            if meter.is_spent() {
                page.more = true;
                page.scanned_to = scanned_to;
                break;
            }
            scanned_to = position;
            meter.spend(&record.update);
            if !interest.covers(&record.update, position) {
                continue;
            }
            if budget.events <= page.events.len() || budget.bytes <= bytes {
                page.more = true;
                page.scanned_to = page.events.last().map_or(after, |it| it.position);
                break;
            }
            let event = record.to_event(position);
            bytes += event.weight();
            page.events.push(event);
        }
        page
    }

    pub(super) fn locate(&self, start: &Start, interest: &Interest) -> Located {
        let n_dropped = self.published.lost.n_dropped();
        let (last, floor) = (self.last, self.floor());
        let from = |after| Located { after, missing: None, n_dropped };
        let unknown = Located { missing: Some(Missing::Unknown), ..from(floor) };
        let behind = |position: Position| Located {
            missing: self.missing(Begin::Behind(position), interest),
            ..from(floor.max(position))
        };
        match start {
            Start::Now => from(last),
            Start::Earliest => from(floor),
            Start::Unknown => unknown,
            Start::Position(position) if last < *position => unknown,
            Start::Position(position) => behind(*position),
            Start::Id(id) => self.position_of(id, interest).map_or(unknown, behind),
            Start::Since(time) => {
                // Events before that time have lower positions than those after it.
                let before = self.parts.iter().filter_map(|part| part.before(*time)).max();
                Located {
                    missing: self.missing(Begin::Since(*time), interest),
                    ..from(before.unwrap_or(floor))
                }
            }
        }
    }

    /// Whether events are missing that the subscriber may have received.
    fn missing(&self, begin: Begin, interest: &Interest) -> Option<Missing> {
        let is_torn = self.published.lost.may_concern(begin, interest)
            || self.subscriptions.lost.may_concern(begin, interest)
                && (interest.exact_topics().is_some() || self.wants_subscriptions(interest));
        is_torn.then_some(Missing::Trimmed)
    }

    /// Whether `interest` covers one of the newest subscription events.
    fn wants_subscriptions(&self, interest: &Interest) -> bool {
        let parts = self.parts.iter().enumerate();
        let mut parts = parts.filter(|it| self.rules.lane(it.0) == Lane::Subscriptions);
        parts.any(|(_, part)| {
            let newest = part.records.up_to(self.last).take(SAMPLE);
            newest.into_iter().any(|it| interest.covers(&it.1.update, it.0))
        })
    }

    /// The first kept event with this id, else the last remembered one. Events that the subscriber
    /// may not see are skipped, so that it does not learn which ids exist.
    fn position_of(&self, id: &EventId, interest: &Interest) -> Option<Position> {
        let hash = hash(id.as_str());
        let all = self.ids.range((hash, Position::START)..=(hash, Position(u64::MAX)));
        let mut remembered = None;
        for (_, position) in all.take(SAME_ID) {
            match self.record(*position) {
                Some(record) if interest.may_know(&record.update) => return Some(*position),
                Some(_) => {}
                None => {
                    let mut parts = self.parts.iter();
                    let trace = parts.find_map(|part| part.remembered.get(*position));
                    if trace.is_none_or(|it| it.trace.may_be_known(interest)) {
                        remembered = Some(*position);
                    }
                }
            }
        }
        remembered
    }

    /// Whether there is, or was, an event with this id.
    pub(super) fn knows(&self, id: &EventId) -> bool {
        let hash = hash(id.as_str());
        let mut all = self.ids.range((hash, Position::START)..=(hash, Position(u64::MAX)));
        all.next().is_some()
    }

    fn record(&self, position: Position) -> Option<&Record> {
        self.parts.iter().find_map(|part| part.records.get(position))
    }

    /// Runs the next step of a search for the newest events.
    pub(super) fn step_back(&self, mut search: Search, interest: &Interest) -> Search {
        let parts = self.parts.iter().filter(|it| !it.records.is_empty());
        let lists = parts.map(|part| part.newest_first(search.after, interest));
        let mut records = merge(lists.collect(), |it| std::cmp::Reverse(it.0)).peekable();
        let mut meter = Meter::new(interest);
        while !search.has_to_rest(&meter) {
            let Some((position, record)) = records.next() else { break };
            meter.spend(&record.update);
            search.note(position, interest.covers(&record.update, position));
        }
        if !search.is_over && records.peek().is_none() {
            let after = self.floor().min(search.after);
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
        history::rules::LaneLimits,
        matching::{Matcher, Matchers, Rights},
    };

    fn parts(events: usize, subscription_events: u64) -> Parts {
        let retention =
            Retention { bytes: usize::MAX, events, age: SignedDuration::MAX, remembered: 100 };
        let lanes = LaneLimits::beside(u64::MAX, subscription_events);
        Parts::new(retention, Rules::new(Vec::new(), lanes))
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
        let mut parts = parts(100, 3);
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
        let mut parts = parts(0, 0);
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
