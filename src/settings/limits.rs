//! `[limits]`: what one request, one address and all together may take.

use serde::{Deserialize, Serialize};
use tidegate_core::matching::MatcherLimits;

use super::units::size;

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Bytes of a request's body.
    #[serde(with = "size")]
    pub body_bytes: usize,
    /// Memory in bytes for request bodies that are arriving, in total.
    #[serde(with = "size")]
    pub bodies_bytes: usize,
    /// The same for requests from one address. Loopback addresses are not counted.
    #[serde(with = "size")]
    pub bodies_bytes_per_address: usize,
    /// Updates in one request.
    pub updates_per_request: usize,
    /// Topics of one update.
    pub topics_per_update: usize,
    /// Client keys in the `except` of one update.
    pub except_per_update: usize,
    /// Bytes of a topic or matcher.
    #[serde(with = "size")]
    pub topic_bytes: usize,
    /// Bytes of an event id.
    #[serde(with = "size")]
    pub id_bytes: usize,
    /// Bytes of an event type.
    #[serde(with = "size")]
    pub type_bytes: usize,
    /// Bytes of a client key.
    #[serde(with = "size")]
    pub client_key_bytes: usize,
    /// Bytes of an `Idempotency-Key`.
    #[serde(with = "size")]
    pub idempotency_key_bytes: usize,
    /// Matchers of one subscriber or access token.
    pub matchers: usize,
    /// Matching cost of one pattern or template.
    pub matcher_cost: usize,
    /// Matching cost of the patterns and templates of one subscriber or access token.
    pub matchers_cost: usize,
    /// Matching cost of the patterns and templates of all subscribers from one address. Loopback
    /// addresses are not counted.
    pub matchers_cost_per_address: usize,
    /// Matching cost of the patterns and templates of all subscribers.
    pub matchers_total_cost: usize,
    /// Bytes of all subscribers' matchers, in excess of 1 KiB for each subscriber.
    #[serde(with = "size")]
    pub matchers_bytes: usize,
    /// The same for subscribers from one address.
    #[serde(with = "size")]
    pub matchers_bytes_per_address: usize,
    /// Events that `last` may request.
    pub backlog: usize,
    /// Events that a search for `last` examines.
    pub search_events: usize,
    /// Subscribers in total; fewer if the process may not open as many descriptors.
    pub subscribers: usize,
    /// Subscribers from one address or IPv6 /64 network. Loopback addresses are not counted.
    pub subscribers_per_address: usize,
    /// Connections from one address, or from one IPv6 /64 network, in addition to its streams.
    /// Loopback addresses and trusted proxies are not counted.
    pub connections_per_address: usize,
    /// Concurrent HTTP/2 streams of one connection. Every request counts, open event streams too.
    pub streams_per_connection: u32,
    /// Subscribers without a required access token. They watch jobs whose ids they know.
    pub strangers: usize,
    /// How an event stream is refused when a limit is reached.
    pub refusal: Refusal,
}

/// How an event stream is refused when a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// With 429 or 503. A browser's `EventSource` then gives up for good.
    Status,
    /// With an empty stream that says when to reconnect.
    Retry,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            bodies_bytes: 64 << 20,
            bodies_bytes_per_address: 16 << 20,
            updates_per_request: 1000,
            topics_per_update: 1000,
            except_per_update: 100,
            topic_bytes: 4096,
            id_bytes: 1024,
            type_bytes: 256,
            client_key_bytes: 256,
            idempotency_key_bytes: 256,
            matchers: 1000,
            matcher_cost: 1000,
            matchers_cost: 10_000,
            matchers_cost_per_address: 20_000,
            matchers_total_cost: 100_000,
            matchers_bytes: 64 << 20,
            matchers_bytes_per_address: 16 << 20,
            backlog: 10_000,
            search_events: 100_000,
            subscribers: 100_000,
            subscribers_per_address: 1000,
            connections_per_address: 2000,
            streams_per_connection: 128,
            strangers: 10_000,
            refusal: Refusal::Status,
        }
    }
}

impl LimitSettings {
    /// The bounds for the matchers of one subscriber or access token.
    #[must_use]
    pub(crate) fn matcher_limits(&self) -> MatcherLimits {
        MatcherLimits {
            matchers: self.matchers,
            bytes: self.topic_bytes,
            cost: self.matcher_cost,
            cost_of_set: self.matchers_cost,
            cost_of_all: self.matchers_total_cost,
        }
    }
}
