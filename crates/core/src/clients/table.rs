//! All clients, and when those without a stream end.

use std::{
    collections::HashMap,
    fmt, io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use tokio::{runtime::Handle, sync::Notify};
use tracing::{error, info, warn};

use super::{
    cell::{Cell, Held},
    client::Client,
    leases::Leases,
    record,
};
use crate::{
    budget::{Budget, Full},
    event::{ClientKey, Position, Topic},
    history::{Batch, Committed, HistoryError, Revised, Shelf, Write},
    hub::{Hub, PublishError},
    transport::Transport,
};

/// How long a client whose page has closed is kept.
const AFTER_BYE: Duration = Duration::from_secs(3);

/// How long a client is kept whose end could not be stored, before the next attempt.
const AGAIN: Duration = Duration::from_secs(5);

/// All clients of a gateway. Clones share them.
#[derive(Clone)]
pub struct Clients(Arc<ClientsCore>);

struct ClientsCore {
    hub: Hub,
    options: ClientOptions,
    table: Mutex<Table>,
    per_address: Budget,
    /// Rings when a client ends earlier than the task expects.
    earlier: Notify,
    runtime: Handle,
    on_end: OnEnd,
}

/// What is done when a client has ended.
pub type OnEnd = Box<dyn Fn(&Arc<Cell>) + Send + Sync>;

/// What operators may set.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long a client without a stream lives.
    pub grace: Duration,
    /// How long a client lives after a poll, if that is longer.
    pub poll_lease: Duration,
    /// How long the clients of the previous process may take to return.
    pub after_restart: Duration,
    /// The most clients.
    pub capacity: usize,
    /// The most clients without a stream. The one that ends first makes room for another.
    pub waiting: usize,
    /// The most clients from one address.
    pub per_address: usize,
}

#[derive(Default)]
struct Table {
    cells: HashMap<ClientKey, Arc<Cell>, RandomState>,
    /// The records of clients that another process serves.
    elsewhere: HashMap<ClientKey, Revised, RandomState>,
    leases: Leases,
}

/// Why a client was not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMet {
    /// It belongs to another user.
    #[error("the client belongs to another user")]
    OtherUser,
    /// There are too many clients.
    #[error("there are too many clients")]
    Full(Full),
}

impl Clients {
    /// Starts the clients of a gateway, with those that the previous process left. A thread ends
    /// those whose time is over.
    ///
    /// # Errors
    /// If the thread cannot be started, or the stored clients cannot be read.
    pub fn start(hub: Hub, options: ClientOptions, on_end: OnEnd) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let clients = Self(Arc::new(ClientsCore {
            table: Mutex::default(),
            per_address: Budget::new(usize::MAX, options.per_address),
            earlier: Notify::new(),
            runtime: runtime.handle().clone(),
            options,
            hub,
            on_end,
        }));
        // Before the stored clients are read, so that no change of another process is missed.
        let learning = Arc::downgrade(&clients.0);
        let learn = move |records: &[&Revised]| {
            if let Some(core) = learning.upgrade() {
                Self(core).learn(records);
            }
        };
        clients.hub().keep_table(&[Shelf::Clients], Box::new(learn));
        clients.restore()?;
        let ending = clients.clone();
        thread::Builder::new()
            .name("tidegate-clients".to_owned())
            .spawn(move || runtime.block_on(ending.end_those_due()))?;
        Ok(clients)
    }

    /// The hub that stores their records.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `task` beside the requests.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.runtime.spawn(task);
    }

    fn restore(&self) -> io::Result<()> {
        let stored = self.hub().history().records(Shelf::Clients).map_err(io::Error::other)?;
        let n_clients = stored.len();
        let ends_at = Instant::now() + self.0.options.after_restart;
        let mut table = self.table();
        for Revised { revision, record: stored } in stored {
            let id = record::key(&stored).map_err(io::Error::other)?;
            let client = record::read(&stored.value.unwrap_or_default());
            let client = client.map_err(io::Error::other)?;
            let held = Held { client, revision, ends_at: Some(ends_at), ..Held::default() };
            table.leases.set(id, None, ends_at);
            table.cells.insert(id, Arc::new(Cell::new(id, held)));
        }
        if 0 < n_clients {
            info!(n_clients, "clients go on from where they were");
        }
        Ok(())
    }

    /// The number of clients, and of those without a stream.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let table = self.table();
        (table.cells.len(), table.leases.len())
    }

    /// All clients.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Cell>> {
        self.table().cells.values().cloned().collect()
    }

    /// The clients that have joined a topic.
    #[must_use]
    pub fn joined(&self, topic: &Topic) -> Vec<Arc<Cell>> {
        let has_joined = |cell: &Arc<Cell>| cell.held().client.topics.contains_key(topic);
        self.all().into_iter().filter(has_joined).collect()
    }

    /// The clients that hear a topic.
    #[must_use]
    pub fn on(&self, topic: &Topic) -> Vec<Arc<Cell>> {
        let hears = |cell: &Arc<Cell>| {
            cell.held().client.topics.get(topic).is_some_and(|membership| membership.listens)
        };
        self.all().into_iter().filter(hears).collect()
    }

    /// The client with this id, if there is one.
    #[must_use]
    pub fn find(&self, id: &ClientKey) -> Option<Arc<Cell>> {
        let mut table = self.table();
        let known = table.cells.get(id).cloned();
        known.or_else(|| self.take_over(&mut table, id))
    }

    /// Takes over a client that another process has served.
    fn take_over(&self, table: &mut Table, id: &ClientKey) -> Option<Arc<Cell>> {
        let Revised { revision, record: stored } = table.elsewhere.remove(id)?;
        let client = record::read(stored.value.as_deref()?);
        let client = client.map_err(|error| error!(%error, "a client of another process")).ok()?;
        let held = Held { client, revision, ..Held::default() };
        Some(self.insert(table, *id, held))
    }

    fn insert(&self, table: &mut Table, id: ClientKey, mut held: Held) -> Arc<Cell> {
        let ends_at = Instant::now() + self.0.options.grace;
        held.ends_at = Some(ends_at);
        if table.leases.set(id, None, ends_at) {
            self.0.earlier.notify_one();
        }
        let cell = Arc::new(Cell::new(id, held));
        table.cells.insert(id, cell.clone());
        cell
    }

    /// The client with this id, which is created if there is none. The first `user` that is given
    /// is the client's for good. Returns whether the client is new.
    ///
    /// # Errors
    /// If the client belongs to another user, or if there is no room for a new one.
    pub fn meet(
        &self,
        id: &ClientKey,
        user: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(Arc<Cell>, bool), NotMet> {
        if let Some(cell) = self.find(id) {
            let mut held = cell.held();
            match &held.client.user {
                Some(owner) if Some(&**owner) != user => return Err(NotMet::OtherUser),
                Some(_) => {}
                None => held.client.user = user.map(Into::into),
            }
            drop(held);
            self.renew(&cell);
            return Ok((cell, false));
        }
        let mut share = self.0.per_address.share(address);
        share.grow(1).map_err(NotMet::Full)?;
        let mut table = self.table();
        if self.0.options.capacity <= table.cells.len() {
            return Err(NotMet::Full(Full::InAll(self.0.options.capacity)));
        }
        if self.0.options.waiting <= table.leases.len()
            && let Some(first) = table.leases.first()
        {
            self.end_soon(first);
        }
        let client = Client {
            user: user.map(Into::into),
            began: self.hub().tail().newest(),
            ..Client::default()
        };
        let held = Held { client, _share: Some(share), ..Held::default() };
        // Another request may have created it meanwhile.
        if let Some(cell) = table.cells.get(id) {
            return Ok((cell.clone(), false));
        }
        Ok((self.insert(&mut table, *id, held), true))
    }

    /// Notes that a client has a stream, so that it does not end.
    pub(super) fn keep(&self, cell: &Cell) {
        let mut table = self.table();
        let before = cell.held().ends_at.take();
        table.leases.remove(*cell.id(), before);
    }

    /// Notes that a client acts. Without a stream, its time begins anew.
    fn renew(&self, cell: &Cell) {
        if cell.held().ends_at.is_some() {
            self.lease(cell, self.0.options.grace, false);
        }
    }

    /// Notes that a client has no stream any more.
    pub(super) fn let_go(&self, cell: &Cell, transport: Transport) {
        let options = &self.0.options;
        let time = match transport {
            _ if cell.held().has_left => AFTER_BYE,
            Transport::Poll => options.grace.max(options.poll_lease),
            Transport::Sse | Transport::Iframe => options.grace,
        };
        self.lease(cell, time, true);
    }

    /// Notes that the client's page closes: without a stream it ends soon.
    pub fn bye(&self, cell: &Cell) {
        let has_stream = {
            let mut held = cell.held();
            held.has_left = true;
            held.stream.is_some()
        };
        if !has_stream {
            self.lease(cell, AFTER_BYE, true);
        }
    }

    /// Sets the end of a client without a stream. Unless `may_shorten`, only to a later time.
    fn lease(&self, cell: &Cell, time: Duration, may_shorten: bool) {
        let mut table = self.table();
        if !table.cells.contains_key(cell.id()) {
            return;
        }
        let mut held = cell.held();
        if held.stream.is_some() {
            return;
        }
        let at = Instant::now() + time;
        if !may_shorten && held.ends_at.is_some_and(|it| at <= it) {
            return;
        }
        let before = held.ends_at.replace(at);
        if table.leases.set(*cell.id(), before, at) {
            self.0.earlier.notify_one();
        }
    }

    fn end_soon(&self, id: ClientKey) {
        let clients = self.clone();
        self.spawn(async move {
            if let Some(cell) = clients.find(&id) {
                clients.end(&cell).await;
            }
        });
    }

    /// Ends the clients whose time is over, for as long as the process runs.
    async fn end_those_due(self) {
        loop {
            let next = self.table().leases.next();
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.0.earlier.notified() => continue,
            }
            let due = self.table().leases.take_due(Instant::now());
            let Some(cell) = due.and_then(|id| self.find(&id)) else { continue };
            self.end(&cell).await;
        }
    }

    /// Ends a client for good, unless it has a stream: its record is removed, and it has left all
    /// topics.
    pub async fn end(&self, cell: &Arc<Cell>) {
        let _lane = cell.lane().await;
        let revision = {
            let held = cell.held();
            if held.stream.is_some() {
                return;
            }
            held.revision
        };
        if revision != Position::START {
            let records = vec![record::removed(cell.id(), revision)];
            match self.hub().submit(Batch { records, ..Batch::default() }).await {
                Ok(Committed::Stored(_)) => {}
                // Another process serves it now.
                Ok(_) => {
                    self.forget(cell);
                    return;
                }
                Err(error) => {
                    warn!(%error, "the end of a client is not stored");
                    self.lease(cell, AGAIN, true);
                    return;
                }
            }
        }
        if self.forget(cell) {
            (self.0.on_end)(cell);
        }
    }

    /// Removes a client from the table. Returns whether it was there.
    fn forget(&self, cell: &Arc<Cell>) -> bool {
        let mut table = self.table();
        let before = cell.held().ends_at.take();
        table.leases.remove(*cell.id(), before);
        let is_this = table.cells.get(cell.id()).is_some_and(|it| Arc::ptr_eq(it, cell));
        is_this && table.cells.remove(cell.id()).is_some()
    }

    /// Whether the client has not ended.
    #[must_use]
    pub fn has(&self, cell: &Arc<Cell>) -> bool {
        self.table().cells.get(cell.id()).is_some_and(|it| Arc::ptr_eq(it, cell))
    }

    /// Waits until the table has everything that was stored before this call.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub async fn catch_up(&self) -> Result<(), HistoryError> {
        self.hub().history().current().await.map(drop)
    }

    /// Begins to write a client's record. Returns the change, to be submitted on the condition that
    /// the record is as it was. Afterwards call [`wrote`](Self::wrote).
    #[must_use]
    pub fn write(&self, cell: &Cell, client: &Client) -> Write {
        let mut held = cell.held();
        held.is_writing = true;
        record::written(cell.id(), client, held.revision)
    }

    /// Ends to write a client's record: the revision that it has now, or `None` if it was not
    /// written, as far as is known.
    pub fn wrote(&self, cell: &Arc<Cell>, revision: Option<Position>) {
        let mut held = cell.held();
        held.is_writing = false;
        held.revision = revision.unwrap_or(held.revision);
        let newer = held.announced.take().filter(|it| held.revision < it.revision);
        if let Some(newer) = newer {
            adopt(&mut held, &newer);
        }
    }

    /// Writes a client's record by itself.
    ///
    /// # Errors
    /// If it was not stored, or if that is unknown.
    pub async fn store(&self, cell: &Arc<Cell>) -> Result<bool, PublishError> {
        let write = self.write(cell, &cell.client());
        let outcome = self.hub().submit(Batch { records: vec![write], ..Batch::default() }).await;
        let revision = match &outcome {
            Ok(Committed::Stored(revision)) => Some(*revision),
            _ => None,
        };
        self.wrote(cell, revision);
        outcome.map(|it| matches!(it, Committed::Stored(_)))
    }

    /// Learns of stored records.
    fn learn(&self, records: &[&Revised]) {
        let mut table = self.table();
        for revised in records {
            let Ok(id) = record::key(&revised.record) else { continue };
            let Some(cell) = table.cells.get(&id) else {
                match revised.record.value {
                    Some(_) => table.elsewhere.insert(id, (*revised).clone()),
                    None => table.elsewhere.remove(&id),
                };
                continue;
            };
            let mut held = cell.held();
            if revised.revision <= held.revision {
                continue;
            }
            if held.is_writing {
                held.announced = Some((*revised).clone());
            } else {
                adopt(&mut held, revised);
            }
        }
    }
}

/// Makes a stored record what is known of a client.
fn adopt(held: &mut Held, revised: &Revised) {
    let Some(value) = &revised.record.value else {
        held.revision = Position::START;
        return;
    };
    match record::read(value) {
        Ok(client) => {
            held.client = client;
            held.revision = revised.revision;
        }
        Err(error) => error!(%error, "a client of another process"),
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("count", &self.count()).finish_non_exhaustive()
    }
}
