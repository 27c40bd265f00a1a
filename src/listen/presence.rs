//! Whether a connection has a request, and how long it may stay without one.
//!
//! The HTTP library limits the time of a connection's first head only, and judges by the clock before it looks at what
//! has arrived. Here both times hold for every request, and bytes that have arrived are read before a connection ends.

use std::{
    cell::{Cell, RefCell},
    future::Future as _,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    web::Bytes,
};
use tokio::time::{Sleep, sleep_until};

/// Time between the end of a connection's time and its end. After a standstill of the process, timers may come before
/// the bytes that arrived meanwhile.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Connections that a thread knows of before it forgets those that have ended.
const FEW: usize = 64;

thread_local! {
    static OF_THIS_THREAD: RefCell<Crowd> = RefCell::default();
}

/// How long connections may stay without a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Until a head is complete.
    pub(super) head: Duration,
    /// Until a head begins, after a response.
    pub(super) keep_alive: Duration,
}

/// What a connection without a request waits for. Those that wait for less to lose come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Awaits {
    Request,
    RestOfHead,
}

/// A connection, as far as its time goes.
#[derive(Debug)]
pub(super) struct Presence {
    times: Times,
    /// Requests that are served.
    serving: Cell<u32>,
    awaits: Cell<Awaits>,
    since: Cell<Instant>,
    /// When the time had passed, and was it so.
    looked: Cell<Option<Instant>>,
    /// Whether the peer takes nothing at the moment. The kernel limits how long (`delivery.write_deadline`).
    is_blocked: Cell<bool>,
    /// Whether requests are streams of HTTP/2, which end on tasks of their own. Bytes do not announce a head there.
    is_http_2: Cell<bool>,
    has_to_leave: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Presence {
    /// A connection that was accepted on this thread.
    pub(super) fn new(times: Times) -> Rc<Self> {
        let presence = Rc::new(Self {
            times,
            serving: Cell::new(0),
            awaits: Cell::new(Awaits::RestOfHead),
            since: Cell::new(Instant::now()),
            looked: Cell::default(),
            is_blocked: Cell::default(),
            is_http_2: Cell::default(),
            has_to_leave: Cell::default(),
            waker: RefCell::default(),
            timer: RefCell::default(),
        });
        OF_THIS_THREAD.with_borrow_mut(|crowd| crowd.add(&presence));
        presence
    }

    /// The handshake is done; the time of the first head begins.
    pub(super) fn is_encrypted(&self, is_http_2: bool) {
        self.is_http_2.set(is_http_2);
        self.wait_for(Awaits::RestOfHead);
    }

    /// A request has come. It is served until the guard is dropped.
    pub(super) fn serve(presence: &Rc<Self>) -> Serving {
        presence.serving.set(presence.serving.get() + 1);
        Serving(presence.clone())
    }

    pub(super) fn has_read(&self) {
        if self.is_unused() && self.awaits.get() == Awaits::Request && !self.is_http_2.get() {
            self.wait_for(Awaits::RestOfHead);
        }
    }

    pub(super) fn has_written(&self, is_blocked: bool) {
        self.is_blocked.set(is_blocked);
        if self.is_unused() && self.awaits.get() == Awaits::Request {
            self.wait_for(Awaits::Request);
        }
    }

    /// Whether the connection has to end, to be asked when there is nothing to be read.
    pub(super) fn poll_over(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_unused() && self.has_to_leave.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        let mut timer = self.timer.borrow_mut();
        loop {
            let Some(deadline) = self.deadline() else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
            // A timer that fires early is set again; so requests need not move it.
            if deadline < timer.deadline().into_std() {
                timer.as_mut().reset(deadline.into());
            }
            ready!(timer.as_mut().poll(context));
            let now = Instant::now();
            if now < deadline {
                timer.as_mut().reset(deadline.into());
            } else if self.looked.get().is_none() {
                self.looked.set(Some(now));
                timer.as_mut().reset((now + LAST_LOOK).into());
            } else {
                self.has_to_leave.set(true);
                return Poll::Ready(());
            }
        }
    }

    fn is_unused(&self) -> bool {
        self.serving.get() == 0
    }

    fn wait_for(&self, awaited: Awaits) {
        self.awaits.set(awaited);
        self.since.set(Instant::now());
        self.looked.set(None);
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.is_unused() || self.is_blocked.get() {
            return None;
        }
        let time = match self.awaits.get() {
            Awaits::Request => self.times.keep_alive,
            Awaits::RestOfHead => self.times.head,
        };
        Some(self.looked.get().map_or_else(|| self.since.get() + time, |at| at + LAST_LOOK))
    }

    fn leave(&self) {
        self.has_to_leave.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Has so many connections of this thread end that have no request: those first that wait for one, and the oldest.
/// Returns how many there were.
pub(super) fn make_room(count: usize) -> usize {
    let mut unused: Vec<_> = OF_THIS_THREAD.with_borrow(|crowd| {
        let present = crowd.members.iter().filter_map(Weak::upgrade);
        present.filter(|it| it.is_unused() && !it.has_to_leave.get()).collect()
    });
    unused.sort_unstable_by_key(|it| (it.awaits.get(), it.since.get()));
    unused.iter().take(count).map(|it| it.leave()).count()
}

/// The connections of a thread, and some that have ended.
#[derive(Debug, Default)]
struct Crowd {
    members: Vec<Weak<Presence>>,
    /// How many there may be before those that have ended are forgotten.
    enough: usize,
}

impl Crowd {
    fn add(&mut self, presence: &Rc<Presence>) {
        if self.enough <= self.members.len() {
            self.members.retain(|it| 0 < it.strong_count());
            self.enough = FEW.max(2 * self.members.len());
        }
        self.members.push(Rc::downgrade(presence));
    }
}

/// A request that is served.
#[derive(Debug)]
pub(super) struct Serving(Rc<Presence>);

impl Drop for Serving {
    fn drop(&mut self) {
        let presence = &self.0;
        presence.serving.set(presence.serving.get() - 1);
        if presence.is_unused() {
            presence.wait_for(Awaits::Request);
            // HTTP/1 flushes next, which sets the timer.
            if presence.is_http_2.get() {
                presence.wake();
            }
        }
    }
}

/// The body of a response, whose end is the end of its request.
pub(super) struct Served {
    body: BoxBody,
    serving: Option<Serving>,
}

impl Served {
    /// `body`, until whose end its request is served.
    pub(super) fn new(body: BoxBody, serving: Option<Serving>) -> Self {
        Self { body, serving }
    }
}

impl MessageBody for Served {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self { body, serving } = self;
        body.try_into_bytes().map_err(|body| Self { body, serving })
    }
}
