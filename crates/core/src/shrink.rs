//! Releasing the memory of containers that most entries have left.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

use slab::Slab;

/// Capacity up to which unused memory is not released.
pub(crate) const FEW: usize = 64;

/// Whether so little capacity is in use that the rest should be released. A container is shrunk to
/// twice its length, so many removals pass before the next time.
fn is_roomy(used: usize, capacity: usize) -> bool {
    FEW < capacity && used < capacity / 4
}

/// Shrinks a list if little of it is in use.
pub(crate) fn list<T>(list: &mut Vec<T>) {
    if is_roomy(list.len(), list.capacity()) {
        list.shrink_to(list.len() * 2);
    }
}

/// Shrinks a map if little of it is in use.
pub(crate) fn map<K: Hash + Eq, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if is_roomy(map.len(), map.capacity()) {
        map.shrink_to(map.len() * 2);
    }
}

/// Releases a slab once it is empty: its entries cannot be moved.
pub(crate) fn slab<T>(slab: &mut Slab<T>) {
    if slab.is_empty() && FEW < slab.capacity() {
        *slab = Slab::new();
    }
}
