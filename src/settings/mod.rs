//! The operator's choices: typed settings with defaults, checked once as a whole.
//!
//! [`Settings`] are built from a file, the environment and flags. They are complete and valid, and
//! are never read again.

mod aliases;
mod auth;
mod check;
mod clients;
mod cluster;
mod error;
mod history;
mod jobs;
mod limits;
mod load;
pub(crate) mod origins;
mod place;
mod secret;
mod state;
mod units;
mod wrong;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tidegate_core::{history::ReplyLimits, subscriptions::Names};
use url::Url;

pub use self::auth::{
    AuthSettings, Compat, CorsSettings, IssuerSettings, KeySettings, MercureSettings, OldClaim,
    UnknownIds,
};
pub use self::clients::{ClientSettings, TopicSettings, Who};
pub use self::cluster::ClusterSettings;
pub use self::error::SettingsError;
pub use self::history::{DurabilityKind, HistorySettings, RuleSettings, StoreKind};
pub use self::jobs::{Answers, JobSettings, JobTypeSettings, WildcardGrants};
pub use self::limits::{LimitSettings, Refusal};
pub use self::load::{Source, load};
pub use self::secret::Secret;
pub use self::state::{MemberSettings, StateSettings};
use self::units::{addresses, duration, networks, optional_url, size};

/// All settings. `tidegate.toml` in the repository documents each.
///
/// A program sets what differs from the defaults:
///
/// ```
/// use tidegate::settings::{HistorySettings, ServerSettings, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listen = vec!["127.0.0.1:8080".parse()?];
/// let settings = Settings {
///     server: ServerSettings { listen, ..ServerSettings::default() },
///     history: HistorySettings::in_memory(),
///     ..Settings::default()
/// };
/// settings.check()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Addresses, proxies and timeouts.
    pub server: ServerSettings,
    /// Addresses and certificates for TLS.
    pub tls: TlsSettings,
    /// How updates are accepted.
    pub publish: PublishSettings,
    /// What is kept, and for how long.
    pub history: HistorySettings,
    /// The log in Redis that several gateways share.
    pub cluster: ClusterSettings,
    /// How events are delivered.
    pub delivery: DeliverySettings,
    /// The forever iframe.
    pub iframe: IframeSettings,
    /// Long poll.
    pub poll: PollSettings,
    /// Access rules: keys, issuers, and access without an access token.
    pub auth: AuthSettings,
    /// The supported dialects of Mercure.
    pub mercure: MercureSettings,
    /// Other origins that may use the gateway from a browser.
    pub cors: CorsSettings,
    /// Long jobs.
    pub jobs: JobSettings,
    /// The state of topics.
    pub state: StateSettings,
    /// The clients that are present on topics.
    pub members: MemberSettings,
    /// Clients: pages and programs that join topics and act.
    pub clients: ClientSettings,
    /// What clients may do with topics.
    pub topics: Vec<TopicSettings>,
    /// Bounds of requests.
    pub limits: LimitSettings,
    /// Addresses for operators.
    pub ops: OpsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Addresses to listen on. [`load`] resolves host names.
    #[serde(with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// The address that browsers use for the gateway, if it differs from the listening address.
    #[serde(with = "optional_url")]
    pub public_url: Option<Url>,
    /// Proxies whose headers name the client's address, and the scheme and host that it used.
    #[serde(with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header that is trusted from these proxies.
    pub forwarded_header: ForwardedHeader,
    /// Further host names that requests may use.
    pub hosts: Vec<String>,
    /// Allows every client to publish and subscribe on addresses other than loopback.
    pub open_to_everybody: bool,
    /// Threads that serve requests; 0 for one per core.
    pub workers: usize,
    /// Connections waiting to be accepted.
    pub backlog: u32,
    /// Time for the head of a request to arrive.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Time for the body of a request to arrive.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// Time an idle connection stays open for the next request.
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

/// The header in which a proxy names its client.
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
    /// File with the certificate and its chain (PEM).
    pub certificate: PathBuf,
    /// File with the certificate's private key (PEM).
    pub key: PathBuf,
}

/// `[publish]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishSettings {
    /// Refuse updates with 503 while delivery lags by more than half the tail.
    pub refuse_when_behind: bool,
    /// How long a reply is kept for requests with the same `Idempotency-Key`.
    #[serde(with = "duration")]
    pub idempotency_retention: Duration,
    /// The most replies that are kept.
    pub idempotency_keys: usize,
    /// The most bytes of replies that are kept.
    #[serde(with = "size")]
    pub idempotency_bytes: usize,
}

impl PublishSettings {
    /// The limits of the replies that are kept.
    pub(crate) fn reply_limits(&self) -> ReplyLimits {
        ReplyLimits {
            age: self.idempotency_retention,
            count: self.idempotency_keys,
            bytes: self.idempotency_bytes,
        }
    }
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
    /// Bytes of the newest events, which all subscribers share in memory.
    #[serde(with = "size")]
    pub tail_bytes: usize,
    /// Silence after which a stream gets a heartbeat.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// Time after which a stream ends and its client reconnects. Streams last 80 to 100 % of it.
    #[serde(with = "duration")]
    pub lifetime: Duration,
    /// Time after which a client that lost its stream reconnects.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// Additional time over which reconnections are spread when the gateway stops.
    #[serde(with = "duration")]
    pub retry_spread: Duration,
    /// Time without progress after which a blocked connection is closed.
    #[serde(with = "duration")]
    pub write_deadline: Duration,
    /// Whether plain connections are written to directly, far cheaper than an actix response.
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
    /// Least bytes of the document's head: browsers wait for some before they run scripts.
    #[serde(with = "size")]
    pub padding: usize,
    /// Bytes after which the document is replaced by a new one.
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
    /// Time that a poll waits for an event by default.
    #[serde(with = "duration")]
    pub wait: Duration,
    /// The longest wait that a poll may request.
    #[serde(with = "duration")]
    pub max_wait: Duration,
    /// The most events in one reply.
    pub batch_events: usize,
    /// The most bytes of events in one reply. At least one event is sent, and always whole.
    #[serde(with = "size")]
    pub batch_bytes: usize,
    /// Time after a poll during which its session still counts as a subscriber.
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

/// `[ops]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpsSettings {
    /// Addresses that serve only `/metrics` and `/health/…`, to every peer that reaches them.
    #[serde(with = "addresses")]
    pub listen: Vec<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// The log filter, in the syntax of `tracing` filters.
    pub filter: String,
    /// Text or JSON.
    pub format: LogFormat,
    /// Lines a second for refused requests. The next line says how many were omitted.
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
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

impl Settings {
    /// Checks rules that concern several settings, such as an address that is open to all without
    /// `server.open_to_everybody`. [`load`] has called this already.
    ///
    /// # Errors
    /// The first contradiction or unusable value.
    pub fn check(&self) -> Result<(), SettingsError> {
        check::check(self)
    }
}

impl Settings {
    /// Whether clients of the old Mercure dialect are supported (`mercure.compat`).
    #[must_use]
    pub(crate) fn speaks_old_dialect(&self) -> bool {
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

    /// The names of subscriptions, as lists and announcements show them.
    pub(crate) fn subscription_names(&self) -> Names {
        Names {
            root: format!("{}/subscriptions", self.server.hub_url().path()),
            has_old: self.speaks_old_dialect(),
        }
    }

    /// The accepted audiences, which only the operator can name. A client may send any `Host`, and
    /// through a proxy any `X-Forwarded-Host`, so the request does not count.
    pub(crate) fn audiences(&self) -> Vec<String> {
        let own = self.server.public_url.is_some().then(|| self.server.hub_url().into());
        self.auth.audiences.iter().cloned().chain(own).collect()
    }

    /// Every address that accepts clients' requests.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &SocketAddr> {
        self.server.listen.iter().chain(&self.tls.listen)
    }
}

impl ServerSettings {
    /// The hub's own address, against which relative topics are resolved. If the authority is
    /// unknown, it is `localhost`, and only the path is ever used.
    #[must_use]
    pub fn hub_url(&self) -> Url {
        let local = || Url::parse("http://localhost/").expect("a constant that is an absolute URL");
        let mut url = self.public_url.clone().unwrap_or_else(local);
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/.well-known/mercure"));
        url
    }

    /// Whether the address is one of a trusted proxy, whose header names the client's address.
    #[must_use]
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}
