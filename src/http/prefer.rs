//! The client's preference `Prefer: wait=N` (RFC 7240, section 4.3).

use std::time::Duration;

use actix_web::HttpRequest;

use super::form::whole_number;

/// How long the client prefers to wait for an answer.
pub(crate) fn preferred_wait(request: &HttpRequest) -> Option<Duration> {
    let values = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    let seconds = values
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| whole_number(seconds.trim().trim_matches('"')))?;
    Some(Duration::from_secs(seconds as u64))
}
