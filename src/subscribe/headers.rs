//! The headers that keep browsers, proxies and caches from holding a subscription up.

use actix_web::{
    HttpResponseBuilder,
    http::header::{CACHE_CONTROL, CONTENT_ENCODING, HeaderName, HeaderValue, PRAGMA},
};

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const INCREMENTAL: HeaderName = HeaderName::from_static("incremental");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const MERCURE_LAST_EVENT_ID: HeaderName = HeaderName::from_static("mercure-last-event-id");

/// Not to be cached, and not to be guessed what it is.
pub(crate) fn uncached(response: &mut HttpResponseBuilder) {
    response.insert_header((CACHE_CONTROL, "private, no-cache, no-store, no-transform"));
    response.insert_header((PRAGMA, "no-cache"));
    response.insert_header((CONTENT_TYPE_OPTIONS, "nosniff"));
}

/// Not to be buffered or compressed on its way either.
pub(crate) fn streamed(response: &mut HttpResponseBuilder) {
    uncached(response);
    response.insert_header((CONTENT_ENCODING, "identity"));
    response.insert_header((ACCEL_BUFFERING, "no"));
    response.insert_header((INCREMENTAL, "?1"));
}

/// Where the response begins, for clients that gave a cursor; under the old and the new name.
pub(crate) fn cursor_echo(response: &mut HttpResponseBuilder, echo: Option<HeaderValue>) {
    if let Some(echo) = echo {
        response.insert_header((LAST_EVENT_ID, echo.clone()));
        response.insert_header((MERCURE_LAST_EVENT_ID, echo));
    }
}
