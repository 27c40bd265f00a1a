//! One subscriber's way through the history: first what it missed, then what comes, with no gap and no repetition.

use std::{
    collections::VecDeque,
    fmt,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tracing::warn;

use super::{
    Gap,
    catch_up::{Leg, PAGE},
    shard::Inner,
    subscriber::{Served, Sink},
    tail::Found,
};
use crate::{
    event::{Event, Position},
    history::{Answer, Meter, Page, TokenKey},
    hub::Interest,
    transport::Transport,
};

/// What a subscriber is to be told.
#[derive(Debug)]
pub enum Item {
    /// An event for it.
    Event(Arc<Event>),
    /// Something that it asked for cannot be served.
    Gap(Gap),
    /// Nothing has happened for a while, up to this position.
    Heartbeat(Position),
    /// The subscription ends; nothing comes after this.
    End(EndReason),
}

/// Why a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It has lasted as long as it may.
    Lifetime,
    /// The gateway stops.
    Drain,
    /// The document has grown as much as it may.
    Recycled,
    /// The history cannot be read.
    Unavailable,
}

impl EndReason {
    /// The reason as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Drain => "drain",
            Self::Recycled => "recycled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A subscription; dropping it ends it.
pub struct Feed {
    shard: Rc<Inner>,
    key: usize,
    interest: Arc<Interest>,
    transport: Transport,
    gap: Option<Gap>,
    catching_up: Option<Box<CatchUp>>,
    /// Whether it has looked for events.
    has_begun: bool,
}

/// A page of the history on its way to the subscriber.
enum CatchUp {
    Reading(Answer<Page>),
    /// All of it has been handed out; others have their turn before the next one.
    Resting,
    Read {
        events: VecDeque<Arc<Event>>,
        scanned_to: Position,
    },
}

impl Feed {
    pub(super) fn new(
        shard: Rc<Inner>,
        key: usize,
        interest: Arc<Interest>,
        gap: Option<Gap>,
        transport: Transport,
    ) -> Self {
        Self { shard, key, interest, transport, gap, catching_up: None, has_begun: false }
    }

    /// Everything up to here has been handed out.
    #[must_use]
    pub fn position(&self) -> Position {
        let state = self.shard.state.borrow();
        state.subscribers[self.key].served.cursor(state.position)
    }

    /// Whether there may be more for it that was not handed out.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let state = self.shard.state.borrow();
        let served = state.subscribers[self.key].served;
        served != Served::Live && served.cursor(state.position) < state.position
    }

    /// The token for [`Feed::position`].
    #[must_use]
    pub fn token(&self) -> String {
        self.token_key().seal(self.position())
    }

    /// What it asks for and may see.
    #[must_use]
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// What keys the tokens of the history that it reads.
    #[must_use]
    pub fn token_key(&self) -> &TokenKey {
        self.shard.hub.history().token_key()
    }

    /// The next item, when there is one.
    pub async fn next(&mut self) -> Item {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next item without waiting for events to come: `None` if what there is has been handed out.
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
        // Before the end as well: whoever is given a token behind a gap has been told of it.
        if let Some(gap) = self.gap.take() {
            self.shard.stats.gap();
            return Poll::Ready(Item::Gap(gap));
        }
        if let Some(end) = self.end() {
            return Poll::Ready(Item::End(end));
        }
        self.has_begun = true;
        loop {
            if self.catching_up.is_some() {
                match ready!(self.poll_catch_up(cx)) {
                    Some(item) => return Poll::Ready(item),
                    None => continue,
                }
            }
            let mut state = self.shard.state.borrow_mut();
            let (end, now) = (state.position, state.tick);
            let subscriber = &mut state.subscribers[self.key];
            let Sink::Task(waker) = &mut subscriber.sink else { return Poll::Pending };
            let after = subscriber.served.cursor(end);
            if subscriber.served == Served::Live {
                if std::mem::take(&mut subscriber.owes_heartbeat) {
                    return Poll::Ready(Item::Heartbeat(end));
                }
                if !waker.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            match self.shard.hub.tail().find(
                after,
                end,
                &self.interest,
                &mut Meter::new(&self.interest),
            ) {
                Found::Event(event) => {
                    subscriber.served = Served::Behind(event.position);
                    subscriber.wrote(now);
                    self.shard.stats.delivered(self.transport, 1);
                    return Poll::Ready(Item::Event(event));
                }
                // Whoever is ahead of the shard, having been told a position by another one, waits for it.
                Found::Nothing if end < after => {
                    *waker = Some(cx.waker().clone());
                    state.ahead.insert(self.key);
                    return Poll::Pending;
                }
                Found::Nothing => subscriber.served = Served::Live,
                Found::NothingYet(position) => {
                    subscriber.served = Served::Behind(position);
                    drop(state);
                    self.catching_up = Some(Box::new(CatchUp::Resting));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Found::AskHistory => {
                    let page = self.shard.hub.history().read_after(after, &self.interest, PAGE);
                    self.catching_up = Some(Box::new(CatchUp::Reading(page)));
                }
            }
        }
    }

    fn end(&self) -> Option<EndReason> {
        let state = self.shard.state.borrow();
        if state.is_draining {
            Some(EndReason::Drain)
        } else if state.subscribers[self.key].is_expired && !self.is_within_page() {
            Some(EndReason::Lifetime)
        } else {
            None
        }
    }

    /// Whether a page of a poll is on its way. A poll that does not wait has its end behind it at once; without this it
    /// would get nothing of what it missed, and come back for ever.
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

    /// Takes in a page.
    fn accept(&mut self, page: Page) -> Option<Item> {
        let mut state = self.shard.state.borrow_mut();
        let position = state.position;
        let subscriber = &mut state.subscribers[self.key];
        let cursor = subscriber.served.cursor(position);
        let leg = Leg::new(page, cursor, position, &mut subscriber.told, self.token_key());
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
