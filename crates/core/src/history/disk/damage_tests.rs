//! Tests of a store with flipped bits: reads return no wrong data and never panic, and `verify`
//! finds the damage.

use std::{path::Path, sync::Arc};

use super::{
    tables::{IDS, TOPICS},
    tests::{commit, interest, options, update},
    *,
};
use crate::{
    event::Event,
    history::{Expect, KeyedReply, Located, ReplyLimits, Rules, Write},
};

/// Runs the answer of a reader thread to its end.
fn answer<T>(answer: Answer<T>) -> Result<T, HistoryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(answer)
}

/// The number of flips and emptied pages. Some hit unused bytes.
const FLIPS: usize = 150;

/// The bytes of a page of the embedded store.
const PAGE: usize = 4096;

fn large(path: &Path) -> DiskOptions {
    DiskOptions {
        bytes: 1 << 30,
        events: 1000,
        age: Duration::from_secs(1 << 30),
        rules: Rules::default(),
        replies: ReplyLimits { age: Duration::from_secs(1 << 30), count: 100, bytes: 1 << 20 },
        ..options(path)
    }
}

fn fill(path: &Path) {
    let disk = Disk::open(large(path), Clock::system()).expect("a store");
    for number in 0..60_u8 {
        let at = usize::from(number);
        let mut batch: Batch = vec![update(&[at % 4], at, 40 + at)].into();
        let key = [number; 8];
        for shelf in Shelf::ALL {
            let value = Some(vec![number; 60].into());
            let record = Record { shelf, key: key[..].into(), value };
            batch.records.push(Write { record, expect: Expect::Any });
        }
        let value = format!("reply {at}").into_bytes().into();
        batch.replies.push(KeyedReply { key: format!("key {at}"), value });
        commit(&disk, batch).expect("stored");
    }
    disk.close();
}

/// What a reader of the whole store receives: each part, or that it is unreadable.
#[derive(Debug, PartialEq)]
struct Seen {
    scanned: Option<Vec<String>>,
    by_topic: Vec<Option<Vec<String>>>,
    records: Vec<Option<Vec<Revised>>>,
    replies: Vec<Result<Option<Box<[u8]>>, String>>,
    located: Vec<Option<Located>>,
}

fn seen(disk: &Disk) -> Seen {
    let budget = Budget { events: 1000, bytes: usize::MAX };
    let page = |topics: &[&str]| {
        let page = answer(disk.read_after(Position::START, &interest(topics), budget)).ok()?;
        let told =
            |it: &Arc<Event>| format!("{:?} {} {:?}", it.position, it.accepted_at, it.update);
        Some(page.events.iter().map(told).collect())
    };
    let start = |id: usize| {
        let id = update(&[0], id, 1).id;
        answer(disk.locate(Start::Id(id), &interest(&["*"]))).ok()
    };
    Seen {
        scanned: page(&["*"]),
        by_topic: ["plain", "counted", "short", "small"].map(|it| page(&[it])).into(),
        records: Shelf::ALL.map(|it| disk.records(it).ok()).into(),
        replies: (0..60)
            .map(|it| answer(disk.reply(&format!("key {it}"))).map_err(|it| it.to_string()))
            .collect(),
        located: (0..60).map(start).collect(),
    }
}

/// Checks that everything read is part of the truth, and that a loss was reported to the operator.
fn check(truth: &Seen, seen: &Seen, is_told: bool, is_found: bool, what: &str) {
    let same = |truth: &Option<Vec<String>>, seen: &Option<Vec<String>>| {
        let (Some(truth), Some(seen)) = (truth, seen) else { return };
        assert!(seen.iter().all(|it| truth.contains(it)), "{what}: wrong events");
        assert!(seen.len() == truth.len() || is_found, "{what}: events are missing in silence");
    };
    same(&truth.scanned, &seen.scanned);
    for (truth, seen) in truth.by_topic.iter().zip(&seen.by_topic) {
        same(truth, seen);
    }
    for (truth, seen) in truth.records.iter().zip(&seen.records) {
        let (Some(truth), Some(seen)) = (truth, seen) else { continue };
        assert!(seen.iter().all(|it| truth.contains(it)), "{what}: wrong records");
        assert!(seen.len() == truth.len() || is_found, "{what}: records are missing in silence");
    }
    for (truth, seen) in truth.replies.iter().zip(&seen.replies) {
        if let Ok(Some(seen)) = seen {
            assert_eq!(Ok(Some(seen.clone())), *truth, "{what}: a wrong reply");
        }
    }
    let failed = seen.scanned.is_none()
        || seen.by_topic.iter().any(Option::is_none)
        || seen.records.iter().any(Option::is_none)
        || seen.replies.iter().any(Result::is_err)
        || seen.located.iter().any(Option::is_none);
    assert_eq!(failed, is_told, "{what}: trouble with what is read is told, and nothing else");
    assert!(truth == seen || is_found, "{what}: it is seen and `verify` does not find it");
}

fn damage(bytes: &mut [u8], at: usize, is_page: bool) -> String {
    if is_page {
        let page = at / PAGE * PAGE;
        bytes[page..page + PAGE].fill(0);
        format!("page {page} of zeroes")
    } else {
        let bit = fastrand::Rng::with_seed(at as u64).u32(0..8);
        bytes[at] ^= 1 << bit;
        format!("bit {bit} of byte {at}")
    }
}

#[test]
fn a_flipped_bit_or_an_empty_page_is_never_served_and_verify_finds_it() {
    let whole = tempfile::tempdir().expect("a temporary directory");
    fill(whole.path());
    let original = std::fs::read(open::file(whole.path())).expect("a file");
    let disk = Disk::open(large(whole.path()), Clock::system()).expect("a store");
    let truth = seen(&disk);
    drop(disk);
    let used: Vec<usize> = (0..original.len() / PAGE)
        .filter(|it| original[it * PAGE..][..PAGE].iter().any(|it| *it != 0))
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut n_refused, mut n_found) = (0, 0);
    for round in 0..FLIPS {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = open::file(directory.path());
        let mut bytes = original.clone();
        let at = used[random.usize(..used.len())] * PAGE + random.usize(..PAGE);
        let what = damage(&mut bytes, at, round % 5 == 4);
        std::fs::write(&file, &bytes).expect("written");
        let found = store::verify(&large(directory.path())).err().map(|it| it.to_string());
        n_found += usize::from(found.is_some());
        std::fs::write(&file, &bytes).expect("written");
        let mut exported = Vec::new();
        let is_exported = store::export(&large(directory.path()), &mut exported).is_ok();
        std::fs::write(&file, &bytes).expect("written");
        let Ok(disk) = Disk::open(large(directory.path()), Clock::system()) else {
            assert!(found.is_some(), "{what}: refused, and `verify` says it is whole");
            n_refused += 1;
            continue;
        };
        let read = seen(&disk);
        check(&truth, &read, disk.trouble().is_some(), found.is_some(), &what);
        let n_lines = exported.iter().filter(|it| **it == b'\n').count();
        let is_all = n_lines == 2 + 60 + 60 * Shelf::ALL.len();
        assert!(!is_exported || is_all || found.is_some(), "{what}: exported {n_lines} lines");
        // The writer's thread survives whatever it meets.
        let _ = commit(&disk, vec![update(&[0], 99, 1)].into());
        disk.close();
    }
    assert!(20 < n_found && n_refused < n_found, "{n_found} found, {n_refused} refused");
}

#[test]
fn a_file_that_is_empty_or_cut_is_no_new_store() {
    let whole = tempfile::tempdir().expect("a temporary directory");
    fill(whole.path());
    let original = std::fs::read(open::file(whole.path())).expect("a file");
    for length in [0, 10, 4096, original.len() / 2, original.len() - 4096] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = open::file(directory.path());
        std::fs::write(&file, &original[..length]).expect("written");
        let opened = Disk::open(large(directory.path()), Clock::system());
        let message = opened.err().map(|it| it.to_string()).unwrap_or_default();
        assert!(message.contains("tidegate store verify"), "{length} bytes: {message}");
        assert_eq!(std::fs::metadata(&file).expect("a file").len(), length as u64);
    }
}

#[test]
fn a_migration_that_is_interrupted_anywhere_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = open::file(directory.path());
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/api/stores/format-1.redb");
    for steps in 0..8 {
        std::fs::copy(old, &file).expect("copied");
        let database = Database::open(&file).expect("a store");
        migrate::begin(&database).expect("begun");
        for _ in 0..steps {
            migrate::step(&database).expect("done");
        }
        drop(database);
        let mut exported = Vec::new();
        store::export(&large(directory.path()), &mut exported).expect("half of it migrated");
        assert!(store::verify(&large(directory.path())).is_ok());
        let disk = Disk::open(large(directory.path()), Clock::system()).expect("a store");
        let budget = Budget { events: 100, bytes: usize::MAX };
        let page = answer(disk.read_after(Position::START, &interest(&["*"]), budget));
        // `*` covers the events that do not belong to jobs.
        assert_eq!(page.expect("read").events.len(), 5);
        disk.close();
    }
}

#[test]
fn an_entry_that_is_missing_in_an_index_is_found_by_the_look_at_everything() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path());
    let path = open::file(directory.path());
    let look = || {
        let database = Database::open(&path).expect("a store");
        let mut inspection = Inspection::At(Position::START);
        while inspection != Inspection::Done {
            inspection = inspection.go_on(&database)?;
        }
        Ok::<_, Error>(())
    };
    look().expect("whole");
    for is_of_ids in [false, true] {
        let database = Database::open(&path).expect("a store");
        let transaction = database.begin_write().expect("a transaction");
        let taken = {
            let table = if is_of_ids { IDS } else { TOPICS };
            let mut table = transaction.open_table(table).expect("a table");
            let taken = table.pop_last().expect("readable").map(|(key, _)| key.value());
            taken.expect("an entry")
        };
        transaction.commit().expect("stored");
        drop(database);
        let error = look().expect_err("it is missing");
        assert!(error.to_string().contains("index"), "{error}");
        let database = Database::open(&path).expect("a store");
        let transaction = database.begin_write().expect("a transaction");
        let table = if is_of_ids { IDS } else { TOPICS };
        transaction.open_table(table).expect("a table").insert(taken, ()).expect("stored");
        transaction.commit().expect("stored");
    }
    look().expect("whole again");
}
