//! Tests of the store against a naive model: what is kept, what is found, and where subscribers
//! begin, across restarts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;

use super::{tables::BUCKET, *};
use crate::{
    event::{Event, EventId, Lane, Topic, Update},
    history::{
        Expect, KeyedReply, LaneLimits, Missing, PartLimits, ReplyLimits, Rule, Rules, Write,
    },
    matching::{Matcher, Matchers, Rights},
};

const TOPICS: [&str; 4] = ["plain", "counted", "short", "small"];

#[derive(Debug, Clone)]
enum Step {
    /// Publishes one batch: for each update its topics, its id and the length of its data.
    Publish(Vec<(Vec<usize>, usize, usize)>),
    /// Lets seconds pass.
    Wait(i64),
    /// Closes the store and opens it again, or drops it as a crash would.
    Reopen(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let update = (prop::collection::vec(0..TOPICS.len(), 1..3), 0..30_usize, 0..200_usize);
    let step = prop_oneof![
        6 => prop::collection::vec(update, 1..6).prop_map(Step::Publish),
        2 => (0..8_i64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

/// Commits a batch at once. Returns its events.
pub(super) fn commit(disk: &Disk, batch: Batch) -> Result<Vec<Arc<Event>>, HistoryError> {
    Ok(disk.core.commit(std::iter::once(batch))?.events)
}

pub(super) fn interest(topics: &[&str]) -> Arc<Interest> {
    let matcher = |topic: &&str| Matcher::exact(topic, 99).expect("a topic");
    Arc::new(Interest::new(Matchers::new(topics.iter().map(matcher)), None, Rights::Everything))
}

fn rule(topic: &str, limits: PartLimits) -> Rule {
    Rule { name: topic.to_owned(), interest: interest(&[topic]), limits }
}

fn rules(rules: Vec<Rule>) -> Rules {
    Rules::new(rules, LaneLimits::default())
}

pub(in crate::history) fn options(path: &std::path::Path) -> DiskOptions {
    DiskOptions {
        path: path.to_owned(),
        durability: Durability::Sync,
        slow_commit: Duration::MAX,
        cache_bytes: 1 << 20,
        readers: 1,
        patience: Duration::ZERO,
        age: Duration::from_secs(30),
        bytes: 6000,
        events: 20,
        rules: rules(vec![
            rule("counted", PartLimits { events_per_topic: Some(3), ..PartLimits::default() }),
            rule(
                "short",
                PartLimits { age: Some(Duration::from_secs(10)), ..PartLimits::default() },
            ),
            rule("small", PartLimits { bytes: Some(1200), ..PartLimits::default() }),
        ]),
        remembered: 10_000,
        replies: ReplyLimits { age: Duration::from_secs(60), count: 3, bytes: 10_000 },
    }
}

pub(in crate::history) fn update(topics: &[usize], id: usize, length: usize) -> Update {
    let topics = topics.iter().map(|it| Topic::kept(TOPICS[*it])).collect();
    let of_hub = Update::of_hub(Lane::Ordinary, topics, "", "x".repeat(length));
    Update { id: EventId::kept(&format!("id-{id}")), kind: None, ..of_hub }
}

/// The naive implementation: a list, from which events are dropped.
#[derive(Debug, Default)]
struct Model {
    kept: Vec<Kept>,
    dropped: Vec<Kept>,
    last: u64,
}

#[derive(Debug, Clone)]
struct Kept {
    position: u64,
    accepted: i64,
    topics: Vec<&'static str>,
    id: String,
    weight: u64,
}

impl Kept {
    fn rule(&self) -> &'static str {
        let named = ["counted", "short", "small"];
        named.into_iter().find(|it| self.topics.contains(it)).unwrap_or("plain")
    }

    fn has(&self, wanted: &[&str]) -> bool {
        wanted.contains(&"*") || self.topics.iter().any(|it| wanted.contains(it))
    }
}

impl Model {
    fn append(&mut self, update: &Update, now: i64) {
        self.last += 1;
        let topic = |it: &Topic| TOPICS.into_iter().find(|topic| *topic == it.as_str());
        self.kept.push(Kept {
            position: self.last,
            accepted: now,
            topics: update.topics.iter().filter_map(topic).collect(),
            id: update.id.as_str().to_owned(),
            weight: write::weight(update) as u64,
        });
        let newest = self.kept.last().expect("it was pushed");
        let first = newest.topics[0];
        if newest.rule() == "counted" {
            let same = |it: &&Kept| it.rule() == "counted" && it.topics[0] == first;
            if 3 < self.kept.iter().filter(same).count() {
                let oldest = self.kept.iter().find(same).expect("there are four").position;
                self.drop(oldest);
            }
        }
    }

    fn drop(&mut self, position: u64) {
        let at = self.kept.iter().position(|it| it.position == position).expect("it is there");
        self.dropped.push(self.kept.remove(at));
    }

    fn trim(&mut self, now: i64) {
        for (rule, age, bytes) in [
            ("counted", 30, u64::MAX),
            ("short", 10, u64::MAX),
            ("small", 30, 1200),
            ("plain", 30, u64::MAX),
        ] {
            while let Some(oldest) = self.kept.iter().find(|it| it.rule() == rule) {
                let weight: u64 =
                    self.kept.iter().filter(|it| it.rule() == rule).map(|it| it.weight).sum();
                if now - oldest.accepted <= age && weight <= bytes {
                    break;
                }
                self.drop(oldest.position);
            }
        }
        while 20 < self.kept.len() || 6000 < self.kept.iter().map(|it| it.weight).sum::<u64>() {
            self.drop(self.kept[0].position);
        }
    }

    fn floor(&self) -> u64 {
        self.kept.first().map_or(self.last, |it| it.position - 1)
    }

    fn misses(&self, after: u64, wanted: &[&str]) -> bool {
        self.dropped
            .iter()
            .any(|it| after < it.position && (wanted.contains(&"*") || it.has(wanted)))
    }
}

fn answer<T>(answer: Answer<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(answer).expect("readable")
}

fn check(disk: &Disk, model: &Model, wanted: &[&str], after: u64, events: usize) {
    let interest = interest(wanted);
    let budget = Budget { events, bytes: usize::MAX };
    let page = answer(disk.read_after(Position(after), &interest, budget));
    let expected: Vec<u64> = model
        .kept
        .iter()
        .filter(|it| after < it.position && it.has(wanted))
        .map(|it| it.position)
        .collect();
    let found: Vec<u64> = page.events.iter().map(|it| it.position.0).collect();
    assert_eq!(found, expected[..expected.len().min(events)], "{wanted:?} behind {after}");
    match expected.get(events) {
        Some(next) => assert!(page.scanned_to.0 < *next),
        None => assert!(expected.last().is_none_or(|it| *it <= page.scanned_to.0)),
    }
    assert_eq!(page.torn.is_some(), model.misses(after, wanted), "{wanted:?} behind {after}");
    let newest = newest(disk, events, &interest).0;
    let first = model.kept.iter().filter(|it| it.has(wanted)).rev().nth(events - 1);
    assert_eq!(newest, first.map_or(model.floor(), |it| it.position - 1));
    let earliest = answer(disk.locate(Start::Earliest, &interest));
    assert_eq!((earliest.after.0, earliest.missing), (model.floor(), None));
    let at = answer(disk.locate(Start::Position(Position(after)), &interest));
    let missing = model.misses(after, wanted).then_some(Missing::Trimmed);
    assert_eq!((at.after.0, at.missing), (after.max(model.floor()), missing));
}

/// The position that a search for the newest events arrives at.
fn newest(disk: &Disk, count: usize, interest: &Arc<Interest>) -> Position {
    let mut search = Search::new(count, disk.last(), usize::MAX);
    while !search.is_over {
        search = answer(disk.step_back(search, interest));
    }
    search.after
}

fn check_ids(disk: &Disk, model: &Model) {
    let everything = interest(&["*"]);
    let mut first = BTreeMap::new();
    for it in model.kept.iter().rev() {
        first.insert(it.id.clone(), it.position);
    }
    for it in model.dropped.iter().rev() {
        first.entry(it.id.clone()).or_insert(it.position);
    }
    for id in (0..30).map(|it| format!("id-{it}")) {
        let located = answer(disk.locate(Start::Id(EventId::kept(&id)), &everything));
        match first.get(&id) {
            None => assert_eq!(located.missing, Some(Missing::Unknown)),
            Some(_) if model.kept.iter().any(|it| it.id == id) => {
                assert_eq!(located.after.0, first[&id].max(model.floor()));
            }
            Some(_) => assert_ne!(located.missing, Some(Missing::Unknown)),
        }
    }
}

fn check_times(disk: &Disk, model: &Model, now: i64) {
    let everything = interest(&["*"]);
    for seconds in now - 3..=now {
        let start = Start::Since(Timestamp::from_second(seconds).expect("a time"));
        let located = answer(disk.locate(start, &everything));
        let found = model.kept.iter().find(|it| located.after.0 < it.position);
        let expected = model.kept.iter().find(|it| seconds <= it.accepted);
        assert_eq!(found.map(|it| it.position), expected.map(|it| it.position));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_and_found_is_what_the_model_keeps_and_finds(
        steps in steps(), after in any::<prop::sample::Index>(), events in 1..8_usize,
    ) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let now = Arc::new(Mutex::new(1_000_000_i64));
        let clock = {
            let now = now.clone();
            Clock::from_fn(move || Timestamp::from_second(*now.lock().expect("no panic")).expect("a time"))
        };
        let mut disk = Disk::open(options(directory.path()), clock.clone()).expect("a store");
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Publish(updates) => {
                    let batch: Vec<Update> = updates.iter().map(|(topics, id, length)| update(topics, *id, *length)).collect();
                    let time = *now.lock().expect("no panic");
                    for it in &batch {
                        model.append(it, time);
                    }
                    model.trim(time);
                    let committed = commit(&disk, batch.into()).expect("stored");
                    prop_assert_eq!(committed.last().map(|it| it.position.0), Some(model.last));
                }
                Step::Wait(seconds) => {
                    *now.lock().expect("no panic") += seconds;
                    commit(&disk, Batch::default()).expect("stored");
                    model.trim(*now.lock().expect("no panic"));
                }
                Step::Reopen(in_order) => {
                    if in_order {
                        disk.close();
                    }
                    drop(disk);
                    disk = Disk::open(options(directory.path()), clock.clone()).expect("a store");
                }
            }
            let behind = after.index(usize::try_from(model.last).expect("few") + 1) as u64;
            for wanted in [&["*"][..], &["plain"], &["counted"], &["short", "small"], &["plain", "small", "none"]] {
                check(&disk, &model, wanted, behind, events);
            }
            check_ids(&disk, &model);
            check_times(&disk, &model, *now.lock().expect("no panic"));
        }
    }
}

#[test]
fn records_and_replies_are_there_after_a_restart_and_go_when_they_should() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::open(options(directory.path()), Clock::system()).expect("a store");
    let write = |key: u8, value: Option<&str>| Write {
        record: Record {
            shelf: Shelf::Jobs,
            key: [key].into(),
            value: value.map(|it| it.as_bytes().into()),
        },
        expect: Expect::Any,
    };
    let reply = |at: usize| KeyedReply { key: format!("key {at}"), value: [7].into() };
    let records = vec![write(1, Some("a")), write(2, Some("b"))];
    let replies = (0..5).map(reply).collect();
    commit(&disk, Batch { records, replies, ..Batch::default() }).expect("stored");
    let records = vec![write(1, None), write(3, Some("c"))];
    commit(&disk, Batch { records, ..Batch::default() }).expect("stored");
    drop(disk);
    let disk = Disk::open(options(directory.path()), Clock::system()).expect("a store");
    let found = disk.records(Shelf::Jobs).expect("readable");
    let revised = |revision, it: Write| Revised { revision: Position(revision), record: it.record };
    assert_eq!(found, [revised(1, write(2, Some("b"))), revised(2, write(3, Some("c")))]);
    let kept: Vec<bool> =
        (0..5).map(|at| answer(disk.reply(&format!("key {at}"))).is_some()).collect();
    assert_eq!(kept, [false, false, true, true, true], "the newest three");
}

#[test]
fn other_rules_sort_what_is_there_anew() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::open(options(directory.path()), Clock::system()).expect("a store");
    let batch: Vec<Update> = (0..10).map(|at| update(&[0], at, 1)).collect();
    commit(&disk, batch.into()).expect("stored");
    drop(disk);
    let limits = PartLimits { events_per_topic: Some(2), ..PartLimits::default() };
    let changed =
        DiskOptions { rules: rules(vec![rule("plain", limits)]), ..options(directory.path()) };
    let disk = Disk::open(changed, Clock::system()).expect("a store");
    let budget = Budget { events: 100, bytes: usize::MAX };
    let page = answer(disk.read_after(Position::START, &interest(&["plain"]), budget));
    assert_eq!(page.events.len(), 2);
    assert!(page.torn.is_some());
}

#[test]
fn a_store_that_is_in_use_or_damaged_or_newer_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open = || Disk::open(options(directory.path()), Clock::system());
    let disk = open().expect("a store");
    let message = |opened: Result<Disk, DiskError>| opened.expect_err("refused").to_string();
    assert!(message(open()).contains("in use by another process"));
    disk.core
        .reading
        .with(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(NUMBERS)?.insert(number::FORMAT, 99)?;
            Ok(transaction.commit()?)
        })
        .expect("written");
    drop(disk);
    assert!(message(open()).contains("format 99"));
    let file = open::file(directory.path());
    std::fs::write(&file, "this is no store").expect("written");
    let said = message(open());
    assert!(said.contains("tidegate.redb") && said.contains("tidegate store verify"), "{said}");
}

#[test]
fn what_was_lost_between_two_syncs_is_told_and_its_places_are_not_used_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let seldom = || DiskOptions {
        durability: Durability::Interval(Duration::from_secs(3600)),
        ..options(directory.path())
    };
    let disk = Disk::open(seldom(), Clock::system()).expect("a store");
    commit(&disk, vec![update(&[0], 1, 1)].into()).expect("stored");
    let seen = disk.last();
    // An orderly close would sync.
    let copy = tempfile::tempdir().expect("a temporary directory");
    std::fs::copy(open::file(directory.path()), open::file(copy.path())).expect("copied");
    let crashed = DiskOptions { path: copy.path().to_owned(), ..seldom() };
    let after = Disk::open(crashed, Clock::system()).expect("a store");
    assert!(seen < after.last());
    let located = answer(after.locate(Start::Position(seen), &interest(&["plain"])));
    assert_eq!(located.missing, Some(Missing::Trimmed));
    disk.close();
    drop(disk);
    let disk = Disk::open(seldom(), Clock::system()).expect("a store");
    assert_eq!(disk.last(), seen, "nothing was lost");
}

#[test]
fn what_was_never_announced_is_taken_back_when_the_store_opens_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::open(options(directory.path()), Clock::system()).expect("a store");
    let record = |value: &str| Record {
        shelf: Shelf::Jobs,
        key: [1].into(),
        value: Some(value.as_bytes().into()),
    };
    let batch = |at: usize, value: &str| Batch {
        updates: vec![update(&[0, 1], at, 1)],
        records: vec![Write { record: record(value), expect: Expect::Any }],
        replies: vec![KeyedReply { key: format!("key {at}"), value: [7].into() }],
    };
    commit(&disk, batch(1, "known")).expect("stored");
    let known = disk.core.writer().log.clone();
    commit(&disk, batch(2, "uncertain")).expect("stored");
    {
        // The answer to the second commit is lost, and so is the store.
        let mut writer = disk.core.writer();
        let stored = writer.log.clone();
        writer.log = known.clone();
        writer.uncertain = Some(writing::Uncertain {
            stored,
            undo: vec![Revised { revision: known.last, record: record("known") }],
        });
        *disk.core.reading.database.write().expect("no panic") = None;
        disk.core.mend(&mut writer);
        assert_eq!(writer.log.last, known.last);
        assert_eq!(writer.log.totals, known.totals);
    }
    let expected = [Revised { revision: known.last, record: record("known") }];
    assert_eq!(disk.records(Shelf::Jobs).expect("readable"), expected);
    assert!(answer(disk.reply("key 1")).is_some() && answer(disk.reply("key 2")).is_none());
    let interest = interest(&["*"]);
    let unknown = answer(disk.locate(Start::Id(EventId::kept("id-2")), &interest));
    assert_eq!(unknown.missing, Some(Missing::Unknown));
    let third = commit(&disk, batch(3, "third")).expect("stored");
    assert_eq!(third[0].position, Position(known.last.0 + 1));
    let budget = Budget { events: 9, bytes: usize::MAX };
    let page = answer(disk.read_after(Position::START, &interest, budget));
    let ids: Vec<&str> = page.events.iter().map(|it| it.update.id.as_str()).collect();
    assert_eq!(ids, ["id-1", "id-3"]);
    assert!(page.torn.is_none(), "nothing that was announced is gone");
}

#[test]
fn a_clock_that_steps_changes_no_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let now = Arc::new(Mutex::new(1_000_000_i64));
    let clock = {
        let now = now.clone();
        let time = move || Timestamp::from_second(*now.lock().expect("no panic")).expect("a time");
        Clock::from_fn(time)
    };
    let long = || DiskOptions { age: Duration::from_secs(7200), ..options(directory.path()) };
    let disk = Disk::open(long(), clock.clone()).expect("a store");
    let publish = |disk: &Disk, at: usize| {
        commit(disk, vec![update(&[0], at, 1)].into()).expect("stored")[0].accepted_at.as_second()
    };
    assert_eq!(publish(&disk, 1), 1_000_000);
    *now.lock().expect("no panic") += 3600;
    assert_eq!(publish(&disk, 2), 1_003_600);
    *now.lock().expect("no panic") -= 7200;
    assert_eq!(publish(&disk, 3), 1_003_600, "not before the one that it follows");
    drop(disk);
    let disk = Disk::open(long(), clock).expect("a store");
    assert_eq!(publish(&disk, 4), 1_003_600, "nor after a restart");
    let budget = Budget { events: 9, bytes: usize::MAX };
    let page = answer(disk.read_after(Position::START, &interest(&["plain"]), budget));
    assert_eq!(page.events.len(), 4);
}

#[test]
fn the_newest_of_a_topic_are_found_over_the_buckets_of_the_index() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = DiskOptions {
        bytes: 1 << 30,
        events: 1 << 20,
        rules: Rules::default(),
        slow_commit: Duration::MAX,
        cache_bytes: 64 << 20,
        ..options(directory.path())
    };
    let disk = Disk::open(options, Clock::system()).expect("a new store");
    // Each topic has its last event in the first bucket, or its first in the second.
    let n_events = BUCKET + 8;
    let mut n_published = 0;
    while n_published < n_events {
        let n_here = (n_events - n_published).min(4096);
        let numbers = n_published..n_published + n_here;
        let updates = numbers.map(|it| update(&[usize::try_from(it % 4).expect("small")], 0, 1));
        commit(&disk, updates.collect::<Vec<_>>().into()).expect("stored");
        n_published += n_here;
    }
    for count in [1, 2, 3, 5, 100] {
        for (at, topic) in TOPICS.iter().enumerate() {
            let after = newest(&disk, count, &interest(&[topic]));
            let budget = Budget { events: 1000, bytes: usize::MAX };
            let page = answer(disk.read_after(after, &interest(&[topic]), budget));
            assert_eq!(page.events.len(), count, "topic {at}");
        }
    }
}
