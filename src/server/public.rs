//! Who is who behind proxies: the address under which a browser reached the gateway, and the browser's own address.

use std::net::IpAddr;

use actix_web::{HttpRequest, http::header::HOST};
use url::Url;

use super::accept::Encrypted;
use crate::settings::Settings;

/// The address of the gateway's root as the client of `request` sees it.
pub(crate) fn public_base(request: &HttpRequest, settings: &Settings) -> Url {
    if let Some(url) = &settings.server.public_url {
        return url.clone();
    }
    let base = if comes_through_proxy(request, settings) {
        let connection = request.connection_info();
        format!("{}://{}/", connection.scheme(), connection.host())
    } else {
        let header = request.headers().get(HOST).and_then(|it| it.to_str().ok());
        // HTTP/2 carries it in the address.
        let host = header.or_else(|| request.uri().authority().map(|it| it.as_str()));
        let scheme = if is_encrypted(request) { "https" } else { "http" };
        format!("{scheme}://{}/", host.unwrap_or("localhost"))
    };
    Url::parse(&base).unwrap_or_else(|_| Url::parse("http://localhost/").expect("a valid address"))
}

/// The address of the client: what a trusted proxy says, or else the peer's.
pub(crate) fn client_address(request: &HttpRequest, settings: &Settings) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    if !settings.server.trusts(peer) {
        return Some(peer);
    }
    let connection = request.connection_info();
    let told = connection.realip_remote_addr();
    told.and_then(|it| it.trim_matches(['[', ']']).parse().ok()).or(Some(peer))
}

/// Whether `request` came over TLS, to this process.
fn is_encrypted(request: &HttpRequest) -> bool {
    request.conn_data::<Encrypted>().is_some()
}

/// Whether a proxy that is trusted has passed `request` on.
pub(crate) fn comes_through_proxy(request: &HttpRequest, settings: &Settings) -> bool {
    request.peer_addr().is_some_and(|peer| settings.server.trusts(peer.ip()))
}
