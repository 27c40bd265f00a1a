//! Where a request carries its access token: the header `Authorization`, a cookie, or, for old
//! clients, the query.

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, COOKIE, ORIGIN, REFERER},
};
use url::Url;

use crate::{
    gateway::Gateway,
    http::{
        form,
        guard::{is_from_own_page, is_safe},
        public_base,
    },
    settings::{Settings, origins},
    telemetry::metrics::OldFeature,
};

/// The cookie of the old dialect.
const OLD_COOKIE: &str = "mercureAuthorization";

/// The parameter of old clients.
pub(crate) const ACCESS_TOKEN_PARAMETER: &str = "authorization";

/// The scheme of the header (RFC 6750, section 2.1).
const SCHEME: &str = "bearer";

/// Why a request's access token cannot be read: 400 `invalid_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unpresentable {
    #[error("there is more than one `Authorization` header")]
    Several,
    #[error("the `Authorization` header is not `Bearer` and a token")]
    Scheme,
    #[error(
        "a request that writes with a cookie needs an `Origin` or a `Referer` of the gateway or of \
         auth.publish_origins"
    )]
    Origin,
}

/// Returns the access token of a request: from the header, else the query, else a cookie. The first
/// one found is used, even if it is invalid.
pub(super) fn access_token(
    request: &HttpRequest,
    gateway: &Gateway,
) -> Result<Option<String>, Unpresentable> {
    let settings = gateway.settings();
    let mut headers = request.headers().get_all(AUTHORIZATION);
    if let Some(header) = headers.next() {
        if headers.next().is_some() {
            return Err(Unpresentable::Several);
        }
        let header = header.to_str().map_err(|_| Unpresentable::Scheme)?;
        return bearer(header).map(|it| Some(it.to_owned())).ok_or(Unpresentable::Scheme);
    }
    let understands_old = settings.speaks_old_dialect();
    if understands_old && let Some(access_token) = in_address(request) {
        gateway.metrics().old_dialect(OldFeature::AccessTokenInAddress);
        return Ok(Some(access_token));
    }
    let new = Some(settings.auth.cookie.as_str()).filter(|it| !it.is_empty());
    let mut access_token = new.and_then(|name| in_cookie(request, name));
    if access_token.is_none() && understands_old {
        access_token = in_cookie(request, OLD_COOKIE);
        if access_token.is_some() {
            gateway.metrics().old_dialect(OldFeature::Cookie);
        }
    }
    if access_token.is_some() && !is_safe(request) && !comes_from_own_page(request, settings) {
        return Err(Unpresentable::Origin);
    }
    Ok(access_token)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, access_token) = header.trim().split_once(' ')?;
    let access_token = access_token.trim();
    let is_one_word = !access_token.is_empty() && !access_token.contains([' ', ',']);
    (scheme.eq_ignore_ascii_case(SCHEME) && is_one_word).then_some(access_token)
}

fn in_address(request: &HttpRequest) -> Option<String> {
    let mut pairs = form::pairs(request.query_string().as_bytes()).filter_map(Result::ok);
    pairs.find(|(name, _)| name == ACCESS_TOKEN_PARAMETER).map(|(_, access_token)| access_token)
}

/// Returns the first non-empty cookie of this name. Browsers send the most specific path first, and
/// some applications clear a cookie by emptying it.
fn in_cookie(request: &HttpRequest, name: &str) -> Option<String> {
    let headers = request.headers().get_all(COOKIE).filter_map(|it| it.to_str().ok());
    let pairs = headers.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
    let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, it)| it.trim_matches('"'));
    values.find(|it| !it.is_empty()).map(ToOwned::to_owned)
}

/// Whether a write with a cookie comes from a page that may make one (draft-08, "Cross-site request
/// forgery"). Browsers send cookies with every page's requests.
fn comes_from_own_page(request: &HttpRequest, settings: &Settings) -> bool {
    let header = |name| request.headers().get(name);
    let origin = match (header(ORIGIN), header(REFERER)) {
        (Some(origin), _) => origin.to_str().ok().map(ToOwned::to_owned),
        (None, Some(page)) => page
            .to_str()
            .ok()
            .and_then(|it| Url::parse(it).ok())
            .map(|it| it.origin().ascii_serialization()),
        (None, None) => None,
    };
    let own = public_base(request, settings).origin().ascii_serialization();
    is_from_own_page(request)
        || origin
            .is_some_and(|it| it == own || origins::allows(&settings.auth.publish_origins, &it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case_with_one_access_token() {
        for good in ["Bearer abc", "bearer abc", "BEARER  abc"] {
            assert_eq!(bearer(good), Some("abc"), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b", "Bearer a,Bearer b"]
        {
            assert_eq!(bearer(bad), None, "{bad}");
        }
    }
}
