//! The state of a shard's subscribers, and how events and deadlines change it.

use std::{
    collections::{HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use foldhash::fast::RandomState;
use slab::Slab;

#[cfg(unix)]
use super::socket::Connection;
use super::{
    recent::Recent,
    subscriber::{Served, Sink, Subscriber, Subscription},
    wheel::{Tick, Wheel},
};
use crate::{
    event::{Event, Position},
    matching::{Index, Interest},
    transport::{EndReason, Style, Transport},
};

/// Subscribers of an event with at most this many receivers are served before those of events with
/// more.
const FEW: usize = 32;

pub(super) struct ShardState {
    pub(super) is_running: bool,
    pub(super) is_draining: bool,
    /// The position up to which events were read. A subscriber that is [`Served::Live`] has
    /// received everything for it up to here.
    pub(super) position: Position,
    /// The time of the last wake-up: precise enough for deadlines, and cheaper than reading the
    /// clock for each event.
    pub(super) tick: Tick,
    pub(super) subscribers: Slab<Subscriber>,
    /// Subscribers whose cursor is ahead of this shard. They are woken when it advances.
    pub(super) ahead: HashSet<usize, RandomState>,
    pub(super) wheel: Wheel,
    pub(super) recent: Recent,
    pub(super) ready: Ready,
    index: Index,
    found: Vec<u32>,
    /// The distinct styles of the sockets.
    styles: Vec<Rc<Style>>,
    arrivals: u32,
}

/// The sockets with something to write, each queued once.
#[derive(Default)]
pub(super) struct Ready {
    /// New and unblocked sockets, and those with an event for few subscribers.
    few: VecDeque<u32>,
    many: VecDeque<u32>,
    /// Sockets with more input than was read.
    unread: Vec<u32>,
}

impl Ready {
    /// Adds a socket with more input to read.
    pub(super) fn push_unread(&mut self, key: u32) {
        self.unread.push(key);
    }

    /// Takes the sockets with more input to read. Removes duplicates: a client that sends without
    /// pause is added at each wake-up.
    pub(super) fn take_unread(&mut self) -> Vec<u32> {
        let mut unread = std::mem::take(&mut self.unread);
        unread.sort_unstable();
        unread.dedup();
        unread
    }

    /// Takes at most `limit` sockets of each queue, first those in `few`.
    pub(super) fn take(&mut self, limit: usize) -> Vec<u32> {
        let few = self.few.drain(..self.few.len().min(limit));
        let mut taken: Vec<u32> = few.collect();
        taken.extend(self.many.drain(..self.many.len().min(limit)));
        taken
    }

    /// Whether nothing is left. If so, releases the memory of large queues.
    pub(super) fn settle(&mut self) -> bool {
        const KEPT: usize = 1024;
        let is_empty = self.few.is_empty() && self.many.is_empty() && self.unread.is_empty();
        if is_empty {
            self.few.shrink_to(KEPT);
            self.many.shrink_to(KEPT);
        }
        is_empty
    }
}

impl ShardState {
    pub(super) fn new(now: Instant) -> Self {
        let wheel = Wheel::new(now);
        Self {
            is_running: false,
            is_draining: false,
            position: Position::START,
            tick: wheel.tick_at(now),
            subscribers: Slab::new(),
            ahead: HashSet::default(),
            wheel,
            recent: Recent::new(Position::START),
            ready: Ready::default(),
            index: Index::default(),
            found: Vec::new(),
            styles: Vec::new(),
            arrivals: 0,
        }
    }

    /// Starts to follow the tail after `position`.
    pub(super) fn start(&mut self, position: Position, is_draining: bool) {
        self.is_running = true;
        self.is_draining = is_draining;
        self.position = position;
        self.recent = Recent::new(position);
    }

    pub(super) fn read_clock(&mut self) -> Instant {
        let now = Instant::now();
        self.tick = self.wheel.tick_at(now);
        now
    }

    /// Returns the shared copy of `style`.
    pub(super) fn share(&mut self, style: Style) -> Rc<Style> {
        if let Some(shared) = self.styles.iter().find(|it| ***it == style) {
            return shared.clone();
        }
        self.styles.retain(|it| 1 < Rc::strong_count(it));
        let style = Rc::new(style);
        self.styles.push(style.clone());
        style
    }

    pub(super) fn add(&mut self, subscription: Subscription, sink: Sink) -> usize {
        self.read_clock();
        self.arrivals = self.arrivals.wrapping_add(1);
        let entry = self.subscribers.vacant_entry();
        let key = entry.key();
        let enlisted = self.index.insert(key, &subscription.interest);
        let subscriber =
            entry.insert(Subscriber::new(subscription, enlisted, sink, self.arrivals, self.tick));
        if let Some(deadline) = subscriber.next_deadline() {
            self.wheel.schedule(number(key), deadline);
        }
        key
    }

    /// The socket of a subscriber; `None` if it is gone or has none.
    #[cfg(unix)]
    pub(super) fn connection(&mut self, key: usize) -> Option<&mut Connection> {
        match &mut self.subscribers.get_mut(key)?.sink {
            Sink::Socket(connection) => Some(connection),
            Sink::Task(_) => None,
        }
    }

    /// Removes a subscriber. Returns its interest and transport.
    pub(super) fn remove(&mut self, key: usize) -> (Arc<Interest>, Transport) {
        let subscriber = self.subscribers.remove(key);
        if let Some(steer) = &subscriber.steer {
            // Before its seat is given back, which lets the client go.
            steer.leave(subscriber.served.cursor(self.position));
        }
        let Subscriber { enlisted, interest, transport, .. } = subscriber;
        self.wheel.cancel(number(key));
        self.index.remove(enlisted);
        (interest, transport)
    }

    /// Replaces the interest of a subscriber at the shard's position, and begins after another one
    /// if `after` is given. Returns the old interest.
    pub(super) fn swap(
        &mut self,
        key: u32,
        interest: Arc<Interest>,
        after: Option<Position>,
    ) -> Arc<Interest> {
        let enlisted = self.index.insert(key as usize, &interest);
        let subscriber = &mut self.subscribers[key as usize];
        let old = std::mem::replace(&mut subscriber.enlisted, enlisted);
        self.index.remove(old);
        // Pages that are being read for the old interest are thrown away.
        subscriber.generation = subscriber.generation.wrapping_add(1);
        if let Served::Owed { more, .. } = &mut subscriber.served {
            // The index has found its first event by the old matchers.
            *more = true;
        }
        if let Some(after) = after {
            subscriber.served = Served::Behind(after);
        }
        let old = std::mem::replace(&mut subscriber.interest, interest);
        self.rouse(key, true);
        old
    }

    /// Changes when and why a subscription ends, where given.
    pub(super) fn settle(&mut self, key: usize, expires: Option<Instant>, ends: Option<EndReason>) {
        let expires = expires.map(|it| self.wheel.tick_at(it));
        let subscriber = &mut self.subscribers[key];
        subscriber.expires = expires.unwrap_or(subscriber.expires);
        subscriber.ends = ends.or(subscriber.ends);
        self.reschedule(number(key));
    }

    /// Reads the next events, and queues their subscribers.
    pub(super) fn look_at(&mut self, batch: &[Arc<Event>]) {
        if batch.is_empty() {
            return;
        }
        self.rouse_those_ahead();
        let mut found = std::mem::take(&mut self.found);
        for event in batch {
            self.index.find(&event.update, |key| found.push(number(key)));
            let is_for_few = found.len() <= FEW;
            for key in found.drain(..) {
                self.owe(key, event.position, is_for_few);
            }
            self.position = event.position;
            self.recent.push(event.clone());
        }
        self.found = found;
    }

    fn owe(&mut self, key: u32, position: Position, is_for_few: bool) {
        let subscriber = &mut self.subscribers[key as usize];
        match &mut subscriber.served {
            Served::Live => {
                subscriber.served = Served::Owed { first: position, more: false };
                self.rouse(key, is_for_few);
            }
            // Several matchers of a subscriber may match the same event.
            Served::Owed { first, more } => *more |= *first != position,
            Served::Behind(_) => {}
        }
    }

    /// Wakes a subscriber's task, or queues its socket for writing.
    pub(super) fn rouse(&mut self, key: u32, is_for_few: bool) {
        match &mut self.subscribers[key as usize].sink {
            Sink::Task(waker) => {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            #[cfg(unix)]
            Sink::Socket(connection) => {
                if connection.enqueue() {
                    let queue = if is_for_few { &mut self.ready.few } else { &mut self.ready.many };
                    queue.push_back(key);
                }
            }
        }
    }

    /// Skips the events up to `newest`: all subscribers catch up from the history.
    pub(super) fn skip_to(&mut self, newest: Position) {
        let position = self.position;
        for key in self.keys() {
            let served = &mut self.subscribers[key as usize].served;
            if *served == Served::Live {
                *served = Served::Behind(position);
                self.rouse(key, false);
            }
        }
        self.position = newest;
        self.recent = Recent::new(newest);
        self.rouse_those_ahead();
    }

    fn rouse_those_ahead(&mut self) {
        for key in std::mem::take(&mut self.ahead) {
            if self.subscribers.contains(key) {
                self.rouse(number(key), false);
            }
        }
    }

    /// Handles the subscribers whose deadlines have passed: sends a heartbeat, ends the
    /// subscription, or only reschedules it. Returns those to be closed because their sockets were
    /// blocked for too long.
    pub(super) fn fire(&mut self) -> Vec<u32> {
        let now = self.read_clock();
        let mut given_up = Vec::new();
        for key in self.wheel.fire(now) {
            let Some(subscriber) = self.subscribers.get_mut(key as usize) else { continue };
            if subscriber.sink.deadline().is_some_and(|it| it <= self.tick) {
                given_up.push(key);
                continue;
            }
            let is_expired = subscriber.ends.is_none() && subscriber.expires <= self.tick;
            let is_silent = subscriber
                .heartbeat
                .is_some_and(|heartbeat| subscriber.last_written.after(heartbeat) <= self.tick);
            if is_expired {
                subscriber.ends = Some(EndReason::Lifetime);
            } else if is_silent {
                subscriber.last_written = self.tick;
                subscriber.owes_heartbeat = true;
            }
            self.reschedule(key);
            if is_expired || is_silent {
                self.rouse(key, false);
            }
        }
        given_up
    }

    /// Reschedules a subscriber's deadline.
    pub(super) fn reschedule(&mut self, key: u32) {
        match self.subscribers[key as usize].next_deadline() {
            Some(deadline) => self.wheel.schedule(key, deadline),
            None => self.wheel.cancel(key),
        }
    }

    /// Ends all subscriptions.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        for key in self.keys() {
            self.rouse(key, false);
        }
    }

    fn keys(&self) -> Vec<u32> {
        self.subscribers.iter().map(|(key, _)| number(key)).collect()
    }
}

/// A subscriber's number.
pub(super) fn number(key: usize) -> u32 {
    u32::try_from(key).expect("memory runs out before 32 bits do")
}
