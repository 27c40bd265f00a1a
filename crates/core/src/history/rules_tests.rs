//! The histories in memory and on disk against a naive model: which events rules and lanes keep,
//! what is found of them, and what is reported as missing.
//!
//! The two promise the same, but for two things. Bytes are those of the memory or those of the
//! file, so limits in bytes are compared for the memory only. The memory reports missing
//! subscription events when a subscriber starts and not when it falls behind. A commit to disk
//! drops only so many events; the batches here need no more.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use url::Url;

use super::{
    Budget, Disk, DiskOptions, Durability, History, LaneLimits, Memory, Missing, PartLimits,
    Retention, Rule, Rules, Search, Start,
};
use crate::{
    clock::Clock,
    event::{ClientKey, EventId, Lane, Position, Topic, Update},
    matching::{Interest, Matcher, MatcherKind, MatcherLimits, Matchers, Rights},
};

const OWN: &str = "/.well-known/mercure/clients/J0TM0Qx1M71zatiQ-d1cqw";

/// The first is for the lane of clients.
const TOPICS: [&str; 7] = [OWN, "plain", "counted/1", "counted/2", "short", "small", "/jobs/1"];

const AGE: i64 = 30;
const EVENTS: usize = 20;
const BYTES: usize = 6000;

#[derive(Debug, Clone)]
enum Step {
    /// Publishes one batch: for each update its topics, its lane and the length of its data.
    Publish(Vec<(Vec<usize>, Lane, usize)>),
    /// Lets seconds pass.
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = prop_oneof![
        6 => Just(Lane::Ordinary),
        1 => prop::sample::select(Lane::ALL.to_vec()),
    ];
    let update = (prop::collection::vec(1..TOPICS.len(), 1..3), lane, 0..200_usize);
    let step = prop_oneof![
        6 => prop::collection::vec(update, 1..6).prop_map(Step::Publish),
        2 => (0..8_i64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..30)
}

fn matchers(values: &[&str]) -> Matchers {
    let hub = Url::parse("https://hub.example/.well-known/mercure").expect("a valid address");
    let limits = MatcherLimits {
        matchers: 10,
        bytes: 100,
        cost: 100,
        cost_of_set: 1000,
        cost_of_all: 1_000_000,
    };
    let parse = |it: &&str| Matcher::parse(MatcherKind::Selector, it, &hub, &limits);
    Matchers::new(values.iter().map(|it| parse(it).expect("valid")))
}

fn interest(values: &[&str]) -> Arc<Interest> {
    let client = ClientKey::parse("client", "me", 99).expect("a key");
    Arc::new(Interest::new(matchers(values), Some(client), Rights::Everything))
}

/// The limits of the parts, in their order: four rules, the rest, four lanes. What is not limited
/// in bytes may have the same limits on disk.
fn limits(has_bytes: bool) -> [PartLimits; 9] {
    let none = PartLimits::default;
    let seconds = |it| Some(Duration::from_secs(it));
    [
        PartLimits { events_per_topic: Some(2), ..none() },
        PartLimits { age: seconds(10), ..none() },
        PartLimits { bytes: has_bytes.then_some(1200), ..none() },
        PartLimits { events_per_topic: Some(4), ..none() },
        none(),
        PartLimits { events: Some(3), ..none() },
        PartLimits { age: seconds(5), ..none() },
        PartLimits { events: Some(4), bytes: has_bytes.then_some(1000), ..none() },
        PartLimits { age: seconds(5), events: Some(2), ..none() },
    ]
}

fn rules(has_bytes: bool) -> Rules {
    let [counted, short, small, all, _, subscriptions, clients, state, nodes] = limits(has_bytes);
    let rule = |matcher: &str, limits| Rule {
        name: matcher.to_owned(),
        interest: Arc::new(Interest::new(matchers(&[matcher]), None, Rights::Everything)),
        limits,
    };
    let rules = vec![
        rule("counted/{x}", counted),
        rule("short", short),
        rule("small", small),
        rule("*", all),
    ];
    Rules::new(rules, LaneLimits { subscriptions, clients, state, nodes })
}

/// The naive implementation: a list, from which events are dropped.
#[derive(Debug, Default)]
struct Model {
    has_bytes: bool,
    kept: Vec<Kept>,
    dropped: Vec<Kept>,
    last: u64,
}

#[derive(Debug, Clone)]
struct Kept {
    position: u64,
    accepted: i64,
    lane: Lane,
    topics: Vec<&'static str>,
    weight: usize,
}

impl Kept {
    fn part(&self) -> usize {
        match self.lane {
            Lane::Ordinary if self.topics.iter().any(|it| it.starts_with("counted/")) => 0,
            Lane::Ordinary if self.topics.contains(&"short") => 1,
            Lane::Ordinary if self.topics.contains(&"small") => 2,
            Lane::Ordinary if self.topics.iter().any(|it| *it != "/jobs/1") => 3,
            Lane::Ordinary => 4,
            Lane::Subscriptions => 5,
            Lane::Clients => 6,
            Lane::State => 7,
            Lane::Nodes => 8,
        }
    }

    /// Whether a subscriber that asks for these topics receives it.
    fn is_for(&self, wanted: &[&str]) -> bool {
        let is_asked_for = |topic: &&str| {
            let is_free = *topic != OWN && *topic != "/jobs/1";
            wanted.contains(topic) || is_free && wanted.contains(&"*")
        };
        match self.lane {
            Lane::Nodes => false,
            Lane::Clients => wanted.contains(&OWN),
            _ => self.topics.iter().any(is_asked_for),
        }
    }
}

impl Model {
    fn append(&mut self, update: &Update, now: i64) {
        self.last += 1;
        let topic = |it: &Topic| TOPICS.into_iter().find(|topic| *topic == it.as_str());
        let newest = Kept {
            position: self.last,
            accepted: now,
            lane: update.lane,
            topics: update.topics.iter().filter_map(topic).collect(),
            weight: update.weight(),
        };
        self.kept.push(newest.clone());
        if let Some(limit) = limits(self.has_bytes)[newest.part()].events_per_topic {
            let is_same = |it: &&Kept| {
                it.part() == newest.part() && it.topics.first() == newest.topics.first()
            };
            let same: Vec<u64> = self.kept.iter().filter(is_same).map(|it| it.position).collect();
            if limit < same.len() as u64 {
                self.drop(same[0]);
            }
        }
    }

    fn drop(&mut self, position: u64) {
        let at = self.kept.iter().position(|it| it.position == position).expect("it is there");
        self.dropped.push(self.kept.remove(at));
    }

    fn trim(&mut self, now: i64) {
        for (part, limits) in limits(self.has_bytes).into_iter().enumerate() {
            let age = limits.age.map_or(AGE, |it| i64::try_from(it.as_secs()).expect("small"));
            loop {
                let own = || self.kept.iter().filter(|it| it.part() == part);
                let Some(oldest) = own().next() else { break };
                let bytes: usize = own().map(|it| it.weight).sum();
                let is_over = age < now - oldest.accepted
                    || limits.events.is_some_and(|limit| limit < own().count() as u64)
                    || limits.bytes.is_some_and(|limit| limit < bytes as u64);
                if !is_over {
                    break;
                }
                self.drop(oldest.position);
            }
        }
        loop {
            let ordinary = || self.kept.iter().filter(|it| it.lane == Lane::Ordinary);
            let bytes: usize = ordinary().map(|it| it.weight).sum();
            if ordinary().count() <= EVENTS && (!self.has_bytes || bytes <= BYTES) {
                break;
            }
            let oldest = ordinary().next().expect("there are some").position;
            self.drop(oldest);
        }
    }

    fn floor(&self) -> u64 {
        self.kept.first().map_or(self.last, |it| it.position - 1)
    }
}

fn answer<T>(answer: super::Answer<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(answer).expect("readable")
}

fn check(history: &dyn History, model: &Model, wanted: &[&str], after: u64, events: usize) {
    let place = if history.outlives_process() { "on disk" } else { "in memory" };
    let interest = interest(wanted);
    let budget = Budget { events, bytes: usize::MAX };
    let (mut cursor, mut found) = (Position(after), Vec::new());
    loop {
        let page = answer(history.read_after(cursor, &interest, budget));
        assert!(page.events.len() <= events);
        found.extend(page.events.iter().map(|it| it.position.0));
        cursor = page.scanned_to;
        if !page.more {
            break;
        }
    }
    let kept = model.kept.iter().filter(|it| after < it.position && it.is_for(wanted));
    let expected: Vec<u64> = kept.map(|it| it.position).collect();
    assert_eq!(found, expected, "{wanted:?} after {after} {place}");
    let earliest = answer(history.locate(Start::Earliest, &interest));
    assert_eq!((earliest.after.0, earliest.missing), (model.floor(), None), "{place}");
    let mut search = Search::new(events, history.last(), usize::MAX);
    while !search.is_over {
        search = answer(history.step_back(search, &interest));
    }
    let newest = model.kept.iter().filter(|it| it.is_for(wanted)).rev().nth(events - 1);
    assert_eq!(search.after.0, newest.map_or(model.floor(), |it| it.position - 1));
    if wanted.contains(&"*") {
        // Dropped topics can no longer be matched, so more may be reported than is missing.
        return;
    }
    let at = answer(history.locate(Start::Position(Position(after)), &interest));
    let is_missing = model.dropped.iter().any(|it| after < it.position && it.is_for(wanted));
    assert_eq!(
        (at.after.0, at.missing),
        (after.max(model.floor()), is_missing.then_some(Missing::Trimmed)),
        "{wanted:?} after {after} {place}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_disk_keep_what_rules_and_lanes_say(
        steps in steps(), has_bytes in any::<bool>(), after in any::<prop::sample::Index>(), events in 1..8_usize,
    ) {
        let now = Arc::new(Mutex::new(1_000_000_i64));
        let clock = {
            let now = now.clone();
            Clock::from_fn(move || Timestamp::from_second(*now.lock().expect("no panic")).expect("a time"))
        };
        let retention = Retention {
            bytes: if has_bytes { BYTES } else { usize::MAX },
            events: EVENTS,
            age: SignedDuration::from_secs(AGE),
            remembered: 10_000,
        };
        let mut histories: Vec<Box<dyn History>> =
            vec![Box::new(Memory::with_rules(retention, rules(has_bytes), clock.clone()))];
        let directory = tempfile::tempdir().expect("a temporary directory");
        if !has_bytes {
            let options = DiskOptions {
                durability: Durability::Interval(Duration::from_secs(3600)),
                age: Duration::from_secs(AGE.unsigned_abs()),
                bytes: u64::MAX,
                events: EVENTS as u64,
                rules: rules(has_bytes),
                ..super::disk::tests::options(directory.path())
            };
            histories.push(Box::new(Disk::open(options, clock).expect("a store")));
        }
        for history in &histories {
            history.follow(Box::new(|_| {})).expect("a thread");
        }
        let mut model = Model { has_bytes, ..Model::default() };
        for step in steps {
            let updates = match step {
                Step::Wait(seconds) => {
                    *now.lock().expect("no panic") += seconds;
                    continue;
                }
                Step::Publish(updates) => updates,
            };
            let time = *now.lock().expect("no panic");
            for history in &histories {
                let batch = updates.iter().map(|(topics, lane, length)| update(topics, *lane, *length));
                answer(history.submit(batch.collect::<Vec<_>>().into()));
            }
            for (topics, lane, length) in &updates {
                model.append(&update(topics, *lane, *length), time);
            }
            model.trim(time);
            let after = after.index(usize::try_from(model.last).expect("few") + 1) as u64;
            for history in &histories {
                prop_assert_eq!(history.last().0, model.last);
                for wanted in [&TOPICS[..], &["*", OWN], &["plain"], &[OWN], &["counted/1", "/jobs/1"]] {
                    check(&**history, &model, wanted, after, events);
                }
            }
        }
    }
}

fn update(topics: &[usize], lane: Lane, length: usize) -> Update {
    let topics = match lane {
        Lane::Clients => &[0],
        // Events of jobs have no other topics.
        _ if topics.contains(&6) => &[6],
        _ => topics,
    };
    Update {
        topics: topics.iter().map(|it| Topic::kept(TOPICS[*it])).collect(),
        data: "x".repeat(length).into(),
        // Ids of one length, so that all weigh the same.
        id: EventId::random(),
        kind: None,
        retry: None,
        private: false,
        except: Box::new([]),
        lane,
        from: None,
    }
}
