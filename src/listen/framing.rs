//! Where the heads and the chunked bodies of HTTP/1 end.

/// Where a head is: an empty line ends it, but may precede it (RFC 9112, section 2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Line {
    /// Before its first line.
    #[default]
    Start,
    Within,
    /// At its beginning, perhaps after a carriage return.
    Begin,
}

impl Line {
    /// Returns the length of `bytes` up to the end of a head, if one ends in them.
    pub(super) fn end_of_head(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Self::Start, b'\r' | b'\n') => Self::Start,
                (Self::Begin, b'\n') => {
                    *self = Self::Start;
                    return Some(at + 1);
                }
                (Self::Begin, b'\r') | (Self::Within, b'\n') => Self::Begin,
                _ => Self::Within,
            };
        }
        None
    }
}

/// Where a chunked body is (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In a line with a size.
    Size { size: u64, is_extension: bool },
    /// In a chunk, so many bytes before its end.
    Data(u64),
    /// After a chunk, before the end of the line.
    LineEnd,
    /// After the last chunk.
    Trailer(Line),
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size { size: 0, is_extension: false }
    }
}

impl Chunks {
    /// Returns the length of `bytes` up to the end of the body, if it ends in them.
    pub(super) fn end_of_body(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            *self = match *self {
                Self::Size { size: 0, .. } if byte == b'\n' => Self::Trailer(Line::Begin),
                Self::Size { size, .. } if byte == b'\n' => Self::Data(size),
                Self::Size { size, is_extension: false } => match char::from(byte).to_digit(16) {
                    Some(digit) => {
                        let size = size.saturating_mul(16).saturating_add(digit.into());
                        Self::Size { size, is_extension: false }
                    }
                    None => Self::Size { size, is_extension: true },
                },
                Self::Size { .. } => *self,
                Self::Data(left) => {
                    let skipped = left.min((bytes.len() - at + 1) as u64);
                    at += usize::try_from(skipped).unwrap_or(usize::MAX) - 1;
                    if skipped == left { Self::LineEnd } else { Self::Data(left - skipped) }
                }
                Self::LineEnd if byte == b'\n' => Self::default(),
                Self::LineEnd => Self::LineEnd,
                Self::Trailer(mut line) => {
                    if line.end_of_head(&[byte]).is_some() {
                        return Some(at);
                    }
                    Self::Trailer(line)
                }
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heads_end_after_an_empty_line_however_they_arrive() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for split in 0..head.len() {
            let mut line = Line::default();
            assert_eq!(line.end_of_head(&head[..split]), None);
            assert_eq!(
                line.end_of_head(&[&head[split..], b"rest"].concat()),
                Some(head.len() - split)
            );
        }
        assert_eq!(Line::default().end_of_head(b"GET / HTTP/1.1\nHost: a\n\nrest"), Some(24));
        assert_eq!(Line::default().end_of_head(b"\r\n\r\na\r\n\rb\n"), None);
    }

    proptest! {
        #[test]
        fn chunked_bodies_end_after_their_trailer_however_they_arrive(
            chunks in prop::collection::vec("[0-9a-f\r\n]{1,40}", 0..5),
            trailer in prop::sample::select(vec!["", "a: b\r\n", "a: b\r\nc: 0\r\n"]),
            split in any::<prop::sample::Index>(),
        ) {
            let chunk = |it: &String| format!("{:x};e=\"1\"\r\n{it}\r\n", it.len());
            let body = chunks.iter().map(chunk).collect::<String>() + "0\r\n" + trailer + "\r\n";
            let split = split.index(body.len());
            let mut state = Chunks::default();
            prop_assert_eq!(state.end_of_body(&body.as_bytes()[..split]), None);
            let rest = [&body.as_bytes()[split..], b"GET / HTTP/1.1"].concat();
            prop_assert_eq!(state.end_of_body(&rest), Some(body.len() - split));
        }
    }
}
