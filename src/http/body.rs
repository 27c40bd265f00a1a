//! Request bodies: limited in size, in time, and in total memory.

use actix_web::{HttpRequest, http::header::CONTENT_LENGTH, web};
use bytes::{Bytes, BytesMut};
use tokio_stream::StreamExt as _;

use crate::{
    gateway::Gateway,
    http::{client_address, problem::Problem},
};

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
    let gateway = Gateway::of(request);
    let settings = gateway.settings();
    let (limit, time) = (limit.min(settings.limits.body_bytes), settings.server.body_timeout);
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| limit < length) {
        return Err(too_large(limit));
    }
    let longest = announced.unwrap_or(limit).min(limit);
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
    limit: usize,
    longest: usize,
) -> Result<Bytes, Problem> {
    let mut share = gateway.bodies().share(client_address(request, gateway.settings()));
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::malformed("the body was cut off"))?;
        let length = body.len() + chunk.len();
        if limit < length {
            return Err(too_large(limit));
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

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body is longer than {limit} bytes (limits.body_bytes)");
    Problem::too_large("body", limit, detail)
}
