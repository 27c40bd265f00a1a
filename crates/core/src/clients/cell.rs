//! A client in its table, and the stream that it holds, which may be for several clients.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use serde_json::Value;
use tokio::sync::Notify;

use super::client::{Client, Membership};
use crate::{
    budget::Share,
    delivery::Steer,
    event::{ClientKey, Position, Topic},
    history::Revised,
    hub::Hub,
    matching::{Interest, JoinedTopic, Rights},
    transport::{StreamId, Transport},
};

/// A client in its table.
#[derive(Debug)]
pub struct Cell {
    id: ClientKey,
    /// Held by the request that changes the client, across its commits.
    lane: tokio::sync::Mutex<()>,
    /// Held while the application is asked whether it admits the client.
    admission: tokio::sync::Mutex<()>,
    /// The requests of the client that are under way.
    n_requests: AtomicUsize,
    held: Mutex<Held>,
}

/// A client and what only this process knows of it.
#[derive(Debug, Default)]
pub struct Held {
    /// The client.
    pub client: Client,
    /// The revision of its record, or [`Position::START`] if it has none.
    pub revision: Position,
    /// Its stream, if one is open.
    pub stream: Option<Stream>,
    /// A stream on trial, which gets no events yet.
    pub trial: Option<Stream>,
    /// Up to where it was served when its last stream ended.
    pub cursor: Option<Position>,
    /// Whether its page has closed.
    pub has_left: bool,
    /// When it ends, unless a stream begins.
    pub(super) ends_at: Option<Instant>,
    /// Its record as another process has written it, or this one without learning of it.
    pub(super) announced: Option<Revised>,
    /// Whether this process is writing its record.
    pub(super) is_writing: bool,
    /// Its share of what one address may have.
    pub(super) _share: Option<Share>,
    /// The access token that the rights of its stream come from, as a hash.
    pub rights_tag: u64,
    /// The client's calls that it may cancel, by their ids.
    pub(super) calls: BTreeMap<String, Arc<Notify>>,
    /// What the application keeps for the client, by type.
    pub(super) locals: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// The newest answers to requests without a number, by the ids of the requests.
    pub(super) answered: VecDeque<(String, Vec<Value>)>,
}

impl Held {
    /// The answers that are kept, so that a repeated request gets its own.
    const ANSWERS: usize = 8;

    /// Notes a call that the client may cancel. The notice comes when it does.
    #[must_use]
    pub fn begin_call(&mut self, id: String) -> Arc<Notify> {
        let cancelled: Arc<Notify> = Arc::default();
        self.calls.insert(id, cancelled.clone());
        cancelled
    }

    /// Notes that a call has ended.
    pub fn end_call(&mut self, id: &str) {
        self.calls.remove(id);
    }

    /// Cancels a call. Returns whether it was under way.
    pub fn cancel_call(&mut self, id: &str) -> bool {
        let cancelled = self.calls.remove(id);
        cancelled.inspect(|it| it.notify_one()).is_some()
    }

    /// What the application keeps for the client, of which each type has one.
    ///
    /// # Panics
    /// Never: a value is found under its own type.
    #[must_use]
    pub fn local<T: Any + Send + Sync + Default>(&mut self) -> Arc<T> {
        let known = self.locals.entry(TypeId::of::<T>());
        let known = known.or_insert_with(|| Arc::new(T::default()));
        known.clone().downcast().expect("it is kept under its own type")
    }

    /// The answer to a request with this id, if it is among the newest.
    #[must_use]
    pub fn answered(&self, id: &str) -> Option<&Vec<Value>> {
        self.answered.iter().find(|(known, _)| known == id).map(|(_, answer)| answer)
    }

    /// Keeps the answer to a request.
    pub fn note_answer(&mut self, id: String, answer: Vec<Value>) {
        if Self::ANSWERS <= self.answered.len() {
            self.answered.pop_front();
        }
        self.answered.push_back((id, answer));
    }
}

impl Cell {
    pub(super) fn new(id: ClientKey, held: Held) -> Self {
        let (lane, admission, n_requests) = Default::default();
        Self { id, lane, admission, n_requests, held: Mutex::new(held) }
    }

    /// The public id.
    #[must_use]
    pub fn id(&self) -> &ClientKey {
        &self.id
    }

    /// Takes a turn for a request of the client; `None` if too many are under way.
    #[must_use]
    pub fn turn(self: &Arc<Self>) -> Option<Turn> {
        const MOST: usize = 16;
        let turn = Turn(self.clone());
        (self.n_requests.fetch_add(1, Relaxed) < MOST).then_some(turn)
    }

    /// Waits until no other request changes the client.
    pub async fn lane(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.lane.lock().await
    }

    /// Waits until no other request asks whether the client is admitted.
    pub async fn admission(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.admission.lock().await
    }

    /// What is known of the client. Not to be held while a stream changes or a batch is submitted.
    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client as it is now.
    #[must_use]
    pub fn client(&self) -> Client {
        self.held().client.clone()
    }

    /// Sets the beginning of topics that were joined and not heard yet, and returns all that the
    /// client hears.
    pub(super) fn hear(&self, at: Position) -> Vec<JoinedTopic> {
        let mut held = self.held();
        let topics = held.client.topics.iter_mut().filter(|(_, it)| it.listens);
        let hear = |(topic, it): (&Topic, &mut Membership)| {
            let since = *it.since.get_or_insert(at);
            JoinedTopic { topic: topic.clone(), since }
        };
        topics.map(hear).collect()
    }

    /// Sets the beginning of topics that were joined while there is no stream.
    pub fn begin_at(&self, at: Position) {
        self.hear(at);
    }

    /// The group of the client's stream, if one is open.
    #[must_use]
    pub fn group(&self) -> Option<Arc<Group>> {
        self.held().stream.as_ref().map(|it| it.group.clone())
    }
}

/// A request of a client while it is under way.
#[derive(Debug)]
pub struct Turn(Arc<Cell>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.n_requests.fetch_sub(1, Relaxed);
    }
}

/// A stream as its clients hold it.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The clients that it is for.
    pub group: Arc<Group>,
    /// The transport.
    pub transport: Transport,
    /// When it ends at the latest, whatever access tokens say.
    pub until: Instant,
}

impl Stream {
    /// The id by which its client names it.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.group.steer.id()
    }
}

/// The clients of one stream, and its interest.
#[derive(Debug)]
pub struct Group {
    steer: Steer,
    members: Mutex<Vec<Weak<Cell>>>,
    /// What a stream on trial asked for.
    asked: Mutex<Option<Interest>>,
}

impl Group {
    /// Creates the group of a stream that gets what `asked` covers, and what these clients have
    /// joined up to `at`.
    #[must_use]
    pub fn new(asked: &Interest, cells: &[Arc<Cell>], at: Position) -> Arc<Self> {
        let interest = interest(asked, cells, at);
        let members = Mutex::new(cells.iter().map(Arc::downgrade).collect());
        Arc::new(Self { steer: Steer::new(interest), members, asked: Mutex::default() })
    }

    /// Creates the group of a stream on trial, which gets nothing before it has begun.
    #[must_use]
    pub fn on_trial(asked: Interest, cells: &[Arc<Cell>]) -> Arc<Self> {
        let members = Mutex::new(cells.iter().map(Arc::downgrade).collect());
        let asked = Mutex::new(Some(asked));
        Arc::new(Self { steer: Steer::new(Interest::nothing()), members, asked })
    }

    /// The interest of the stream as it can be changed.
    #[must_use]
    pub fn steer(&self) -> &Steer {
        &self.steer
    }

    fn members(&self) -> MutexGuard<'_, Vec<Weak<Cell>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clients of the stream.
    #[must_use]
    pub fn cells(&self) -> Vec<Arc<Cell>> {
        self.members().iter().filter_map(Weak::upgrade).collect()
    }

    /// Adds a client. It is heard after the next [`refresh`](Self::refresh).
    pub fn add(&self, cell: &Arc<Cell>) {
        let mut members = self.members();
        if !members.iter().any(|it| it.as_ptr() == Arc::as_ptr(cell)) {
            members.push(Arc::downgrade(cell));
        }
    }

    /// Removes a client. Returns whether others are left.
    pub fn remove(&self, cell: &Arc<Cell>) -> bool {
        let mut members = self.members();
        members.retain(|it| it.as_ptr() != Arc::as_ptr(cell));
        members.iter().any(|it| 0 < it.strong_count())
    }

    /// Makes the stream follow what its clients have joined and left. Returns the position at which
    /// it changed.
    pub async fn refresh(self: &Arc<Self>, hub: &Hub) -> Position {
        let group = self.clone();
        let change = move |before: &Interest, at| interest(before, &group.cells(), at);
        self.steer.swap(hub, change).await
    }

    /// The same with other rights.
    pub async fn refresh_with(self: &Arc<Self>, hub: &Hub, rights: Rights) -> Position {
        let group = self.clone();
        let change =
            move |before: &Interest, at| interest(&before.with_rights(rights), &group.cells(), at);
        self.steer.swap(hub, change).await
    }

    /// Ends the trial: the stream gets what it asked for, after `after`.
    pub(super) async fn begin(self: &Arc<Self>, hub: &Hub, after: Position) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(asked) = asked else { return };
        let group = self.clone();
        let change = move |_: &Interest, at| interest(&asked, &group.cells(), at);
        self.steer.begin(hub, after, change).await;
    }
}

/// The interest of `cells`, whose topics without a beginning begin at `at`.
fn interest(asked: &Interest, cells: &[Arc<Cell>], at: Position) -> Interest {
    let joined: Vec<_> = cells.iter().flat_map(|cell| cell.hear(at)).collect();
    asked.of_clients(cells.iter().map(|cell| *cell.id()), joined)
}
