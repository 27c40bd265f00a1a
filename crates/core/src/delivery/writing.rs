//! What a socket gets in its turn: a notice, the end, or its next events.

use std::{io, sync::Arc};

use smallvec::SmallVec;
use tracing::warn;

use super::{
    catch_up::Leg,
    shard_core::ShardCore,
    socket::{Connection, Encoded, Wrote},
    state::{ShardState, number},
    subscriber::{Served, Sink, Subscriber},
    turn::{Standing, Turn},
    wheel::Tick,
};
use crate::{
    event::{Event, Position},
    history::{CursorKey, HistoryError, Meter, Page},
    hub::{Found, Tail},
    matching::Interest,
    transport::EndReason,
};

/// Limits on what is written to a socket in one turn.
const EVENTS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 64 * 1024;

/// The result of a socket's turn.
pub(super) enum Outcome {
    /// Nothing is left to write.
    Done,
    /// It needs another turn, after the other sockets.
    Again,
    /// It waits for its client, until its deadline.
    Wait,
    /// It needs events of the history after this position.
    AskHistory(Position),
}

impl ShardCore {
    /// Writes to a socket, within the limits of one turn.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn write(&self, state: &mut ShardState, key: usize) -> io::Result<Outcome> {
        let cursor_key = self.hub.history().cursor_key();
        let ShardState { subscribers, position, tick, is_draining, .. } = state;
        // A queued subscriber may be gone, and its number reused.
        let Some(subscriber) = subscribers.get_mut(key) else { return Ok(Outcome::Done) };
        let Sink::Socket(connection) = &mut subscriber.sink else { return Ok(Outcome::Done) };
        if !connection.dequeue() {
            return Ok(Outcome::Done);
        }
        loop {
            let turn = Turn::of(Standing {
                has_notice: connection.has_notice(),
                is_within_event: connection.is_within_event(),
                is_draining: *is_draining,
                ends: subscriber.ends,
                is_within_page: false,
                is_full: connection.is_full(),
                is_behind: subscriber.served != Served::Live,
                owes_heartbeat: subscriber.owes_heartbeat,
            });
            let cursor = subscriber.served.cursor(*position);
            match turn {
                Turn::Notice => {
                    if connection.write_notice(*tick)? != Wrote::All {
                        return Ok(Outcome::Wait);
                    }
                }
                _ if connection.is_ending() => {
                    connection.linger(*tick)?;
                    return Ok(Outcome::Wait);
                }
                Turn::End(reason) => {
                    let notice = connection.style.end(reason, &cursor_key.seal(cursor));
                    connection.end(Some(notice));
                }
                Turn::Rest | Turn::Events => break,
                Turn::Heartbeat => {
                    subscriber.owes_heartbeat = false;
                    let notice = connection.style.writer.heartbeat(&cursor_key.seal(cursor));
                    connection.notify(notice);
                }
                Turn::Live => return Ok(Outcome::Done),
            }
        }
        let has_to_end = *is_draining || subscriber.ends.is_some();
        Ok(match self.write_events(state, key)? {
            // The rest of a partly sent event was written before the end.
            Outcome::Done if has_to_end => Outcome::Again,
            turn => turn,
        })
    }

    /// Writes the next events.
    fn write_events(&self, state: &mut ShardState, key: usize) -> io::Result<Outcome> {
        let ShardState { subscribers, position, tick, recent, ahead, .. } = state;
        let subscriber = &mut subscribers[key];
        let after = subscriber.served.cursor(*position);
        if *position < after {
            ahead.insert(key);
            return Ok(Outcome::Done);
        }
        let Sink::Socket(connection) = &subscriber.sink else { return Ok(Outcome::Done) };
        let cursor_key = self.hub.history().cursor_key();
        let interest = &subscriber.interest;
        let mut from_tail = Vec::new();
        let (events, is_whole) = match (recent.behind(after), subscriber.served) {
            (Some(mut behind), Served::Owed { more: false, .. }) => {
                // The index matched its topics already; only restricted events need a check.
                let is_matched = |it: &&Arc<Event>| {
                    !it.update.is_restricted() && !interest.depends_on_position()
                };
                let only = behind
                    .next()
                    .filter(|it| is_matched(it) || interest.covers(&it.update, it.position));
                gather(only, interest, connection, cursor_key)
            }
            (Some(behind), _) => gather(
                behind.filter(|it| interest.covers(&it.update, it.position)),
                interest,
                connection,
                cursor_key,
            ),
            (None, _) => {
                let found =
                    find_in_tail(self.hub.tail(), after, *position, interest, &mut from_tail);
                if matches!(found, Found::AskHistory) && from_tail.is_empty() {
                    return Ok(Outcome::AskHistory(after));
                }
                if let (Found::NothingYet(position), true) = (&found, from_tail.is_empty()) {
                    subscriber.served = Served::Behind(*position);
                    return Ok(Outcome::Again);
                }
                let (events, is_whole) = gather(&from_tail, interest, connection, cursor_key);
                (events, is_whole && matches!(found, Found::Nothing))
            }
        };
        self.send(&events, subscriber, *tick, after, is_whole.then_some(Served::Live))
    }

    /// Writes `events`. If all are written, the subscriber is then served as `then` says.
    fn send(
        &self,
        events: &[Encoded<'_>],
        subscriber: &mut Subscriber,
        now: Tick,
        after: Position,
        then: Option<Served>,
    ) -> io::Result<Outcome> {
        let Sink::Socket(connection) = &mut subscriber.sink else { return Ok(Outcome::Done) };
        let wrote = connection.write_events(events, now)?;
        let n_complete = match wrote {
            Wrote::All => events.len(),
            Wrote::Some(n_complete) => n_complete,
        };
        let last = events[..n_complete].last();
        if last.is_some_and(|it| connection.style.is_last(it.event)) {
            connection.end(connection.style.writer.close());
        }
        // The end of the stream is written in another turn.
        let has_more_to_do = connection.is_ending() || connection.is_full();
        subscriber.served = match (wrote, then) {
            (Wrote::All, Some(served)) => served,
            _ => Served::Behind(last.map_or(after, |it| it.event.position)),
        };
        subscriber.wrote(now);
        self.stats.delivered(subscriber.transport, n_complete as u64);
        Ok(match wrote {
            Wrote::Some(_) => Outcome::Wait,
            Wrote::All if subscriber.served == Served::Live && !has_more_to_do => Outcome::Done,
            Wrote::All => Outcome::Again,
        })
    }

    /// Accepts a page of the history for the socket that requested it.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn accept(
        &self,
        key: usize,
        (arrival, generation): (u32, u32),
        page: Result<Page, HistoryError>,
    ) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let ShardState { subscribers, position, tick, .. } = &mut *state;
        let Some(subscriber) = subscribers.get_mut(key) else { return Ok(()) };
        if subscriber.arrival != arrival {
            return Ok(());
        }
        let Sink::Socket(connection) = &mut subscriber.sink else { return Ok(()) };
        connection.end_reading();
        if subscriber.generation != generation {
            // It was read for an interest that has changed.
            state.rouse(number(key), false);
            return Ok(());
        }
        let cursor_key = self.hub.history().cursor_key();
        let cursor = subscriber.served.cursor(*position);
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "a subscription ends because what it missed cannot be read");
                if connection.is_within_event() {
                    // The end would be written into the middle of the event.
                    return Err(io::ErrorKind::NotFound.into());
                }
                let token = cursor_key.seal(cursor);
                let notice = connection.style.end(EndReason::Unavailable, &token);
                connection.end(Some(notice));
                state.rouse(number(key), false);
                return Ok(());
            }
        };
        let leg = Leg::new(page, cursor, *position, &mut subscriber.told, cursor_key);
        subscriber.served = Served::Behind(leg.after);
        if let Some(gap) = leg.gap {
            if connection.is_within_event() {
                // The rest of the event is lost. The client reconnects with the id of the event
                // before it.
                return Err(io::ErrorKind::NotFound.into());
            }
            let notice = connection.style.writer.gap(&gap, cursor_key);
            connection.notify(notice);
            self.stats.gap();
        }
        let turn = if connection.write_notice(*tick)? == Wrote::All {
            let (events, is_whole) =
                gather(&leg.events, &subscriber.interest, connection, cursor_key);
            let then = is_whole.then_some(Served::Behind(leg.scanned_to));
            self.send(&events, subscriber, *tick, leg.after, then)?
        } else {
            Outcome::Wait
        };
        match turn {
            Outcome::Wait => state.reschedule(number(key)),
            _ => state.rouse(number(key), false),
        }
        Ok(())
    }
}

/// Collects events for `interest` from the tail. Returns what the search found after them. Examines
/// a limited number of events.
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

/// Takes the first of `events`, within the limits of one turn. Returns whether these are all.
fn gather<'a>(
    events: impl IntoIterator<Item = &'a Arc<Event>>,
    interest: &Interest,
    connection: &Connection,
    key: &CursorKey,
) -> (SmallVec<[Encoded<'a>; 4]>, bool) {
    let mut gathered: SmallVec<[Encoded<'a>; 4]> = SmallVec::new();
    let mut n_bytes = 0;
    for event in events {
        let is_enough = EVENTS_AT_ONCE <= gathered.len()
            || BYTES_AT_ONCE <= n_bytes
            || connection.would_be_full(n_bytes)
            || gathered.last().is_some_and(|last| connection.style.is_last(last.event));
        // The rest of a partly sent event has to follow in any case.
        if is_enough && !gathered.is_empty() {
            return (gathered, false);
        }
        let event = connection.style.shown(event, interest);
        let bytes = connection.style.event(event, key);
        n_bytes += bytes.len();
        gathered.push(Encoded { event, bytes });
    }
    (gathered, true)
}
