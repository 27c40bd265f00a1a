//! One subscriber as its shard keeps it: how far it has been served, what it waits for, and how it is reached.

use std::{sync::Arc, task::Waker, time::Duration};

#[cfg(unix)]
use super::socket::Connection;
use super::{Gap, Seat, wheel::Tick};
use crate::{
    event::Position,
    hub::{Enlisted, Interest},
    transport::Transport,
};

/// What somebody subscribes to, and on which terms.
#[derive(Debug)]
pub struct Subscription {
    /// What it asked for.
    pub interest: Arc<Interest>,
    /// It has been served up to here.
    pub after: Position,
    /// What it has to be told first.
    pub gap: Option<Gap>,
    /// What was dropped before it began, of which nothing else has to be said.
    pub n_dropped: u64,
    /// How it is served.
    pub terms: Terms,
    /// Its place among the subscribers.
    pub seat: Seat,
}

/// What a subscriber is served on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How it is written to.
    pub transport: Transport,
    /// How long it may be silent before it gets a heartbeat; `None` for no heartbeats.
    pub heartbeat: Option<Duration>,
    /// How long it lasts at most.
    pub lifetime: Duration,
}

/// How far a subscriber has been served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// Up to its shard's position.
    Live,
    /// All but the event at `first`, and with `more` perhaps others behind it.
    Owed { first: Position, more: bool },
    /// Up to this position; there may be more for it.
    Behind(Position),
}

impl Served {
    /// Everything up to here has been handed out, in a shard that has come to `position`.
    pub(super) fn cursor(self, position: Position) -> Position {
        match self {
            Self::Live => position,
            // Nothing is between an event and the position before it.
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
    /// [`Torn::n_dropped`](crate::history::Torn) of what it was last told of.
    pub(super) told: u64,
    /// Tells it from others that have used its number.
    pub(super) arrival: u32,
    pub(super) last_written: Tick,
    pub(super) expires: Tick,
    /// Its end has come.
    pub(super) is_expired: bool,
    pub(super) owes_heartbeat: bool,
    pub(super) transport: Transport,
    pub(super) heartbeat: Option<Duration>,
    _seat: Seat,
}

/// Where its events go.
pub(super) enum Sink {
    /// To a task that polls for them.
    Task(Option<Waker>),
    /// To a socket that the shard itself writes to.
    #[cfg(unix)]
    Socket(Connection),
}

impl Sink {
    /// When it has to be given up, if it takes nothing by then.
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
        let Subscription { interest, after, n_dropped, terms, seat, .. } = subscription;
        Self {
            interest,
            enlisted,
            sink,
            served: Served::Behind(after),
            told: n_dropped,
            arrival,
            last_written: now,
            expires: now.after(terms.lifetime),
            is_expired: false,
            owes_heartbeat: false,
            transport: terms.transport,
            heartbeat: terms.heartbeat,
            _seat: seat,
        }
    }

    /// When it has to be looked at again, whatever happens.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let heartbeat = self.heartbeat.map(|heartbeat| self.last_written.after(heartbeat));
        let own = [Some(self.expires), heartbeat].into_iter().filter(|_| !self.is_expired);
        own.chain([self.sink.deadline()]).flatten().min()
    }

    /// Notes that something was written to it.
    pub(super) fn wrote(&mut self, now: Tick) {
        self.last_written = now;
        self.owes_heartbeat = false;
    }
}
