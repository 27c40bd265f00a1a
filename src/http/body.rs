//! Request bodies: limited in size, in time, and in total memory.

use actix_web::{HttpRequest, http::header::CONTENT_LENGTH, web};
use bytes::{Bytes, BytesMut};
use tokio_stream::StreamExt as _;

use crate::{
    gateway::Gateway,
    http::{client_address, problem::Problem},
};

/// The setting that limits every body.
const LIMIT: &str = "limits.body_bytes";

/// The least memory that is reserved for a body.
const STEP: usize = 4096;

/// Returns the whole body, if it has at most `limit` bytes and `limits.body_bytes`, and arrives
/// within `server.body_timeout`.
///
/// An announced length reserves nothing. Memory grows with what has arrived, at most twice as fast,
/// and counts against `limits.bodies_bytes` until the body is complete.
pub(crate) async fn receive(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Result<Bytes, Problem> {
    receive_within(request, payload, limit, LIMIT).await
}

/// Returns the whole body as [`receive`] does. `setting` is the one that has the limit.
pub(crate) async fn receive_within(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
    setting: &'static str,
) -> Result<Bytes, Problem> {
    let gateway = Gateway::of(request);
    let settings = gateway.settings();
    let limit = match settings.limits.body_bytes {
        most if most < limit => Limit { bytes: most, setting: LIMIT },
        _ => Limit { bytes: limit, setting },
    };
    let time = settings.server.body_timeout;
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| limit.bytes < length) {
        return Err(limit.exceeded());
    }
    let longest = announced.unwrap_or(limit.bytes).min(limit.bytes);
    match tokio::time::timeout(time, collect(request, &gateway, payload, limit, longest)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Problem::timeout(format!(
            "the body did not arrive within {time:?} (server.body_timeout)"
        ))),
    }
}

async fn collect(
    request: &HttpRequest,
    gateway: &Gateway,
    mut payload: web::Payload,
    limit: Limit,
    longest: usize,
) -> Result<Bytes, Problem> {
    let mut share = gateway.bodies().share(client_address(request, gateway.settings()));
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::malformed("the body was cut off"))?;
        let length = body.len() + chunk.len();
        if limit.bytes < length {
            return Err(limit.exceeded());
        }
        if body.capacity() < length {
            let wanted = length.max((2 * body.capacity()).min(longest)).max(STEP);
            let more = wanted - body.capacity();
            share.grow(more).map_err(Problem::bodies_full)?;
            // Not `reserve`, which takes more than requested.
            let mut larger = BytesMut::with_capacity(wanted);
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The most bytes of a body, and the setting that says so.
#[derive(Debug, Clone, Copy)]
struct Limit {
    bytes: usize,
    setting: &'static str,
}

impl Limit {
    fn exceeded(self) -> Problem {
        let Self { bytes, setting } = self;
        let detail = format!("the body is longer than {bytes} bytes ({setting})");
        Problem::too_large("body", bytes, detail)
    }
}
