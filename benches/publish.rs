//! Cost of publishing to a history in memory: `cargo bench --bench publish`.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{BatchSize, Criterion, Throughput};
use jiff::SignedDuration;
use tidegate_core::{
    clock::Clock,
    event::{Draft, Limits, Update},
    history::{Memory, Retention},
    hub::Hub,
};
use url::Url;

/// Topics that the events are spread over.
const TOPICS: usize = 1000;

/// Updates of one iteration, each in a batch of its own.
const UPDATES: usize = 1000;

fn updates() -> Vec<Update> {
    let limits = Limits {
        topics: 1,
        topic_bytes: 100,
        id_bytes: 100,
        type_bytes: 100,
        except: 0,
        client_key_bytes: 0,
    };
    let hub = Url::parse("http://localhost/.well-known/mercure").expect("an address");
    let update = |number: usize| {
        let topic = format!("https://example.com/prices/{}", number % TOPICS);
        let draft = Draft { topics: vec![topic], data: "x".repeat(100), ..Draft::default() };
        draft.validate(&limits, &hub).expect("valid")
    };
    (0..UPDATES).map(update).collect()
}

/// Returns the value of a future that is ready at once, as publishing to memory is.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing here waits"),
    }
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
                    now(hub.publish(vec![update])).expect("memory takes it");
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
    criterion.final_summary();
}
