//! The doorbell: no subscriber waits for an event that is in the tail.
//!
//! The tail is one relaxed atomic here. The real one has a lock, which orders more than this, so
//! nothing depends on that lock.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use super::wanted::Wanted;

const TOPIC: usize = 0;
const OTHER: usize = 1;
const MORE: usize = 2;

/// The counters of one shard, and the position of the newest event in the tail.
struct Shared {
    wanted: Wanted,
    tail: AtomicU64,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { wanted: Wanted::new(3), tail: AtomicU64::new(0) })
    }

    /// Publishes an event under the topic, as the sequencer does. Returns whether it rings.
    fn publish(&self, position: u64) -> bool {
        self.tail.store(position, Relaxed);
        Wanted::appended();
        self.wanted.is_any([MORE, TOPIC].into_iter())
    }

    /// Adds a subscriber, as a shard does. Returns the newest position that it finds.
    fn subscribe(&self, counters: &[usize]) -> u64 {
        self.wanted.add(counters.iter().copied());
        self.tail.load(Relaxed)
    }
}

#[test]
fn an_event_is_found_in_the_tail_or_rung_for() {
    for counters in [&[TOPIC][..], &[OTHER, TOPIC], &[MORE]] {
        loom::model(|| {
            let shared = Shared::new();
            let sequencer = {
                let shared = shared.clone();
                thread::spawn(move || [shared.publish(1), shared.publish(2)])
            };
            let found = shared.subscribe(counters);
            let rung = sequencer.join().expect("no panic");
            for (position, is_rung) in (1..).zip(rung) {
                assert!(position <= found || is_rung, "the event at {position} is not noticed");
            }
        });
    }
}

#[test]
fn events_are_rung_for_while_one_subscriber_follows_another() {
    loom::model(|| {
        let shared = Shared::new();
        shared.subscribe(&[TOPIC]);
        let sequencer = {
            let shared = shared.clone();
            thread::spawn(move || shared.publish(1))
        };
        shared.subscribe(&[TOPIC]);
        shared.wanted.remove([TOPIC].into_iter());
        assert!(sequencer.join().expect("no panic"), "one of them was always there");
    });
}

#[test]
fn every_shard_is_rung_or_finds_the_event_after_one_fence() {
    loom::model(|| {
        let shards = Arc::new([Wanted::new(1), Wanted::new(1)]);
        let tail = Arc::new(AtomicU64::new(0));
        let subscribing = [0, 1].map(|at| {
            let (shards, tail) = (shards.clone(), tail.clone());
            thread::spawn(move || {
                shards[at].add([TOPIC].into_iter());
                tail.load(Relaxed) == 1
            })
        });
        tail.store(1, Relaxed);
        Wanted::appended();
        let rung = [0, 1].map(|at: usize| shards[at].is_any([TOPIC].into_iter()));
        for (shard, is_rung) in subscribing.into_iter().zip(rung) {
            assert!(shard.join().expect("no panic") || is_rung);
        }
    });
}
