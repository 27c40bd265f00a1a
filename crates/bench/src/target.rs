//! The server, and the requests that are sent to it.

use std::net::SocketAddr;

use url::{Url, form_urlencoded};

use super::{
    BenchError,
    marker::Marker,
    tls::{self, Tls},
    transport::Transport,
};

/// The path of a Mercure hub (draft-08, "Discovery").
const HUB: &str = "/.well-known/mercure";

/// The address of a gateway or a hub, and the fixed parts of requests to it.
pub(super) struct Target {
    pub(super) url: Url,
    /// Addresses of the server, in the system's order of preference.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<Tls>,
    run: u32,
    hub: String,
    /// The prefix of the other transports' paths. Unknown for a hub at a path of its own.
    base: Option<String>,
    subscribe_head: String,
    publish_head: String,
}

// Written by hand, because the heads contain access tokens.
impl std::fmt::Debug for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Target").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Target {
    /// Resolves the name and prepares what all requests share.
    pub(super) fn resolve(
        url: &Url,
        run: u32,
        insecure: bool,
        subscribe_token: Option<&str>,
        publish_token: Option<&str>,
    ) -> Result<Self, BenchError> {
        let unresolved = |reason: std::io::Error| BenchError::Unresolved {
            host: url.host_str().unwrap_or_default().to_owned(),
            reason,
        };
        let addresses = url.socket_addrs(|| None).map_err(unresolved)?;
        let tls = (url.scheme() == "https").then(|| tls::prepare(url, insecure)).transpose()?;
        let (hub, base) = paths(url.path());
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        Ok(Self {
            url: url.clone(),
            addresses,
            tls,
            run,
            hub,
            base,
            subscribe_head: format!("Host: {host}\r\n{}", authorization(subscribe_token)?),
            publish_head: format!("Host: {host}\r\n{}", authorization(publish_token)?),
        })
    }

    /// Returns the path of `transport`, if this server has it.
    fn path(&self, transport: Transport) -> Option<String> {
        match transport {
            Transport::Sse => Some(self.hub.clone()),
            Transport::Iframe | Transport::Poll => {
                Some(format!("{}/{}", self.base.as_ref()?, transport.as_str()))
            }
        }
    }

    /// Returns whether this server has `transport`.
    pub(super) fn serves(&self, transport: Transport) -> bool {
        self.path(transport).is_some()
    }

    /// Returns the request of a new subscriber, or of one that resumes after `last`. The first poll
    /// does not wait, so its reply confirms the subscription.
    pub(super) fn subscription(
        &self,
        transport: Transport,
        topic: u32,
        last: Option<(u16, u32)>,
    ) -> Vec<u8> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("topic", &self.topic(topic));
        if transport == Transport::Iframe {
            query.append_pair("callback", "onEvent");
        }
        if let Some((lane, number)) = last {
            query.append_pair("last_event_id", &self.id(topic, lane, number));
        }
        let accept = match transport {
            Transport::Sse => "text/event-stream",
            // Not HTML alone, so that a refusal is a problem document.
            Transport::Iframe => "*/*",
            Transport::Poll => "application/json\r\nPrefer: wait=0",
        };
        let path = self.path(transport).unwrap_or_default();
        self.get(&format!("{path}?{}", query.finish()), accept)
    }

    /// Returns the request for the next poll, to the address in the last reply.
    pub(super) fn next_poll(&self, next: &str) -> Option<Vec<u8>> {
        let path = self.path(Transport::Poll)?;
        let (_, query) = next.split_once('?')?;
        Some(self.get(&format!("{path}?{query}"), "application/json"))
    }

    fn get(&self, target: &str, accept: &str) -> Vec<u8> {
        let head = &self.subscribe_head;
        format!("GET {target} HTTP/1.1\r\n{head}Accept: {accept}\r\n\r\n").into_bytes()
    }

    /// Overwrites `out` with the request that publishes a message of `payload` bytes.
    pub(super) fn publication(&self, marker: Marker, payload: usize, out: &mut Vec<u8>) {
        let Marker { topic, lane, number, .. } = marker;
        let mut fields = form_urlencoded::Serializer::new(String::new());
        fields.append_pair("topic", &self.topic(topic));
        fields.append_pair("id", &self.id(topic, lane, number));
        let body = format!("{}&data={marker}", fields.finish());
        let padding = payload.saturating_sub(super::marker::LENGTH);
        let (hub, head, length) = (&self.hub, &self.publish_head, body.len() + padding);
        out.clear();
        out.extend_from_slice(
            format!(
                "POST {hub} HTTP/1.1\r\n{head}Content-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        out.resize(out.len() + padding, b'.');
    }

    fn topic(&self, topic: u32) -> String {
        format!("urn:tidegate-bench:{:08x}:{topic}", self.run)
    }

    /// Returns the id of a message. It follows from the marker alone, so a subscriber can resume
    /// after any message.
    fn id(&self, topic: u32, lane: u16, number: u32) -> String {
        format!("{}:{lane}:{number}", self.topic(topic))
    }
}

/// Returns the path of the hub, and the prefix of the other transports' paths.
fn paths(path: &str) -> (String, Option<String>) {
    if let Some(base) = path.strip_suffix('/') {
        return (format!("{base}{HUB}"), Some(base.to_owned()));
    }
    let base = path.strip_suffix(HUB).or_else(|| path.strip_suffix("/events"));
    (path.to_owned(), base.map(str::to_owned))
}

fn authorization(token: Option<&str>) -> Result<String, BenchError> {
    match token {
        None => Ok(String::new()),
        Some(token) if token.bytes().all(|it| it.is_ascii_graphic()) => {
            Ok(format!("Authorization: Bearer {token}\r\n"))
        }
        Some(_) => Err(BenchError::Token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_has_all_transports_and_a_hub_elsewhere_has_one() {
        for (path, hub, base) in [
            ("/", "/.well-known/mercure", Some("")),
            ("/push/", "/push/.well-known/mercure", Some("/push")),
            ("/push/.well-known/mercure", "/push/.well-known/mercure", Some("/push")),
            ("/events", "/events", Some("")),
            ("/hub", "/hub", None),
        ] {
            assert_eq!(paths(path), (hub.to_owned(), base.map(str::to_owned)));
        }
    }

    #[test]
    fn a_publication_has_the_length_that_it_tells() {
        let url = Url::parse("http://127.0.0.1:1/").expect("an address");
        let target = Target::resolve(&url, 1, false, None, Some("secret")).expect("a target");
        let mut request = Vec::new();
        let marker = Marker { run: 1, topic: 2, lane: 3, number: 4, sent: 5 };
        target.publication(marker, 100, &mut request);
        let text = String::from_utf8(request).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        assert!(head.contains("\r\nAuthorization: Bearer secret\r\n"), "{head}");
        let (_, data) = body.split_once("&data=").expect("data");
        assert_eq!(data.len(), 100);
    }

    #[test]
    fn a_token_that_would_break_the_head_is_refused() {
        assert!(authorization(Some("a\r\nb")).is_err());
    }
}
