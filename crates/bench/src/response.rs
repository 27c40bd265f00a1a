//! Incremental parsing of an HTTP/1.1 response (RFC 9112) that keeps nothing of the body.

/// The most bytes of a head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most fields of a head.
const MAX_FIELDS: usize = 64;

/// The bytes are not a response.
#[derive(Debug, thiserror::Error)]
#[error("what came is not an HTTP/1.1 response")]
pub(super) struct Malformed;

/// One response.
#[derive(Debug)]
pub(super) struct Response {
    status: Option<u16>,
    closes: bool,
    progress: Progress,
}

/// How much of a response has arrived.
#[derive(Debug)]
enum Progress {
    /// The received part of an incomplete head.
    Head(Vec<u8>),
    /// Bytes of the body that have not arrived.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Complete,
}

/// The place in a chunked body (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy)]
enum Chunked {
    /// In the digits of a chunk size.
    Size(u64),
    /// After the digits.
    Extension(u64),
    /// In the data, with the number of bytes that have not arrived.
    Data(u64),
    /// After the data.
    DataEnd,
    /// In the trailer. Whether its current line is empty so far decides where the body ends.
    Trailer { is_empty: bool },
}

impl Response {
    pub(super) fn new() -> Self {
        Self { status: None, closes: false, progress: Progress::Head(Vec::new()) }
    }

    /// Returns the status, once the head is complete.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns whether the response has ended. One that lasts until the connection closes never
    /// does.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.progress, Progress::Complete)
    }

    /// Returns whether the connection cannot be reused.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// Consumes what was read and passes the status and the bytes of the body to `body`. Bytes
    /// after the end of the response are ignored.
    pub(super) fn take_in(
        &mut self,
        bytes: &[u8],
        mut body: impl FnMut(u16, &[u8]),
    ) -> Result<(), Malformed> {
        let mut rest = bytes;
        if let Progress::Head(kept) = &mut self.progress {
            let before = kept.len();
            // The first read nearly always contains the whole head, and then nothing is copied.
            let joined: &[u8] = if kept.is_empty() {
                rest
            } else {
                kept.extend_from_slice(rest);
                kept
            };
            let Some(head) = head(joined)? else {
                if before == 0 {
                    *kept = rest.to_vec();
                }
                return if kept.len() < MAX_HEAD_BYTES { Ok(()) } else { Err(Malformed) };
            };
            rest = rest.get(head.length.saturating_sub(before)..).unwrap_or_default();
            if (100..200).contains(&head.status) {
                *self = Self::new();
                return self.take_in(rest, body);
            }
            (self.status, self.closes, self.progress) = (Some(head.status), head.closes, head.body);
        }
        let status = self.status.unwrap_or_default();
        while !rest.is_empty() {
            let used = self.progress.step(rest, |bytes| body(status, bytes))?;
            rest = &rest[used..];
        }
        Ok(())
    }
}

impl Progress {
    /// Consumes the beginning of `bytes` and returns its length.
    fn step(&mut self, bytes: &[u8], body: impl FnOnce(&[u8])) -> Result<usize, Malformed> {
        let used = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match self {
            Self::Head(_) => Err(Malformed),
            Self::Complete => Ok(bytes.len()),
            Self::UntilClose => {
                body(bytes);
                Ok(bytes.len())
            }
            Self::Length(left) => {
                let used = used(*left);
                body(&bytes[..used]);
                *left -= used as u64;
                if *left == 0 {
                    *self = Self::Complete;
                }
                Ok(used)
            }
            Self::Chunked(Chunked::Data(left)) => {
                let used = used(*left);
                body(&bytes[..used]);
                *left -= used as u64;
                if *left == 0 {
                    *self = Self::Chunked(Chunked::DataEnd);
                }
                Ok(used)
            }
            Self::Chunked(at) => {
                match at.next(bytes[0])? {
                    Some(next) => *at = next,
                    None => *self = Self::Complete,
                }
                Ok(1)
            }
        }
    }
}

impl Chunked {
    /// Returns the place after a byte that is not data, or `None` after the last byte.
    fn next(self, byte: u8) -> Result<Option<Self>, Malformed> {
        Ok(Some(match (self, byte) {
            (Self::Size(size) | Self::Extension(size), b'\n') => match size {
                0 => Self::Trailer { is_empty: true },
                size => Self::Data(size),
            },
            (Self::Size(size), b';' | b'\r' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(size), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                let shifted = size.checked_mul(16).ok_or(Malformed)?;
                Self::Size(shifted + u64::from(digit))
            }
            (Self::DataEnd, b'\n') => Self::Size(0),
            (Self::DataEnd | Self::Trailer { .. }, b'\r') | (Self::Extension(_), _) => self,
            (Self::Trailer { is_empty: true }, b'\n') => return Ok(None),
            (Self::Trailer { .. }, byte) => Self::Trailer { is_empty: byte == b'\n' },
            (Self::DataEnd | Self::Data(_), _) => return Err(Malformed),
        }))
    }
}

struct Head {
    length: usize,
    status: u16,
    closes: bool,
    body: Progress,
}

/// Parses a head. Returns `None` if it is incomplete.
fn head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(|_| Malformed)? else {
        return Ok(None);
    };
    let status = parsed.code.ok_or(Malformed)?;
    let value = |name: &str| {
        let field = parsed.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(field.value).ok().map(str::to_ascii_lowercase)
    };
    let chunked = value("transfer-encoding").is_some_and(|it| it.ends_with("chunked"));
    let body = match value("content-length") {
        _ if matches!(status, 204 | 304) => Progress::Complete,
        _ if chunked => Progress::Chunked(Chunked::Size(0)),
        Some(length) => match length.trim().parse().map_err(|_| Malformed)? {
            0 => Progress::Complete,
            length => Progress::Length(length),
        },
        None => Progress::UntilClose,
    };
    let keeps = parsed.version == Some(1) && value("connection").is_none_or(|it| it != "close");
    Ok(Some(Head { length, status, closes: !keeps, body }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], read: usize) -> Result<(Response, Vec<u8>), Malformed> {
        let (mut response, mut body) = (Response::new(), Vec::new());
        for bytes in bytes.chunks(read) {
            response.take_in(bytes, |_, bytes| body.extend_from_slice(bytes))?;
        }
        Ok((response, body))
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_wherever_reads_end(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            framing in 0..3,
            size in 1_usize..80,
        ) {
            let whole = chunks.concat();
            let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\n".to_vec();
            match framing {
                0 => {
                    bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    for chunk in &chunks {
                        bytes.extend(format!("{:X};x=y\r\n", chunk.len()).into_bytes());
                        bytes.extend(chunk);
                        bytes.extend(b"\r\n");
                    }
                    bytes.extend(b"0\r\nA: b\r\n\r\n");
                }
                1 => {
                    bytes.extend(format!("Content-Length: {}\r\n\r\n", whole.len()).into_bytes());
                    bytes.extend(&whole);
                }
                _ => {
                    bytes.extend(b"Connection: close\r\n\r\n");
                    bytes.extend(&whole);
                }
            }
            let (response, body) = read(&bytes, size).expect("a response");
            prop_assert_eq!(body, whole);
            prop_assert_eq!(response.status(), Some(200));
            prop_assert_eq!(response.is_complete(), framing < 2);
            prop_assert_eq!(response.closes(), framing == 2);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            let _ = read(&bytes, size);
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = read(&[&head[..], &bytes].concat(), size);
        }
    }

    #[test]
    fn a_response_without_a_body_is_complete_with_its_head() {
        let (response, _) = read(b"HTTP/1.1 304 Not Modified\r\n\r\n", 7).expect("a response");
        assert!(response.is_complete());
    }

    #[test]
    fn an_endless_head_is_refused() {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        bytes.resize(2 * MAX_HEAD_BYTES, b'a');
        assert!(read(&bytes, 1000).is_err());
    }
}
