//! The forever iframe: `GET /iframe`.
//!
//! The head of the document has padding and a script. Script elements follow, which call that
//! script with each event. See `static/iframe.js` for the document's side.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::BoxBody,
    http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY},
};
use askama::Template as _;
use bytes::Bytes;
use serde::Serialize;
use tidegate_core::transport::{EndReason, StreamWriter, Transport, iframe, json};

use super::{
    admission::{self, Admitted},
    callback::check_callback,
    params::Params,
    stream,
};
use crate::{
    gateway::Gateway,
    http::{access, headers, problem::Problem, public_base},
};

/// Heartbeat intervals of silence after which the document considers the connection dead.
const MISSED_HEARTBEATS: f64 = 2.5;

/// The receiver of the document's events.
enum Target {
    /// A function of the parent page, which has the same origin.
    Callback(String),
    /// A page of the gateway's own origin, given here, by `postMessage`.
    OwnOrigin(String),
    /// Any parent page with this other origin, by `postMessage`.
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
    let (gateway, params, target) = understand(&request).await?;
    let admitted = admit(&request, &gateway, &params).await;
    let admitted = match admitted.and_then(|it| it.join(&request, &gateway, &params, None)) {
        Ok(admitted) => admitted,
        Err(problem) => return Ok(later(&request, &gateway, &params, &target, problem)),
    };
    let cursor = admitted.resume_point(gateway.hub().history().cursor_key());
    let head = head(&gateway, &params, &target, &params.lasting_query, &cursor);
    let response = admitted_response(&gateway, &target, &admitted);
    let terms = admission::stream_terms(&gateway, Transport::Iframe, params.expires);
    let writer = StreamWriter::Iframe { nonce: gateway.nonce().clone() };
    let mut style = stream::style(&gateway, writer);
    style.is_old_dialect = params.is_old_dialect;
    style.ending.recycle_after = Some(gateway.settings().iframe.recycle_after);
    let subscription = admitted.subscription(&params, terms);
    Ok(stream::respond(&request, response, head, subscription, style))
}

/// Answers with the head that the response would have. The document asks before it reconnects, so
/// that a dead server does not leave an error page in the frame.
///
/// # Errors
/// If the request would be refused.
pub(crate) async fn probe_iframe(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (gateway, params, target) = understand(&request).await?;
    let admitted = admit(&request, &gateway, &params).await?;
    if gateway.hub().is_draining() {
        return Err(Problem::unavailable("stopping", "the gateway is stopping"));
    }
    Ok(admitted_response(&gateway, &target, &admitted).body(Bytes::new()))
}

/// A document that retries after a while. A problem document would stay in the frame forever.
fn later(
    request: &HttpRequest,
    gateway: &Gateway,
    params: &Params,
    target: &Target,
    problem: Problem,
) -> HttpResponse {
    let retry = stream::retry_later(gateway);
    // A client that was not admitted retries with the query unchanged.
    let mut document = head(gateway, params, target, request.query_string(), "").to_vec();
    document.extend(iframe::end(EndReason::Unavailable, retry, "", gateway.nonce()));
    let mut refusal = HttpResponse::from_error(problem);
    for (name, value) in response(gateway, target).finish().headers() {
        refusal.headers_mut().insert(name.clone(), value.clone());
    }
    refusal.set_body(BoxBody::new(document))
}

/// Parameters are parsed before the seat is taken: the document that reports the lack of a seat
/// needs them.
async fn admit(
    request: &HttpRequest,
    gateway: &Gateway,
    params: &Params,
) -> Result<Admitted, Problem> {
    let seat = admission::seat(request, gateway, params.is_stranger)?;
    admission::admit(request, gateway, params, seat).await
}

async fn understand(request: &HttpRequest) -> Result<(Gateway, Params, Target), Problem> {
    let gateway = Gateway::of(request);
    let params = Params::parse(request, &[], &gateway, &access::subscriber(request).await?)?;
    let target = target(request, &gateway, &params)?;
    Ok((gateway, params, target))
}

fn target(request: &HttpRequest, gateway: &Gateway, params: &Params) -> Result<Target, Problem> {
    match (&params.callback, &params.origin) {
        (Some(callback), None) => {
            check_callback(callback)?;
            Ok(Target::Callback(callback.clone()))
        }
        (None, Some(origin)) => {
            let own = public_base(request, gateway.settings()).origin().ascii_serialization();
            if *origin == own {
                return Ok(Target::OwnOrigin(own));
            }
            // Must be listed by name: an origin allowed only by `*` could belong to any site, and
            // so could what it frames.
            if !gateway.settings().lets_read_by_name(origin) {
                let detail = "`origin` is not one that this gateway allows (`cors.origins`)";
                return Err(Problem::field("origin", detail));
            }
            Ok(Target::Origin(origin.clone()))
        }
        (None, None) => Err(Problem::field("callback", "`callback` or `origin` is missing")),
        (Some(_), Some(_)) => {
            Err(Problem::field("origin", "`callback` and `origin` exclude each other"))
        }
    }
}

/// The head of a document that reconnects with `query`, and from `cursor` unless it is empty.
fn head(gateway: &Gateway, params: &Params, target: &Target, query: &str, cursor: &str) -> Bytes {
    let settings = gateway.settings();
    let (callback, origin) = match target {
        Target::Callback(callback) => (Some(callback.as_str()), None),
        Target::OwnOrigin(origin) | Target::Origin(origin) => (None, Some(origin.as_str())),
    };
    let options = json::script_safe(&Options {
        callback,
        origin,
        heartbeats: params.visible_heartbeats,
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

fn admitted_response(
    gateway: &Gateway,
    target: &Target,
    admitted: &Admitted,
) -> HttpResponseBuilder {
    let mut response = response(gateway, target);
    headers::cursor_echo(&mut response, admitted.cursor_echo.clone());
    response
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
