//! A bounded memory of dropped events, so that only subscribers that may have missed one are
//! notified.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use super::{hash::hash, reach::Reach};
use crate::{
    event::{Position, Topic, Update},
    matching::{Interest, JoinedTopic, Rights},
};

/// The hash of a topic, which bounds the size of an entry. A collision only causes a superfluous
/// notice.
pub(super) type TopicHash = u64;

/// Returns the first bytes of the hash under which a store on disk finds the topic.
pub(super) fn topic_hash(topic: &Topic) -> TopicHash {
    let hash = hash(topic.as_str());
    let mut short = [0; size_of::<TopicHash>()];
    short.copy_from_slice(&hash[..size_of::<TopicHash>()]);
    TopicHash::from_be_bytes(short)
}

/// What is remembered of a dropped event's topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) reach: Reach,
    pub(super) topics: Box<[TopicHash]>,
}

impl Trace {
    /// The trace of an update; `None` if no subscriber can miss it.
    pub(super) fn of(update: &Update) -> Option<Self> {
        let topics = || update.topics.iter().map(topic_hash).collect();
        Reach::of(update).map(|reach| Self { reach, topics: topics() })
    }

    /// Whether a subscriber may learn that such an event existed. With patterns among its grants it
    /// may: only hashes are left, so patterns can no longer be tested.
    pub(super) fn may_be_known(&self, interest: &Interest) -> bool {
        let is_one_of_these = |topic: &Topic| self.topics.contains(&topic_hash(topic));
        match self.reach {
            Reach::Open | Reach::Job => true,
            Reach::Private | Reach::Shared => {
                interest.joined().iter().any(|it| is_one_of_these(&it.topic))
                    || match Grants::of(interest.rights()) {
                        Grants::Of(topics) => topics.iter().any(is_one_of_these),
                        Grants::Unclear => true,
                    }
            }
            Reach::Client => {
                let named = interest.matchers().topics().iter();
                named.filter(|it| is_one_of_these(it)).any(|it| interest.owns(it))
            }
        }
    }
}

/// The topics of private events that a subscriber may see.
enum Grants<'a> {
    /// Exactly these.
    Of(&'a [Topic]),
    /// All topics, or those that a pattern covers.
    Unclear,
}

impl<'a> Grants<'a> {
    fn of(rights: &'a Rights) -> Self {
        match rights {
            Rights::PublicOnly => Self::Of(&[]),
            Rights::Everything => Self::Unclear,
            Rights::Of(grants) if grants.is_everything() || !grants.patterns().is_empty() => {
                Self::Unclear
            }
            Rights::Of(grants) => Self::Of(grants.topics()),
        }
    }
}

/// The last dropped event of each topic, for a bounded number of topics.
#[derive(Debug)]
pub(super) struct Lost {
    capacity: usize,
    last: Dropped,
    /// The newest dropped event of each reach.
    newest: [Newest; Reach::COUNT],
    /// For each reach, the newest event whose topics are no longer known. Up to it, any topic may
    /// have lost an event.
    forgotten: [Dropped; Reach::COUNT],
    /// The number of dropped events.
    n_dropped: u64,
    by_topic: HashMap<(Reach, TopicHash), Newest, RandomState>,
    by_position: BTreeMap<Position, Vec<(Reach, TopicHash)>>,
}

/// A dropped event: its position and its time of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dropped {
    pub(super) position: Position,
    pub(super) accepted_at: Timestamp,
}

/// The newest dropped event of a topic, and the number of dropped events when it was noted.
#[derive(Debug, Clone, Copy)]
struct Newest {
    dropped: Dropped,
    count: u64,
}

/// The place where a subscriber wants to begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// After a position.
    Behind(Position),
    /// With the events accepted at this time or later.
    Since(Timestamp),
}

impl Begin {
    fn precedes(self, dropped: Dropped) -> bool {
        match self {
            Self::Behind(position) => position < dropped.position,
            Self::Since(time) => time <= dropped.accepted_at,
        }
    }
}

impl Lost {
    pub(super) fn new(capacity: usize) -> Self {
        let nothing = Dropped { position: Position::START, accepted_at: Timestamp::MIN };
        Self {
            capacity,
            last: nothing,
            newest: [Newest { dropped: nothing, count: 0 }; Reach::COUNT],
            forgotten: [nothing; Reach::COUNT],
            n_dropped: 0,
            by_topic: HashMap::default(),
            by_position: BTreeMap::new(),
        }
    }

    /// Creates a memory in which everything up to `dropped` is gone. Its count goes on, so that
    /// subscribers that know of earlier gaps learn of this one.
    pub(super) fn restarted(&self, dropped: Dropped) -> Self {
        let count = self.n_dropped + 1;
        let (newest, forgotten) =
            ([Newest { dropped, count }; Reach::COUNT], [dropped; Reach::COUNT]);
        Self { last: dropped, newest, forgotten, n_dropped: count, ..Self::new(self.capacity) }
    }

    /// A number that grows with each dropped event.
    pub(super) fn n_dropped(&self) -> u64 {
        self.n_dropped
    }

    /// Notes a dropped event.
    pub(super) fn note(&mut self, dropped: Dropped, trace: &Trace) {
        self.last = self.last.max(dropped);
        self.n_dropped += 1;
        let count = self.n_dropped;
        let newest = &mut self.newest[trace.reach as usize];
        *newest = Newest { dropped: newest.dropped.max(dropped), count };
        for topic in &trace.topics {
            let topic = (trace.reach, *topic);
            let before = self.by_topic.get(&topic).map(|it| it.dropped);
            let newest = before.map_or(dropped, |before| before.max(dropped));
            self.by_topic.insert(topic, Newest { dropped: newest, count });
            if before != Some(newest) {
                if let Some(before) = before {
                    self.unlink(before.position, topic);
                }
                self.by_position.entry(newest.position).or_default().push(topic);
            }
        }
        while self.capacity < self.by_topic.len() {
            let Some((_, topics)) = self.by_position.pop_first() else { break };
            for topic in topics {
                if let Some(newest) = self.by_topic.remove(&topic) {
                    self.forget(newest.dropped, &[topic.0]);
                }
            }
        }
    }

    /// Notes that events up to this one were dropped. Only their possible reaches are known.
    pub(super) fn forget(&mut self, dropped: Dropped, reaches: &[Reach]) {
        self.last = self.last.max(dropped);
        self.n_dropped = self.n_dropped.max(1);
        for reach in reaches {
            let forgotten = &mut self.forgotten[*reach as usize];
            *forgotten = (*forgotten).max(dropped);
            let newest = &mut self.newest[*reach as usize];
            let count = newest.count.max(1);
            *newest = Newest { dropped: newest.dropped.max(dropped), count };
        }
    }

    fn unlink(&mut self, position: Position, topic: (Reach, TopicHash)) {
        if let Some(topics) = self.by_position.get_mut(&position) {
            topics.retain(|it| *it != topic);
            if topics.is_empty() {
                self.by_position.remove(&position);
            }
        }
    }

    /// Looks for dropped events from `begin` on that `interest` may cover. Returns how many events
    /// had been dropped in total when the last of them was, or `None`.
    pub(super) fn concerning(&self, begin: Begin, interest: &Interest) -> Option<u64> {
        if !begin.precedes(self.last) {
            return None;
        }
        let grants = Grants::of(interest.rights());
        let for_all = match interest.asked_exact_topics() {
            None => self.concerning_search(begin, interest, &grants),
            Some(topics) => topics
                .iter()
                .filter_map(|topic| self.concerning_topic(begin, topic, interest.rights(), &grants))
                .max(),
        };
        let owned = interest.matchers().topics().iter().filter(|it| interest.owns(it));
        let for_client = owned.filter_map(|topic| {
            self.concerning_any(begin, Reach::Client, std::slice::from_ref(topic))
        });
        let joined = interest.joined().iter();
        let for_joined = joined.filter_map(|it| self.concerning_joined(begin, it));
        for_client.chain(for_all).chain(for_joined).max()
    }

    /// The part of [`concerning`](Self::concerning) for a topic that was joined: events of any
    /// reach, after the join.
    fn concerning_joined(&self, begin: Begin, joined: &JoinedTopic) -> Option<u64> {
        let topic = std::slice::from_ref(&joined.topic);
        let begin = match begin {
            Begin::Behind(position) => Begin::Behind(position.max(joined.since)),
            Begin::Since(_) => Begin::Behind(joined.since),
        };
        let reaches = [Reach::Open, Reach::Job, Reach::Private, Reach::Shared];
        reaches.into_iter().filter_map(|it| self.concerning_any(begin, it, topic)).max()
    }

    /// The part of [`concerning`](Self::concerning) for subscribers that ask for more than exact
    /// topics. Dropped topics can no longer be matched against patterns, but events without a grant
    /// are excluded.
    fn concerning_search(
        &self,
        begin: Begin,
        interest: &Interest,
        grants: &Grants<'_>,
    ) -> Option<u64> {
        let newest = |reach: Reach| {
            Some(self.newest[reach as usize])
                .filter(|it| begin.precedes(it.dropped))
                .map(|it| it.count)
        };
        // Jobs are reached by name. Patterns match them only with a grant, which development mode
        // lacks.
        let named: Vec<Topic> =
            interest.asked().topics().iter().filter(|it| it.is_job()).cloned().collect();
        let named = self.concerning_any(begin, Reach::Job, &named);
        let job = match (interest.rights(), grants) {
            (Rights::PublicOnly | Rights::Everything, _) => None,
            (_, Grants::Unclear) => newest(Reach::Job),
            (_, Grants::Of(topics)) => self.concerning_any(begin, Reach::Job, topics),
        };
        let private =
            [Reach::Private, Reach::Shared].into_iter().filter_map(|reach| match grants {
                Grants::Unclear => newest(reach),
                Grants::Of(topics) => self.concerning_any(begin, reach, topics),
            });
        private.chain(job).chain(named).chain(newest(Reach::Open)).max()
    }

    fn concerning_topic(
        &self,
        begin: Begin,
        topic: &Topic,
        rights: &Rights,
        grants: &Grants<'_>,
    ) -> Option<u64> {
        let open = if topic.is_job() { Reach::Job } else { Reach::Open };
        let one = std::slice::from_ref(topic);
        let is_covered = rights.cover(topic);
        let private = is_covered.then(|| self.concerning_any(begin, Reach::Private, one)).flatten();
        // Another topic of the same event may have been the granted one.
        let may_be_shared = is_covered
            || match grants {
                Grants::Unclear => true,
                Grants::Of(topics) => self.concerning_any(begin, Reach::Shared, topics).is_some(),
            };
        let shared =
            may_be_shared.then(|| self.concerning_any(begin, Reach::Shared, one)).flatten();
        self.concerning_any(begin, open, one).max(private).max(shared)
    }

    /// Looks for dropped events of one reach under any of these topics.
    fn concerning_any(&self, begin: Begin, reach: Reach, topics: &[Topic]) -> Option<u64> {
        if !topics.is_empty() && begin.precedes(self.forgotten[reach as usize]) {
            return Some(self.newest[reach as usize].count);
        }
        let newest = topics.iter().filter_map(|it| self.by_topic.get(&(reach, topic_hash(it))));
        newest.filter(|it| begin.precedes(it.dropped)).map(|it| it.count).max()
    }

    /// Whether an event that `interest` covers may have been dropped from `begin` on.
    pub(super) fn may_concern(&self, begin: Begin, interest: &Interest) -> bool {
        self.concerning(begin, interest).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::{
        event::{ClientKey, EventId, Lane},
        matching::{MatcherKind, MatcherLimits, Matchers},
    };

    const TOPICS: [&str; 4] = ["a", "b", "c", "/jobs/1"];

    fn matchers(values: &[&str]) -> Matchers {
        let hub = Url::parse("https://hub.example/.well-known/mercure").expect("a valid address");
        let limits = MatcherLimits {
            matchers: 10,
            bytes: 100,
            cost: 100,
            cost_of_set: 1000,
            cost_of_all: 1_000_000,
        };
        let values = values.iter().map(|it| match it.contains('{') {
            true => (MatcherKind::UriTemplate, *it),
            false => (MatcherKind::Exact, *it),
        });
        Matchers::parse(values.collect::<Vec<_>>().into_iter(), &hub, &limits).expect("valid")
    }

    fn update(topics: &[usize], private: bool) -> Update {
        let is_of_job = topics.contains(&3);
        let topics = if is_of_job { &[3] } else { topics };
        Update {
            topics: topics.iter().map(|it| Topic::kept(TOPICS[*it])).collect(),
            data: "".into(),
            id: EventId::random(),
            kind: None,
            retry: None,
            private: private && !is_of_job,
            except: Box::default(),
            lane: Lane::Ordinary,
            from: None,
        }
    }

    /// A client and the topic that belongs to it.
    fn client() -> (ClientKey, &'static str) {
        let key = ClientKey::parse("client", "me", 99).expect("a key");
        (key, "/.well-known/mercure/clients/J0TM0Qx1M71zatiQ-d1cqw")
    }

    fn some_of(choice: &[&'static str]) -> impl Strategy<Value = Vec<&'static str>> + use<> {
        prop::sample::subsequence(choice.to_vec(), 0..=choice.len())
    }

    fn rights() -> impl Strategy<Value = Rights> {
        prop_oneof![
            Just(Rights::PublicOnly),
            Just(Rights::Everything),
            some_of(&["a", "b", "c", "/jobs/1"]).prop_map(|it| Rights::Of(matchers(&it))),
            some_of(&["a", "{x}", "*"]).prop_map(|it| Rights::Of(matchers(&it))),
        ]
    }

    fn dropped_events() -> impl Strategy<Value = Vec<Update>> {
        let topics = prop::sample::subsequence(vec![0, 1, 2, 3], 1..3);
        prop::collection::vec(
            (topics, any::<bool>()).prop_map(|(it, private)| update(&it, private)),
            0..12,
        )
    }

    fn dropped(at: usize) -> Dropped {
        Dropped { position: Position(at as u64 + 1), accepted_at: Timestamp::UNIX_EPOCH }
    }

    proptest! {
        #[test]
        fn no_gap_is_missed_and_what_may_not_be_seen_makes_none(
            events in dropped_events(), asked in some_of(&["a", "b", "c", "/jobs/1", "*", "{x}"]),
            rights in rights(), capacity in 0..8_usize, after in 0..12_u64,
        ) {
            let interest = Interest::new(matchers(&asked), None, rights.clone());
            let (mut lost, mut all) = (Lost::new(capacity), Lost::new(100));
            for (at, update) in events.iter().enumerate() {
                let Some(trace) = Trace::of(update) else { continue };
                lost.note(dropped(at), &trace);
                all.note(dropped(at), &trace);
            }
            let begin = Begin::Behind(Position(after));
            let behind = || events.iter().skip(usize::try_from(after).expect("few"));
            if behind().any(|it| interest.covers(it, Position(1))) {
                prop_assert!(lost.may_concern(begin, &interest));
                prop_assert!(all.may_concern(begin, &interest));
            }
            // Events hidden from the subscriber make no difference.
            let mut visible = Lost::new(100);
            for (at, update) in events.iter().enumerate() {
                if let Some(trace) = Trace::of(update).filter(|_| interest.may_know(update)) {
                    visible.note(dropped(at), &trace);
                }
            }
            if matches!(rights, Rights::PublicOnly) {
                prop_assert_eq!(
                    all.may_concern(begin, &interest), visible.may_concern(begin, &interest)
                );
                let covered_or_searched = interest.exact_topics().is_none()
                    || behind().any(|it| interest.covers(it, Position(1)));
                prop_assert!(covered_or_searched || !all.may_concern(begin, &interest));
            }
        }
    }

    #[test]
    fn what_one_client_or_no_subscriber_may_see_is_no_gap_for_others() {
        let (key, own) = client();
        let of_lane =
            |lane| Update { topics: [Topic::kept(own)].into(), lane, ..update(&[], false) };
        let is_told = |lost: &Lost, asked: &[&str], key: Option<ClientKey>| {
            let interest = Interest::new(matchers(asked), key, Rights::Everything);
            lost.may_concern(Begin::Behind(Position::START), &interest)
        };
        assert!(Trace::of(&of_lane(Lane::Nodes)).is_none());
        for capacity in [0, 100] {
            let mut lost = Lost::new(capacity);
            let trace = Trace::of(&of_lane(Lane::Clients)).expect("its client may miss it");
            lost.note(dropped(0), &trace);
            assert!(is_told(&lost, &[own], Some(key)) && is_told(&lost, &["{x}", own], Some(key)));
            assert!(!is_told(&lost, &[own], None) && !is_told(&lost, &[own, "*"], None));
            assert!(!is_told(&lost, &["*"], Some(key)), "it is not asked for by name");
            assert!(!is_told(&lost, &[own], Some(ClientKey::kept([7; 16]))));
            let knows = |asked: &[&str], key| {
                trace.may_be_known(&Interest::new(matchers(asked), key, Rights::Everything))
            };
            assert!(knows(&[own], Some(key)) && !knows(&["*"], Some(key)) && !knows(&[own], None));
        }
    }

    #[test]
    fn private_events_under_another_topic_are_no_gap_for_exact_grants() {
        let mut lost = Lost::new(100);
        lost.note(dropped(0), &Trace::of(&update(&[0], true)).expect("it has one"));
        let concerns = |lost: &Lost, asked: &[&str], granted: &[&str]| {
            let rights = Rights::Of(matchers(granted));
            let interest = Interest::new(matchers(asked), None, rights);
            lost.may_concern(Begin::Behind(Position::START), &interest)
        };
        assert!(concerns(&lost, &["a"], &["a"]) && concerns(&lost, &["*"], &["a"]));
        assert!(!concerns(&lost, &["a"], &["b"]) && !concerns(&lost, &["*"], &["b"]));
        assert!(!concerns(&lost, &["a"], &["{x}y"]), "it had no other topic");
        lost.note(dropped(1), &Trace::of(&update(&[0, 1], true)).expect("it has one"));
        assert!(concerns(&lost, &["a"], &["b"]), "the other topic is granted");
        assert!(!concerns(&lost, &["a"], &["c"]));
    }
}
