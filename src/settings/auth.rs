//! `[auth]`: the keys and issuers of access tokens, and access without one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    secret::Secret,
    units::{duration, optional_url, size},
};

/// `[auth]`. Without keys and issuers the gateway is in development mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Whether subscribers without an access token receive public events.
    pub anonymous: bool,
    /// The key that verifies publishers' access tokens: a shared secret, or a public key as PEM.
    pub publisher_key: Secret,
    /// The same in a file.
    pub publisher_key_file: PathBuf,
    /// The key that verifies subscribers' access tokens.
    pub subscriber_key: Secret,
    /// The same in a file.
    pub subscriber_key_file: PathBuf,
    /// The signature algorithm of these keys.
    pub algorithm: Algorithm,
    /// The same for publishers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher_algorithm: Option<Algorithm>,
    /// The same for subscribers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber_algorithm: Option<Algorithm>,
    /// Accepted audiences of an access token, besides the address of the hub.
    pub audiences: Vec<String>,
    /// The cookie that may contain an access token; empty for none.
    pub cookie: String,
    /// Origins whose pages may write with a cookie, besides the gateway's own.
    pub publish_origins: Vec<String>,
    /// Bytes of an access token.
    #[serde(with = "size")]
    pub token_bytes: usize,
    /// The shortest time between two requests for the same key set.
    #[serde(with = "duration")]
    pub jwks_interval: Duration,
    /// How long a key set is used while its server is unreachable.
    #[serde(with = "duration")]
    pub jwks_max_age: Duration,
    /// Further issuers of access tokens.
    pub issuers: Vec<IssuerSettings>,
}

/// `[[auth.issuers]]`: an issuer of draft-08 access tokens. Without keys of its own it uses those
/// of `[auth]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    /// The exact value of `iss` in its access tokens.
    pub name: String,
    /// The key for its publishers' access tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<KeySettings>,
    /// The key for its subscribers' access tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<KeySettings>,
}

/// A key, or the address of a key set, and the algorithms it may be used with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// A shared secret, or a public key as PEM.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub key: Secret,
    /// The same in a file.
    #[serde(skip_serializing_if = "is_empty")]
    pub key_file: PathBuf,
    /// The address of a JSON Web Key Set.
    #[serde(with = "optional_url", skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<Url>,
    /// Signature algorithms. If empty: `auth.algorithm`, or ES256, RS256 and EdDSA with a key set.
    pub algorithms: Vec<Algorithm>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            anonymous: false,
            publisher_key: Secret::default(),
            publisher_key_file: PathBuf::new(),
            subscriber_key: Secret::default(),
            subscriber_key_file: PathBuf::new(),
            algorithm: Algorithm::HS256,
            publisher_algorithm: None,
            subscriber_algorithm: None,
            audiences: Vec::new(),
            cookie: "__Secure-mercure_access_token".to_owned(),
            publish_origins: Vec::new(),
            token_bytes: 8 << 10,
            jwks_interval: Duration::from_secs(30),
            jwks_max_age: Duration::from_secs(24 * 3600),
            issuers: Vec::new(),
        }
    }
}

impl AuthSettings {
    /// Whether no access token could be valid, so that every client may do everything.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.publisher().is_none() && self.subscriber().is_none() && self.issuers.is_empty()
    }

    /// Whether browsers store and send the cookie over HTTPS only, because of its prefix (RFC
    /// 6265bis, section 4.1.3).
    #[must_use]
    pub(crate) fn needs_secure_cookie(&self) -> bool {
        ["__Secure-", "__Host-"].iter().any(|it| self.cookie.starts_with(it))
    }

    /// Whether any request to publish over HTTP could be permitted.
    #[must_use]
    pub(crate) fn has_publishers(&self) -> bool {
        self.is_development()
            || self.publisher().is_some()
            || self.issuers.iter().any(|it| it.publisher.is_some())
    }

    /// The key for publishers, if there is one.
    #[must_use]
    pub(crate) fn publisher(&self) -> Option<KeySettings> {
        let algorithm = self.publisher_algorithm.unwrap_or(self.algorithm);
        key(&self.publisher_key, &self.publisher_key_file, algorithm)
    }

    /// The key for subscribers, if there is one.
    #[must_use]
    pub(crate) fn subscriber(&self) -> Option<KeySettings> {
        let algorithm = self.subscriber_algorithm.unwrap_or(self.algorithm);
        key(&self.subscriber_key, &self.subscriber_key_file, algorithm)
    }
}

fn key(key: &Secret, file: &Path, algorithm: Algorithm) -> Option<KeySettings> {
    let is_given = !key.is_empty() || !is_empty(file);
    is_given.then(|| KeySettings {
        key: key.clone(),
        key_file: file.to_owned(),
        jwks_url: None,
        algorithms: vec![algorithm],
    })
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// `[mercure]`: the supported dialects of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MercureSettings {
    /// The supported dialects.
    pub compat: Compat,
    /// Claims that are also required and checked in access tokens of the old dialect.
    pub old_token_claims: Vec<OldClaim>,
    /// What a subscriber with an unknown cursor receives.
    pub unknown_ids: UnknownIds,
    /// Whether subscriptions are announced: by a list, and by events.
    pub subscriptions: bool,
    /// How long a disconnected subscriber may take to return before its leave is announced.
    #[serde(with = "duration")]
    pub leave_grace: Duration,
    /// Subscriptions on the list.
    pub max_subscriptions: usize,
    /// Subscriptions on the list from one address. Loopback addresses are not counted.
    pub max_subscriptions_per_address: usize,
    /// Subscription events that are kept, in addition to all others.
    pub subscription_events: usize,
}

impl Default for MercureSettings {
    fn default() -> Self {
        Self {
            compat: Compat::default(),
            old_token_claims: Vec::new(),
            unknown_ids: UnknownIds::default(),
            subscriptions: false,
            leave_grace: Duration::ZERO,
            max_subscriptions: 200_000,
            max_subscriptions_per_address: 20_000,
            subscription_events: 10_000,
        }
    }
}

/// A claim that the old dialect does not require.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OldClaim {
    /// When the access token expires.
    Exp,
    /// Its audience, one of those accepted in other access tokens.
    Aud,
    /// Its issuer, one of `auth.issuers`.
    Iss,
}

/// The supported dialects of Mercure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// Both where old clients can have access tokens: in development mode and with a key of
    /// `[auth]`. Only draft-08 if there are only issuers.
    #[default]
    Auto,
    /// Draft-08, and draft-07 for old clients.
    Both,
    /// Draft-08 alone.
    ModernOnly,
}

/// What a subscriber with an unknown cursor receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownIds {
    /// All events that are still in the history.
    #[default]
    Replay,
    /// Only events from now on.
    None,
}

/// `[cors]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsSettings {
    /// Origins whose pages may publish, subscribe and embed the iframe.
    pub origins: Vec<String>,
    /// Whether browsers may send cookies with the requests of these pages.
    pub credentials: bool,
    /// Whether pages of loopback origins may also write in development mode.
    pub loopback_writes: bool,
}
