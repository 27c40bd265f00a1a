//! The body of a request, within a limit and in time.

use std::time::Duration;

use actix_web::{HttpRequest, http::header::CONTENT_LENGTH, web};
use bytes::Bytes;

use crate::problem::Problem;

/// The whole body, if it has at most `limit` bytes and arrives within `time`.
pub(crate) async fn receive(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::too_large("body", limit, format!("the body is longer than {limit} bytes"));
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| limit < length) {
        return Err(too_large());
    }
    match tokio::time::timeout(time, payload.to_bytes_limited(limit)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(_))) => Err(Problem::malformed("the body was cut off")),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Problem::timeout(format!("the body did not arrive within {time:?}"))),
    }
}
