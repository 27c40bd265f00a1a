//! Whether a connection has a request, and how long it may stay without one.
//!
//! actix-http limits the time of a connection's first head only, and checks the clock before it
//! reads what has arrived. Here both times apply to every request, and bytes that have arrived are
//! read before a connection ends.

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

use super::allowance::Allowance;

/// Time between a connection's deadline and its end. After the process was suspended, timers may
/// fire before the bytes that arrived meanwhile are read.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// The least number of connections at which a thread removes ended ones from its list.
const FEW: usize = 64;

thread_local! {
    static OF_THIS_THREAD: RefCell<Crowd> = RefCell::default();
}

/// How long connections may stay without a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Time until a head is complete.
    pub(super) head: Duration,
    /// Time from a response until the next head begins.
    pub(super) keep_alive: Duration,
}

/// What a connection without a request waits for. In the order in which connections give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Awaits {
    Request,
    RestOfHead,
}

/// The time limits of a connection.
#[derive(Debug)]
pub(super) struct Presence {
    times: Times,
    /// Requests in progress.
    serving: Cell<u32>,
    awaits: Cell<Awaits>,
    since: Cell<Instant>,
    /// When the deadline was found to have passed.
    looked: Cell<Option<Instant>>,
    /// Whether writes are blocked. On Linux the kernel limits how long (`delivery.write_deadline`).
    is_blocked: Cell<bool>,
    /// Whether requests are HTTP/2 streams. They end on other tasks, and bytes may be no head.
    is_http_2: Cell<bool>,
    /// When an incomplete head began to arrive over HTTP/2.
    within_head: Cell<Option<Instant>>,
    allowance: Allowance,
    has_to_leave: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Presence {
    /// Creates the presence of a connection accepted on this thread.
    pub(super) fn new(times: Times) -> Rc<Self> {
        let presence = Rc::new(Self {
            times,
            serving: Cell::new(0),
            awaits: Cell::new(Awaits::RestOfHead),
            since: Cell::new(Instant::now()),
            looked: Cell::default(),
            is_blocked: Cell::default(),
            is_http_2: Cell::default(),
            within_head: Cell::default(),
            allowance: Allowance::default(),
            has_to_leave: Cell::default(),
            waker: RefCell::default(),
            timer: RefCell::default(),
        });
        OF_THIS_THREAD.with_borrow_mut(|crowd| crowd.add(&presence));
        presence
    }

    /// Notes the end of the TLS handshake, after which the time for the first head begins.
    pub(super) fn handshake_done(&self, is_http_2: bool) {
        self.is_http_2.set(is_http_2);
        self.wait_for(Awaits::RestOfHead);
    }

    /// Notes a request, which is in progress until the guard is dropped.
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
        let was_blocked = self.is_blocked.replace(is_blocked);
        if !was_blocked || is_blocked {
            return;
        }
        if self.is_unused() && self.awaits.get() == Awaits::Request {
            self.wait_for(Awaits::Request);
        }
        if self.allowance.is_ahead() {
            self.wake();
        }
    }

    /// Notes whether the bytes that arrived over HTTP/2 end within a head.
    pub(super) fn is_within_head(&self, is_within: bool) {
        if is_within != self.within_head.get().is_some() {
            self.within_head.set(is_within.then(Instant::now));
            self.looked.set(None);
        }
    }

    /// Whether a request is in progress.
    pub(super) fn is_serving(&self) -> bool {
        !self.is_unused()
    }

    /// Whether writes are blocked.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// How much of the connection's input may be passed on.
    pub(super) fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// Returns whether the connection has to end. Called when there is nothing to read.
    pub(super) fn poll_over(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_to_leave.get() && (self.is_unused() || self.within_head.get().is_some()) {
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
            // A timer that fires too early is set again, so that requests need not move it.
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
        let within_head = self.within_head.get().map(|since| since + self.times.head);
        let unused = (self.is_unused() && !self.is_blocked.get()).then(|| {
            let time = match self.awaits.get() {
                Awaits::Request => self.times.keep_alive,
                Awaits::RestOfHead => self.times.head,
            };
            self.since.get() + time
        });
        let deadline = within_head.into_iter().chain(unused).min()?;
        Some(self.looked.get().map_or(deadline, |at| at + LAST_LOOK))
    }

    fn leave(&self) {
        self.has_to_leave.set(true);
        self.wake();
    }

    /// Wakes the task of the connection.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Closes up to `count` connections of this thread without a request: those that wait for a request
/// first, the oldest first. Returns their number.
pub(super) fn make_room(count: usize) -> usize {
    let mut unused: Vec<_> = OF_THIS_THREAD.with_borrow(|crowd| {
        let present = crowd.members.iter().filter_map(Weak::upgrade);
        present
            .filter(|it| it.is_unused() && !it.is_blocked.get() && !it.has_to_leave.get())
            .collect()
    });
    unused.sort_unstable_by_key(|it| (it.awaits.get(), it.since.get()));
    unused.iter().take(count).map(|it| it.leave()).count()
}

/// The connections of a thread, some of which have ended.
#[derive(Debug, Default)]
struct Crowd {
    members: Vec<Weak<Presence>>,
    /// The number at which ended ones are removed.
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

/// A request in progress.
#[derive(Debug)]
pub(super) struct Serving(Rc<Presence>);

impl Drop for Serving {
    fn drop(&mut self) {
        let presence = &self.0;
        presence.serving.set(presence.serving.get() - 1);
        if presence.is_unused() {
            presence.wait_for(Awaits::Request);
            // actix flushes next, which sets the timer. But it may not read what is read ahead.
            if presence.allowance.end() || presence.is_http_2.get() {
                presence.wake();
            }
        }
    }
}

/// The body of a response. Its end is the end of the request.
pub(super) struct Served {
    body: BoxBody,
    serving: Option<Serving>,
}

impl Served {
    /// Creates a body that holds `serving` until its end.
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

#[cfg(test)]
impl Presence {
    /// Creates the presence of a connection without deadlines.
    pub(super) fn for_tests() -> Rc<Self> {
        let long = Duration::from_secs(3600);
        Self::new(Times { head: long, keep_alive: long })
    }
}
