//! What the operator asked for: typed settings with their defaults, checked once as a whole.
//!
//! A file, the environment and flags come in; [`Settings`] go out, complete and valid. Nothing is read again later.

mod aliases;
mod auth;
mod check;
mod history;
mod jobs;
mod load;
pub(crate) mod origins;
mod secret;
mod units;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::auth::{
    AuthSettings, Compat, CorsSettings, IssuerSettings, KeySettings, MercureSettings, OldClaim,
    UnknownIds,
};
pub use self::history::{DurabilityKind, HistorySettings, RuleSettings, StoreKind};
pub use self::jobs::{JobSettings, JobTypeSettings, WildcardGrants};
pub use self::load::{SettingsError, Source, load};
pub use self::secret::Secret;
use self::units::{addresses, duration, optional_url, size};
use crate::hub::MatcherLimits;

/// All settings. `tidegate.toml` in the repository documents each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where and how it listens.
    pub server: ServerSettings,
    /// Where and how it listens with encryption.
    pub tls: TlsSettings,
    /// How updates are taken in.
    pub publish: PublishSettings,
    /// What is kept, and for how long.
    pub history: HistorySettings,
    /// How events are delivered.
    pub delivery: DeliverySettings,
    /// The forever iframe.
    pub iframe: IframeSettings,
    /// Long poll.
    pub poll: PollSettings,
    /// Who may do what.
    pub auth: AuthSettings,
    /// Which dialects of Mercure are spoken.
    pub mercure: MercureSettings,
    /// Which other origins may use the gateway from a browser.
    pub cors: CorsSettings,
    /// Long jobs.
    pub jobs: JobSettings,
    /// Bounds of requests.
    pub limits: LimitSettings,
    /// Where operators ask.
    pub ops: OpsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Addresses to listen on.
    #[serde(with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// The address under which browsers reach the gateway, if it is not the one that it listens on.
    #[serde(with = "optional_url")]
    pub public_url: Option<Url>,
    /// Proxies whose headers tell the client's address, and the scheme and host that it used.
    pub trusted_proxies: Vec<IpNet>,
    /// Which of their headers is believed.
    pub forwarded_header: ForwardedHeader,
    /// Further host names under which requests may come.
    pub hosts: Vec<String>,
    /// Lets everybody publish and subscribe on other addresses than loopback.
    pub open_to_everybody: bool,
    /// Threads that serve requests; 0 for one a core.
    pub workers: usize,
    /// Connections waiting to be accepted.
    pub backlog: u32,
    /// Time for the head of a request to arrive.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Time for the body of a request to arrive.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// Time that an idle connection is kept open for the next request.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// Time for open requests to end after SIGTERM.
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 3000))],
            public_url: None,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            hosts: Vec::new(),
            open_to_everybody: false,
            workers: 0,
            backlog: 4096,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(3),
        }
    }
}

/// In which header a proxy tells who it passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Addresses to listen on with TLS, for HTTP/2 and HTTP/1.1.
    #[serde(with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// File with the certificate and those that vouch for it (PEM).
    pub certificate: PathBuf,
    /// File with the certificate's private key (PEM).
    pub key: PathBuf,
}

/// `[publish]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishSettings {
    /// Refuse updates with 503 while delivery lags over half the tail.
    pub refuse_when_behind: bool,
    /// How long a reply is kept for the same `Idempotency-Key`.
    #[serde(with = "duration")]
    pub idempotency_retention: Duration,
    /// How many replies are kept.
    pub idempotency_keys: usize,
    /// How many bytes of them.
    #[serde(with = "size")]
    pub idempotency_bytes: usize,
}

impl Default for PublishSettings {
    fn default() -> Self {
        Self {
            refuse_when_behind: true,
            idempotency_retention: Duration::from_secs(3600),
            idempotency_keys: 10_000,
            idempotency_bytes: 16 << 20,
        }
    }
}

/// `[delivery]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliverySettings {
    /// Bytes of the newest events that all subscribers share in memory.
    #[serde(with = "size")]
    pub tail_bytes: usize,
    /// Silence after which a stream gets a heartbeat.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// Time after which a stream ends and the client returns; each stream lasts 80 to 100 % of it.
    #[serde(with = "duration")]
    pub lifetime: Duration,
    /// Time after which a client that lost its stream returns.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// Further time over which the returns are spread when the gateway stops.
    #[serde(with = "duration")]
    pub retry_spread: Duration,
    /// Time without progress after which a connection that cannot be written to is given up.
    #[serde(with = "duration")]
    pub write_deadline: Duration,
    /// Whether streams on plain connections are written to directly, which costs far less than a response of actix.
    pub socket_sink: bool,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            tail_bytes: 16 << 20,
            heartbeat: Duration::from_secs(25),
            lifetime: Duration::from_secs(3600),
            retry: Duration::from_secs(2),
            retry_spread: Duration::from_secs(8),
            write_deadline: Duration::from_secs(120),
            socket_sink: true,
        }
    }
}

/// `[iframe]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IframeSettings {
    /// Bytes that the head of the document has at least, because browsers wait for some before they run scripts.
    #[serde(with = "size")]
    pub padding: usize,
    /// Bytes after which the document is replaced by a fresh one.
    #[serde(with = "size")]
    pub recycle_after: usize,
}

impl Default for IframeSettings {
    fn default() -> Self {
        Self { padding: 2048, recycle_after: 4 << 20 }
    }
}

/// `[poll]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PollSettings {
    /// Time that a poll waits for an event if it does not say how long.
    #[serde(with = "duration")]
    pub wait: Duration,
    /// The longest time that a poll may ask to wait.
    #[serde(with = "duration")]
    pub max_wait: Duration,
    /// Events in one reply.
    pub batch_events: usize,
    /// Bytes of events in one reply; one event is always sent whole.
    #[serde(with = "size")]
    pub batch_bytes: usize,
    /// Time between two polls during which their session still counts as a subscriber.
    #[serde(with = "duration")]
    pub session_lease: Duration,
    /// Whether `callback` wraps the reply in a function call (JSONP).
    pub jsonp: bool,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(20),
            max_wait: Duration::from_secs(60),
            batch_events: 100,
            batch_bytes: 256 << 10,
            session_lease: Duration::from_secs(30),
            jsonp: false,
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Bytes of a request's body.
    #[serde(with = "size")]
    pub body_bytes: usize,
    /// Bytes of memory that the bodies of requests take while they arrive, all together.
    #[serde(with = "size")]
    pub bodies_bytes: usize,
    /// The same of requests from one address. Loopback addresses are not counted.
    #[serde(with = "size")]
    pub bodies_bytes_per_address: usize,
    /// Updates in one request.
    pub updates_per_request: usize,
    /// Topics of one update.
    pub topics_per_update: usize,
    /// Client keys that one update may except.
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
    /// Matchers of one subscription or token.
    pub matchers: usize,
    /// What one pattern or template may cost to match.
    pub matcher_cost: usize,
    /// What the patterns and templates of one subscription or token may cost to match.
    pub matchers_cost: usize,
    /// What the patterns and templates of the subscriptions from one address may cost to match. Loopback addresses are not
    /// counted.
    pub matchers_cost_per_address: usize,
    /// What the patterns and templates of all subscriptions may cost to match.
    pub matchers_total_cost: usize,
    /// Bytes of the matchers of all subscriptions, beyond 1 KiB for each.
    #[serde(with = "size")]
    pub matchers_bytes: usize,
    /// The same of subscriptions from one address.
    #[serde(with = "size")]
    pub matchers_bytes_per_address: usize,
    /// Events that `last` may ask for.
    pub backlog: usize,
    /// Events that a search for those looks at.
    pub search_events: usize,
    /// Subscribers in all; fewer if the system has not as many descriptors.
    pub subscribers: usize,
    /// Subscribers from one address, or from one IPv6 network of 64 bits. Loopback addresses are not counted.
    pub subscribers_per_address: usize,
    /// Connections from one address, or from one IPv6 network of 64 bits, beside its streams. Loopback addresses and
    /// trusted proxies may have any number.
    pub connections_per_address: usize,
    /// Streams of HTTP/2 at once on one connection: its requests under way, event streams among them.
    pub streams_per_connection: u32,
    /// Subscribers without a token where one is needed: they watch jobs whose ids they know.
    pub strangers: usize,
    /// How an event stream is refused that there is no room for.
    pub refusal: Refusal,
}

/// How an event stream is refused that there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// With 429 or 503, after which a browser's `EventSource` gives up for good.
    Status,
    /// With an empty stream that says when to return.
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

/// `[ops]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpsSettings {
    /// Addresses that serve `/metrics` and `/health/…` and nothing else, to anyone who reaches them.
    #[serde(with = "addresses")]
    pub listen: Vec<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// What is logged, in the syntax of `tracing` filters.
    pub filter: String,
    /// As lines for people or as JSON.
    pub format: LogFormat,
    /// Lines a second for refused requests. The next line says how many were left out.
    pub refusals_per_second: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            filter: "warn,tidegate=info,actix_http=off".to_owned(),
            format: LogFormat::Text,
            refusals_per_second: 50,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// Checks what no single setting can tell, such as an address that is open to everybody without having been
    /// declared so. [`load`] has done this already.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn check(&self) -> Result<(), SettingsError> {
        check::check(self)
    }
}

impl Settings {
    /// Whether clients of the old dialect of Mercure are understood (`mercure.compat`).
    #[must_use]
    pub fn speaks_old_dialect(&self) -> bool {
        match self.mercure.compat {
            Compat::Both => true,
            Compat::ModernOnly => false,
            Compat::Auto => {
                let has_shared_key =
                    self.auth.publisher().is_some() || self.auth.subscriber().is_some();
                has_shared_key || self.auth.is_development()
            }
        }
    }

    /// What an operator may not have meant, in sentences; nothing of it keeps the gateway from starting.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = check::weak_keys(self).unwrap_or_default();
        if !self.auth.has_publishers() {
            doubts.push(
                "nothing can be published over HTTP: auth.publisher_key is not set".to_owned(),
            );
        }
        doubts
    }
}

impl LimitSettings {
    /// The bounds of the matchers of one subscription or token.
    #[must_use]
    pub fn matcher_limits(&self) -> MatcherLimits {
        MatcherLimits {
            matchers: self.matchers,
            bytes: self.topic_bytes,
            cost: self.matcher_cost,
            cost_of_set: self.matchers_cost,
            cost_of_all: self.matchers_total_cost,
        }
    }
}

impl ServerSettings {
    /// The hub's own address, which relative topics are resolved against. Of an unknown authority only the path is
    /// ever looked at.
    #[must_use]
    pub fn hub_url(&self) -> Url {
        let local = || Url::parse("http://localhost/").expect("a valid address");
        let mut url = self.public_url.clone().unwrap_or_else(local);
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/.well-known/mercure"));
        url
    }

    /// Whether an address is one of a proxy whose word on the client's address counts.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}
