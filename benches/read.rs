//! Cost of reading events, from the tail and in pages of the history: `cargo bench --bench read`.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput};
use jiff::SignedDuration;
use tidegate_core::{
    clock::Clock,
    event::{Position, Update},
    history::{Applied, Batch, Budget, History as _, Memory, Retention},
    hub::Tail,
    matching::{Interest, Matcher, Matchers, Rights},
};
use tidegate_testkit::library::{at_once, update};

const EVENTS: usize = 10_000;

/// Topics that the events are spread over.
const TOPICS: usize = 100;

/// Events of a batch or a page.
const PAGE: usize = 100;

fn topic(number: usize) -> String {
    format!("https://example.com/prices/{number}")
}

fn numbered(number: usize) -> Update {
    update(&topic(number % TOPICS), "x".repeat(100))
}

fn main() {
    let mut criterion =
        Criterion::default().measurement_time(Duration::from_secs(2)).configure_from_args();
    let retention = Retention {
        bytes: usize::MAX,
        events: usize::MAX,
        age: SignedDuration::from_hours(1),
        remembered: 0,
    };
    let history = Memory::new(retention, Clock::system());
    let batch = Batch::from((0..EVENTS).map(numbered).collect::<Vec<_>>());
    let tail = Arc::new(Tail::new(usize::MAX, Position::START));
    let follower = {
        let tail = tail.clone();
        move |applied: Applied<'_>| {
            tail.push(applied.events);
        }
    };
    history.follow(Box::new(follower)).expect("a thread");
    at_once(history.submit(batch)).expect("memory takes it");
    let middle = Position(EVENTS as u64 / 2);
    let interest =
        |matcher| Arc::new(Interest::new(Matchers::new([matcher]), None, Rights::PublicOnly));
    let one = interest(Matcher::exact(&topic(0), 100).expect("valid"));
    let everything = interest(Matcher::Everything);

    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("tail_batch", |bencher| {
        bencher.iter(|| black_box(tail.batch_after(black_box(middle), PAGE)));
    });
    let budget = Budget { events: PAGE, bytes: usize::MAX };
    for (name, interest) in [("history_one_topic", &one), ("history_everything", &everything)] {
        group.bench_function(name, |bencher| {
            bencher
                .iter(|| at_once(history.read_after(black_box(Position::START), interest, budget)));
        });
    }
    group.finish();
    criterion.final_summary();
}
