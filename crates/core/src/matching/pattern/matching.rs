//! Which patterns match a topic: computed once, and cached for other shards and for the next event
//! on that topic.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

use super::{PatternId, Resolver, table};
use crate::event::Topic;

/// Parts of the cache, each with its own lock.
const STRIPES: usize = 16;

/// Topics in a stripe before it is cleared.
const MOST_TOPICS: usize = 256;

/// Matches in a stripe before it is cleared. With all stripes full they take 8 MiB.
const MOST_MATCHES: usize = 65_536;

/// Work that [`prepare`] does in one step, about a millisecond. The unit is a pattern's cost times
/// the length of the topic in units of [`BYTES_PER_WORK`].
const STEP: usize = 4096;
const BYTES_PER_WORK: usize = 64;

static CACHE: LazyLock<Cache> = LazyLock::new(Cache::default);

#[derive(Debug, Default)]
struct Cache {
    hasher: RandomState,
    stripes: [Mutex<Stripe>; STRIPES],
}

#[derive(Debug, Default)]
struct Stripe {
    topics: HashMap<Topic, Known, RandomState>,
    /// Matches of all topics.
    n_matches: usize,
}

/// The cached results for a topic.
#[derive(Debug, Clone)]
pub(in crate::matching) struct Known {
    /// Every pattern below this id has been tested.
    tested_to: PatternId,
    /// The patterns that match, sorted. Some may no longer be in use.
    matching: Arc<[PatternId]>,
}

impl Known {
    /// Whether the pattern matches; `None` if it has not been tested.
    pub(in crate::matching) fn verdict(&self, pattern: PatternId) -> Option<bool> {
        (pattern < self.tested_to).then(|| self.matching.binary_search(&pattern).is_ok())
    }
}

impl Cache {
    fn stripe(&self, topic: &Topic) -> MutexGuard<'_, Stripe> {
        // The remainder is below the number of stripes.
        #[expect(clippy::cast_possible_truncation, reason = "only some bits are needed")]
        let at = self.hasher.hash_one(topic) as usize % STRIPES;
        self.stripes[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cached results for a topic. Tests nothing.
pub(in crate::matching) fn known(topic: &Topic) -> Option<Known> {
    CACHE.stripe(topic).topics.get(topic).cloned()
}

/// The patterns that match a topic: at least all that are in use. Tests patterns not yet tested on
/// it. Concurrent callers for the same topic wait, so that nothing is tested twice.
pub(in crate::matching) fn matching(topic: &Topic) -> Arc<[PatternId]> {
    // Declared before the guard, to be dropped after it: the last drop of a pattern may clear the
    // cache, which locks it.
    let untested;
    let mut stripe = CACHE.stripe(topic);
    let next = table::next();
    let mut matching = Vec::new();
    let mut tested_to = PatternId(0);
    if let Some(known) = stripe.topics.get(topic) {
        if next <= known.tested_to {
            return known.matching.clone();
        }
        tested_to = known.tested_to;
        matching = table::in_use(&known.matching);
    }
    untested = table::since(tested_to, usize::MAX);
    let mut resolver = Resolver::new(topic);
    let found = untested.iter().filter(|pattern| pattern.test(&mut resolver));
    matching.extend(found.map(|pattern| pattern.id()));
    // May include a pattern that was added after `next` was read.
    let tested_to = untested.last().map_or(next, |newest| next.max(PatternId(newest.id().0 + 1)));
    let matching: Arc<[PatternId]> = matching.into();
    stripe.keep(topic, Known { tested_to, matching: matching.clone() });
    matching
}

/// Computes which patterns match `topics`, so that shards find the results cached. Works in short
/// steps and yields in between. Does nothing while no subscription uses a pattern.
pub async fn prepare(topics: impl Iterator<Item = &Topic>) {
    if !table::is_subscribed() {
        return;
    }
    for topic in topics {
        while !step(topic) {
            tokio::task::yield_now().await;
        }
    }
}

/// Tests some more patterns on a topic. Returns whether all are tested.
fn step(topic: &Topic) -> bool {
    let (next, known) = (table::next(), known(topic));
    let (tested_to, matching) = match known {
        Some(known) if next <= known.tested_to => return true,
        Some(known) => (known.tested_to, known.matching),
        None => (PatternId(0), Arc::default()),
    };
    // Without the lock: concurrent callers may test the same patterns, which only costs time.
    let length = 1 + topic.as_str().len() / BYTES_PER_WORK;
    // Not all of them, because a step may be one of many. None costs less than 1.
    let limit = STEP.div_ceil(length);
    let untested = table::since(tested_to, limit);
    let mut resolver = Resolver::new(topic);
    let (mut left, mut is_done) = (STEP, untested.len() < limit);
    let (mut found, mut tested_to) = (table::in_use(&matching), tested_to);
    for pattern in &untested {
        if left == 0 {
            is_done = false;
            break;
        }
        left = left.saturating_sub(pattern.cost() * length);
        if pattern.test(&mut resolver) {
            found.push(pattern.id());
        }
        tested_to = PatternId(pattern.id().0 + 1);
    }
    if is_done {
        tested_to = tested_to.max(next);
    }
    let mut stripe = CACHE.stripe(topic);
    if stripe.topics.get(topic).is_none_or(|it| it.tested_to < tested_to) {
        stripe.keep(topic, Known { tested_to, matching: found.into() });
    }
    drop(stripe);
    is_done
}

/// Clears the cache, when no patterns are left.
pub(super) fn forget_all() {
    for stripe in &CACHE.stripes {
        *stripe.lock().unwrap_or_else(PoisonError::into_inner) = Stripe::default();
    }
}

impl Stripe {
    fn keep(&mut self, topic: &Topic, known: Known) {
        if let Some(replaced) = self.topics.remove(topic) {
            self.n_matches -= replaced.matching.len();
        }
        if MOST_TOPICS <= self.topics.len() || MOST_MATCHES <= self.n_matches {
            *self = Self::default();
        }
        self.n_matches += known.matching.len();
        self.topics.insert(topic.clone(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Allowance, *};
    use crate::matching::pattern::Pattern;

    fn topic(text: &str) -> Topic {
        Topic::parse(text, 100).expect("valid")
    }

    #[test]
    fn a_step_tests_some_patterns_and_the_last_one_is_known() {
        let template = |it| Pattern::template(&format!("steps/{it}/{{a}}"), Allowance { each: 1 });
        let patterns: Vec<_> = (0..=STEP).map(|it| template(it).expect("valid")).collect();
        assert_eq!(table::since(PatternId(0), 5).len(), 5);
        let on = topic(&format!("steps/{STEP}/x"));
        let mut n_steps = 1;
        while !step(&on) {
            n_steps += 1;
        }
        assert!(2 <= n_steps, "{n_steps}");
        let known = known(&on).expect("kept");
        let verdicts = [0, STEP - 1, STEP].map(|it| known.verdict(patterns[it].id()));
        assert_eq!(verdicts, [Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn a_topic_that_is_tested_in_steps_counts_once() {
        let mut stripe = Stripe::default();
        let known = |n_matches: usize| Known {
            tested_to: PatternId(0),
            matching: vec![PatternId(0); n_matches].into(),
        };
        stripe.keep(&topic("other"), known(1));
        for tenth in 1..10 {
            stripe.keep(&topic("steps"), known(tenth * MOST_MATCHES / 10));
        }
        assert!(stripe.topics.contains_key(&topic("other")), "nothing was cleared");
        assert_eq!(stripe.n_matches, 1 + 9 * MOST_MATCHES / 10);
    }
}
