//! Tests of every history against a naive model: what is stored, what a condition refuses, and what
//! the follower learns.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::SignedDuration;
use proptest::prelude::*;

use super::{disk::tests as on_disk, *};
use crate::clock::Clock;

/// The condition of a step: nothing, no record, the newest revision, or one that never was.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition {
    Any,
    Absent,
    Newest,
    Stale,
}

/// A submission: so many updates, records with key, condition and whether they are removed, and
/// the keys of replies.
pub(super) type Step = (usize, Vec<(u8, Condition, bool)>, Vec<u8>);

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let condition = prop_oneof![
        1 => Just(Condition::Any),
        1 => Just(Condition::Absent),
        3 => Just(Condition::Newest),
        1 => Just(Condition::Stale),
    ];
    let record = (0..4_u8, condition, prop::bool::weighted(0.2));
    let keys = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0..20_u8, 1..2)];
    prop::collection::vec((0..3_usize, prop::collection::vec(record, 0..3), keys), 1..25)
}

/// A revision, with the key of a record and its value, if it was not removed.
type Change = (u64, u8, Option<u64>);

/// What a history has stored and announced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    /// Whether a submission of replies alone has a position, too.
    replies_have_positions: bool,
    /// The position before all others.
    first: u64,
    last: u64,
    records: BTreeMap<u8, (u64, u64)>,
    replies: BTreeMap<u8, u64>,
    /// Positions of events, and changes of records.
    announced: (Vec<u64>, Vec<Change>),
}

impl Model {
    /// A history whose positions begin after `first`, and that gives replies alone a position.
    pub(super) fn after(first: u64) -> Self {
        Self { replies_have_positions: true, first, ..Self::default() }
    }

    fn submit(&mut self, number: u64, (n_updates, records, keys): &Step) -> Committed {
        if let Some(reply) = keys.iter().find_map(|key| self.replies.get(key)) {
            return Committed::Already(reply.to_be_bytes().into());
        }
        for (key, condition, _) in records {
            let found = self.records.get(key).map(|it| it.0);
            let holds = match condition {
                Condition::Any => true,
                Condition::Absent => found.is_none(),
                Condition::Newest => found.is_some(),
                Condition::Stale => false,
            };
            if !holds {
                return Committed::Conflict(found.map_or(Position::START, |it| self.position(it)));
            }
        }
        let first = self.last + 1;
        self.last += *n_updates as u64;
        self.announced.0.extend(first..=self.last);
        let is_more = !records.is_empty() || self.replies_have_positions && !keys.is_empty();
        if *n_updates == 0 && is_more {
            self.last += 1;
        }
        for (key, _, is_removed) in records {
            let value = (!is_removed).then_some(number);
            match value {
                Some(value) => self.records.insert(*key, (self.last, value)),
                None => self.records.remove(key),
            };
            self.announced.1.push((self.last, *key, value));
        }
        self.replies.extend(keys.iter().map(|key| (*key, number)));
        Committed::Stored(self.position(self.last))
    }

    /// The position with this number.
    fn position(&self, number: u64) -> Position {
        Position(self.first + number)
    }

    fn batch(&self, number: u64, (n_updates, records, keys): &Step) -> Batch {
        let write = |(key, condition, is_removed): &(u8, Condition, bool)| {
            let newest = self.records.get(key).map_or(1 << 40, |it| it.0);
            let expect = match condition {
                Condition::Any => Expect::Any,
                Condition::Absent => Expect::Absent,
                Condition::Newest => Expect::At(self.position(newest)),
                Condition::Stale => Expect::At(self.position((1 << 40) + 1)),
            };
            let value = (!is_removed).then(|| number.to_be_bytes().into());
            Write { record: Record { shelf: Shelf::Jobs, key: [*key].into(), value }, expect }
        };
        let reply =
            |key: &u8| KeyedReply { key: format!("{key}"), value: number.to_be_bytes().into() };
        Batch {
            updates: (0..*n_updates).map(|at| on_disk::update(&[0], at, 1)).collect(),
            records: records.iter().map(write).collect(),
            replies: keys.iter().map(reply).collect(),
        }
    }
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().expect("8 bytes"))
}

/// Runs the steps, and compares each outcome, the announcements, and what is there at the end.
fn check(history: &dyn History, steps: &[Step]) {
    check_against(history, Model::default(), steps);
}

/// Runs the steps on a history that begins like the model.
pub(super) fn check_against(history: &dyn History, mut model: Model, steps: &[Step]) {
    let first = model.first;
    let announced = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let follower = {
        let announced = announced.clone();
        move |applied: Applied<'_>| {
            let mut announced = announced.lock().expect("no panic");
            announced.0.extend(applied.events.iter().map(|it| it.position.0 - first));
            announced.1.extend(applied.records.iter().map(|it| {
                let value = it.record.value.as_deref().map(number);
                (it.revision.0 - first, it.record.key[0], value)
            }));
        }
    };
    history.follow(Box::new(follower)).expect("a thread");
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().expect("a runtime");
    for (number, step) in (0..).zip(steps) {
        let batch = model.batch(number, step);
        let outcome = runtime.block_on(history.submit(batch)).expect("stored or refused");
        assert_eq!(outcome, model.submit(number, step), "{step:?}");
        let current = runtime.block_on(history.current()).expect("known");
        assert_eq!(current, model.position(model.last));
    }
    assert_eq!(*announced.lock().expect("no panic"), model.announced);
    for (key, value) in &model.replies {
        let reply = runtime.block_on(history.reply(&key.to_string())).expect("readable");
        assert_eq!(reply.as_deref().map(number), Some(*value));
    }
    if history.outlives_process() {
        let kept = history.records(Shelf::Jobs).expect("readable");
        let kept = kept.iter().map(|it| {
            let value = it.record.value.as_deref().map(number).expect("a value");
            (it.record.key[0], (it.revision.0 - first, value))
        });
        assert_eq!(kept.collect::<BTreeMap<_, _>>(), model.records);
    }
}

proptest! {
    #[test]
    fn in_memory_a_condition_holds_or_nothing_is_stored(steps in steps()) {
        let retention = Retention {
            bytes: usize::MAX,
            events: usize::MAX,
            age: SignedDuration::MAX,
            remembered: 0,
        };
        check(&Memory::new(retention, Clock::system()), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn on_disk_a_condition_holds_or_nothing_is_stored(steps in steps()) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let replies = ReplyLimits { age: Duration::from_secs(3600), count: 100, bytes: 1 << 20 };
        let options = DiskOptions { replies, ..on_disk::options(directory.path()) };
        check(&Disk::open(options, Clock::system()).expect("a store"), &steps);
    }
}
