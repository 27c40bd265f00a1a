//! Publishing: from a request to updates that the hub has accepted.
//!
//! A request carries a form or JSON, and the response the ids of the published events. One bad
//! update refuses the whole request. Nothing here waits for subscribers.

pub(crate) mod form;
pub(crate) mod json;

use actix_web::{HttpRequest, HttpResponse, http::header::CONTENT_TYPE, web};
use mime::Mime;
use tidegate_core::{
    event::{Draft, Update},
    history::{Batch, Committed},
    ledger::{Fingerprint, Reply},
    matching::prepare,
};

use crate::{
    gateway::Gateway,
    http::{
        access::{self, Publisher},
        body,
        idempotency::{self, Answered, Keeper},
        problem::Problem,
    },
};

/// The encodings of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Form,
    Json,
}

impl Encoding {
    fn media_type(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

/// `POST /.well-known/mercure`: one update as a form.
///
/// # Errors
/// If the update was not published.
pub(crate) async fn publish_form(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let publisher = access::publisher(&request).await?;
    match encoding(&request)? {
        Encoding::Form => publish(&request, payload, Encoding::Form, &publisher).await,
        Encoding::Json => Err(Problem::media_type(
            "the hub takes application/x-www-form-urlencoded; JSON goes to /events",
        )),
    }
}

/// `POST /events`: one update as a form or as JSON, or an array of them as JSON.
///
/// # Errors
/// If no update was published.
pub(crate) async fn publish_event(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let publisher = access::publisher(&request).await?;
    let encoding = encoding(&request)?;
    publish(&request, payload, encoding, &publisher).await
}

fn encoding(request: &HttpRequest) -> Result<Encoding, Problem> {
    const TAKEN: &str =
        "the body has to be application/x-www-form-urlencoded or, at /events, application/json";
    let value = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let mime: Mime =
        value.and_then(|it| it.parse().ok()).ok_or_else(|| Problem::media_type(TAKEN))?;
    if mime.get_param(mime::CHARSET).is_some_and(|it| it != mime::UTF_8) {
        return Err(Problem::media_type("the only charset is UTF-8"));
    }
    let encoding = [Encoding::Form, Encoding::Json]
        .into_iter()
        .find(|it| it.media_type() == mime.essence_str());
    encoding.ok_or_else(|| Problem::media_type(TAKEN))
}

/// Checks size, syntax and grants, in this order, and publishes. Cheap checks come first. A topic
/// that no publisher may use is refused with a different error than one this publisher may not use.
async fn publish(
    request: &HttpRequest,
    payload: web::Payload,
    encoding: Encoding,
    publisher: &Publisher,
) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(request);
    let settings = gateway.settings();
    let body = body::receive(request, payload, settings.limits.body_bytes).await?;
    let key = idempotency::key(request, settings.limits.idempotency_key_bytes)?;
    let updates = understand(&gateway, encoding, &body)?;
    for update in &updates {
        publisher.check(&update.topics)?;
    }
    let key = key.map(|key| {
        let fingerprint = Fingerprint::of(request.path(), encoding.media_type(), &body);
        (publisher.identity().scope(&key), fingerprint)
    });
    let dispatch = {
        let gateway = gateway.clone();
        move |keeper| dispatch(gateway, encoding, updates, keeper)
    };
    let reply = idempotency::once(gateway, key, dispatch).await?;
    Ok(idempotency::respond(&reply))
}

fn understand(gateway: &Gateway, encoding: Encoding, body: &[u8]) -> Result<Vec<Update>, Problem> {
    let limits = &gateway.settings().limits;
    let (drafts, is_array) = match encoding {
        Encoding::Form => (vec![form::parse(body)?], false),
        Encoding::Json => json::parse(body, limits.updates_per_request)?,
    };
    validate(gateway, drafts, is_array)
}

async fn dispatch(
    gateway: Gateway,
    encoding: Encoding,
    updates: Vec<Update>,
    keeper: Option<Keeper>,
) -> Result<Answered, Problem> {
    let ids: Vec<String> = updates.iter().map(|it| it.id.as_str().to_owned()).collect();
    let reply = match encoding {
        Encoding::Form => Reply::text(ids.into_iter().next().unwrap_or_default()),
        Encoding::Json => Reply::json(&serde_json::json!({ "ids": ids })),
    };
    prepare(updates.iter().flat_map(|it| &it.topics)).await;
    let replies = keeper.map(|keeper| keeper(&reply)).into_iter().collect();
    let batch = Batch { updates, replies, ..Batch::default() };
    Ok(match gateway.hub().submit(batch).await? {
        Committed::Already(kept) => Answered::Before(kept),
        // Without a record, there is no conflict.
        Committed::Stored(_) | Committed::Conflict(_) => Answered::Now(reply),
    })
}

fn validate(gateway: &Gateway, drafts: Vec<Draft>, is_array: bool) -> Result<Vec<Update>, Problem> {
    let check = |(at, draft): (usize, Draft)| {
        let at = is_array.then_some(at);
        gateway.validate(draft).map_err(|invalid| Problem::update(at, &invalid))
    };
    drafts.into_iter().enumerate().map(check).collect()
}
