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
    shard::{Inner, Served},
    tail::Found,
};
use crate::{
    event::{Event, Position},
    history::{Answer, Budget, Missing, Page, TokenKey},
    hub::Interest,
    transport::Transport,
};

/// What is read from the history at a time, and so the most that a slow subscriber pins.
const PAGE: Budget = Budget { events: 64, bytes: 16 * 1024 };

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

/// What cannot be served; everything that the history still has follows instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The cursor in the subscriber's own words, or a token for where the gap begins.
    pub cursor: String,
    /// Why.
    pub missing: Missing,
    /// Where it goes on.
    pub after: Position,
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
    /// [`Torn::n_dropped`](crate::history::Torn::n_dropped) of what it was last told of.
    told: u64,
    catching_up: Option<Box<CatchUp>>,
}

/// A page of the history on its way to the subscriber.
enum CatchUp {
    Reading(Answer<Page>),
    Read { events: VecDeque<Arc<Event>>, scanned_to: Position },
}

impl Feed {
    pub(super) fn new(
        shard: Rc<Inner>,
        key: usize,
        interest: Arc<Interest>,
        gap: Option<Gap>,
        transport: Transport,
    ) -> Self {
        Self { shard, key, interest, transport, gap, told: 0, catching_up: None }
    }

    /// The same feed, which says nothing of what was dropped before it began: its gap tells of that, or nobody asked.
    #[must_use]
    pub fn knowing(mut self, n_dropped: u64) -> Self {
        self.told = n_dropped;
        self
    }

    /// Everything up to here has been handed out.
    #[must_use]
    pub fn position(&self) -> Position {
        let state = self.shard.state.borrow();
        match state.subscribers[self.key].served {
            Served::Live => state.position,
            Served::Behind(position) => position,
        }
    }

    /// The token for [`Feed::position`].
    #[must_use]
    pub fn token(&self) -> String {
        self.token_key().seal(self.position())
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
        loop {
            if self.catching_up.is_some() {
                match ready!(self.poll_catch_up(cx)) {
                    Some(item) => return Poll::Ready(item),
                    None => continue,
                }
            }
            let mut state = self.shard.state.borrow_mut();
            let (end, now) = (state.position, state.now);
            let subscriber = &mut state.subscribers[self.key];
            let Served::Behind(after) = subscriber.served else {
                if std::mem::take(&mut subscriber.owes_heartbeat) {
                    return Poll::Ready(Item::Heartbeat(end));
                }
                if !subscriber.waker.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
                    subscriber.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            match self.shard.hub.tail().find(after, end, &self.interest) {
                Found::Event(event) => {
                    subscriber.deliver(event.position, now);
                    self.shard.stats.delivered(self.transport);
                    return Poll::Ready(Item::Event(event));
                }
                // Whoever is ahead of the shard, having been told a position by another one, waits for it.
                Found::Nothing if end < after => {
                    subscriber.waker = Some(cx.waker().clone());
                    state.ahead.insert(self.key);
                    return Poll::Pending;
                }
                Found::Nothing => subscriber.served = Served::Live,
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
        } else if state.subscribers[self.key].is_expired {
            Some(EndReason::Lifetime)
        } else {
            None
        }
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
            CatchUp::Read { events, scanned_to } => {
                let mut state = self.shard.state.borrow_mut();
                let now = state.now;
                let subscriber = &mut state.subscribers[self.key];
                let Some(event) = events.pop_front() else {
                    subscriber.served = Served::Behind(*scanned_to);
                    drop(state);
                    self.catching_up = None;
                    return Poll::Ready(None);
                };
                subscriber.deliver(event.position, now);
                self.shard.stats.delivered(self.transport);
                Poll::Ready(Some(Item::Event(event)))
            }
        }
    }

    /// Takes in a page, as far as the shard has come: what is behind its position is served from the tail.
    fn accept(&mut self, page: Page) -> Option<Item> {
        let mut state = self.shard.state.borrow_mut();
        let position = state.position;
        let subscriber = &mut state.subscribers[self.key];
        let Served::Behind(cursor) = subscriber.served else { return None };
        let Page { events, scanned_to, torn, .. } = page;
        let begin = torn.map_or(cursor, |torn| torn.begins.max(cursor));
        subscriber.served = Served::Behind(begin);
        let events = events.into_iter().take_while(|event| event.position <= position).collect();
        let scanned_to = scanned_to.min(position).max(begin);
        drop(state);
        self.catching_up = Some(Box::new(CatchUp::Read { events, scanned_to }));
        // One notice stands for everything that was missing when it was given.
        let torn = torn.filter(|torn| self.told < torn.n_dropped)?;
        self.told = torn.n_dropped;
        self.shard.stats.gap();
        let cursor = self.token_key().seal(cursor);
        Some(Item::Gap(Gap { cursor, missing: Missing::Trimmed, after: begin }))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let transport = self.shard.state.borrow_mut().remove(self.key);
        self.shard.stats.closed(transport);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("transport", &self.transport).finish_non_exhaustive()
    }
}
