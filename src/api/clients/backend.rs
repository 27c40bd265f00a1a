//! For backends: who is here, what the server does to one client, and calls to clients.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate_core::{
    clients::Cell,
    event::{ClientKey, Draft, Topic, Update},
    state::{Change, Did, MergePatch, Step, Work},
};

use super::check_json;
use crate::{
    gateway::Gateway,
    http::{access, access::Visitor, body, form, headers, problem::Problem},
    listen::Peer,
    realtime::{
        call::{self, Called},
        client::{self, Removed},
        handle::free_topic,
    },
};

/// The right to see clients and to act on them.
const CLIENTS: &str = "urn:tidegate:clients";

/// The right to call clients.
const CALLS: &str = "urn:tidegate:calls";

/// The most clients of one page of the list, which is also the default.
const LONGEST_LIST: usize = 1000;

/// The longest wait for the replies to a call, in seconds, and the default.
const LONGEST_WAIT: u64 = 60;
const WAIT: u64 = 20;

/// What a backend does to a client. Several things are done in this order.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    join: Option<String>,
    #[serde(rename = "as")]
    shown: Option<Value>,
    leave: Option<String>,
    set: Option<Value>,
    send: Option<Message>,
    end: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallRequest {
    to: Receiver,
    call: String,
    #[serde(default)]
    data: Value,
    wait: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Receiver {
    Client(String),
    Topic(String),
}

/// `GET /clients`: the clients, or those that have joined a topic.
///
/// # Errors
/// If this is not granted, or if a parameter breaks a rule.
pub(crate) async fn list_clients(request: HttpRequest) -> Result<HttpResponse, Problem> {
    access::visitor(&request).await?.check_operator(CLIENTS)?;
    let gateway = Gateway::of(&request);
    let first = |name| form::first(request.query_string(), name);
    let topic = first("topic")?.map(|topic| parse_topic(&gateway, &topic)).transpose()?;
    let after = first("after")?.map(|id| parse_id(&id)).transpose()?;
    let limit = first("limit")?.map_or(Ok(LONGEST_LIST), |limit| {
        let limit = form::whole_number(&limit).filter(|it| (1..=LONGEST_LIST).contains(it));
        limit.ok_or_else(|| Problem::field("limit", format!("`limit` is not 1 to {LONGEST_LIST}")))
    })?;
    let mut cells = match &topic {
        Some(topic) => gateway.clients().joined(topic),
        None => gateway.clients().all(),
    };
    let count = cells.len();
    cells.sort_unstable_by_key(|cell| *cell.id());
    cells.retain(|cell| after.as_ref().is_none_or(|after| after < cell.id()));
    let next = cells.get(limit).and_then(|_| cells.get(limit - 1)).map(|cell| cell.id().id());
    cells.truncate(limit);
    let clients: Vec<Value> = cells.iter().map(|cell| described(cell)).collect();
    let mut response = HttpResponse::Ok();
    headers::uncached(&mut response);
    let document = json!({ "count": count, "clients": clients, "next": next });
    Ok(response.content_type("application/json").body(document.to_string()))
}

fn described(cell: &Cell) -> Value {
    let held = cell.held();
    let topics: Map<_, _> = held
        .client
        .topics
        .iter()
        .map(|(topic, it)| (topic.as_str().to_owned(), json!({ "data": it.data })))
        .collect();
    json!({
        "id": cell.id().id(),
        "user": held.client.user,
        "transport": held.stream.as_ref().map(|it| it.transport.as_str()),
        "topics": topics,
    })
}

/// `POST /clients/{id}`: the server makes a client join or leave a topic, sends it a message,
/// changes the state of its own topic, or ends it.
///
/// # Errors
/// If this is not granted, if there is no such client, or if nothing was stored.
pub(crate) async fn order_client(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::visitor(&request).await?.check_operator(CLIENTS)?;
    check_json(&request)?;
    let gateway = Gateway::of(&request);
    let body = body::receive(&request, payload, gateway.settings().clients.request_bytes).await?;
    let order: Order = serde_json::from_slice(&body).map_err(|error| {
        Problem::malformed(format!("the body is no order for a client: {error}"))
    })?;
    let cell = find(&gateway, &id).await?;
    let mut reply = json!({});
    if let Some(topic) = &order.join {
        let topic = free_topic(&gateway, topic)?;
        if order.shown.as_ref().is_some_and(|it| !it.is_object()) {
            return Err(Problem::field("as", "`as` is not an object"));
        }
        client::join(&gateway, &cell, &topic, order.shown.clone()).await?;
    }
    if let Some(topic) = &order.leave {
        let topic = parse_topic(&gateway, topic)?;
        client::leave(&gateway, &cell, &topic, Removed::Server).await?;
    }
    if let Some(patch) = &order.set {
        reply["rev"] = set_own(&gateway, &cell, patch).await?.into();
    }
    if let Some(message) = order.send {
        let update = message.update(&gateway, &cell)?;
        reply["id"] = update.id.as_str().into();
        gateway.hub().publish(vec![update]).await?;
    }
    if order.end {
        gateway.clients().dismiss(&cell).await;
    }
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(reply))
}

impl Message {
    /// The update on the client's own topic.
    fn update(self, gateway: &Gateway, cell: &Cell) -> Result<Update, Problem> {
        // Checked like a message on any topic.
        let draft = Draft {
            topics: vec!["to a client".to_owned()],
            kind: self.kind,
            data: self.data.to_string(),
            ..Draft::default()
        };
        let update = gateway.validate(draft);
        let update = update.map_err(|invalid| Problem::update(None, &invalid))?;
        Ok(update.only_for(cell.id()))
    }
}

async fn set_own(gateway: &Gateway, cell: &Cell, patch: &Value) -> Result<u64, Problem> {
    let patch = MergePatch::parse(patch.to_string().as_bytes(), gateway.states().options())?;
    let topic = Topic::of_client(cell.id());
    let step = Step::Set { topic, change: Change::Patch(patch), at: None, from: None };
    let dids = gateway.states().submit(Work { steps: vec![step], beside: None }).await?;
    match dids.into_iter().next() {
        Some(Did::Set { rev }) => Ok(rev),
        Some(Did::Conflict(view)) => Err(Problem::state_changed(StatusCode::CONFLICT, &view)),
        Some(Did::Refused(refusal)) => Err(refusal.into()),
        Some(Did::Sent(_)) | None => Err(Problem::internal("the state was not changed")),
    }
}

/// `POST /calls`: calls clients, and answers with their replies and who is missing.
///
/// # Errors
/// If this is not granted, if there is no such client, or if the call is not stored.
pub(crate) async fn call_clients(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::visitor(&request).await?.check_operator(CALLS)?;
    check_json(&request)?;
    let gateway = Gateway::of(&request);
    let body = body::receive(&request, payload, gateway.settings().clients.request_bytes).await?;
    let asked: CallRequest = serde_json::from_slice(&body)
        .map_err(|error| Problem::malformed(format!("the body is no call: {error}")))?;
    let wait = asked.wait.unwrap_or(WAIT);
    if LONGEST_WAIT < wait {
        let limit = usize::try_from(LONGEST_WAIT).unwrap_or(usize::MAX);
        let detail = format!("`wait` is longer than {LONGEST_WAIT} seconds");
        return Err(Problem::field("wait", detail).with_limit(limit));
    }
    let called = match &asked.to {
        Receiver::Client(id) => Called::Client(find(&gateway, id).await?),
        Receiver::Topic(topic) => Called::Topic(free_topic(&gateway, topic)?, None),
    };
    let wait = Duration::from_secs(wait);
    let peer = Peer::of(&request);
    let gathered = tokio::select! {
        gathered = call::call(&gateway, called, &asked.call, &asked.data, wait) => gathered?,
        // Dropping the call tells the clients that no reply is needed any more.
        () = peer.ended() => return Err(Problem::cancelled("the caller has gone")),
    };
    let reply = call::document(&gathered);
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(reply))
}

async fn find(gateway: &Gateway, id: &str) -> Result<Arc<Cell>, Problem> {
    let id = parse_id(id)?;
    if let Some(cell) = gateway.clients().find(&id) {
        return Ok(cell);
    }
    gateway.clients().catch_up().await?;
    gateway.clients().find(&id).ok_or_else(|| Problem::not_found("there is no such client"))
}

fn parse_id(id: &str) -> Result<ClientKey, Problem> {
    ClientKey::from_id(id).ok_or_else(|| Problem::not_found("there is no such client"))
}

fn parse_topic(gateway: &Gateway, topic: &str) -> Result<Topic, Problem> {
    let topic = Topic::parse(topic, gateway.settings().limits.topic_bytes);
    topic.map_err(|invalid| Problem::update(None, &invalid))
}

impl Visitor {
    /// Checks that an operating right is granted by its exact name. Neither `*` nor a pattern
    /// grants it.
    ///
    /// # Errors
    /// If it is not granted.
    fn check_operator(&self, right: &'static str) -> Result<(), Problem> {
        if self.operates(&Topic::kept(right)) {
            return Ok(());
        }
        let detail = format!("the token does not grant to publish under `{right}` by this name");
        Err(self.not_granted(detail))
    }
}
