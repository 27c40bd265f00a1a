//! The patterns of the process, each there as long as somebody uses it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use foldhash::fast::RandomState;

use super::{Allowance, Form, Key, Pattern, PatternId, Unusable};

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
    if allowance.all < table.cost.saturating_add(cost) {
        return Err(Unusable::Full);
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
