//! Values in the order of their positions, as a queue or as a tree.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use crate::event::Position;

/// Values by position. New ones come after all others.
#[derive(Debug)]
pub(super) enum Ordered<T> {
    /// Fast and compact, but only the oldest can be removed.
    Queue(VecDeque<(Position, T)>),
    /// Any can be removed, and any position added.
    Tree(BTreeMap<Position, T>),
}

impl<T> Ordered<T> {
    /// Creates an empty collection. `has_holes` if others than the oldest are to be removed.
    pub(super) fn new(has_holes: bool) -> Self {
        if has_holes { Self::Tree(BTreeMap::new()) } else { Self::Queue(VecDeque::new()) }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.len(),
            Self::Tree(tree) => tree.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a value. In a queue its position must be after all others.
    pub(super) fn insert(&mut self, position: Position, value: T) {
        match self {
            Self::Queue(queue) => queue.push_back((position, value)),
            Self::Tree(tree) => drop(tree.insert(position, value)),
        }
    }

    /// The oldest value.
    pub(super) fn first(&self) -> Option<(Position, &T)> {
        match self {
            Self::Queue(queue) => queue.front().map(|(position, value)| (*position, value)),
            Self::Tree(tree) => tree.first_key_value().map(|(position, value)| (*position, value)),
        }
    }

    /// Removes the value at a position. In a queue that must be the oldest.
    pub(super) fn remove(&mut self, position: Position) -> Option<T> {
        match self {
            Self::Queue(queue) => {
                let is_oldest = queue.front().is_some_and(|it| it.0 == position);
                is_oldest.then(|| queue.pop_front()).flatten().map(|it| it.1)
            }
            Self::Tree(tree) => tree.remove(&position),
        }
    }

    /// The value at a position.
    pub(super) fn get(&self, position: Position) -> Option<&T> {
        match self {
            Self::Queue(queue) => {
                let at = queue.binary_search_by_key(&position, |it| it.0).ok()?;
                queue.get(at).map(|it| &it.1)
            }
            Self::Tree(tree) => tree.get(&position),
        }
    }

    /// The values after a position, oldest first.
    pub(super) fn after(
        &self,
        position: Position,
    ) -> Box<dyn Iterator<Item = (Position, &T)> + '_> {
        match self {
            Self::Queue(queue) => {
                let start = queue.partition_point(|it| it.0 <= position);
                Box::new(queue.range(start..).map(|(position, value)| (*position, value)))
            }
            Self::Tree(tree) => {
                let range = tree.range((Bound::Excluded(position), Bound::Unbounded));
                Box::new(range.map(|(position, value)| (*position, value)))
            }
        }
    }

    /// The values up to a position, newest first.
    pub(super) fn up_to(
        &self,
        position: Position,
    ) -> Box<dyn Iterator<Item = (Position, &T)> + '_> {
        match self {
            Self::Queue(queue) => {
                let end = queue.partition_point(|it| it.0 <= position);
                Box::new(queue.range(..end).rev().map(|(position, value)| (*position, value)))
            }
            Self::Tree(tree) => {
                let range = tree.range(..=position).rev();
                Box::new(range.map(|(position, value)| (*position, value)))
            }
        }
    }

    /// The position of the last value for which `is_before` holds, as it does for the oldest ones
    /// and for no others.
    pub(super) fn last_before(&self, is_before: impl Fn(&T) -> bool) -> Option<Position> {
        match self {
            Self::Queue(queue) => {
                let n_before = queue.partition_point(|it| is_before(&it.1));
                n_before.checked_sub(1).and_then(|at| queue.get(at)).map(|it| it.0)
            }
            Self::Tree(tree) => {
                let (mut before, mut end) = (None, tree.last_key_value()?.0.0 + 1);
                let mut start = tree.first_key_value()?.0.0;
                while start < end {
                    let middle = start + (end - start) / 2;
                    match tree.range(Position(middle)..Position(end)).next() {
                        Some((position, value)) if is_before(value) => {
                            before = Some(*position);
                            start = position.0 + 1;
                        }
                        _ => end = middle,
                    }
                }
                before
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_queue_and_a_tree_hold_the_same(
            steps in prop::collection::vec(1..4_u64, 0..40), n_removed in 0..20_usize, at in 0..100_u64,
        ) {
            let (mut queue, mut tree) = (Ordered::new(false), Ordered::new(true));
            let mut position = 0;
            for step in steps {
                position += step;
                queue.insert(Position(position), position);
                tree.insert(Position(position), position);
            }
            for _ in 0..n_removed.min(queue.len()) {
                let first = queue.first().expect("there is one").0;
                prop_assert_eq!(queue.remove(first), tree.remove(first));
            }
            let at = Position(at);
            prop_assert_eq!((queue.len(), queue.is_empty()), (tree.len(), tree.is_empty()));
            prop_assert_eq!((queue.first(), queue.get(at)), (tree.first(), tree.get(at)));
            prop_assert!(queue.after(at).eq(tree.after(at)));
            prop_assert!(queue.up_to(at).eq(tree.up_to(at)));
            let is_before = |it: &u64| *it < at.0;
            prop_assert_eq!(queue.last_before(is_before), tree.last_before(is_before));
        }
    }
}
