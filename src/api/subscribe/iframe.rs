//! The forever iframe: `GET /iframe`.
//!
//! The head of the document has padding and a script. Script elements follow, which call that
//! script with each event. See `static/iframe.js` for the document's side.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError as _,
    body::BoxBody,
    http::{
        StatusCode,
        header::{ACCEPT, CONTENT_SECURITY_POLICY, REFERRER_POLICY},
    },
};
use askama::Template as _;
use bytes::Bytes;
use serde::Serialize;
use tidegate_core::transport::{EndReason, StreamWriter, iframe, json};

use super::{
    admission::admit,
    callback::check_callback,
    names::Parameter,
    params::{HEARTBEAT, TransportParams, visible_heartbeats},
    query::Query,
    stream,
};
use crate::{
    gateway::Gateway,
    http::{accept, form, headers, problem::Problem, public_base},
    settings::origins,
};

/// Heartbeat intervals of silence after which the document considers the connection dead.
const MISSED_HEARTBEATS: f64 = 2.5;

/// The parameters of documents, without those of their [`Target`].
struct IframeParams {
    /// Whether heartbeats are passed on as events.
    heartbeats: bool,
}

impl TransportParams for IframeParams {
    const NAMES: &'static [Parameter] = &[
        Parameter {
            name: "callback",
            is_lasting: true,
            misspelled: &["Callback", "callbacks", "call_back", "jsonp"],
        },
        Parameter { name: "origin", is_lasting: true, misspelled: &["Origin", "origins"] },
        HEARTBEAT,
    ];

    fn read(query: &Query, _: &Gateway) -> Result<Self, Problem> {
        Ok(Self { heartbeats: visible_heartbeats(query)? })
    }
}

/// The receiver of the document's events.
enum Target {
    /// A function of the parent page, which has the same origin.
    Callback(String),
    /// A page of the gateway's own origin, given here, by `postMessage`.
    OwnOrigin(String),
    /// Any parent page with this other origin, by `postMessage`. It may not be allowed.
    Origin(String),
}

#[derive(askama::Template)]
#[template(path = "iframe.html", escape = "none")]
struct Head<'a> {
    nonce: &'a str,
    padding: &'a str,
    script: &'a str,
    options: &'a str,
}

/// Options for the script; see `static/iframe.js`.
#[derive(Serialize)]
struct Options<'a> {
    callback: Option<&'a str>,
    origin: Option<&'a str>,
    heartbeats: bool,
    query: &'a str,
    cursor: &'a str,
    silence: f64,
    retry: f64,
}

/// Opens an endless document.
///
/// # Errors
/// If the request is refused for good.
pub(crate) async fn open_iframe(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    // First, because the document that reports a refusal needs it.
    let target = Target::of(&request, &gateway)?;
    let admitted = match target.check(&gateway) {
        Ok(()) => admit::<IframeParams>(&request).await,
        Err(problem) => Err(problem),
    };
    let opened = admitted.and_then(|admitted| {
        let (query, cursor) = (&admitted.params.lasting_query, admitted.resume_point());
        let head = head(&gateway, &target, admitted.own.heartbeats, query, &cursor);
        let writer = StreamWriter::Iframe { nonce: gateway.nonce().clone() };
        admitted.stream(response(&gateway, &target), &head, writer)
    });
    match opened {
        Err(problem) if is_passing(&problem) => Ok(later(&request, &gateway, &target, problem)),
        Err(problem) if is_framed(&request) => Ok(refused(&request, &gateway, &target, problem)),
        opened => opened,
    }
}

/// Answers with the head that the response would have. The document asks before it reconnects, so
/// that a dead server does not leave an error page in the frame.
///
/// # Errors
/// If the request would be refused.
pub(crate) async fn probe_iframe(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    let target = Target::of(&request, &gateway)?;
    target.check(&gateway)?;
    let admitted = admit::<IframeParams>(&request).await?;
    if gateway.hub().is_draining() {
        return Err(Problem::unavailable("stopping", "the gateway is stopping"));
    }
    Ok(admitted.probe(response(&gateway, &target)))
}

/// Whether the same request may be admitted later.
fn is_passing(problem: &Problem) -> bool {
    let status = problem.status_code();
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// A document that retries after a while. A problem document would stay in the frame forever.
fn later(
    request: &HttpRequest,
    gateway: &Gateway,
    target: &Target,
    problem: Problem,
) -> HttpResponse {
    let retry = stream::retry_later(gateway);
    let end = iframe::end(EndReason::Unavailable, retry, "", gateway.nonce());
    instead(request, gateway, target, problem, &end)
}

/// Whether a frame will show the response. Other programs, which accept any type or JSON, get a
/// problem document.
fn is_framed(request: &HttpRequest) -> bool {
    const OFFERS: [&str; 2] = ["text/html", "application/problem+json"];
    let is_browser = request.headers().get(ACCEPT).is_some_and(|it| it != "*/*");
    is_browser && accept::preferred(request, &OFFERS) == Some(OFFERS[0])
}

/// A document that reports a refusal to the parent page, and does not retry.
fn refused(
    request: &HttpRequest,
    gateway: &Gateway,
    target: &Target,
    problem: Problem,
) -> HttpResponse {
    let (status, detail) = (problem.status_code().as_u16(), problem.to_string());
    let call = iframe::refusal(status, &detail, gateway.nonce());
    instead(request, gateway, target, problem, &call)
}

/// A document with a single call, in the place of the problem document.
fn instead(
    request: &HttpRequest,
    gateway: &Gateway,
    target: &Target,
    problem: Problem,
    call: &[u8],
) -> HttpResponse {
    // A client that was not admitted retries with the query unchanged.
    let mut document = head(gateway, target, false, request.query_string(), "").to_vec();
    document.extend_from_slice(call);
    let mut refusal = HttpResponse::from_error(problem);
    for (name, value) in response(gateway, target).finish().headers() {
        refusal.headers_mut().insert(name.clone(), value.clone());
    }
    refusal.set_body(BoxBody::new(document))
}

impl Target {
    /// Reads the parameters `callback` and `origin`.
    fn of(request: &HttpRequest, gateway: &Gateway) -> Result<Self, Problem> {
        let first = |name| form::first(request.query_string(), name);
        match (first("callback")?, first("origin")?) {
            (Some(callback), None) => {
                check_callback(&callback)?;
                Ok(Self::Callback(callback))
            }
            (None, Some(origin)) => {
                let own = public_base(request, gateway.settings()).origin().ascii_serialization();
                if origin == own {
                    return Ok(Self::OwnOrigin(own));
                }
                if !origins::is_origin(&origin) {
                    let detail = "`origin` is not an origin such as `https://www.example.com`";
                    return Err(Problem::field("origin", detail));
                }
                Ok(Self::Origin(origin))
            }
            (None, None) => Err(Problem::field("callback", "`callback` or `origin` is missing")),
            (Some(_), Some(_)) => {
                Err(Problem::field("origin", "`callback` and `origin` exclude each other"))
            }
        }
    }

    /// Checks that it may receive events. Another origin has to be listed by name: one that is
    /// allowed only by `*` could belong to any site, and so could what it frames.
    fn check(&self, gateway: &Gateway) -> Result<(), Problem> {
        match self {
            Self::Origin(origin) if !gateway.settings().lets_read_by_name(origin) => {
                let detail = "`origin` is not one that this gateway allows (`cors.origins`)";
                Err(Problem::field("origin", detail))
            }
            _ => Ok(()),
        }
    }
}

/// The head of a document that reconnects with `query`, and from `cursor` unless it is empty.
fn head(gateway: &Gateway, target: &Target, heartbeats: bool, query: &str, cursor: &str) -> Bytes {
    let settings = gateway.settings();
    let (callback, origin) = match target {
        Target::Callback(callback) => (Some(callback.as_str()), None),
        Target::OwnOrigin(origin) | Target::Origin(origin) => (None, Some(origin.as_str())),
    };
    let options = json::script_safe(&Options {
        callback,
        origin,
        heartbeats,
        query,
        cursor,
        silence: settings.delivery.heartbeat.as_secs_f64() * 1000.0 * MISSED_HEARTBEATS,
        retry: settings.delivery.retry.as_secs_f64() * 1000.0,
    });
    let head = Head {
        nonce: gateway.nonce(),
        padding: &" ".repeat(settings.iframe.padding),
        script: include_str!("../../../static/iframe.js"),
        options: &options,
    };
    head.render().expect("its fields are strings, whose `Display` does not fail").into()
}

fn response(gateway: &Gateway, target: &Target) -> HttpResponseBuilder {
    let ancestor = match target {
        // Not the origin itself: a policy cannot name an IPv6 address.
        Target::Callback(_) | Target::OwnOrigin(_) => "'self'",
        Target::Origin(origin) => origin,
    };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors {ancestor}",
        gateway.nonce()
    );
    let mut response = HttpResponse::Ok();
    response.content_type("text/html; charset=utf-8");
    response.insert_header((CONTENT_SECURITY_POLICY, policy));
    response.insert_header((REFERRER_POLICY, "no-referrer"));
    headers::streamed(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use actix_web::{body::to_bytes, http::StatusCode, test::TestRequest};
    use tidegate_core::delivery::Shard;

    use super::*;
    use crate::settings::{HistorySettings, Settings};

    async fn opened(mut settings: Settings, uri: &str) -> (StatusCode, String) {
        settings.history = HistorySettings::in_memory();
        let gateway = Gateway::start(settings).expect("a thread can be started");
        let request = TestRequest::with_uri(uri)
            .app_data(Shard::of_this_thread(gateway.hub()))
            .app_data(gateway.clone())
            .to_http_request();
        // Ends every document right after its head.
        gateway.hub().drain();
        let response = open_iframe(request).await.expect("a document");
        let status = response.status();
        let body = to_bytes(response.into_body()).await.expect("a body");
        (status, String::from_utf8(body.into()).expect("text"))
    }

    #[actix_web::test]
    async fn a_document_that_ends_before_its_gap_is_told_comes_back_for_it() {
        let uri = "/iframe?topic=x&callback=onEvent&last_event_id=gone";
        let (status, document) = opened(Settings::default(), uri).await;
        assert_eq!(status, StatusCode::OK);
        assert!(document.contains(r#""cursor":"gone""#), "{document}");
    }

    #[actix_web::test]
    async fn a_document_that_there_is_no_room_for_asks_again_with_the_same_words() {
        let mut settings = Settings::default();
        settings.limits.subscribers = 0;
        let uri = "/iframe?topic=x&callback=onEvent&last=7&last_event_id=";
        let (status, document) = opened(settings, uri).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let query = uri.trim_start_matches("/iframe?").replace('&', "\\u0026");
        let again = format!(r#""query":"{query}","cursor":"""#);
        assert!(document.contains(&again), "{document}");
        assert!(document.contains(r#""end":"unavailable""#), "{document}");
    }
}
