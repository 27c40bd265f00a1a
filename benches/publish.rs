//! Cost of publishing to a history in memory: `cargo bench --bench publish`.

use std::{sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput};
use jiff::SignedDuration;
use tidegate_core::{
    clock::Clock,
    event::Update,
    history::{Memory, Retention},
    hub::Hub,
};
use tidegate_testkit::library::{at_once, update};

/// Topics that the events are spread over.
const TOPICS: usize = 1000;

/// Updates of one iteration, each in a batch of its own.
const UPDATES: usize = 1000;

fn updates() -> Vec<Update> {
    let topic = |number: usize| format!("https://example.com/prices/{}", number % TOPICS);
    (0..UPDATES).map(|number| update(&topic(number), "x".repeat(100))).collect()
}

fn main() {
    let mut criterion =
        Criterion::default().measurement_time(Duration::from_secs(4)).configure_from_args();
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(UPDATES as u64));
    // Soon every event that is appended drops one.
    let retention = Retention {
        bytes: usize::MAX,
        events: 10_000,
        age: SignedDuration::from_hours(1),
        remembered: 10_000,
    };
    let history = Arc::new(Memory::new(retention, Clock::system()));
    let hub = Hub::start(history, 16 << 20, false).expect("a thread");
    group.bench_function("memory", |bencher| {
        bencher.iter_batched(
            updates,
            |updates| {
                for update in updates {
                    at_once(hub.publish(vec![update])).expect("memory takes it");
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
    criterion.final_summary();
}
