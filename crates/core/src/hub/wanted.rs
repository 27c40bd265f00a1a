//! What a shard wants to be rung for: counters that the shard changes and the sequencer reads.
//!
//! A shard counts a subscriber and then reads the tail. The sequencer appends to the tail and then
//! reads the counters. Both have a fence in between, so at least one of them sees what the other
//! did: either the shard finds the event in the tail, or the sequencer rings. The package in
//! `crates/interleavings` includes this file and checks that for every order of their steps.

#[cfg(not(loom))]
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};

#[cfg(loom)]
use loom::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};

/// Counters of subscribers, each for some of the topics.
#[derive(Debug)]
pub(super) struct Wanted(Box<[AtomicU32]>);

impl Wanted {
    /// Creates `n_counters` counters at zero.
    pub(super) fn new(n_counters: usize) -> Self {
        Self(std::iter::repeat_with(|| AtomicU32::new(0)).take(n_counters).collect())
    }

    /// Counts a subscriber. Afterwards the shard has to read the tail once, for events that were
    /// appended at the same time.
    pub(super) fn add(&self, counters: impl Iterator<Item = usize>) {
        for at in counters {
            self.0[at].fetch_add(1, Relaxed);
        }
        fence(SeqCst);
    }

    /// Undoes one [`Wanted::add`].
    pub(super) fn remove(&self, counters: impl Iterator<Item = usize>) {
        for at in counters {
            self.0[at].fetch_sub(1, Relaxed);
        }
    }

    /// Separates the sequencer's append to the tail from its calls of [`Wanted::is_any`], on the
    /// counters of every shard.
    pub(super) fn appended() {
        fence(SeqCst);
    }

    /// Whether one of these counters counts a subscriber.
    pub(super) fn is_any(&self, mut counters: impl Iterator<Item = usize>) -> bool {
        counters.any(|at| 0 < self.0[at].load(Relaxed))
    }
}
