//! The keys of clients, as they write them.

use actix_web::{HttpRequest, http::header::HeaderName};
use tidegate_core::event::ClientKey;

use super::problem::Problem;

/// The header for a client's key, where the request can have one.
pub(crate) const TIDEGATE_CLIENT: HeaderName = HeaderName::from_static("tidegate-client");

/// Reads the client's key in the header of a request, if there is one.
///
/// # Errors
/// If it is not a key.
pub(crate) fn of_header(request: &HttpRequest) -> Result<Option<ClientKey>, Problem> {
    let key = request.headers().get(TIDEGATE_CLIENT);
    let key = key.map(|key| parse_key("Tidegate-Client", key.to_str().unwrap_or_default()));
    key.transpose()
}

/// The length of a client's key in characters.
const KEY: std::ops::RangeInclusive<usize> = 22..=128;

/// Reads a client's key: the parameter `client`, a header or a field.
///
/// # Errors
/// If it is not one.
pub(crate) fn parse_key(field: &'static str, key: &str) -> Result<ClientKey, Problem> {
    let is_key = KEY.contains(&key.len())
        && key.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_');
    let broken = || {
        let (least, most) = (KEY.start(), KEY.end());
        let detail = format!(
            "`{field}` is not a client's key: {least} to {most} of the characters A–Z, a–z, 0–9, - and _, made up at random"
        );
        Problem::field(field, detail)
    };
    if !is_key {
        return Err(broken());
    }
    ClientKey::parse(field, key, *KEY.end()).map_err(|_| broken())
}
