//! `PATCH`, `PUT` and `DELETE /state`: changes by those that may publish on the topic.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
    web,
};
use mime::Mime;
use serde_json::json;
use tidegate_core::{
    event::Topic,
    ledger::{Fingerprint, Reply},
    state::{Beside, Change, Did, MergePatch, StateError, Step, Work},
};

use super::request;
use crate::{
    gateway::Gateway,
    http::{
        access::{self, Publisher},
        body,
        idempotency::{self, Answered, Keeper},
        problem::Problem,
    },
};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// `PATCH /state`: merges a patch into the state (RFC 7396).
pub(super) async fn patch_state(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let publisher = access::publisher(&request).await?;
    let (gateway, topic) = (Gateway::of(&request), topic(&request, &publisher)?);
    check_type(&request, &[MERGE_PATCH, JSON])?;
    let options = gateway.states().options();
    let limit = options.patch_bytes;
    let body = body::receive_within(&request, payload, limit, "state.patch_bytes").await?;
    let patch = MergePatch::parse(&body, options)?;
    change(&request, &publisher, topic, Change::Patch(patch), &body).await
}

/// `PUT /state`: puts an object in the place of the state.
pub(super) async fn put_state(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let publisher = access::publisher(&request).await?;
    let (gateway, topic) = (Gateway::of(&request), topic(&request, &publisher)?);
    check_type(&request, &[JSON])?;
    let options = gateway.states().options();
    let limit = options.document_bytes;
    let body = body::receive_within(&request, payload, limit, "state.document_bytes").await?;
    let object = MergePatch::parse(&body, options)?;
    change(&request, &publisher, topic, Change::Replace(object), &body).await
}

/// `DELETE /state`: removes the state. Members stay.
pub(super) async fn remove_state(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let publisher = access::publisher(&request).await?;
    let topic = topic(&request, &publisher)?;
    change(&request, &publisher, topic, Change::Delete, b"").await
}

/// Returns the topic of a request, which the publisher may publish on.
fn topic(request: &HttpRequest, publisher: &Publisher) -> Result<Topic, Problem> {
    let topic = request::topic(request, &Gateway::of(request))?;
    publisher.check(std::slice::from_ref(&topic))?;
    Ok(topic)
}

fn check_type(request: &HttpRequest, taken: &[&str]) -> Result<(), Problem> {
    let value = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let mime: Option<Mime> = value.and_then(|it| it.parse().ok());
    let is_taken = mime.is_some_and(|it| {
        taken.contains(&it.essence_str())
            && it.get_param(mime::CHARSET).is_none_or(|it| it == mime::UTF_8)
    });
    if is_taken {
        return Ok(());
    }
    Err(Problem::media_type(format!("the body has to be {}, in UTF-8", taken.join(" or "))))
}

/// Makes a change and answers with the revision.
async fn change(
    request: &HttpRequest,
    publisher: &Publisher,
    topic: Topic,
    change: Change,
    body: &[u8],
) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(request);
    let at = request::revision(request, &gateway)?;
    let key = idempotency::key(request, gateway.settings().limits.idempotency_key_bytes)?;
    let key = key.map(|key| {
        let what = format!("{} {at:?} {topic}", request.method());
        (publisher.identity().scope(&key), Fingerprint::of("/state", &what, body))
    });
    let submit = {
        let gateway = gateway.clone();
        move |keeper| submit(gateway, Step::Set { topic, change, at, from: None }, keeper)
    };
    let reply = idempotency::once(gateway, key, submit).await?;
    Ok(idempotency::respond(&reply))
}

async fn submit(gateway: Gateway, step: Step, keeper: Option<Keeper>) -> Result<Answered, Problem> {
    let mut work = Work { steps: vec![step], beside: None };
    if let Some(keeper) = keeper {
        work.beside = Some(Box::new(move |dids: &[Did]| {
            let replies = dids.iter().filter_map(reply).map(|it| keeper(&it)).collect();
            Beside { replies, ..Beside::default() }
        }));
    }
    let done = match gateway.states().submit(work).await {
        Err(StateError::Already(kept)) => return Ok(Answered::Before(kept)),
        outcome => outcome?,
    };
    match done.into_iter().next() {
        Some(Did::Conflict(view)) => {
            Err(Problem::state_changed(StatusCode::PRECONDITION_FAILED, &view))
        }
        Some(Did::Refused(refusal)) => Err(refusal.into()),
        Some(did) => Ok(Answered::Now(reply(&did).unwrap_or_else(|| Reply::json(&json!({}))))),
        None => Err(Problem::conflict("nothing was asked for")),
    }
}

/// The reply to a change that was made.
fn reply(did: &Did) -> Option<Reply> {
    match did {
        Did::Set { rev } => Some(Reply::json(&json!({ "rev": rev }))),
        Did::Sent(_) | Did::Conflict(_) | Did::Refused(_) => None,
    }
}
