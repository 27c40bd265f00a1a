//! What others ask of shared state.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::Arc,
    thread,
    time::Instant,
};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Did, Member, MemberPage, StateCounts, StateError, StateOptions, StateRefusal, Stored, View,
    Work, document::weight_of_member, item::Ask, shared::Shared, writer::Writer,
};
use crate::{
    clock::Clock,
    event::{ClientKey, Topic},
    hub::{Hub, PublishError},
    matching::prepare,
};

/// Works that may wait for the writer.
const QUEUE: usize = 1024;

/// Bytes of works that may wait for the writer. Further callers wait for room.
const ROOM: usize = 16 << 20;

/// A handle to the state and the members of all topics. Clones share it.
#[derive(Debug, Clone)]
pub struct States(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    room: Arc<Semaphore>,
}

impl States {
    /// Starts the writer, with the documents that the history has stored.
    ///
    /// # Errors
    /// If its thread cannot be started, or the stored documents cannot be read.
    pub fn start(hub: Hub, options: StateOptions, clock: Clock) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared::open(hub, options, clock)?);
        let (asks, received) = mpsc::channel(QUEUE);
        let writer = Writer { shared: shared.clone(), asks: received, over_after: None };
        thread::Builder::new()
            .name("tidegate-state".to_owned())
            .spawn(move || runtime.block_on(writer.run()))?;
        let room = Arc::new(Semaphore::new(ROOM));
        Ok(Self(Arc::new(Handle { shared, asks, room })))
    }

    /// The limits, and what applies to topics.
    #[must_use]
    pub fn options(&self) -> &StateOptions {
        &self.0.shared.options
    }

    /// What is stored for a topic.
    #[must_use]
    pub fn view(&self, topic: &Topic) -> View {
        self.0.shared.table().view(topic)
    }

    /// At most `limit` members of a topic, those after `after` in an order that stays the same.
    #[must_use]
    pub fn members(&self, topic: &Topic, after: Option<&ClientKey>, limit: usize) -> MemberPage {
        let table = self.0.shared.table();
        match table.get(topic) {
            Some(document) => document.page(after, limit),
            None => MemberPage { rev: table.view(topic).rev, ..MemberPage::default() },
        }
    }

    /// The revisions of topics that have state or members.
    #[must_use]
    pub fn revs<'t>(&self, topics: impl IntoIterator<Item = &'t Topic>) -> BTreeMap<Topic, u64> {
        let table = self.0.shared.table();
        topics.into_iter().map(|it| (it.clone(), table.view(it).rev)).collect()
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> StateCounts {
        self.0.shared.table().counts()
    }

    /// Waits until views have everything that was stored before this call, by any process.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub async fn catch_up(&self) -> Result<(), PublishError> {
        self.0.shared.catch_up().await.map(drop)
    }

    /// Does the steps of a work in order, and stores all that succeed together. A work whose answer
    /// is dropped may still be stored.
    ///
    /// # Errors
    /// If nothing was stored, or if the outcome is unknown.
    pub async fn submit(&self, work: Work) -> Result<Vec<Did>, StateError> {
        self.store(work).await.map(|it| it.dids)
    }

    /// The same, for callers that also need the revision of the records beside the steps.
    ///
    /// # Errors
    /// If nothing was stored, or if the outcome is unknown.
    pub async fn store(&self, work: Work) -> Result<Stored, StateError> {
        const STOPPED: StateError = StateError::Publish(PublishError::Stopped);
        prepare(work.topics()).await;
        let weight = work.weight();
        let permits = u32::try_from(weight.min(ROOM)).unwrap_or(u32::MAX);
        let room = self.0.room.clone().acquire_many_owned(permits).await.map_err(|_| STOPPED)?;
        let (reply, answer) = oneshot::channel();
        let ask = Ask { work, weight, reply, _room: room };
        self.0.asks.send(ask).await.map_err(|_| STOPPED)?;
        answer.await.map_err(|_| STOPPED)?
    }

    /// Shows a client among the members of a topic, changes how it is shown, or removes it. The
    /// others are told soon, together with other changes. Nothing is told if nothing changes.
    ///
    /// # Errors
    /// Refuses a member that is over a limit. A removal is never refused.
    pub fn tell(
        &self,
        topic: &Topic,
        client: &ClientKey,
        member: Option<&Member>,
    ) -> Result<(), StateRefusal> {
        let shared = &*self.0.shared;
        let member = member.map(|it| it.to_json(&shared.options)).transpose()?;
        let text = member.as_ref().map(|it| it.get());
        let (counts, is_there, is_same) = {
            let table = shared.table();
            let stored = table.get(topic);
            let shown = stored.and_then(|it| it.members.get(client)).map(|it| it.get());
            (table.counts(), stored.is_some(), shown == text)
        };
        let mut gathering = shared.gathering();
        if gathering.wants(topic, client, member.as_ref()).unwrap_or(is_same) {
            return Ok(());
        }
        if let Some(member) = &member {
            let (documents, limit) = (shared.options.documents, shared.options.bytes);
            // Topics that are new are counted exactly only if there may be too many.
            let is_new = |it: &&Topic| shared.table().get(it).is_none();
            let most = counts.documents + gathering.topics().len();
            if !is_there
                && documents <= most
                && documents <= counts.documents + gathering.topics().filter(is_new).count()
            {
                return Err(StateRefusal::TooManyDocuments { limit: documents });
            }
            if limit < counts.bytes + gathering.bytes() + weight_of_member(member) {
                return Err(StateRefusal::Full { limit });
            }
        }
        gathering.want(topic, *client, member, Instant::now());
        drop(gathering);
        shared.woken.notify_one();
        Ok(())
    }

    /// Waits until what was told of a client before is stored. Waits for as long as the history
    /// stores nothing.
    pub async fn settled(&self, topic: &Topic, client: &ClientKey) {
        let shared = &*self.0.shared;
        let mut told = shared.told.subscribe();
        let is_settled = |_: &u64| shared.gathering().wants(topic, client, None).is_none();
        // The sender is in `shared`.
        let _ = told.wait_for(is_settled).await;
    }

    /// Tells where the members that are stored differ from those that are wanted, for instance
    /// after a restart. Returns the stored members that are not wanted. They stay until they are
    /// told to have left.
    pub fn reconcile(
        &self,
        wanted: impl IntoIterator<Item = (Topic, ClientKey, Member)>,
    ) -> Vec<(Topic, ClientKey)> {
        let mut claimed = HashSet::new();
        for (topic, client, member) in wanted {
            if let Err(error) = self.tell(&topic, &client, Some(&member)) {
                tracing::warn!(%error, "a member is not shown");
            }
            claimed.insert((topic, client));
        }
        let table = self.0.shared.table();
        let stored = table.all().flat_map(|(topic, document)| {
            document.members.keys().map(move |client| (topic.clone(), *client))
        });
        stored.filter(|it| !claimed.contains(it)).collect()
    }
}
