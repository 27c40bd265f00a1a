//! EventSource: `GET /events` and `GET /.well-known/mercure`.

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::{Bytes, BytesMut};

use super::{admission, admission::Admitted, headers, params::Params, stream};
use crate::{
    gateway::Gateway,
    hub::Rights,
    problem::Problem,
    settings::Refusal,
    transport::{StreamWriter, Transport, sse},
};

/// Opens an event stream.
///
/// # Errors
/// If the request is refused; a browser's EventSource then gives up.
pub async fn open_sse(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    let (params, admitted) = match prepare(&request, &gateway).await {
        Ok(prepared) => prepared,
        Err(problem) if problem.is_for_lack_of_room() => {
            return match gateway.settings().limits.refusal {
                Refusal::Status => Err(problem),
                Refusal::Retry => Ok(later(&gateway, &problem)),
            };
        }
        Err(problem) => return Err(problem),
    };
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
    let style = stream::style(&gateway, writer);
    let subscription = admitted.subscription(&params, terms);
    Ok(stream::respond(&request, response, head.freeze(), subscription, style))
}

/// A stream that is over at once, and says when to return.
fn later(gateway: &Gateway, problem: &Problem) -> HttpResponse {
    gateway.metrics().refused(problem.reason());
    let retry = stream::retry_later(gateway);
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    headers::streamed(&mut response);
    response.force_close().body(sse::end(retry))
}

/// What the head of an event stream would be: `HEAD` subscribes nobody.
///
/// # Errors
/// If the request would be refused.
pub async fn probe_sse(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (_, admitted) = prepare(&request, &Gateway::of(&request)).await?;
    Ok(response(&admitted).body(Bytes::new()))
}

async fn prepare(request: &HttpRequest, gateway: &Gateway) -> Result<(Params, Admitted), Problem> {
    let params = Params::parse(request, gateway, Rights::Everything)?;
    let admitted = admission::admit(request, gateway, &params).await?;
    Ok((params, admitted))
}

fn response(admitted: &Admitted) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    headers::streamed(&mut response);
    headers::cursor_echo(&mut response, admitted.cursor_echo.clone());
    response
}
