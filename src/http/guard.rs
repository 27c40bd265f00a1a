//! Protects a gateway without keys from web pages of other sites.
//!
//! A page that a developer visits can send requests to the developer's own machine. A host name
//! that resolves to 127.0.0.1 makes them look same-origin. The gateway therefore refuses every
//! request with an unknown host name, and every write from a page of another origin. With keys,
//! access tokens decide. `presentation` then checks the origin where a browser adds the access
//! token itself.

use std::net::SocketAddr;

use actix_web::{
    Error, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HOST, ORIGIN},
    middleware::Next,
};
use url::{Host, Url};

use super::public_base;
use crate::{
    gateway::Gateway,
    http::problem::Problem,
    settings::{Settings, origins},
};

/// A safe method with a body (RFC 10008), which the HTTP library does not know yet.
pub(crate) const QUERY: &str = "QUERY";

/// Passes a request on, or refuses it with 421 for an unknown host or 403 for a write from a
/// foreign origin.
///
/// It wraps the gateway's own routes. An embedding application also wraps its routes that write, in
/// an application that [`Gateway::configure`] has configured.
///
/// ```
/// use actix_web::{middleware::from_fn, web};
/// use tidegate::server::guard;
///
/// # async fn add() -> &'static str { "" }
/// let items = web::resource("/items").wrap(from_fn(guard)).route(web::post().to(add));
/// ```
///
/// # Errors
/// Those of the wrapped service.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match check(request.request()) {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(problem) => Ok(request.error_response(problem)),
    }
}

fn check(request: &HttpRequest) -> Result<(), Problem> {
    let gateway = Gateway::of(request);
    let settings = gateway.settings();
    let is_development = settings.auth.is_development();
    if is_development || !settings.server.hosts.is_empty() {
        check_host(request, settings)?;
    }
    if !is_development || is_safe(request) {
        return Ok(());
    }
    check_origin(request)
}

/// Whether the method of a request is safe, so that it changes nothing.
pub(crate) fn is_safe(request: &HttpRequest) -> bool {
    request.method().is_safe() || request.method().as_str() == QUERY
}

fn check_host(request: &HttpRequest, settings: &Settings) -> Result<(), Problem> {
    // HTTP/2 has the host in the URI, and HTTP/1.0 may have none.
    let header = request.headers().get(HOST).map(|it| it.to_str().unwrap_or(""));
    let Some(host) = header.or_else(|| request.uri().authority().map(|it| it.as_str())) else {
        return Ok(());
    };
    if is_plain(host) {
        return Ok(());
    }
    let parsed = Url::parse(&format!("http://{host}/")).ok();
    let is_known = parsed.and_then(|url| url.host().map(|it| is_known(&it, settings)));
    if is_known == Some(true) {
        return Ok(());
    }
    Err(Problem::misdirected(
        "the `Host` is not one of this gateway's (`server.public_url`, `server.hosts`)",
    ))
}

/// Recognizes the most frequent hosts without parsing a URL.
fn is_plain(host: &str) -> bool {
    let is_local = |port: &str| port.bytes().all(|it| it.is_ascii_digit());
    host.parse::<SocketAddr>().is_ok()
        || host.strip_prefix("localhost:").is_some_and(is_local)
        || host == "localhost"
}

/// Whether only the operator controls the host name. IP literals are always accepted: DNS rebinding
/// needs a name.
fn is_known(host: &Host<&str>, settings: &Settings) -> bool {
    let Host::Domain(name) = host else { return true };
    let public = settings.server.public_url.as_ref().and_then(|url| url.host_str());
    *name == "localhost"
        || name.ends_with(".localhost")
        || public.is_some_and(|it| it.eq_ignore_ascii_case(name))
        || settings.server.hosts.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// Whether the browser declares the page to be of the same origin (Fetch Metadata). Only the
/// browser knows it behind a proxy that replaces `Host`, or if the page has no referrer, such as
/// those of jobs: its forms have the origin `null`. Scripts cannot set this header.
pub(crate) fn is_from_own_page(request: &HttpRequest) -> bool {
    const SITE: &str = "sec-fetch-site";
    request.headers().get(SITE).is_some_and(|it| it == "same-origin")
}

/// Checks that the request does not come from a page of another site.
///
/// # Errors
/// If it comes from a page whose origin may not write.
pub(crate) fn check_origin(request: &HttpRequest) -> Result<(), Problem> {
    let gateway = Gateway::of(request);
    let settings = gateway.settings();
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let own = public_base(request, settings).origin().ascii_serialization();
    // A proxy may have replaced the `Host` of a name that resolves to this machine.
    let is_of_known_host = || match Url::parse(origin) {
        Ok(url) => url.host().is_some_and(|it| is_known(&it, settings)),
        Err(_) => origin == "null",
    };
    if is_from_own_page(request) && is_of_known_host() {
        return Ok(());
    }
    if origin == own || settings.lets_write(origin) {
        return Ok(());
    }
    Err(Problem::foreign_origin(if origins::is_loopback(origin) {
        "pages of this `Origin` may read but not write; `cors.loopback_writes` or the flag \
         --loopback-writes lets pages of this machine write, `cors.origins` single origins; if it is \
         the gateway's own, behind a proxy, set `server.public_url`"
    } else {
        "pages of this `Origin` may not write here (`cors.origins`); if it is the gateway's own, \
         behind a proxy, set `server.public_url`"
    }))
}
