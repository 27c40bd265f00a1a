//! The patterns of the process, each there as long as somebody uses it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use foldhash::fast::RandomState;

use super::{Allowance, Form, Key, Pattern, PatternId, Unusable, subscribed::Full};

/// No [`Arc`] of a pattern may be dropped while this is locked, since the last one to go locks it.
static TABLE: LazyLock<RwLock<Table>> = LazyLock::new(RwLock::default);

/// The id that the next pattern gets.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Entries below which a map is not worth shrinking.
const FEW: usize = 64;

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<Arc<Key>, Weak<Pattern>, RandomState>,
    by_id: BTreeMap<PatternId, Weak<Pattern>>,
    /// The cost of everything in `by_id`.
    cost: usize,
    /// How many subscriptions use a pattern, of those that any uses.
    subscribed: HashMap<PatternId, usize, RandomState>,
    /// The cost of everything in `subscribed`.
    subscribed_cost: usize,
}

fn read() -> RwLockReadGuard<'static, Table> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Table> {
    TABLE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The pattern of this key: the one that there is, else what `parse` makes of it.
pub(super) fn intern(
    key: Key,
    allowance: Allowance,
    parse: impl FnOnce() -> Option<Form>,
) -> Result<Arc<Pattern>, Unusable> {
    let known = read().by_key.get(&key).and_then(Weak::upgrade);
    if let Some(known) = known {
        return if known.cost <= allowance.each { Ok(known) } else { Err(Unusable::Costly) };
    }
    // Not under the lock, because parsing takes a while.
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

/// Takes out a pattern that is being dropped. Returns whether it was the last one.
pub(super) fn forget(pattern: &Pattern) -> bool {
    let mut table = write();
    if table.by_id.remove(&pattern.id).is_some() {
        table.cost -= pattern.cost;
    }
    // An equal pattern may have come meanwhile.
    if table.by_key.get(&pattern.key).is_some_and(|it| it.strong_count() == 0) {
        table.by_key.remove(&pattern.key);
    }
    if FEW < table.by_key.capacity() && table.by_key.len() < table.by_key.capacity() / 4 {
        table.by_key.shrink_to_fit();
    }
    table.by_id.is_empty()
}

/// Counts a subscription to each of `patterns`, unless all that are subscribed to would cost more than `all`.
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

/// Takes back one [`subscribe`].
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
}

/// Whether any subscription uses a pattern.
pub(super) fn is_subscribed() -> bool {
    !read().subscribed.is_empty()
}

/// The id that no pattern has reached yet.
pub(super) fn next() -> PatternId {
    PatternId(NEXT.load(SeqCst))
}

/// The patterns in use from `first` on, in the order of their ids.
pub(super) fn since(first: PatternId) -> Vec<Arc<Pattern>> {
    read().by_id.range(first..).filter_map(|(_, pattern)| pattern.upgrade()).collect()
}

/// Of `ids`, those still in use.
pub(super) fn in_use(ids: &[PatternId]) -> Vec<PatternId> {
    let table = read();
    ids.iter().copied().filter(|id| table.by_id.contains_key(id)).collect()
}

/// The number of patterns, and their cost.
pub(super) fn size() -> (usize, usize) {
    let table = read();
    (table.by_id.len(), table.cost)
}
