//! A subscriber's interest as others may change it while its stream is open.
//!
//! The shard of the subscriber makes each change on its own thread, at a position that it answers
//! with. Up to that position the subscriber gets what its interest was before, and after it what it
//! is now. While a stream has no shard yet, or none any more, a change counts from the newest
//! position on.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    event::Position,
    hub::Hub,
    matching::Interest,
    transport::{EndReason, StreamId},
};

/// The interest of one stream; clones refer to the same stream.
#[derive(Clone)]
pub struct Steer(Arc<SteerCore>);

struct SteerCore {
    id: StreamId,
    slot: Mutex<Slot>,
}

/// What the shard takes over when it adds the subscriber.
struct Slot {
    interest: Arc<Interest>,
    /// Where it begins, if that has changed since the request.
    after: Option<Position>,
    /// When it ends, if that has changed since the request.
    expires: Option<Instant>,
    /// Why it has to end.
    ends: Option<EndReason>,
    place: Place,
}

/// Where the subscriber is.
enum Place {
    /// In no shard yet.
    Before,
    /// In a shard.
    At(Address),
    /// In no shard any more: it was served up to this position.
    Gone(Position),
}

/// A subscriber's number in a shard.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) inbox: Arc<Inbox>,
    pub(super) key: u32,
    pub(super) arrival: u32,
}

/// A change of an interest, at a position.
type Change = Box<dyn FnOnce(&Interest, Position) -> Interest + Send>;

/// What the shard has to do for a subscriber, if it still has it.
pub(super) enum Order {
    /// Change the interest, and begin after the given position if there is one.
    Swap { change: Change, after: Option<Position>, done: oneshot::Sender<Position> },
    /// End the stream then.
    Expire(Instant),
    /// End the stream, and answer with the position up to which it was served.
    End { reason: EndReason, done: oneshot::Sender<Position> },
}

pub(super) struct Command {
    pub(super) steer: Steer,
    pub(super) key: u32,
    pub(super) arrival: u32,
    pub(super) order: Order,
}

/// The commands for a shard. Waking its task does not need its thread.
#[derive(Default)]
pub(super) struct Inbox {
    commands: Mutex<Vec<Command>>,
    /// Wakes the task for work that it does not wait for otherwise.
    pub(super) nudge: Notify,
}

impl Inbox {
    fn put(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.nudge.notify_one();
    }

    /// Takes all commands.
    pub(super) fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Steer {
    /// Creates the interest of a stream that is in no shard yet.
    #[must_use]
    pub fn new(interest: Interest) -> Self {
        let slot = Slot {
            interest: interest.into(),
            after: None,
            expires: None,
            ends: None,
            place: Place::Before,
        };
        Self(Arc::new(SteerCore { id: StreamId::random(), slot: Mutex::new(slot) }))
    }

    /// The id of the stream, by which its client names it.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.0.id
    }

    /// What the subscriber subscribes to and may see.
    #[must_use]
    pub fn interest(&self) -> Arc<Interest> {
        self.slot().interest.clone()
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.slot().place, Place::Gone(_))
    }

    /// The position up to which the stream was served, once it has ended.
    #[must_use]
    pub fn served(&self) -> Option<Position> {
        match self.slot().place {
            Place::Gone(served) => Some(served),
            Place::Before | Place::At(_) => None,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the interest, and returns the position at which it changed. `change` gets the
    /// interest as it is then.
    pub async fn swap(
        &self,
        hub: &Hub,
        change: impl FnOnce(&Interest, Position) -> Interest + Send + 'static,
    ) -> Position {
        self.swap_from(hub, None, Box::new(change)).await
    }

    /// The same for a stream that gets nothing so far: it begins after `after`.
    pub async fn begin(
        &self,
        hub: &Hub,
        after: Position,
        change: impl FnOnce(&Interest, Position) -> Interest + Send + 'static,
    ) -> Position {
        self.swap_from(hub, Some(after), Box::new(change)).await
    }

    async fn swap_from(&self, hub: &Hub, after: Option<Position>, change: Change) -> Position {
        let (done, answer) = oneshot::channel();
        let newest = hub.tail().newest();
        {
            let mut slot = self.slot();
            let Place::At(address) = &slot.place else {
                slot.interest = change(&slot.interest, newest).into();
                slot.after = after.or(slot.after);
                return newest;
            };
            address.clone().send(self, Order::Swap { change, after, done });
        }
        // A shard that ends answers no more. Its subscribers are gone.
        answer.await.unwrap_or(newest)
    }

    /// Changes when the stream ends.
    pub fn expire(&self, at: Instant) {
        let mut slot = self.slot();
        match &slot.place {
            Place::At(address) => address.clone().send(self, Order::Expire(at)),
            Place::Before | Place::Gone(_) => slot.expires = Some(at),
        }
    }

    /// Ends the stream. Returns the position up to which it was served; `None` if it was not.
    pub async fn end(&self, reason: EndReason) -> Option<Position> {
        let (done, answer) = oneshot::channel();
        {
            let mut slot = self.slot();
            match &slot.place {
                Place::At(address) => address.clone().send(self, Order::End { reason, done }),
                Place::Before => {
                    slot.ends = Some(reason);
                    return slot.after;
                }
                Place::Gone(served) => return Some(*served),
            }
        }
        answer.await.ok()
    }

    /// Hands the subscriber over to a shard: `add` gets its current interest and returns its
    /// address there.
    pub(super) fn place<T>(&self, add: impl FnOnce(Adopted) -> (T, Address)) -> T {
        let mut slot = self.slot();
        let Slot { interest, after, expires, ends, .. } = &*slot;
        let adopted =
            Adopted { interest: interest.clone(), after: *after, expires: *expires, ends: *ends };
        let (added, address) = add(adopted);
        slot.place = Place::At(address);
        added
    }

    /// Notes that the shard removes the subscriber, which was served up to `served`.
    pub(super) fn leave(&self, served: Position) {
        self.slot().place = Place::Gone(served);
    }

    /// Changes the interest at `position`, and returns it.
    pub(super) fn change(&self, change: Change, position: Position) -> Arc<Interest> {
        let mut slot = self.slot();
        slot.interest = change(&slot.interest, position).into();
        slot.interest.clone()
    }
}

/// The subscriber as its shard takes it over.
pub(super) struct Adopted {
    pub(super) interest: Arc<Interest>,
    pub(super) after: Option<Position>,
    pub(super) expires: Option<Instant>,
    pub(super) ends: Option<EndReason>,
}

impl Address {
    fn send(self, steer: &Steer, order: Order) {
        let Self { inbox, key, arrival } = self;
        inbox.put(Command { steer: steer.clone(), key, arrival, order });
    }
}

impl fmt::Debug for Steer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steer").field("id", &self.0.id).finish_non_exhaustive()
    }
}
