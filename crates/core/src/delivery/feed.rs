//! The items for one subscriber: first missed events, then live ones, without gaps or repetitions.

use std::{
    collections::VecDeque,
    fmt,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tracing::warn;

use super::{
    catch_up::{Leg, PAGE},
    shard_core::ShardCore,
    subscriber::Served,
    turn::{Standing, Turn},
};
use crate::{
    event::{Event, Position},
    history::{Answer, CursorKey, Meter, Page},
    hub::Found,
    matching::Interest,
    transport::{EndReason, Gap, Transport},
};

/// What a subscriber receives.
#[derive(Debug)]
pub enum Item {
    /// An event for it.
    Event(Arc<Event>),
    /// Requested events cannot be served.
    Gap(Gap),
    /// Up to this position there was nothing to send for a while.
    Heartbeat(Position),
    /// The subscription ends; this is the last item.
    End(EndReason),
}

/// A subscription, which ends when this is dropped.
pub struct Feed {
    shard: Rc<ShardCore>,
    key: usize,
    interest: Arc<Interest>,
    /// The [`Subscriber::generation`](super::subscriber::Subscriber) of the interest.
    generation: u32,
    transport: Transport,
    gap: Option<Gap>,
    catching_up: Option<Box<CatchUp>>,
    /// Whether it has polled for events.
    has_begun: bool,
}

/// A page of the history on its way to the subscriber.
enum CatchUp {
    Reading(Answer<Page>),
    /// All of it has been handed out. The task yields before the next page.
    Resting,
    Read {
        events: VecDeque<Arc<Event>>,
        scanned_to: Position,
    },
}

impl Feed {
    pub(super) fn new(
        shard: Rc<ShardCore>,
        key: usize,
        gap: Option<Gap>,
        transport: Transport,
    ) -> Self {
        let state = shard.state.borrow();
        let subscriber = &state.subscribers[key];
        let (interest, generation) = (subscriber.interest.clone(), subscriber.generation);
        drop(state);
        let (catching_up, has_begun) = (None, false);
        Self { shard, key, interest, generation, transport, gap, catching_up, has_begun }
    }

    /// Adopts an interest that has changed meanwhile.
    fn follow_interest(&mut self) {
        let state = self.shard.state.borrow();
        let subscriber = &state.subscribers[self.key];
        if subscriber.generation == self.generation {
            return;
        }
        (self.interest, self.generation) = (subscriber.interest.clone(), subscriber.generation);
        drop(state);
        match self.catching_up.as_deref_mut() {
            // What is read for the old interest may lack events.
            Some(CatchUp::Reading(_)) => self.catching_up = None,
            // Read before the change, and so complete up to it.
            Some(CatchUp::Read { events, .. }) => {
                let interest = &self.interest;
                events.retain(|it| interest.covers(&it.update, it.position));
            }
            Some(CatchUp::Resting) | None => {}
        }
    }

    /// The position up to which everything has been handed out.
    #[must_use]
    pub fn position(&self) -> Position {
        let state = self.shard.state.borrow();
        state.subscribers[self.key].served.cursor(state.position)
    }

    /// Whether there may be more events for it up to the shard's position.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let state = self.shard.state.borrow();
        let served = state.subscribers[self.key].served;
        served != Served::Live && served.cursor(state.position) < state.position
    }

    /// The cursor token for [`Feed::position`].
    #[must_use]
    pub fn token(&self) -> String {
        self.cursor_key().seal(self.position())
    }

    /// What the subscriber subscribes to and may see.
    #[must_use]
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// The key for cursor tokens of its history.
    #[must_use]
    pub fn cursor_key(&self) -> &CursorKey {
        self.shard.hub.history().cursor_key()
    }

    /// Waits for the next item.
    pub async fn next(&mut self) -> Item {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the next item without waiting for new events; `None` if everything available has
    /// been handed out.
    pub async fn next_waiting(&mut self) -> Option<Item> {
        std::future::poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(item) => Poll::Ready(Some(item)),
            Poll::Pending if self.catching_up.is_some() => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Polls for the next item.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        self.poll_turn(cx, false)
    }

    /// Polls for the next item of a document, which ends if it `is_full`.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>, is_full: bool) -> Poll<Item> {
        self.follow_interest();
        loop {
            match Turn::of(self.standing(is_full)) {
                Turn::Notice => {
                    if let Some(gap) = self.gap.take() {
                        self.shard.stats.gap();
                        return Poll::Ready(Item::Gap(gap));
                    }
                }
                Turn::End(reason) => return Poll::Ready(Item::End(reason)),
                Turn::Rest | Turn::Events => {
                    self.has_begun = true;
                    let polled = match self.catching_up {
                        Some(_) => self.poll_catch_up(cx),
                        None => self.poll_tail(cx),
                    };
                    if let Some(item) = ready!(polled) {
                        return Poll::Ready(item);
                    }
                }
                Turn::Heartbeat => {
                    let mut state = self.shard.state.borrow_mut();
                    state.subscribers[self.key].owes_heartbeat = false;
                    return Poll::Ready(Item::Heartbeat(state.position));
                }
                Turn::Live => {
                    self.has_begun = true;
                    let mut state = self.shard.state.borrow_mut();
                    state.subscribers[self.key].sink.wake_later(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn standing(&self, is_full: bool) -> Standing {
        let state = self.shard.state.borrow();
        let subscriber = &state.subscribers[self.key];
        Standing {
            has_notice: self.gap.is_some(),
            // A body sends the rest of an event before it asks for more.
            is_within_event: false,
            is_draining: state.is_draining,
            ends: subscriber.ends,
            is_within_page: self.is_within_page(),
            is_full,
            is_behind: self.catching_up.is_some() || subscriber.served != Served::Live,
            owes_heartbeat: subscriber.owes_heartbeat,
        }
    }

    /// Takes the next event from the tail. `None` if the subscriber is live, or has to catch up.
    fn poll_tail(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let mut state = self.shard.state.borrow_mut();
        let (end, now) = (state.position, state.tick);
        let subscriber = &mut state.subscribers[self.key];
        let after = subscriber.served.cursor(end);
        let mut meter = Meter::new(&self.interest);
        match self.shard.hub.tail().find(after, end, &self.interest, &mut meter) {
            Found::Event(event) => {
                subscriber.served = Served::Behind(event.position);
                subscriber.wrote(now);
                self.shard.stats.delivered(self.transport, 1);
                Poll::Ready(Some(Item::Event(event)))
            }
            // A subscriber can be ahead of this shard, with a position from another shard. It
            // waits until this one catches up.
            Found::Nothing if end < after => {
                subscriber.sink.wake_later(cx);
                state.ahead.insert(self.key);
                Poll::Pending
            }
            Found::Nothing => {
                subscriber.served = Served::Live;
                Poll::Ready(None)
            }
            Found::NothingYet(position) => {
                subscriber.served = Served::Behind(position);
                drop(state);
                self.catching_up = Some(Box::new(CatchUp::Resting));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Found::AskHistory => {
                let page = self.shard.hub.history().read_after(after, &self.interest, PAGE);
                self.catching_up = Some(Box::new(CatchUp::Reading(page)));
                Poll::Ready(None)
            }
        }
    }

    /// Whether a page is on its way to a poll. A poll that does not wait expires at once. Without
    /// this check it would get none of its missed events, and its client would poll forever.
    fn is_within_page(&self) -> bool {
        let is_on_its_way = match self.catching_up.as_deref() {
            Some(CatchUp::Reading(_)) => true,
            Some(CatchUp::Read { events, .. }) => !events.is_empty(),
            Some(CatchUp::Resting) => false,
            None => !self.has_begun,
        };
        self.transport == Transport::Poll && is_on_its_way
    }

    /// Hands out the page that is being read; `None` when all of it has been handed out.
    fn poll_catch_up(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let Some(catch_up) = self.catching_up.as_deref_mut() else { return Poll::Ready(None) };
        match catch_up {
            CatchUp::Reading(answer) => match ready!(answer.as_mut().poll(cx)) {
                Ok(page) => Poll::Ready(self.accept(page)),
                Err(error) => {
                    warn!(%error, "a subscription ends because what it missed cannot be read");
                    Poll::Ready(Some(Item::End(EndReason::Unavailable)))
                }
            },
            CatchUp::Resting => {
                self.catching_up = None;
                Poll::Ready(None)
            }
            CatchUp::Read { events, scanned_to } => {
                let mut state = self.shard.state.borrow_mut();
                let now = state.tick;
                let subscriber = &mut state.subscribers[self.key];
                // The task yields before the next page is read: catching up must not delay others.
                let Some(event) = events.pop_front() else {
                    subscriber.served = Served::Behind(*scanned_to);
                    drop(state);
                    self.catching_up = Some(Box::new(CatchUp::Resting));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                };
                subscriber.served = Served::Behind(event.position);
                subscriber.wrote(now);
                self.shard.stats.delivered(self.transport, 1);
                Poll::Ready(Some(Item::Event(event)))
            }
        }
    }

    /// Accepts a page.
    fn accept(&mut self, page: Page) -> Option<Item> {
        let mut state = self.shard.state.borrow_mut();
        let position = state.position;
        let subscriber = &mut state.subscribers[self.key];
        let cursor = subscriber.served.cursor(position);
        let leg = Leg::new(page, cursor, position, &mut subscriber.told, self.cursor_key());
        subscriber.served = Served::Behind(leg.after);
        drop(state);
        let (events, scanned_to) = (leg.events.into(), leg.scanned_to);
        self.catching_up = Some(Box::new(CatchUp::Read { events, scanned_to }));
        let gap = leg.gap?;
        self.shard.stats.gap();
        Some(Item::Gap(gap))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shard.remove(self.key);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("transport", &self.transport).finish_non_exhaustive()
    }
}
