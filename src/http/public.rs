//! Addresses behind proxies: the URL at which a browser reached the gateway, and the browser's own
//! address.

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::header::{FORWARDED, HOST, HeaderName},
};
use url::Url;

use crate::{
    listen::Encrypted,
    settings::{ForwardedHeader, Settings},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The path under which an application serves the gateway, without a trailing slash: application
/// data of its routes. Absent at the root.
#[derive(Debug, Clone)]
pub(crate) struct MountedAt(pub(crate) String);

/// Returns the path under which an application serves the gateway, or nothing at the root.
fn mounted_at(request: &HttpRequest) -> &str {
    request.app_data::<MountedAt>().map_or("", |it| &it.0)
}

/// Returns the path of a request, without the part under which an application serves the gateway.
pub(crate) fn own_path(request: &HttpRequest) -> &str {
    let path = request.uri().path();
    path.strip_prefix(mounted_at(request)).unwrap_or(path)
}

/// Returns the URL of the gateway's root as the client of `request` sees it.
pub(crate) fn public_base(request: &HttpRequest, settings: &Settings) -> Url {
    if let Some(url) = &settings.server.public_url {
        return url.clone();
    }
    let told = |name, parameter| forwarded(request, settings, name, parameter).next();
    let host = told(X_FORWARDED_HOST, "host").or_else(|| {
        let header = request.headers().get(HOST).and_then(|it| it.to_str().ok());
        // HTTP/2 has the host in the URI.
        let host = header.or_else(|| request.uri().authority().map(|it| it.as_str()));
        host.map(ToOwned::to_owned)
    });
    let own_scheme = if is_encrypted(request) { "https" } else { "http" };
    let scheme = match told(X_FORWARDED_PROTO, "proto").as_deref() {
        Some("https") => "https",
        Some("http") => "http",
        _ => own_scheme,
    };
    let (host, path) = (host.as_deref().unwrap_or("localhost"), mounted_at(request));
    let base = format!("{scheme}://{host}{path}/");
    let local = || Url::parse("http://localhost/").expect("a constant that is an absolute URL");
    Url::parse(&base).unwrap_or_else(|_| local())
}

/// Returns the client's address: the last one in the header that is not a trusted proxy's, or else
/// the peer's. The client itself may have written the entries before it.
pub(crate) fn client_address(request: &HttpRequest, settings: &Settings) -> Option<IpAddr> {
    let mut client = request.peer_addr()?.ip();
    for told in forwarded(request, settings, X_FORWARDED_FOR, "for") {
        // A proxy that hides the address sends an identifier instead (RFC 7239, section 6).
        let Some(address) = parse_address(&told) else { break };
        client = address;
        if !settings.server.trusts(address) {
            break;
        }
    }
    Some(client)
}

/// Returns what trusted proxies report about the client, nearest proxy first. The values are those
/// of the header `name`, or of `parameter` in `Forwarded`, as the settings say. Empty if the peer
/// is not a trusted proxy.
fn forwarded(
    request: &HttpRequest,
    settings: &Settings,
    name: HeaderName,
    parameter: &'static str,
) -> std::vec::IntoIter<String> {
    let is_trusted = request.peer_addr().is_some_and(|peer| settings.server.trusts(peer.ip()));
    if !is_trusted {
        return Vec::new().into_iter();
    }
    let values = |name: HeaderName| {
        let lines = request.headers().get_all(name).filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).map(str::trim).collect::<Vec<_>>()
    };
    let mut told: Vec<String> = match settings.server.forwarded_header {
        ForwardedHeader::XForwardedFor => values(name).into_iter().map(ToOwned::to_owned).collect(),
        ForwardedHeader::Forwarded => values(FORWARDED)
            .into_iter()
            .filter_map(|element| {
                let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
                let (_, value) =
                    pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(parameter))?;
                Some(value.trim().trim_matches('"').to_owned())
            })
            .collect(),
    };
    told.retain(|it| !it.is_empty());
    told.reverse();
    told.into_iter()
}

/// Parses an address with or without a port, or an IPv6 address with or without brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()))
}

/// Whether `request` arrived over TLS, ended by this process.
fn is_encrypted(request: &HttpRequest) -> bool {
    request.conn_data::<Encrypted>().is_some() || request.extensions().contains::<Encrypted>()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::settings::ServerSettings;

    fn behind(proxies: &[&str], header: ForwardedHeader) -> Settings {
        let server = ServerSettings {
            trusted_proxies: proxies.iter().map(|it| it.parse().expect("a network")).collect(),
            forwarded_header: header,
            ..ServerSettings::default()
        };
        Settings { server, ..Settings::default() }
    }

    #[test]
    fn the_address_of_the_client_is_the_last_that_no_proxy_has() {
        use ForwardedHeader::{Forwarded, XForwardedFor};
        let networks = ["10.0.0.0/8", "::1/128"];
        for (peer, name, value, header, expected) in [
            ("10.0.0.1", "x-forwarded-for", "192.0.2.7", XForwardedFor, "192.0.2.7"),
            ("10.0.0.1", "x-forwarded-for", "6.6.6.6, 192.0.2.7", XForwardedFor, "192.0.2.7"),
            ("10.0.0.1", "x-forwarded-for", "192.0.2.7, 10.1.1.1", XForwardedFor, "192.0.2.7"),
            ("10.0.0.1", "x-forwarded-for", "10.2.2.2, 10.1.1.1", XForwardedFor, "10.2.2.2"),
            ("10.0.0.1", "x-forwarded-for", "6.6.6.6, hidden", XForwardedFor, "10.0.0.1"),
            ("10.0.0.1", "x-forwarded-for", "[2001:db8::1]:443", XForwardedFor, "2001:db8::1"),
            ("10.0.0.1", "x-forwarded-for", "", XForwardedFor, "10.0.0.1"),
            ("10.0.0.1", "forwarded", "for=6.6.6.6", XForwardedFor, "10.0.0.1"),
            ("192.0.2.9", "x-forwarded-for", "6.6.6.6", XForwardedFor, "192.0.2.9"),
            ("10.0.0.1", "x-forwarded-for", "6.6.6.6", Forwarded, "10.0.0.1"),
            (
                "10.0.0.1",
                "forwarded",
                "for=6.6.6.6, For=\"[2001:db8::1]:80\";proto=https, for=10.9.9.9",
                Forwarded,
                "2001:db8::1",
            ),
        ] {
            let settings = behind(&networks, header);
            let peer = SocketAddr::new(peer.parse().expect("an address"), 1);
            let request = TestRequest::default().peer_addr(peer).insert_header((name, value));
            let found = client_address(&request.to_http_request(), &settings);
            assert_eq!(found, expected.parse().ok(), "{name}: {value}");
        }
    }
}
