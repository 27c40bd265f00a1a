//! One subscriber in its shard: how far it has been served, its deadlines, and its sink.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

#[cfg(unix)]
use super::socket::Connection;
use super::{Seat, Steer, wheel::Tick};
use crate::{
    event::Position,
    matching::{Enlisted, Interest},
    transport::{EndReason, Gap, Transport},
};

/// A subscriber to be added to a shard, with its terms.
#[derive(Debug)]
pub struct Subscription {
    /// What it subscribes to and may see.
    pub interest: Arc<Interest>,
    /// The position after which it is served.
    pub after: Position,
    /// A gap to report first.
    pub gap: Option<Gap>,
    /// [`Torn::n_dropped`](crate::history::Torn) when it began. These events need no further
    /// notice.
    pub n_dropped: u64,
    /// How it is served.
    pub terms: Terms,
    /// Its seat among the subscribers.
    pub seat: Seat,
    /// Its interest as others may change it. It wins over `interest`.
    pub steer: Option<Steer>,
}

/// How a subscriber is served.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The transport.
    pub transport: Transport,
    /// Silence after which it gets a heartbeat; `None` for no heartbeats.
    pub heartbeat: Option<Duration>,
    /// The maximum duration.
    pub lifetime: Duration,
}

/// How far a subscriber has been served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// Up to its shard's position.
    Live,
    /// Everything but the event at `first`, and with `more` perhaps later ones.
    Owed { first: Position, more: bool },
    /// Up to this position; there may be more for it.
    Behind(Position),
}

impl Served {
    /// The position up to which everything has been handed out, in a shard at `position`.
    pub(super) fn cursor(self, position: Position) -> Position {
        match self {
            Self::Live => position,
            // No event is between this one and the position before it.
            Self::Owed { first, .. } => Position(first.0.saturating_sub(1)),
            Self::Behind(after) => after,
        }
    }
}

pub(super) struct Subscriber {
    pub(super) interest: Arc<Interest>,
    pub(super) enlisted: Enlisted,
    pub(super) sink: Sink,
    pub(super) served: Served,
    /// [`Torn::n_dropped`](crate::history::Torn) of the last reported gap.
    pub(super) told: u64,
    /// Distinguishes it from other subscribers that had its number.
    pub(super) arrival: u32,
    /// Counts the changes of its interest.
    pub(super) generation: u32,
    pub(super) steer: Option<Steer>,
    pub(super) last_written: Tick,
    pub(super) expires: Tick,
    /// Why it has to end.
    pub(super) ends: Option<EndReason>,
    pub(super) owes_heartbeat: bool,
    pub(super) transport: Transport,
    pub(super) heartbeat: Option<Duration>,
    _seat: Seat,
}

/// Where its events go.
pub(super) enum Sink {
    /// To a task that polls for them.
    Task(Option<Waker>),
    /// To a socket that the shard writes to.
    #[cfg(unix)]
    Socket(Connection),
}

impl Sink {
    /// Stores the waker of a task that polled and got nothing.
    pub(super) fn wake_later(&mut self, cx: &Context<'_>) {
        if let Self::Task(waker) = self
            && !waker.as_ref().is_some_and(|it| it.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }

    /// When it has to be closed, if it makes no progress until then.
    pub(super) fn deadline(&self) -> Option<Tick> {
        match self {
            Self::Task(_) => None,
            #[cfg(unix)]
            Self::Socket(connection) => connection.deadline(),
        }
    }
}

impl Subscriber {
    pub(super) fn new(
        subscription: Subscription,
        enlisted: Enlisted,
        sink: Sink,
        arrival: u32,
        now: Tick,
    ) -> Self {
        let Subscription { interest, after, n_dropped, terms, seat, steer, .. } = subscription;
        Self {
            interest,
            enlisted,
            sink,
            served: Served::Behind(after),
            told: n_dropped,
            arrival,
            generation: 0,
            steer,
            last_written: now,
            expires: now.after(terms.lifetime),
            ends: None,
            owes_heartbeat: false,
            transport: terms.transport,
            heartbeat: terms.heartbeat,
            _seat: seat,
        }
    }

    /// The next time when it has to be handled, even if there is no event for it.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let heartbeat = self.heartbeat.map(|heartbeat| self.last_written.after(heartbeat));
        let own = [Some(self.expires), heartbeat].into_iter().filter(|_| self.ends.is_none());
        own.chain([self.sink.deadline()]).flatten().min()
    }

    /// Notes that something was written to it.
    pub(super) fn wrote(&mut self, now: Tick) {
        self.last_written = now;
        self.owes_heartbeat = false;
    }
}
