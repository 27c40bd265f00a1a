//! EventSource: `GET /events` and `GET /.well-known/mercure`.

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::{Bytes, BytesMut};

use super::{admission, admission::Admitted, headers, params::Params, stream};
use crate::{
    delivery::Body,
    gateway::Gateway,
    hub::Rights,
    problem::Problem,
    transport::{StreamWriter, Transport, sse},
};

/// Opens an event stream.
///
/// # Errors
/// If the request is refused; a browser's EventSource then gives up.
pub async fn open_sse(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (gateway, params, admitted) = prepare(&request).await?;
    let retry = gateway.settings().delivery.retry;
    let mut head = BytesMut::from(&*sse::head(retry));
    // Not before a gap was told: its token stands behind it.
    if params.visible_heartbeats && admitted.gap.is_none() {
        let token = gateway.hub().history().token_key().seal(admitted.after);
        head.extend_from_slice(&sse::visible_heartbeat(&token));
    }
    let response = response(&admitted);
    let terms = admission::stream_terms(&gateway, Transport::Sse);
    let writer = StreamWriter::Sse { visible_heartbeats: params.visible_heartbeats };
    let feed = admitted.subscribe(&request, &params, terms);
    let body = Body::new(feed, writer, head.freeze(), stream::ending(&gateway, None));
    Ok(stream::respond(&request, response, body))
}

/// What the head of an event stream would be: `HEAD` subscribes nobody.
///
/// # Errors
/// If the request would be refused.
pub async fn probe_sse(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (_, _, admitted) = prepare(&request).await?;
    Ok(response(&admitted).body(Bytes::new()))
}

async fn prepare(request: &HttpRequest) -> Result<(Gateway, Params, Admitted), Problem> {
    let gateway = Gateway::of(request);
    let params = Params::parse(request, &gateway, Rights::Everything)?;
    let admitted = admission::admit(&gateway, &params).await?;
    Ok((gateway, params, admitted))
}

fn response(admitted: &Admitted) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    headers::streamed(&mut response);
    headers::cursor_echo(&mut response, admitted.cursor_echo.clone());
    response
}
