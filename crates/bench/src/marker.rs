//! Markers: a few fixed bytes at the beginning of a payload, which identify a message wherever it
//! arrives.
//!
//! A marker has no character that any transport escapes. It is therefore found in the bytes of a
//! body without parsing the framing. It may be split over any number of reads.

use std::fmt;

use memchr::memchr;

/// Length of a marker in bytes.
pub(super) const LENGTH: usize = 2 + 8 + 8 + 4 + 8 + 16;

/// The first and the last byte of a marker.
const EDGE: u8 = b'~';

/// The identity of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    /// Separates the messages of this run from those of others.
    pub(super) run: u32,
    pub(super) topic: u32,
    /// The number of the publisher among those of the topic.
    pub(super) lane: u16,
    /// The message's number within its topic and lane.
    pub(super) number: u32,
    /// When the publisher began to write the request, in nanoseconds since the start of the run.
    pub(super) sent: u64,
}

impl fmt::Display for Marker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, topic, lane, number, sent } = self;
        write!(out, "~{run:08x}{topic:08x}{lane:04x}{number:08x}{sent:016x}~")
    }
}

impl Marker {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        let (last, digits) = rest.split_last()?;
        if *first != EDGE || *last != EDGE || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let digits = str::from_utf8(digits).ok()?;
        let field = |from: usize, length: usize| {
            u64::from_str_radix(digits.get(from..from + length)?, 16).ok()
        };
        Some(Self {
            run: field(0, 8)?.try_into().ok()?,
            topic: field(8, 8)?.try_into().ok()?,
            lane: field(16, 4)?.try_into().ok()?,
            number: field(20, 8)?.try_into().ok()?,
            sent: field(28, 16)?,
        })
    }
}

/// Finds the markers in one stream.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The beginning of a marker whose end has not arrived. Nearly always empty.
    kept: Vec<u8>,
}

impl Scanner {
    /// Calls `found` for each marker that these bytes complete.
    pub(super) fn scan(&mut self, bytes: &[u8], mut found: impl FnMut(Marker)) {
        let mut rest = bytes;
        while !self.kept.is_empty() {
            let (missing, behind) = rest.split_at(rest.len().min(LENGTH - self.kept.len()));
            self.kept.extend_from_slice(missing);
            rest = behind;
            if self.kept.len() < LENGTH {
                return;
            }
            if let Some(marker) = Marker::parse(&self.kept) {
                found(marker);
                self.kept.clear();
            } else {
                let next = memchr(EDGE, &self.kept[1..]).map_or(LENGTH, |at| at + 1);
                self.kept.drain(..next);
            }
        }
        while let Some(at) = memchr(EDGE, rest) {
            rest = &rest[at..];
            let marker = rest.get(..LENGTH).and_then(Marker::parse);
            if rest.len() < LENGTH && rest[1..].iter().all(u8::is_ascii_hexdigit) {
                self.kept.extend_from_slice(rest);
                return;
            }
            rest = &rest[marker.map_or(1, |_| LENGTH)..];
            if let Some(marker) = marker {
                found(marker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece() -> impl Strategy<Value = (String, Option<Marker>)> {
        let fields = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u32>(), any::<u64>());
        let marker = fields.prop_map(|(run, topic, lane, number, sent)| {
            let marker = Marker { run, topic, lane, number, sent };
            (marker.to_string(), Some(marker))
        });
        // No edge at the end of noise: together with what follows it could form a marker.
        let noise = "([~0-9a-f]{0,50}[ :\n])?".prop_map(|noise| (noise, None));
        prop_oneof![marker, noise]
    }

    proptest! {
        #[test]
        fn every_marker_is_found_once_wherever_reads_end(
            pieces in prop::collection::vec(piece(), 0..12),
            read in 1_usize..100,
        ) {
            let text: String = pieces.iter().map(|it| it.0.as_str()).collect();
            let expected: Vec<Marker> = pieces.iter().filter_map(|it| it.1).collect();
            let (mut scanner, mut found) = (Scanner::default(), Vec::new());
            for bytes in text.as_bytes().chunks(read) {
                scanner.scan(bytes, |marker| found.push(marker));
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_marker_has_its_length() {
        let marker = Marker { run: 1, topic: 2, lane: 3, number: 4, sent: u64::MAX };
        assert_eq!(marker.to_string().len(), LENGTH);
    }
}
