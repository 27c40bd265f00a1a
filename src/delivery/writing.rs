//! What a socket gets when its turn has come: a notice, its end, or the next events for it.

use std::{io, sync::Arc};

use smallvec::SmallVec;
use tracing::warn;

use super::{
    EndReason, Tail,
    catch_up::Leg,
    shard::Inner,
    socket::{Connection, Wrote},
    state::{State, number},
    subscriber::{Served, Sink, Subscriber},
    tail::Found,
    wheel::Tick,
};
use crate::{
    event::{Event, Position},
    history::{HistoryError, Meter, Page, TokenKey},
    hub::Interest,
};

/// What is written to a socket before others get their turn.
const EVENTS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 64 * 1024;

/// What a socket's turn led to.
pub(super) enum Turn {
    /// Nothing more for now.
    Done,
    /// It is to have another one, after the others.
    Again,
    /// It has to wait for its client, until its deadline.
    Wait,
    /// It goes on with what the history has behind this position.
    AskHistory(Position),
}

impl Inner {
    /// Writes what there is for a socket, as much as it may have in one turn.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn write(&self, state: &mut State, key: usize) -> io::Result<Turn> {
        let token_key = self.hub.history().token_key();
        let State { subscribers, position, tick, is_draining, .. } = state;
        // Whoever was in the queue may have gone, and its number be another's.
        let Some(subscriber) = subscribers.get_mut(key) else { return Ok(Turn::Done) };
        let Sink::Socket(connection) = &mut subscriber.sink else { return Ok(Turn::Done) };
        if !connection.dequeue() {
            return Ok(Turn::Done);
        }
        loop {
            if connection.write_notice(*tick)? != Wrote::All {
                return Ok(Turn::Wait);
            }
            if connection.is_ending() {
                connection.linger(*tick)?;
                return Ok(Turn::Wait);
            }
            let reason = match () {
                () if connection.is_within_event() => None,
                () if *is_draining => Some(EndReason::Drain),
                () if subscriber.is_expired => Some(EndReason::Lifetime),
                () if connection.is_full() => Some(EndReason::Recycled),
                () => None,
            };
            let cursor = subscriber.served.cursor(*position);
            if let Some(reason) = reason {
                let notice = connection.style.end(reason, &token_key.seal(cursor));
                connection.end(Some(notice));
            } else if subscriber.served != Served::Live {
                break;
            } else if std::mem::take(&mut subscriber.owes_heartbeat) {
                let notice = connection.style.writer.heartbeat(&token_key.seal(cursor));
                connection.notify(notice);
            } else {
                return Ok(Turn::Done);
            }
        }
        let has_to_end = *is_draining || subscriber.is_expired;
        Ok(match self.write_events(state, key)? {
            // The rest of an event went before the end.
            Turn::Done if has_to_end => Turn::Again,
            turn => turn,
        })
    }

    /// Writes the next events.
    fn write_events(&self, state: &mut State, key: usize) -> io::Result<Turn> {
        let State { subscribers, position, tick, recent, ahead, .. } = state;
        let subscriber = &mut subscribers[key];
        let after = subscriber.served.cursor(*position);
        if *position < after {
            ahead.insert(key);
            return Ok(Turn::Done);
        }
        let Sink::Socket(connection) = &subscriber.sink else { return Ok(Turn::Done) };
        let token_key = self.hub.history().token_key();
        let interest = &subscriber.interest;
        let mut from_tail = Vec::new();
        let (events, is_whole) = match (recent.behind(after), subscriber.served) {
            (Some(mut behind), Served::Owed { more: false, .. }) => {
                // Its matchers have led to it, so there is no need to ask them.
                let only = behind
                    .next()
                    .filter(|it| !it.update.is_restricted() || interest.covers(&it.update));
                gather(only, interest, connection, token_key)
            }
            (Some(behind), _) => gather(
                behind.filter(|it| interest.covers(&it.update)),
                interest,
                connection,
                token_key,
            ),
            (None, _) => {
                let found =
                    find_in_tail(self.hub.tail(), after, *position, interest, &mut from_tail);
                if matches!(found, Found::AskHistory) && from_tail.is_empty() {
                    return Ok(Turn::AskHistory(after));
                }
                if let (Found::NothingYet(position), true) = (&found, from_tail.is_empty()) {
                    subscriber.served = Served::Behind(*position);
                    return Ok(Turn::Again);
                }
                let (events, is_whole) = gather(&from_tail, interest, connection, token_key);
                (events, is_whole && matches!(found, Found::Nothing))
            }
        };
        self.send(&events, subscriber, *tick, after, is_whole.then_some(Served::Live))
    }

    /// Writes `events`, behind which the subscriber is served as `then` says.
    fn send(
        &self,
        events: &[&Event],
        subscriber: &mut Subscriber,
        now: Tick,
        after: Position,
        then: Option<Served>,
    ) -> io::Result<Turn> {
        let Sink::Socket(connection) = &mut subscriber.sink else { return Ok(Turn::Done) };
        let token_key = self.hub.history().token_key();
        let wrote = connection.write_events(events, token_key, now)?;
        let n_complete = match wrote {
            Wrote::All => events.len(),
            Wrote::Some(n_complete) => n_complete,
        };
        let last = events[..n_complete].last();
        if last.is_some_and(|it| connection.style.is_last(it)) {
            connection.end(connection.style.writer.close());
        }
        let has_more_to_do = connection.is_ending() || connection.is_full();
        subscriber.served = match (wrote, then) {
            (Wrote::All, Some(served)) => served,
            _ => Served::Behind(last.map_or(after, |it| it.position)),
        };
        subscriber.wrote(now);
        self.stats.delivered(subscriber.transport, n_complete as u64);
        Ok(match wrote {
            Wrote::Some(_) => Turn::Wait,
            Wrote::All if subscriber.served == Served::Live && !has_more_to_do => Turn::Done,
            Wrote::All => Turn::Again,
        })
    }

    /// Takes in a page of the history for the socket that has asked for it.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn accept(
        &self,
        key: usize,
        arrival: u32,
        page: Result<Page, HistoryError>,
    ) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let State { subscribers, position, tick, .. } = &mut *state;
        let Some(subscriber) = subscribers.get_mut(key) else { return Ok(()) };
        if subscriber.arrival != arrival {
            return Ok(());
        }
        let Sink::Socket(connection) = &mut subscriber.sink else { return Ok(()) };
        connection.end_reading();
        let token_key = self.hub.history().token_key();
        let cursor = subscriber.served.cursor(*position);
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "a subscription ends because what it missed cannot be read");
                if connection.is_within_event() {
                    // Its end would stand in the middle of the event.
                    return Err(io::ErrorKind::NotFound.into());
                }
                let token = token_key.seal(cursor);
                let notice = connection.style.end(EndReason::Unavailable, &token);
                connection.end(Some(notice));
                state.rouse(number(key), false);
                return Ok(());
            }
        };
        let leg = Leg::new(page, cursor, *position, &mut subscriber.told, token_key);
        subscriber.served = Served::Behind(leg.after);
        if let Some(gap) = leg.gap {
            if connection.is_within_event() {
                // The rest of it is gone; the client comes back with the id of the event before it.
                return Err(io::ErrorKind::NotFound.into());
            }
            let notice = connection.style.writer.gap(&gap, token_key);
            connection.notify(notice);
            self.stats.gap();
        }
        let turn = if connection.write_notice(*tick)? == Wrote::All {
            let (events, is_whole) =
                gather(&leg.events, &subscriber.interest, connection, token_key);
            let then = is_whole.then_some(Served::Behind(leg.scanned_to));
            self.send(&events, subscriber, *tick, leg.after, then)?
        } else {
            Turn::Wait
        };
        match turn {
            Turn::Wait => state.reschedule(number(key)),
            _ => state.rouse(number(key), false),
        }
        Ok(())
    }
}

/// Takes events for `interest` out of the tail, and tells what is behind them. It looks at a bounded number of events.
fn find_in_tail(
    tail: &Tail,
    mut after: Position,
    end: Position,
    interest: &Interest,
    events: &mut Vec<Arc<Event>>,
) -> Found {
    let mut meter = Meter::new(interest);
    loop {
        match tail.find(after, end, interest, &mut meter) {
            Found::Event(event) if events.len() < EVENTS_AT_ONCE => {
                after = event.position;
                events.push(event);
            }
            found => return found,
        }
    }
}

/// The first of `events`, as many as a socket may have in one turn, and whether those are all.
fn gather<'a>(
    events: impl IntoIterator<Item = &'a Arc<Event>>,
    interest: &Interest,
    connection: &Connection,
    key: &TokenKey,
) -> (SmallVec<[&'a Event; 4]>, bool) {
    let mut gathered: SmallVec<[&Event; 4]> = SmallVec::new();
    let mut n_bytes = 0;
    for event in events {
        let is_enough = EVENTS_AT_ONCE <= gathered.len()
            || BYTES_AT_ONCE <= n_bytes
            || connection.would_be_full(n_bytes)
            || gathered.last().is_some_and(|last| connection.style.is_last(last));
        // The rest of an event of which half has gone out has to follow in any case.
        if is_enough && !gathered.is_empty() {
            return (gathered, false);
        }
        let event = connection.style.shown(event, interest);
        n_bytes += connection.style.event(event, key).len();
        gathered.push(event);
    }
    (gathered, true)
}
