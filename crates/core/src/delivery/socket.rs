//! A socket that a shard writes to itself: what is being written, and how much of it has been sent.
//!
//! Nothing is queued for a socket. While it is blocked, only the subscriber's cursor and the number
//! of bytes sent of the next event are kept. A gap, a heartbeat or an end is kept as bytes, one of
//! them at a time.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::Shutdown,
    rc::Rc,
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use mio::{Interest, Registry, Token, net::TcpStream};

use super::wheel::Tick;
use crate::{
    event::{Event, Position},
    transport::Style,
};

/// How long an ended stream waits for its client to close, so that the client receives all of it.
const LINGER: Duration = Duration::from_secs(2);

/// Limit on the bytes of a single event written in one call; vectored writes of several events have
/// none. The kernel accepts a call's bytes as a whole once it has room, and reports room again when
/// most have left. So this is the resolution at which a slow client's progress is seen.
const WRITE_AT_ONCE: usize = 16 * 1024;

/// Bytes of input that are read and discarded before other sockets are served.
const READ_AT_ONCE: usize = 64 * 1024;

pub(super) struct Connection {
    stream: TcpStream,
    pub(super) style: Rc<Style>,
    /// Bytes that are sent before any event.
    notice: Option<Box<Bytes>>,
    /// The position of the event that was partly sent, unless `n_half` is 0.
    half: Position,
    n_half: usize,
    /// Bytes of events sent so far.
    n_written: usize,
    /// The time since which the client has accepted nothing, although there was something to send.
    stuck_since: Option<Tick>,
    /// Whether it has ever been blocked. From then on the kernel does not close it by itself.
    is_slow: bool,
    phase: Phase,
    is_queued: bool,
    /// Whether the stream ends after the notice.
    is_ending: bool,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Something to write.
    Open,
    /// The client to accept data; it has accepted nothing since then.
    Blocked { since: Tick },
    /// A page of the history.
    Reading,
    /// The client to close.
    Lingering { since: Tick },
}

/// The result of an attempt to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Everything was written.
    All,
    /// This many events were written in full before the socket blocked.
    Some(usize),
}

/// An event and its bytes for one socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoded<'a> {
    pub(super) event: &'a Event,
    pub(super) bytes: &'a Bytes,
}

impl Connection {
    pub(super) fn new(stream: std::net::TcpStream, style: Rc<Style>) -> Self {
        Self {
            stream: TcpStream::from_std(stream),
            style,
            notice: None,
            half: Position::START,
            n_half: 0,
            n_written: 0,
            stuck_since: None,
            is_slow: false,
            phase: Phase::Open,
            is_queued: false,
            is_ending: false,
        }
    }

    pub(super) fn watch(&mut self, registry: &Registry, key: usize) -> io::Result<()> {
        registry.register(&mut self.stream, Token(key), Interest::READABLE | Interest::WRITABLE)
    }

    /// Marks it as queued for writing. Returns whether the caller has to queue it: it is open and
    /// was not queued yet.
    pub(super) fn enqueue(&mut self) -> bool {
        !self.is_queued && self.phase == Phase::Open && {
            self.is_queued = true;
            true
        }
    }

    /// Marks it as no longer queued. Returns whether it can be written to.
    pub(super) fn dequeue(&mut self) -> bool {
        self.is_queued = false;
        self.phase == Phase::Open
    }

    /// When it has to be closed.
    pub(super) fn deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Open | Phase::Reading => None,
            Phase::Blocked { since } => Some(since.after(self.style.write_deadline)),
            Phase::Lingering { since } => Some(since.after(LINGER)),
        }
    }

    /// Notes that the socket is writable again. Returns whether it was blocked.
    pub(super) fn unblock(&mut self) -> bool {
        let was_blocked = matches!(self.phase, Phase::Blocked { .. });
        if was_blocked {
            self.phase = Phase::Open;
        }
        was_blocked
    }

    /// Starts to wait for a page of the history.
    pub(super) fn begin_reading(&mut self) {
        self.phase = Phase::Reading;
    }

    /// Ends the wait for a page of the history.
    pub(super) fn end_reading(&mut self) {
        self.phase = Phase::Open;
    }

    /// Whether part of an event has been sent, so that the rest has to follow before anything else.
    pub(super) fn is_within_event(&self) -> bool {
        0 < self.n_half
    }

    /// Whether a notice is to be written before anything else.
    pub(super) fn has_notice(&self) -> bool {
        self.notice.is_some()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Makes `notice` the next bytes to send.
    pub(super) fn notify(&mut self, notice: Bytes) {
        self.notice = Some(Box::new(notice));
    }

    /// Ends the stream, after `notice` if there is one.
    pub(super) fn end(&mut self, notice: Option<Bytes>) {
        self.is_ending = true;
        if let Some(notice) = notice {
            self.notify(notice);
        }
    }

    /// Whether the stream has reached the size at which it is recycled.
    pub(super) fn is_full(&self) -> bool {
        self.would_be_full(0)
    }

    /// Whether it would be with `n_bytes` more.
    pub(super) fn would_be_full(&self, n_bytes: usize) -> bool {
        self.style.is_full(self.n_written.saturating_add(n_bytes))
    }

    /// Writes the notice, if there is one.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn write_notice(&mut self, now: Tick) -> io::Result<Wrote> {
        while let Some(notice) = &mut self.notice {
            match retry(|| self.stream.write(notice))? {
                Some(written) => {
                    self.stuck_since = None;
                    notice.advance(written);
                }
                None => return Ok(self.block(now)),
            }
            if notice.is_empty() {
                self.notice = None;
            }
        }
        Ok(Wrote::All)
    }

    /// Writes consecutive events, in as few calls as possible.
    ///
    /// # Errors
    /// If the connection is broken, or if the first event is not the one that was partly sent.
    pub(super) fn write_events(&mut self, events: &[Encoded<'_>], now: Tick) -> io::Result<Wrote> {
        let mut n_complete = 0;
        if self.is_within_event() && events.first().is_some_and(|it| it.event.position != self.half)
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        while let Some((first, others)) = events[n_complete..].split_first() {
            let rest = &first.bytes[self.n_half..];
            // A large event is written by itself, in steps that show a slow client's progress.
            let written = if others.is_empty() || WRITE_AT_ONCE <= rest.len() {
                retry(|| self.stream.write(&rest[..rest.len().min(WRITE_AT_ONCE)]))?
            } else {
                let others = others.iter().map(|it| IoSlice::new(it.bytes));
                let slices: Vec<_> = std::iter::once(IoSlice::new(rest)).chain(others).collect();
                retry(|| self.stream.write_vectored(&slices))?
            };
            let Some(mut written) = written else {
                self.half = first.event.position;
                self.block(now);
                return Ok(Wrote::Some(n_complete));
            };
            self.stuck_since = None;
            self.n_written = self.n_written.saturating_add(written);
            while let Some(event) = events.get(n_complete) {
                let rest = event.bytes.len() - self.n_half;
                if written < rest {
                    self.n_half += written;
                    break;
                }
                written -= rest;
                self.n_half = 0;
                n_complete += 1;
            }
        }
        Ok(Wrote::All)
    }

    fn block(&mut self, now: Tick) -> Wrote {
        // Only accepted bytes are progress: a wake-up by the kernel is not.
        self.phase = Phase::Blocked { since: *self.stuck_since.get_or_insert(now) };
        if !self.is_slow {
            self.is_slow = true;
            self.set_kernel_deadline(None);
        }
        Wrote::Some(0)
    }

    /// Sets the time without progress after which the kernel closes the connection; `None` for
    /// never. The shard watches slow clients instead, because it knows how much they accepted.
    fn set_kernel_deadline(&self, _deadline: Option<Duration>) {
        // Best effort: without it the connection may be closed too early, and the client
        // reconnects.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&self.stream).set_tcp_user_timeout(_deadline);
    }

    /// Shuts down the sending side, and waits for the client to close.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn linger(&mut self, now: Tick) -> io::Result<()> {
        self.phase = Phase::Lingering { since: now };
        if self.is_slow {
            self.set_kernel_deadline(Some(self.style.write_deadline));
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads and discards what the client sends, to notice when it closes. Returns whether
    /// everything was read.
    ///
    /// # Errors
    /// If the client has closed, or the connection is broken.
    pub(super) fn discard_input(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        for _ in 0..READ_AT_ONCE / buffer.len() {
            match retry(|| self.stream.read(&mut buffer))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => {}
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}

impl Drop for Connection {
    /// Leaves a slow connection to the kernel, with a deadline for the bytes that are still to be
    /// accepted.
    fn drop(&mut self) {
        if self.is_slow {
            self.set_kernel_deadline(Some(self.style.write_deadline));
        }
    }
}

/// Repeats `call` while signals interrupt it; `None` if the socket is not ready.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
