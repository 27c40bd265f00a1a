//! The newest frames as they are in the log, to put them back if Redis has lost them.

use std::collections::BTreeMap;

use super::frame::{Frame, Id};

/// Frames in the order of the log, limited in bytes.
#[derive(Debug)]
pub(super) struct Ring {
    capacity: usize,
    frames: BTreeMap<Id, Frame>,
    bytes: usize,
}

impl Ring {
    /// The bytes that a frame needs besides its pieces.
    const FIXED: usize = 256;

    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, frames: BTreeMap::new(), bytes: 0 }
    }

    /// Adds a frame, which may be known. The oldest ones make room.
    pub(super) fn insert(&mut self, frame: Frame) {
        let size = frame.size() + Self::FIXED;
        if self.frames.insert(frame.id, frame).is_none() {
            self.bytes += size;
        }
        while self.capacity < self.bytes
            && 1 < self.frames.len()
            && let Some((_, oldest)) = self.frames.pop_first()
        {
            self.bytes -= oldest.size() + Self::FIXED;
        }
    }

    /// Removes the frames after `after` and before `end`, which are on no branch that goes on.
    pub(super) fn take_between(&mut self, after: Id, end: Id) -> Vec<Frame> {
        let ids: Vec<Id> = self.frames.keys().copied().collect();
        let between = ids.into_iter().filter(|id| after < *id && *id < end);
        between.filter_map(|id| self.remove(id)).collect()
    }

    /// Removes the frames that `is_kept` does not hold for.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let gone = self.frames.values().filter(|it| !is_kept(it)).map(|it| it.id);
        let gone: Vec<Id> = gone.collect();
        gone.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn remove(&mut self, id: Id) -> Option<Frame> {
        let frame = self.frames.remove(&id)?;
        self.bytes -= frame.size() + Self::FIXED;
        Some(frame)
    }

    /// The frames that follow on `newest` without a hole.
    pub(super) fn chain_after(&self, newest: Id) -> Vec<&Frame> {
        let mut here = newest;
        let mut chain = Vec::new();
        for frame in self.frames.values() {
            if frame.predecessor == here && here < frame.id {
                here = frame.id;
                chain.push(frame);
            }
        }
        chain
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::shared::frame::{Content, Origin};

    fn frame(term: u64, number: u64, predecessor: Id) -> Frame {
        let origin = Origin { node: "a".into(), session: 1, number };
        let content = Content::Pieces { origin, pieces: vec![vec![0; 100].into()] };
        Frame { id: Id { term, number }, predecessor, time: 0, content }
    }

    fn numbers(frames: &[&Frame]) -> Vec<u64> {
        frames.iter().map(|it| it.id.number).collect()
    }

    #[test]
    fn a_chain_has_no_hole_and_the_oldest_frames_make_room() {
        let mut ring = Ring::new(4 * (100 + Ring::FIXED));
        let id = |number| Id { term: 1, number };
        for number in [1, 2, 3, 5, 4] {
            ring.insert(frame(1, number, id(number - 1)));
            ring.insert(frame(1, number, id(number - 1)));
        }
        assert_eq!(numbers(&ring.chain_after(id(3))), [4, 5]);
        assert!(ring.chain_after(id(0)).is_empty(), "the first one made room");
        assert_eq!(numbers(&ring.chain_after(id(1))), [2, 3, 4, 5]);
        let orphans = ring.take_between(id(3), Id { term: 2, number: 3 });
        assert_eq!(orphans.iter().map(|it| it.id.number).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(numbers(&ring.chain_after(id(1))), [2, 3]);
        assert_eq!(ring.retain(|it| it.id.number == 3).len(), 1);
        assert_eq!(ring.bytes, 100 + Ring::FIXED);
    }
}
