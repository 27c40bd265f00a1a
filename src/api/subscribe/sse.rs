//! EventSource: `GET /events` and `GET /.well-known/mercure`.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::{CONTENT_TYPE, HeaderName},
    web,
};
use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use mime::Mime;
use tidegate_core::transport::{StreamWriter, sse};

use super::{
    admission::{self, Admitted},
    names::Parameter,
    params::{HEARTBEAT, TransportParams, visible_heartbeats},
    query::Query,
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

/// The parameters of event streams.
struct SseParams {
    /// Whether heartbeats are events that scripts can see.
    visible_heartbeats: bool,
    /// Whether each event is one JSON object.
    is_json: bool,
    /// Bytes of a comment at the beginning, for proxies that hold back small responses.
    padding: usize,
}

impl TransportParams for SseParams {
    const NAMES: &'static [Parameter] = &[
        HEARTBEAT,
        Parameter { name: "format", is_lasting: true, misspelled: &["Format", "formats"] },
        Parameter { name: "padding", is_lasting: true, misspelled: &["Padding", "pad"] },
    ];

    fn read(query: &Query, _: &Gateway) -> Result<Self, Problem> {
        let is_json = match query.one("format") {
            None => false,
            Some("json") => true,
            Some(_) => {
                return Err(Problem::field("format", "`format` is not `json`, the only value"));
            }
        };
        let padding = query.one("padding").map_or(Ok(0), padding)?;
        Ok(Self { visible_heartbeats: visible_heartbeats(query)?, is_json, padding })
    }
}

/// Reads the parameter `padding`: bytes, such as `2048` or `2KiB`.
fn padding(text: &str) -> Result<usize, Problem> {
    const MOST: usize = 64 << 10;
    let bytes = text.parse::<ByteSize>().ok().and_then(|it| usize::try_from(it.as_u64()).ok());
    let detail = "`padding` is not a number of bytes such as `2KiB`";
    let bytes = bytes.ok_or_else(|| Problem::field("padding", detail))?;
    if MOST < bytes {
        let detail = format!("`padding` is more than {MOST} bytes");
        return Err(Problem::field("padding", detail).with_limit(MOST));
    }
    Ok(bytes)
}

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
    Ok(admit(&request, None).await?.probe(response()))
}

async fn answer(
    request: &HttpRequest,
    query: Option<web::Payload>,
) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(request);
    let opened = admit(request, query).await.and_then(|admitted| open(&gateway, admitted));
    match opened {
        Err(problem) if problem.is_for_lack_of_room() => match gateway.settings().limits.refusal {
            Refusal::Status => Err(problem),
            Refusal::Retry => Ok(later(&gateway, &problem)),
        },
        opened => opened,
    }
}

/// Checks rights and room first, then reads the body.
async fn admit(
    request: &HttpRequest,
    query: Option<web::Payload>,
) -> Result<Admitted<'_, SseParams>, Problem> {
    if !accept::accepts(request, "text/event-stream") {
        return Err(Problem::not_acceptable(
            "this is text/event-stream; replies of application/json are at /poll, with the same \
             parameters",
        ));
    }
    let subscriber = access::subscriber(request).await?;
    let body = match query {
        None => Bytes::new(),
        // Strangers watch single jobs, for which a URL is long enough.
        Some(_) if subscriber.is_stranger() => return Err(subscriber.access_token_missing()),
        Some(payload) => {
            let gateway = Gateway::of(request);
            check_form(request)?;
            let _seat = admission::seat(request, &gateway, false)?;
            body::receive(request, payload, gateway.settings().limits.body_bytes).await?
        }
    };
    admission::admit_as(request, &subscriber, &body).await
}

fn open(gateway: &Gateway, admitted: Admitted<'_, SseParams>) -> Result<HttpResponse, Problem> {
    let SseParams { visible_heartbeats, is_json, padding } = admitted.own;
    let writer = StreamWriter::Sse { visible_heartbeats, is_json, is_chunked: false };
    let mut head = BytesMut::from(&*sse::head(gateway.settings().delivery.retry));
    if 0 < padding {
        head.extend_from_slice(&sse::padding(padding));
    }
    if let (true, Some(cursor_token)) = (visible_heartbeats, admitted.beginning()) {
        head.extend_from_slice(&writer.heartbeat(&cursor_token));
    }
    admitted.stream(response(), &head, writer)
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

fn response() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    response.insert_header((ACCEPT_QUERY, FORM));
    response
}
