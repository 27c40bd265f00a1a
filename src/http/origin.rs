//! Pages of other origins: what a browser keeps from them is logged, once for each origin.
//!
//! The browser tells such a page only that its request failed, and the gateway has answered as
//! usual. Without these lines neither side would say what is missing.

use actix_web::{
    Error, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
    middleware::Next,
};
use tracing::warn;

use super::{guard::is_safe, public_base};
use crate::{
    gateway::Gateway,
    settings::{Settings, origins},
    telemetry::Sighting,
};

/// The longest origin that is logged, in characters. A host name has at most 253.
const LONGEST: usize = 280;

/// Logs that an origin is refused, before the request is answered.
///
/// # Errors
/// Those of the wrapped service.
pub(crate) async fn note_refused_origins<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    note(request.request());
    next.call(request).await
}

fn note(request: &HttpRequest) {
    let Some(origin) = request.headers().get(ORIGIN).and_then(|it| it.to_str().ok()) else {
        return;
    };
    let gateway = Gateway::of(request);
    let settings = gateway.settings();
    let Some(cure) = cure(request, origin, settings) else { return };
    let sighting = gateway.refused_origins().see(origin);
    if sighting == Sighting::Known {
        return;
    }
    let shown: String = origin.chars().take(LONGEST).collect();
    warn!(origin = shown, "{cure}");
    if sighting == Sighting::Last {
        warn!("further origins are refused without a line in the log (cors.origins)");
    }
}

/// Returns what the operator may change, if a browser refuses something to the page.
fn cure(request: &HttpRequest, origin: &str, settings: &Settings) -> Option<&'static str> {
    let is_preflight = request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let may_read = settings.lets_read(origin);
    // A preflight is followed by the request itself, if it succeeds.
    let wants_write = !is_safe(request) && !is_preflight && settings.auth.is_development();
    if may_read && (!wants_write || settings.lets_write(origin))
        || is_own(request, origin, settings)
    {
        return None;
    }
    Some(if origin == "null" {
        "a page without an origin (a file, a sandboxed frame) is refused: serve the page over HTTP; \
         `*` in cors.origins lets it read only"
    } else if may_read && origins::is_loopback(origin) {
        "pages of this origin may read but not write; cors.loopback_writes = true or the flag \
         --loopback-writes allows it"
    } else if may_read {
        "pages of this origin may read but not write; to let them, name the origin in cors.origins"
    } else {
        "browsers hide every response from pages of this origin; to let them read and write, name \
         the origin in cors.origins"
    })
}

/// Whether the page is the gateway's own. Behind a proxy that changes `Host` only the browser
/// knows that.
fn is_own(request: &HttpRequest, origin: &str, settings: &Settings) -> bool {
    const SITE: &str = "sec-fetch-site";
    request.headers().get(SITE).is_some_and(|it| it == "same-origin")
        || public_base(request, settings).origin().ascii_serialization() == origin
}
