//! Cost of encoding an event for each transport: `cargo bench --bench encode`.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use jiff::Timestamp;
use tidegate_core::{
    event::{Event, Position, Update},
    history::CursorKey,
    transport::{iframe, json, sse},
};
use tidegate_testkit::library;

/// Sizes of the payloads in bytes.
const SIZES: [usize; 3] = [100, 1024, 64 * 1024];

/// Creates a payload of short lines with characters that scripts must not see.
fn update(bytes: usize) -> Arc<Update> {
    let data = "the <b>price</b> is 12 & falling\n".chars().cycle().take(bytes).collect();
    Arc::new(library::update("https://example.com/prices/1", data))
}

fn main() {
    let mut criterion =
        Criterion::default().measurement_time(Duration::from_secs(2)).configure_from_args();
    let key = CursorKey::random();
    let mut group = criterion.benchmark_group("encode");
    for size in SIZES {
        let update = update(size);
        // An event caches its encodings, so each round needs a new one.
        let fresh = || Event::new(Position::START, Timestamp::UNIX_EPOCH, update.clone());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("sse", size), |bencher| {
            bencher.iter_batched(
                fresh,
                |event| black_box(sse::event(&event)),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("json", size), |bencher| {
            bencher.iter_batched(
                fresh,
                |event| black_box(json::event(&event)).len(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("iframe", size), |bencher| {
            bencher.iter_batched(
                fresh,
                |event| black_box(iframe::event(&event, "nonce", &key)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    criterion.final_summary();
}
