//! EventSource: `GET /events` and `GET /.well-known/mercure`.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::{CONTENT_TYPE, HeaderName},
    web,
};
use bytes::{Bytes, BytesMut};
use mime::Mime;
use tidegate_core::transport::{StreamWriter, Transport, sse};

use super::{
    admission::{self, Admitted},
    params::Params,
    stream,
};
use crate::{
    gateway::Gateway,
    http::{accept, access, body, headers, problem::Problem},
    settings::Refusal,
};

const ACCEPT_QUERY: HeaderName = HeaderName::from_static("accept-query");

/// The media type required for the body of a QUERY request.
const FORM: &str = "application/x-www-form-urlencoded";

/// Opens an event stream.
///
/// # Errors
/// If the request is refused; a browser's EventSource then gives up.
pub(crate) async fn open_sse(request: HttpRequest) -> Result<HttpResponse, Problem> {
    answer(&request, None).await
}

/// Opens an event stream with parameters that are too long for a URL: a `QUERY` request with a
/// form.
///
/// # Errors
/// If the request is refused.
pub(crate) async fn query_sse(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    answer(&request, Some(payload)).await
}

/// Answers with the head that an event stream would have. `HEAD` subscribes to nothing.
///
/// # Errors
/// If the request would be refused.
pub(crate) async fn probe_sse(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (_, admitted) = prepare(&request, None, &Gateway::of(&request)).await?;
    Ok(response(&admitted).body(Bytes::new()))
}

async fn answer(
    request: &HttpRequest,
    query: Option<web::Payload>,
) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(request);
    let prepared = prepare(request, query, &gateway).await;
    let joined = prepared.and_then(|(params, admitted)| {
        let admitted = admitted.join(request, &gateway, &params, None)?;
        Ok((params, admitted))
    });
    match joined {
        Ok((params, admitted)) => Ok(open(request, &gateway, &params, admitted)),
        Err(problem) if problem.is_for_lack_of_room() => match gateway.settings().limits.refusal {
            Refusal::Status => Err(problem),
            Refusal::Retry => Ok(later(&gateway, &problem)),
        },
        Err(problem) => Err(problem),
    }
}

/// Checks rights and room first, then reads the body, and compiles patterns last.
async fn prepare(
    request: &HttpRequest,
    query: Option<web::Payload>,
    gateway: &Gateway,
) -> Result<(Params, Admitted), Problem> {
    if !accept::accepts(request, "text/event-stream") {
        return Err(Problem::not_acceptable("this is text/event-stream"));
    }
    let subscriber = access::subscriber(request).await?;
    let body = match query {
        None => Bytes::new(),
        // Strangers watch single jobs, for which a URL is long enough.
        Some(_) if subscriber.is_stranger() => return Err(subscriber.access_token_missing()),
        Some(payload) => {
            check_form(request)?;
            let _seat = admission::seat(request, gateway, false)?;
            body::receive(request, payload, gateway.settings().limits.body_bytes).await?
        }
    };
    let seat = admission::seat(request, gateway, subscriber.is_stranger())?;
    let params = Params::parse(request, &body, gateway, &subscriber)?;
    let admitted = admission::admit(request, gateway, &params, seat).await?;
    Ok((params, admitted))
}

fn open(
    request: &HttpRequest,
    gateway: &Gateway,
    params: &Params,
    admitted: Admitted,
) -> HttpResponse {
    let retry = gateway.settings().delivery.retry;
    let mut head = BytesMut::from(&*sse::head(retry));
    // A gap has to be reported first: this cursor token is after it.
    if params.visible_heartbeats && admitted.gap.is_none() {
        let cursor_token = gateway.hub().history().cursor_key().seal(admitted.after);
        head.extend_from_slice(&sse::visible_heartbeat(&cursor_token));
    }
    let response = response(&admitted);
    let terms = admission::stream_terms(gateway, Transport::Sse, params.expires);
    let writer =
        StreamWriter::Sse { visible_heartbeats: params.visible_heartbeats, is_chunked: false };
    let mut style = stream::style(gateway, writer);
    style.is_old_dialect = params.is_old_dialect;
    let subscription = admitted.subscription(params, terms);
    stream::respond(request, response, head.freeze(), subscription, style)
}

/// A stream that ends at once, with a reconnection delay.
fn later(gateway: &Gateway, problem: &Problem) -> HttpResponse {
    gateway.metrics().refused(problem.reason());
    let retry = stream::retry_later(gateway);
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    headers::streamed(&mut response);
    response.force_close().body(sse::end(retry))
}

/// Checks that the body is declared as a form (RFC 10008, section 2: a query without a type cannot
/// be understood).
fn check_form(request: &HttpRequest) -> Result<(), Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind: Option<Mime> = kind.and_then(|it| it.parse().ok());
    match kind {
        Some(kind) if kind.essence_str() == FORM => Ok(()),
        Some(_) => Err(Problem::media_type(format!("the body has to be {FORM}"))),
        None => Err(Problem::field("Content-Type", "`Content-Type` is missing or unreadable")),
    }
}

fn response(admitted: &Admitted) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    response.insert_header((ACCEPT_QUERY, FORM));
    headers::streamed(&mut response);
    headers::cursor_echo(&mut response, admitted.cursor_echo.clone());
    response
}
