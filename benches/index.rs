//! Cost of finding the subscribers of an update among 10,000, and of inserting and removing one:
//! `cargo bench --bench index`.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::Criterion;
use tidegate_core::matching::{Index, Interest, Matcher, Matchers, Rights};
use tidegate_testkit::library::update;

const SUBSCRIBERS: usize = 10_000;

fn topic(number: usize) -> String {
    format!("https://example.com/prices/{number}")
}

fn interest(topic: &str) -> Arc<Interest> {
    let matchers = Matchers::new([Matcher::exact(topic, 100).expect("valid")]);
    Arc::new(Interest::new(matchers, None, Rights::PublicOnly))
}

/// Creates an index with the subscribers spread over this many topics.
fn index(topics: usize) -> Index {
    let mut index = Index::default();
    for subscriber in 0..SUBSCRIBERS {
        // Never removed, so its places are not needed.
        let _ = index.insert(subscriber, &interest(&topic(subscriber % topics)));
    }
    index
}

fn main() {
    let mut criterion =
        Criterion::default().measurement_time(Duration::from_secs(2)).configure_from_args();
    for (name, topics) in [("one_topic", 1), ("own_topics", SUBSCRIBERS)] {
        let mut index = index(topics);
        let mut group = criterion.benchmark_group(format!("index/{name}"));
        let published = update(&topic(0), String::new());
        group.bench_function("find", |bencher| {
            bencher.iter(|| {
                let mut found = 0_usize;
                index.find(black_box(&published), |subscriber| {
                    found = found.wrapping_add(subscriber)
                });
                found
            });
        });
        let newcomer = interest(&topic(0));
        group.bench_function("insert_remove", |bencher| {
            bencher.iter(|| {
                let enlisted = index.insert(SUBSCRIBERS, black_box(&newcomer));
                index.remove(enlisted);
            });
        });
        group.finish();
    }
    criterion.final_summary();
}
