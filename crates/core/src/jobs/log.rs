//! The log of a job: its newest bytes, with offsets that count from its beginning.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::state::Refusal;

/// Bytes up to which pieces are joined, so that a log of short lines is not a long list.
const PIECE: usize = 4096;

/// A bounded log. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct JobLog {
    capacity: usize,
    start: u64,
    end: u64,
    pieces: VecDeque<Bytes>,
}

impl JobLog {
    /// Creates an empty log that keeps the newest `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, start: 0, end: 0, pieces: VecDeque::new() }
    }

    /// Restores a stored log: `bytes` begins at the offset `start`.
    pub(super) fn kept(capacity: usize, start: u64, bytes: &[u8]) -> Self {
        let mut log = Self { capacity, start, end: start, pieces: VecDeque::new() };
        for piece in bytes.chunks(PIECE) {
            log.push(piece);
        }
        log
    }

    /// The offset of the oldest kept byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The offset after the newest byte: the number of bytes ever written.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends text that begins at `offset`. Bytes that the log has already are compared, so that a
    /// repetition changes nothing. Returns whether anything was new.
    pub(super) fn append(&mut self, offset: u64, text: &str) -> Result<bool, Refusal> {
        if self.end < offset {
            return Err(Refusal::LogHole { offset, length: self.end });
        }
        let known = usize::try_from(self.end - offset).unwrap_or(usize::MAX).min(text.len());
        let (known, new) = text.as_bytes().split_at(known);
        let there = self.read(offset, known.len());
        // Bytes that were dropped cannot be compared.
        let comparable = &known[known.len() - there.len()..];
        if there != comparable {
            return Err(Refusal::LogConflict(offset));
        }
        if new.is_empty() {
            return Ok(false);
        }
        self.push(new);
        Ok(true)
    }

    fn push(&mut self, new: &[u8]) {
        self.end += new.len() as u64;
        if let Some(skipped) = new.len().checked_sub(self.capacity) {
            // The new text alone fills the log.
            self.start = self.end - (new.len() - skipped) as u64;
            self.pieces = VecDeque::from([Bytes::copy_from_slice(&new[skipped..])]);
            return;
        }
        match self.pieces.back_mut() {
            Some(last) if last.len() + new.len() <= PIECE => {
                let mut joined = BytesMut::with_capacity(last.len() + new.len());
                joined.extend_from_slice(last);
                joined.extend_from_slice(new);
                *last = joined.freeze();
            }
            _ => self.pieces.push_back(Bytes::copy_from_slice(new)),
        }
        while self.capacity as u64 + self.start < self.end {
            let excess =
                usize::try_from(self.end - self.start).unwrap_or(usize::MAX) - self.capacity;
            let Some(first) = self.pieces.front_mut() else { break };
            let cut = excess.min(first.len());
            drop(first.split_to(cut));
            self.start += cut as u64;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Returns at most `limit` bytes from `offset` on. Bytes that were dropped count against
    /// `limit`.
    #[must_use]
    pub fn read(&self, offset: u64, limit: usize) -> Vec<u8> {
        let skipped = self.start.saturating_sub(offset);
        let limit = limit.saturating_sub(usize::try_from(skipped).unwrap_or(usize::MAX));
        let mut skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let mut read = Vec::new();
        for piece in &self.pieces {
            let from = skip.min(piece.len());
            skip -= from;
            let wanted = (limit - read.len()).min(piece.len() - from);
            read.extend_from_slice(&piece[from..from + wanted]);
        }
        read
    }

    /// Returns the text from `offset` on and its actual offset, which is higher if bytes were
    /// dropped.
    #[must_use]
    pub(crate) fn text_from(&self, offset: u64) -> (u64, String) {
        let offset = offset.max(self.start);
        let bytes = self.read(offset, usize::MAX);
        // The first byte may be within a character.
        let cut = bytes.iter().take_while(|it| **it & 0xC0 == 0x80).count();
        (offset + cut as u64, String::from_utf8_lossy(&bytes[cut..]).into_owned())
    }

    /// Returns the last whole lines as text, at most `bytes` bytes of them.
    #[must_use]
    pub fn tail(&self, bytes: usize) -> String {
        let from = self.start.max(self.end.saturating_sub(bytes as u64));
        let text = String::from_utf8_lossy(&self.read(from, bytes)).into_owned();
        match text.split_once('\n') {
            Some((_, lines)) if self.start < from || 0 < self.start => lines.to_owned(),
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holes_and_conflicts_are_refused_and_repetitions_change_nothing() {
        let mut log = JobLog::new(100);
        assert_eq!(log.append(1, "x"), Err(Refusal::LogHole { offset: 1, length: 0 }));
        assert_eq!(log.append(0, "one\n"), Ok(true));
        assert_eq!(log.append(0, "one\n"), Ok(false));
        assert_eq!(log.append(2, "e\ntwo\n"), Ok(true));
        assert_eq!(log.append(1, "X"), Err(Refusal::LogConflict(1)));
        assert_eq!(log.append(0, "one\nTWO"), Err(Refusal::LogConflict(0)));
        assert_eq!(log.read(0, 100), b"one\ntwo\n");
    }

    #[test]
    fn text_is_told_with_the_offset_where_it_begins() {
        let mut log = JobLog::new(4);
        log.append(0, "one\n").expect("it fits");
        assert_eq!(log.text_from(2), (2, "e\n".to_owned()));
        log.append(4, "äöüß").expect("it fits");
        assert_eq!(log.text_from(4), (8, "üß".to_owned()));
        log.append(12, "x").expect("it fits");
        assert_eq!(log.text_from(4), (10, "ßx".to_owned()));
    }

    proptest! {
        #[test]
        fn it_keeps_the_newest_of_what_was_written(
            texts in prop::collection::vec("[a-zü\n]{0,40}", 0..40),
            capacity in 1..200_usize,
        ) {
            let mut log = JobLog::new(capacity);
            let mut all = String::new();
            for text in &texts {
                log.append(log.end(), text).expect("it fits");
                all.push_str(text);
                // The whole text again, as if the reply was lost.
                log.append((all.len() - text.len()) as u64, text).expect("a repetition");
            }
            let start = all.len().saturating_sub(capacity);
            prop_assert_eq!(log.end(), all.len() as u64);
            prop_assert_eq!(log.start(), start as u64);
            prop_assert_eq!(log.read(0, usize::MAX), &all.as_bytes()[start..]);
        }
    }
}
