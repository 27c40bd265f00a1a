//! The patterns of the process. Each is kept as long as it has a user.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use foldhash::fast::RandomState;

use super::{Allowance, Form, Key, Pattern, PatternId, Unusable};
use crate::shrink;

/// While this is locked, no [`Arc`] of a pattern may be dropped: dropping the last one locks the
/// table.
static TABLE: LazyLock<RwLock<Table>> = LazyLock::new(RwLock::default);

/// The id of the next pattern.
static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<Arc<Key>, Weak<Pattern>, RandomState>,
    by_id: BTreeMap<PatternId, Weak<Pattern>>,
    /// The total cost of the patterns in `by_id`.
    cost: usize,
    /// The number of subscribers of each subscribed pattern.
    subscribed: HashMap<PatternId, usize, RandomState>,
    /// The total cost of the patterns in `subscribed`.
    subscribed_cost: usize,
}

/// The patterns of all subscribers are at the cost limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

fn read() -> RwLockReadGuard<'static, Table> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Table> {
    TABLE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the pattern with this key, or inserts the result of `parse`.
pub(super) fn intern(
    key: Key,
    allowance: Allowance,
    parse: impl FnOnce() -> Option<Form>,
) -> Result<Arc<Pattern>, Unusable> {
    let known = read().by_key.get(&key).and_then(Weak::upgrade);
    if let Some(known) = known {
        return if known.cost <= allowance.each { Ok(known) } else { Err(Unusable::Costly) };
    }
    // Without the lock, because parsing takes a while.
    let form = parse().ok_or(Unusable::Malformed)?;
    let cost = form.cost(&key.text);
    if allowance.each < cost {
        return Err(Unusable::Costly);
    }
    let mut table = write();
    if let Some(known) = table.by_key.get(&key).and_then(Weak::upgrade) {
        return Ok(known);
    }
    let id = PatternId(NEXT.fetch_add(1, SeqCst));
    let pattern = Arc::new(Pattern { id, key: Arc::new(key), form, cost });
    table.cost += cost;
    table.by_id.insert(id, Arc::downgrade(&pattern));
    table.by_key.insert(pattern.key.clone(), Arc::downgrade(&pattern));
    Ok(pattern)
}

/// Removes a pattern that is being dropped. Returns whether it was the last one.
pub(super) fn forget(pattern: &Pattern) -> bool {
    let mut table = write();
    if table.by_id.remove(&pattern.id).is_some() {
        table.cost -= pattern.cost;
    }
    // The entry may belong to an equal pattern added in the meantime.
    if table.by_key.get(&pattern.key).is_some_and(|it| it.strong_count() == 0) {
        table.by_key.remove(&pattern.key);
    }
    shrink::map(&mut table.by_key);
    table.by_id.is_empty()
}

/// Counts a subscriber of each of `patterns`, unless the total cost of subscribed patterns would
/// exceed `all`.
pub(super) fn subscribe(patterns: &[Arc<Pattern>], all: usize) -> Result<(), Full> {
    if patterns.is_empty() {
        return Ok(());
    }
    let mut table = write();
    let is_new = |it: &&Arc<Pattern>| !table.subscribed.contains_key(&it.id);
    let cost: usize = patterns.iter().filter(is_new).map(|it| it.cost).sum();
    if all < table.subscribed_cost.saturating_add(cost) {
        return Err(Full);
    }
    table.subscribed_cost += cost;
    for pattern in patterns {
        *table.subscribed.entry(pattern.id).or_default() += 1;
    }
    Ok(())
}

/// Undoes one [`subscribe`].
pub(super) fn unsubscribe(patterns: &[Arc<Pattern>]) {
    if patterns.is_empty() {
        return;
    }
    let mut table = write();
    for pattern in patterns {
        let Some(n_subscriptions) = table.subscribed.get_mut(&pattern.id) else { continue };
        *n_subscriptions -= 1;
        if *n_subscriptions == 0 {
            table.subscribed.remove(&pattern.id);
            table.subscribed_cost -= pattern.cost;
        }
    }
    shrink::map(&mut table.subscribed);
}

/// Whether any subscription uses a pattern.
pub(super) fn is_subscribed() -> bool {
    !read().subscribed.is_empty()
}

/// The id that the next pattern will get.
pub(super) fn next() -> PatternId {
    PatternId(NEXT.load(SeqCst))
}

/// The patterns in use with ids from `first` on, in the order of their ids; at most `limit`.
pub(super) fn since(first: PatternId, limit: usize) -> Vec<Arc<Pattern>> {
    let table = read();
    table.by_id.range(first..).filter_map(|(_, pattern)| pattern.upgrade()).take(limit).collect()
}

/// Returns those of `ids` that are still in use.
pub(super) fn in_use(ids: &[PatternId]) -> Vec<PatternId> {
    let table = read();
    ids.iter().copied().filter(|id| table.by_id.contains_key(id)).collect()
}

/// The number of patterns, and their total cost.
pub(super) fn size() -> (usize, usize) {
    let table = read();
    (table.by_id.len(), table.cost)
}
