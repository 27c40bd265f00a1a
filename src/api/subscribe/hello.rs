//! Streams of clients: whose they are, what they get, and what they say first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, http::Method};
use jiff::Timestamp;
use serde_json::{Map, json};
use tidegate_core::{
    clients::{Attached, Cell, Group},
    event::Position,
    matching::Interest,
    transport::{Transport, json::script_safe},
};

use super::params::{Hello, Params};
use crate::{
    gateway::Gateway,
    http::{access::Subscriber, client_address, problem::Problem},
};

/// The type of the first event.
pub(super) const HELLO: &str = "tidegate.hello";

/// The stream of one client, or of several that share it.
#[derive(Debug)]
pub(super) struct ClientStream {
    group: Arc<Group>,
    /// The client that the request names first.
    cell: Arc<Cell>,
    is_on_trial: bool,
    /// Whether the client is new to the gateway.
    pub(super) is_new: bool,
}

/// Meets the clients of a request that says hello; `None` if it does not.
///
/// # Errors
/// If a client belongs to another user, or if there is no room for it.
pub(super) async fn meet(
    request: &HttpRequest,
    gateway: &Gateway,
    params: &Params,
    subscriber: &Subscriber,
) -> Result<Option<ClientStream>, Problem> {
    let Some(Hello { clients, is_on_trial }) = &params.hello else { return Ok(None) };
    if request.method() == Method::HEAD {
        return Ok(None);
    }
    if gateway.cluster().is_some() {
        let detail = "clients do not span several nodes yet (history.store = \"redis\")";
        return Err(Problem::field("hello", detail));
    }
    let address = client_address(request, gateway.settings());
    let user = subscriber.user.as_deref();
    let mut cells = Vec::with_capacity(clients.len());
    let mut is_new = false;
    for client in clients {
        let (cell, is_new_one) =
            gateway.clients().meet(client, user, address).map_err(Problem::not_met)?;
        is_new |= is_new_one;
        gateway.admit(&cell).await?;
        cell.held().rights_tag = subscriber.tag;
        cells.push(cell);
    }
    let asked: &Interest = &params.interest;
    let group = match is_on_trial {
        true => Group::on_trial(asked.clone(), &cells),
        false => Group::new(asked, &cells, gateway.hub().tail().newest()),
    };
    let cell = cells.into_iter().next();
    Ok(cell.map(|cell| ClientStream { group, cell, is_on_trial: *is_on_trial, is_new }))
}

impl ClientStream {
    /// The group of its clients.
    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Where a stream without a cursor begins: where the client's last one ended, or where the
    /// client came into being.
    pub(super) fn began(&self) -> Position {
        let cells = self.group.cells();
        let began = cells.iter().map(|cell| {
            let held = cell.held();
            held.cursor.unwrap_or(held.client.began)
        });
        began.min().unwrap_or_default()
    }

    /// The data of the first event.
    pub(super) fn hello(&self, gateway: &Gateway, has_resumed: bool) -> String {
        let held = self.cell.held();
        let topics: Map<_, _> = held
            .client
            .topics
            .keys()
            .map(|topic| (topic.as_str().to_owned(), json!(gateway.states().view(topic).rev)))
            .collect();
        script_safe(&json!({
            "client": self.cell.id().id(),
            "stream": self.group.steer().id().to_string(),
            "user": held.client.user,
            "epoch": gateway.hub().history().cursor_key().epoch(),
            "time": Timestamp::now().as_millisecond(),
            "resumed": has_resumed,
            "topics": topics,
        }))
    }

    /// Makes it the stream of its clients, for at most `time`.
    pub(super) fn attach(
        &self,
        gateway: &Gateway,
        transport: Transport,
        time: Duration,
    ) -> Attached {
        let until = Instant::now() + time;
        if self.is_on_trial {
            return gateway.clients().attach_on_trial(&self.group, transport, until);
        }
        gateway.clients().attach(&self.group, transport, until)
    }
}
