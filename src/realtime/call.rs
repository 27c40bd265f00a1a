//! Calls to clients: asked by an event, answered by `reply`, gathered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tidegate_core::{
    calls::{Gathered, Reply},
    clients::Cell,
    event::{ClientKey, Topic, Update},
    hub::PublishError,
};

use crate::{gateway::Gateway, http::problem::Problem};

/// Who is called.
#[derive(Debug, Clone)]
pub(crate) enum Called {
    /// One client, on its own topic.
    Client(Arc<Cell>),
    /// All clients that hear the topic now, but this one.
    Topic(Topic, Option<ClientKey>),
}

/// Ends a call on its way: the clients are told that no reply is needed any more.
struct Cancel {
    gateway: Gateway,
    called: Called,
    id: Option<String>,
}

/// Calls clients, and waits up to `wait` for their replies. Dropping it cancels the call.
///
/// # Errors
/// If the call is not stored.
pub(crate) async fn call(
    gateway: &Gateway,
    called: Called,
    name: &str,
    data: &Value,
    wait: Duration,
) -> Result<Gathered, PublishError> {
    let asked: Vec<ClientKey> = match &called {
        Called::Client(cell) => vec![*cell.id()],
        Called::Topic(topic, except) => {
            let cells = gateway.clients().on(topic).into_iter().map(|cell| *cell.id());
            cells.filter(|id| Some(id) != except.as_ref()).collect()
        }
    };
    let ticket = gateway.calls().begin(asked.iter().copied());
    let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    let told = json!({
        "call": ticket.id(), "name": name, "data": data,
        "until": Timestamp::now().as_millisecond().saturating_add(wait_ms),
    });
    let deadline = Instant::now() + wait;
    if asked.is_empty() {
        return Ok(Gathered::default());
    }
    let mut cancel =
        Cancel { gateway: gateway.clone(), called: called.clone(), id: Some(ticket.id().into()) };
    gateway.hub().publish(vec![called.update(gateway, "tidegate.call", &told)]).await?;
    let gathered = ticket.gathered(deadline).await;
    // It has ended by itself, and clients drop what is over by its time.
    cancel.id = None;
    Ok(gathered)
}

/// The reply of the only client that was called.
///
/// # Errors
/// The problem that it replied, or that it has not replied in time.
pub(crate) fn only_reply(mut gathered: Gathered, client: &ClientKey) -> Result<Value, Problem> {
    match gathered.replies.remove(client) {
        Some(Reply::Data(data)) => Ok(data),
        Some(Reply::Problem(problem)) => Err(Problem::replied(&problem)),
        None => Err(Problem::no_reply("the client has not replied in time")),
    }
}

/// The replies to a call, and who is missing, as backends get them.
pub(crate) fn document(gathered: &Gathered) -> Value {
    let reply = |(client, reply): (&ClientKey, &Reply)| {
        let reply = match reply {
            Reply::Data(data) => json!({ "data": data }),
            Reply::Problem(problem) => json!({ "problem": problem }),
        };
        (client.id(), reply)
    };
    let replies: Map<String, Value> = gathered.replies.iter().map(reply).collect();
    let missing: Vec<String> = gathered.missing.iter().map(ClientKey::id).collect();
    json!({ "replies": replies, "missing": missing })
}

impl Called {
    fn update(&self, gateway: &Gateway, kind: &'static str, data: &Value) -> Update {
        match self {
            Self::Client(cell) => Update::for_client(cell.id(), kind, data),
            Self::Topic(topic, except) => {
                let is_private = gateway.rules().of(topic).private;
                let mut update = Update::for_topic(topic, kind, data, is_private);
                update.except = except.iter().copied().collect();
                update
            }
        }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let told = json!({ "call": id });
        let update = self.called.update(&self.gateway, "tidegate.cancel", &told);
        let gateway = self.gateway.clone();
        self.gateway.clients().spawn(async move {
            // Best effort: the clients' work is only in vain.
            let _ = gateway.hub().publish(vec![update]).await;
        });
    }
}
