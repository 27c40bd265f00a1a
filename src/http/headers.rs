//! Response headers that keep browsers, proxies and caches from delaying a subscription.

use actix_web::{
    HttpResponseBuilder,
    http::header::{CACHE_CONTROL, CONTENT_ENCODING, HeaderName, HeaderValue, PRAGMA},
};

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const INCREMENTAL: HeaderName = HeaderName::from_static("incremental");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const MERCURE_LAST_EVENT_ID: HeaderName = HeaderName::from_static("mercure-last-event-id");

/// Forbids caching and content sniffing.
pub(crate) fn uncached(response: &mut HttpResponseBuilder) {
    response.insert_header((CACHE_CONTROL, "private, no-cache, no-store, no-transform"));
    response.insert_header((PRAGMA, "no-cache"));
    response.insert_header((CONTENT_TYPE_OPTIONS, "nosniff"));
}

/// Also forbids buffering and compression on the way.
pub(crate) fn streamed(response: &mut HttpResponseBuilder) {
    uncached(response);
    response.insert_header((CONTENT_ENCODING, "identity"));
    response.insert_header((ACCEL_BUFFERING, "no"));
    response.insert_header((INCREMENTAL, "?1"));
}

/// Reports where the response begins to clients that sent a cursor, under the old and the new
/// header name.
pub(crate) fn cursor_echo(response: &mut HttpResponseBuilder, echo: Option<HeaderValue>) {
    if let Some(echo) = echo {
        response.insert_header((LAST_EVENT_ID, echo.clone()));
        response.insert_header((MERCURE_LAST_EVENT_ID, echo));
    }
}
