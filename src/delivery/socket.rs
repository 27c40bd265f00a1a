//! A socket that a shard writes to itself: what is on its way, and how much of it has left.
//!
//! Nothing is queued for a socket. While it takes nothing, only its subscriber's cursor is kept, and how much of the
//! next event it has taken already; what a gap, a heartbeat or the end says is kept as bytes, one of them at a time.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::Shutdown,
    rc::Rc,
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use mio::{Interest, Registry, Token, net::TcpStream};

use super::{Style, wheel::Tick};
use crate::{
    event::{Event, Position},
    history::TokenKey,
};

/// How long a stream that has ended waits for its client to close, so that the client gets all of it.
const LINGER: Duration = Duration::from_secs(2);

/// The most that is written in one call. The kernel takes a call's bytes as a whole once it has room, and reports room
/// again when most of them have left; so this is the step in which the progress of a slow client is seen.
const WRITE_AT_ONCE: usize = 16 * 1024;

/// Bytes of a client that are read, and thrown away, before others get their turn.
const READ_AT_ONCE: usize = 64 * 1024;

pub(super) struct Connection {
    stream: TcpStream,
    pub(super) style: Rc<Style>,
    /// What goes out before any event.
    notice: Option<Box<Bytes>>,
    /// The event of which `n_half` bytes have gone out, if that is not 0.
    half: Position,
    n_half: usize,
    /// Bytes of events that have gone out.
    n_written: usize,
    /// Since when the client has taken nothing of what there was for it.
    stuck_since: Option<Tick>,
    /// Whether it has been blocked, since when the kernel does not give it up by itself.
    is_slow: bool,
    phase: Phase,
    is_queued: bool,
    /// Nothing comes behind the notice.
    is_ending: bool,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Something to write.
    Open,
    /// The client to take what there is; since when it has taken nothing.
    Blocked { since: Tick },
    /// A page of the history.
    Reading,
    /// The client to close.
    Lingering { since: Tick },
}

/// What became of an attempt to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Everything.
    All,
    /// This many events in full, until the client took no more.
    Some(usize),
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

    /// Whether it is to be put into the queue of those that can be written to. It is told only once.
    pub(super) fn enqueue(&mut self) -> bool {
        !self.is_queued && self.phase == Phase::Open && {
            self.is_queued = true;
            true
        }
    }

    /// Whether it can be written to, now that it was taken out of the queue.
    pub(super) fn dequeue(&mut self) -> bool {
        self.is_queued = false;
        self.phase == Phase::Open
    }

    /// When it has to be given up.
    pub(super) fn deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Open | Phase::Reading => None,
            Phase::Blocked { since } => Some(since.after(self.style.write_deadline)),
            Phase::Lingering { since } => Some(since.after(LINGER)),
        }
    }

    /// Notes that the client takes something again. Returns whether it was waited for.
    pub(super) fn unblock(&mut self) -> bool {
        let was_blocked = matches!(self.phase, Phase::Blocked { .. });
        if was_blocked {
            self.phase = Phase::Open;
        }
        was_blocked
    }

    /// Begins to wait for a page of the history.
    pub(super) fn begin_reading(&mut self) {
        self.phase = Phase::Reading;
    }

    /// The page is there.
    pub(super) fn end_reading(&mut self) {
        self.phase = Phase::Open;
    }

    /// Whether part of an event has gone out, so that the rest of it has to follow before anything else.
    pub(super) fn is_within_event(&self) -> bool {
        0 < self.n_half
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Has `notice` go out next.
    pub(super) fn notify(&mut self, notice: Bytes) {
        self.notice = Some(Box::new(notice));
    }

    /// Has `notice` go out last, or nothing.
    pub(super) fn end(&mut self, notice: Option<Bytes>) {
        self.is_ending = true;
        if let Some(notice) = notice {
            self.notify(notice);
        }
    }

    /// Whether as much has gone out as may before the end.
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

    /// Writes events, one behind the other, in as few calls as possible.
    ///
    /// # Errors
    /// If the connection is broken, or if the event of which half has gone out is not the next one.
    pub(super) fn write_events(
        &mut self,
        events: &[&Event],
        key: &TokenKey,
        now: Tick,
    ) -> io::Result<Wrote> {
        let mut n_complete = 0;
        if self.is_within_event() && events.first().is_some_and(|it| it.position != self.half) {
            return Err(io::ErrorKind::NotFound.into());
        }
        while let Some((first, others)) = events[n_complete..].split_first() {
            let style = &self.style;
            let rest = &style.event(first, key)[self.n_half..];
            let written = if others.is_empty() || WRITE_AT_ONCE <= rest.len() {
                retry(|| self.stream.write(&rest[..rest.len().min(WRITE_AT_ONCE)]))?
            } else {
                let others = others.iter().map(|event| IoSlice::new(style.event(event, key)));
                let slices: Vec<_> = std::iter::once(IoSlice::new(rest)).chain(others).collect();
                retry(|| self.stream.write_vectored(&slices))?
            };
            let Some(mut written) = written else {
                self.half = first.position;
                self.block(now);
                return Ok(Wrote::Some(n_complete));
            };
            self.stuck_since = None;
            self.n_written = self.n_written.saturating_add(written);
            while let Some(event) = events.get(n_complete) {
                let rest = self.style.event(event, key).len() - self.n_half;
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
        // That the kernel woke it is no progress, only what was taken is.
        self.phase = Phase::Blocked { since: *self.stuck_since.get_or_insert(now) };
        if !self.is_slow {
            self.is_slow = true;
            self.set_kernel_deadline(None);
        }
        Wrote::Some(0)
    }

    /// Sets after which time without progress the kernel gives the connection up, `None` for never. A slow client is
    /// watched by its shard instead, which knows what was taken.
    fn set_kernel_deadline(&self, _deadline: Option<Duration>) {
        // Best effort: without it the connection may be given up too early, and the client comes back.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&self.stream).set_tcp_user_timeout(_deadline);
    }

    /// Says that nothing comes any more, and waits for the client to close.
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

    /// Reads what the client sends, which is of no interest, but its end is. Returns whether that was all.
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
    /// Leaves a slow connection to the kernel, which would otherwise keep what was not taken without a deadline.
    fn drop(&mut self) {
        if self.is_slow {
            self.set_kernel_deadline(Some(self.style.write_deadline));
        }
    }
}

/// Does `call` until no signal interrupts it; `None` if the socket is not ready for it.
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
