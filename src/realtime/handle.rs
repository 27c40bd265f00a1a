//! Clients and topics as an application holds them.

use std::{any::Any, sync::Arc, time::Duration};

use actix_web::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use tidegate_core::{
    calls::Gathered,
    clients::Cell,
    event::{ClientKey, Draft, Topic, Update},
    state::{Change, Did, Members, MergePatch, Step, Work},
};

use super::{
    call::{self, Called},
    client::{self, Removed},
};
use crate::{gateway::Gateway, http::problem::Problem};

/// The topic that all pages of the browser library join.
const EVERYONE: &str = "everyone";

std::thread_local! {
    /// The client whose data is being read, so that a [`Callback`] knows whom it calls.
    static CALLER: std::cell::RefCell<Option<Client>> = const { std::cell::RefCell::new(None) };
}

/// A client: one page or program, with a stream or between two.
///
/// ```
/// use tidegate::{app::Client, problem::Problem};
///
/// async fn welcome(who: Client) -> Result<(), Problem> {
///     who.join("/lobby").await?;
///     who.send("hello", &who.id()).await?;
///     who.others().send("joined", &who.id()).await?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    gateway: Gateway,
    cell: Arc<Cell>,
}

/// A topic: who hears it, its state and its members.
///
/// ```
/// use tidegate::{gateway::Gateway, problem::Problem};
///
/// async fn announce(gateway: &Gateway) -> Result<(), Problem> {
///     let room = gateway.topic("/rooms/7");
///     room.send("bell", &1).await?;
///     let rev = room.set(serde_json::json!({ "color": "red" })).await?;
///     println!("{rev}: {} of {} members", room.state()?, room.count()?);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct TopicHandle {
    gateway: Gateway,
    name: String,
    except: Option<ClientKey>,
}

/// What clients replied to a call. Serializes as `POST /calls` answers.
#[derive(Debug, Clone)]
pub struct Replies(Gathered);

/// A function of a page that was passed to a call.
#[derive(Debug, Clone)]
pub struct Callback {
    id: String,
    caller: Client,
}

impl Client {
    pub(crate) fn new(gateway: &Gateway, cell: &Arc<Cell>) -> Self {
        Self { gateway: gateway.clone(), cell: cell.clone() }
    }

    /// The public id.
    #[must_use]
    pub fn id(&self) -> String {
        self.cell.id().id()
    }

    /// The user that it belongs to.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        self.cell.held().client.user.as_deref().map(ToOwned::to_owned)
    }

    /// The topics that it has joined.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let held = self.cell.held();
        held.client.topics.keys().map(|topic| topic.as_str().to_owned()).collect()
    }

    /// The gateway that it is a client of.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Something that the server keeps for this client in this process, of which each type has one.
    #[must_use]
    pub fn local<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        self.cell.held().local()
    }

    /// All clients: the topic `everyone`, which the browser library joins.
    #[must_use]
    pub fn everyone(&self) -> TopicHandle {
        self.topic(EVERYONE)
    }

    /// All clients but this one.
    #[must_use]
    pub fn others(&self) -> TopicHandle {
        self.everyone().except(self)
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, name: &str) -> TopicHandle {
        self.gateway.topic(name)
    }

    /// Sends a message to this client alone, and returns its id.
    ///
    /// # Errors
    /// If the message breaks a rule, or is not stored.
    pub async fn send(&self, kind: &str, data: &impl Serialize) -> Result<String, Problem> {
        let update = message(&self.gateway, "to a client", kind, data)?.only_for(self.cell.id());
        let id = update.id.as_str().to_owned();
        self.gateway.hub().publish(vec![update]).await?;
        Ok(id)
    }

    /// Changes the state of the client's own topic by a merge patch, and returns its revision.
    ///
    /// # Errors
    /// If the patch breaks a rule, or is not stored.
    pub async fn set(&self, patch: impl Into<Value>) -> Result<u64, Problem> {
        set(&self.gateway, Topic::of_client(self.cell.id()), &patch.into(), None).await
    }

    /// The state of the client's own topic.
    #[must_use]
    pub fn state(&self) -> Value {
        let view = self.gateway.states().view(&Topic::of_client(self.cell.id()));
        serde_json::to_value(&view.state).unwrap_or_default()
    }

    /// Makes the client join a topic. It hears the topic from then on, private events included.
    ///
    /// # Errors
    /// If the topic is reserved, or if it is not stored.
    pub async fn join(&self, topic: &str) -> Result<(), Problem> {
        let topic = free_topic(&self.gateway, topic)?;
        Ok(client::join(&self.gateway, &self.cell, &topic, None).await?)
    }

    /// Makes the client join a topic as a member that shows `data`, an object.
    ///
    /// # Errors
    /// If the topic is reserved, or if it is not stored.
    pub async fn join_as(&self, topic: &str, data: &impl Serialize) -> Result<(), Problem> {
        let topic = free_topic(&self.gateway, topic)?;
        let data = to_json(data)?;
        if !data.is_object() {
            return Err(Problem::field("as", "what a member shows is not an object"));
        }
        Ok(client::join(&self.gateway, &self.cell, &topic, Some(data)).await?)
    }

    /// Makes the client leave a topic.
    ///
    /// # Errors
    /// If it is not stored.
    pub async fn leave(&self, topic: &str) -> Result<(), Problem> {
        let topic = free_topic(&self.gateway, topic)?;
        Ok(client::leave(&self.gateway, &self.cell, &topic, Removed::Server).await?)
    }

    /// Calls a handler of the client, and waits for what it returns.
    ///
    /// # Errors
    /// The problem that the client replied, or that it has not replied in time.
    pub async fn call(
        &self,
        name: &str,
        data: &impl Serialize,
        wait: Duration,
    ) -> Result<Value, Problem> {
        let called = Called::Client(self.cell.clone());
        let gathered = call::call(&self.gateway, called, name, &to_json(data)?, wait).await?;
        call::only_reply(gathered, self.cell.id())
    }

    /// Ends the client. Its stream ends, and it has left all topics.
    pub async fn end(&self) {
        self.gateway.clients().dismiss(&self.cell).await;
    }

    pub(crate) fn key(&self) -> &ClientKey {
        self.cell.id()
    }

    /// Reads data of this client.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self, data: Value) -> Result<T, Problem> {
        CALLER.set(Some(self.clone()));
        let read = serde_json::from_value(data);
        CALLER.set(None);
        read.map_err(|error| Problem::field("data", format!("`data` cannot be used: {error}")))
    }
}

impl TopicHandle {
    /// The same topic without one client: messages and calls are not for it.
    #[must_use]
    pub fn except(mut self, client: &Client) -> Self {
        self.except = Some(*client.key());
        self
    }

    /// Sends a message to all clients and subscribers of the topic, and returns its id.
    ///
    /// # Errors
    /// If the message breaks a rule, or is not stored.
    pub async fn send(&self, kind: &str, data: &impl Serialize) -> Result<String, Problem> {
        let mut update = message(&self.gateway, &self.name, kind, data)?;
        update.private = self.gateway.rules().of(&update.topics[0]).private;
        update.except = self.except.into_iter().collect();
        let id = update.id.as_str().to_owned();
        tidegate_core::matching::prepare(update.topics.iter()).await;
        self.gateway.hub().publish(vec![update]).await?;
        Ok(id)
    }

    /// Changes the state by a merge patch, and returns its revision. The last writer wins.
    ///
    /// # Errors
    /// If the patch breaks a rule, or is not stored.
    pub async fn set(&self, patch: impl Into<Value>) -> Result<u64, Problem> {
        set(&self.gateway, self.topic()?, &patch.into(), None).await
    }

    /// The same, unless the state has another revision than `rev` by now; 0 if there is to be none.
    ///
    /// # Errors
    /// If the revision is another one, if the patch breaks a rule, or if it is not stored.
    pub async fn set_if(&self, patch: impl Into<Value>, rev: u64) -> Result<u64, Problem> {
        set(&self.gateway, self.topic()?, &patch.into(), Some(rev)).await
    }

    /// The state, a JSON object.
    ///
    /// # Errors
    /// If the topic is reserved.
    pub fn state(&self) -> Result<Value, Problem> {
        let view = self.gateway.states().view(&self.topic()?);
        Ok(serde_json::to_value(&view.state).unwrap_or_default())
    }

    /// The revision of the state and the members.
    ///
    /// # Errors
    /// If the topic is reserved.
    pub fn rev(&self) -> Result<u64, Problem> {
        Ok(self.gateway.states().view(&self.topic()?).rev)
    }

    /// The members, by the id of their client. Empty above `members.listed`.
    ///
    /// # Errors
    /// If the topic is reserved.
    pub fn members(&self) -> Result<Map<String, Value>, Problem> {
        let view = self.gateway.states().view(&self.topic()?);
        let Members::Listed(members) = &view.members else { return Ok(Map::new()) };
        let members = serde_json::to_value(members).unwrap_or_default();
        Ok(members.as_object().cloned().unwrap_or_default())
    }

    /// The number of members.
    ///
    /// # Errors
    /// If the topic is reserved.
    pub fn count(&self) -> Result<usize, Problem> {
        Ok(self.gateway.states().view(&self.topic()?).members.count())
    }

    /// The clients that have joined the topic.
    ///
    /// # Errors
    /// If the topic is reserved.
    pub fn clients(&self) -> Result<Vec<Client>, Problem> {
        let cells = self.gateway.clients().joined(&self.topic()?);
        Ok(cells.iter().map(|cell| Client::new(&self.gateway, cell)).collect())
    }

    /// Calls a handler of each client that hears the topic, and waits for the replies.
    ///
    /// # Errors
    /// If the call is not stored.
    pub async fn call(
        &self,
        name: &str,
        data: &impl Serialize,
        wait: Duration,
    ) -> Result<Replies, Problem> {
        let called = Called::Topic(self.topic()?, self.except);
        let gathered = call::call(&self.gateway, called, name, &to_json(data)?, wait).await?;
        Ok(Replies(gathered))
    }

    fn topic(&self) -> Result<Topic, Problem> {
        free_topic(&self.gateway, &self.name)
    }
}

impl Replies {
    /// What the clients returned, by their ids. Clients that returned a problem are not in it.
    #[must_use]
    pub fn data(&self) -> Map<String, Value> {
        let replies = self.0.replies.iter();
        let data = replies.filter_map(|(client, reply)| match reply {
            tidegate_core::calls::Reply::Data(data) => Some((client.id(), data.clone())),
            tidegate_core::calls::Reply::Problem(_) => None,
        });
        data.collect()
    }

    /// The ids of the clients that have not replied in time.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.0.missing.iter().map(ClientKey::id).collect()
    }
}

impl Serialize for Replies {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        call::document(&self.0).serialize(serializer)
    }
}

impl Callback {
    /// Calls the function in the page.
    ///
    /// # Errors
    /// If it is not stored.
    pub async fn call(&self, arguments: &impl Serialize) -> Result<(), Problem> {
        let told = json!({ "callback": self.id, "data": to_json(arguments)? });
        let update = Update::for_client(self.caller.key(), "tidegate.callback", &told);
        Ok(self.caller.gateway.hub().publish(vec![update]).await?)
    }
}

impl<'de> Deserialize<'de> for Callback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            callback: String,
        }
        let Fields { callback } = Fields::deserialize(deserializer)?;
        let caller = CALLER.with_borrow(Clone::clone);
        let caller = caller.ok_or_else(|| serde::de::Error::custom("no client has sent this"))?;
        Ok(Self { id: callback, caller })
    }
}

impl Gateway {
    /// A topic: a room, a feed, a document. It needs not exist before.
    #[must_use]
    pub fn topic(&self, name: &str) -> TopicHandle {
        TopicHandle { gateway: self.clone(), name: name.to_owned(), except: None }
    }

    /// The client with this public id.
    ///
    /// # Errors
    /// If there is no such client.
    pub fn client(&self, id: &str) -> Result<Client, Problem> {
        let cell = ClientKey::from_id(id).and_then(|id| self.clients().find(&id));
        let cell = cell.ok_or_else(|| Problem::not_found("there is no such client"))?;
        Ok(Client::new(self, &cell))
    }
}

fn message(
    gateway: &Gateway,
    topic: &str,
    kind: &str,
    data: &impl Serialize,
) -> Result<Update, Problem> {
    let draft = Draft {
        topics: vec![topic.to_owned()],
        kind: Some(kind.to_owned()),
        data: to_json(data)?.to_string(),
        ..Draft::default()
    };
    gateway.validate(draft).map_err(|invalid| Problem::update(None, &invalid))
}

async fn set(
    gateway: &Gateway,
    topic: Topic,
    patch: &Value,
    at: Option<u64>,
) -> Result<u64, Problem> {
    let patch = MergePatch::parse(patch.to_string().as_bytes(), gateway.states().options())?;
    let step = Step::Set { topic, change: Change::Patch(patch), at, from: None };
    let dids = gateway.states().submit(Work { steps: vec![step], beside: None }).await?;
    match dids.into_iter().next() {
        Some(Did::Set { rev }) => Ok(rev),
        Some(Did::Conflict(view)) => Err(Problem::state_changed(StatusCode::CONFLICT, &view)),
        Some(Did::Refused(refusal)) => Err(refusal.into()),
        Some(Did::Sent(_)) | None => Err(Problem::internal("the state was not changed")),
    }
}

fn to_json(data: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(data)
        .map_err(|error| Problem::internal(format!("the data is not JSON: {error}")))
}

/// A topic that does not belong to the gateway.
pub(crate) fn free_topic(gateway: &Gateway, topic: &str) -> Result<Topic, Problem> {
    let topic = Topic::parse(topic, gateway.settings().limits.topic_bytes);
    let topic = topic.map_err(|invalid| Problem::update(None, &invalid))?;
    if topic.as_str() == "*" {
        return Err(Problem::field("topic", "`*` is no topic; a topic is one name"));
    }
    if topic.is_reserved(gateway.hub_url()) {
        let detail = format!("`{}` is reserved for the gateway", topic.as_str());
        return Err(Problem::field("topic", detail));
    }
    Ok(topic)
}
