//! `POST /client`: what pages and programs do, each with a key that it made up.
//!
//! A request has actions, done one after the other. Each succeeds or fails by itself. An ordered
//! request (`seq`) that is repeated goes on where it stopped.

mod act;
mod actor;
mod answer;
mod backend;
mod batch;
mod carry;
mod renew;
mod request;

use std::{net::IpAddr, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN},
    web,
};
use mime::Mime;
use serde_json::json;
use tidegate_core::{clients::Cell, transport::StreamId};

pub(crate) use self::backend::{call_clients, list_clients, order_client};
use self::{actor::Actor, request::ClientRequest};
use crate::{
    gateway::Gateway,
    http::{access, access::Visitor, body, client_address, headers, problem::Problem},
};

const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// Does what a client asks for, and answers what became of each action.
///
/// # Errors
/// If the request as a whole is refused.
pub(crate) async fn act(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    let visitor = access::visitor(&request).await?;
    check_json(&request)?;
    // A body costs one action, so that empty requests are bounded as well.
    spend_at(&gateway, &request, 1)?;
    let settings = &gateway.settings().clients;
    let body = body::receive(&request, payload, settings.request_bytes).await?;
    let asked = request::parse(&body, settings)?;
    let n_actions = u32::try_from(asked.actions.len()).unwrap_or(u32::MAX);
    spend_at(&gateway, &request, n_actions.saturating_sub(1))?;
    if let Err(wait) = gateway.rates().spend(&asked.client, n_actions.max(1)) {
        let detail = format!(
            "this client does more than {} actions a second (clients.actions_per_second)",
            settings.actions_per_second
        );
        return Err(Problem::too_many("client_rate", detail, wait.as_secs() + 1));
    }
    let cell = meet(&gateway, &request, &visitor, &asked).await?;
    // To its end, even if the client goes away: a repeated request finds what was done.
    let readable = readable_timing(&request, &gateway);
    let address = client_address(&request, gateway.settings());
    let done = actix_web::rt::spawn(answer(gateway, cell, visitor, asked, address)).await;
    let mut response = done.map_err(|_| Problem::internal("the request has failed"))??;
    if let Some(origin) = readable {
        response.headers_mut().insert(TIMING_ALLOW_ORIGIN, origin);
    }
    Ok(response)
}

/// The origin that may see over which protocol its request was answered: pages share a stream among
/// tabs where connections are few.
fn readable_timing(request: &HttpRequest, gateway: &Gateway) -> Option<HeaderValue> {
    let origin = request.headers().get(ORIGIN)?;
    let text = origin.to_str().ok()?;
    gateway.settings().lets_read_by_name(text).then(|| origin.clone())
}

async fn answer(
    gateway: Gateway,
    cell: Arc<Cell>,
    visitor: Visitor,
    asked: ClientRequest,
    address: Option<IpAddr>,
) -> Result<HttpResponse, Problem> {
    let Some(_turn) = cell.turn() else {
        let detail = "too many requests of this client are under way";
        return Err(Problem::too_many("client_requests", detail.to_owned(), 1));
    };
    let ClientRequest { seq, stream, actions, id, .. } = asked;
    if let Some(stream) = stream.as_deref().and_then(StreamId::parse) {
        gateway.clients().accept_trial(&cell, stream).await;
    }
    gateway.admit(&cell).await?;
    let actor = Actor { gateway, cell, visitor, address };
    actor.renew().await;
    let did = match seq {
        Some(seq) => actor.in_order(seq, &actions).await?,
        None => actor.beside(id, &actions).await?,
    };
    let mut document = json!({ "did": did });
    if let Some(seq) = seq {
        document["seq"] = seq.into();
    }
    let mut response = HttpResponse::Ok();
    headers::uncached(&mut response);
    Ok(response.content_type("application/json").body(document.to_string()))
}

/// Finds or creates the client of a request.
async fn meet(
    gateway: &Gateway,
    request: &HttpRequest,
    visitor: &Visitor,
    asked: &ClientRequest,
) -> Result<Arc<Cell>, Problem> {
    if gateway.clients().find(&asked.client).is_none() {
        // Another process may have stored it.
        gateway.clients().catch_up().await?;
    }
    let address = client_address(request, gateway.settings());
    let met = gateway.clients().meet(&asked.client, visitor.user.as_deref(), address);
    Ok(met.map_err(Problem::not_met)?.0)
}

/// Counts actions against the address of a request. Loopback addresses and trusted proxies have no
/// limit.
fn spend_at(gateway: &Gateway, request: &HttpRequest, n: u32) -> Result<(), Problem> {
    let settings = gateway.settings();
    let Some(address) = client_address(request, settings) else { return Ok(()) };
    if address.is_loopback() || settings.server.trusts(address) {
        return Ok(());
    }
    gateway.rates().spend_at(&address, n).map_err(|wait| {
        let detail = format!(
            "clients at this address do more than {} actions a second (clients.actions_per_second_per_address)",
            settings.clients.actions_per_second_per_address
        );
        Problem::too_many("address_rate", detail, wait.as_secs() + 1)
    })
}

/// Checks that the body is declared as JSON. Pages of other origins cannot send that without being
/// asked first, unlike forms and plain text.
fn check_json(request: &HttpRequest) -> Result<(), Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind: Option<Mime> = kind.and_then(|it| it.parse().ok());
    match kind {
        Some(kind) if kind.essence_str() == mime::APPLICATION_JSON.essence_str() => Ok(()),
        _ => Err(Problem::media_type("the body has to be application/json")),
    }
}
