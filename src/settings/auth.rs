//! `[auth]`: whose tokens count, and what holds without one.

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
    /// Whether subscribers without a token get public events.
    pub anonymous: bool,
    /// The key of publishers' tokens: a shared secret, or a public key as PEM.
    pub publisher_key: Secret,
    /// The same in a file.
    pub publisher_key_file: PathBuf,
    /// The key of subscribers' tokens.
    pub subscriber_key: Secret,
    /// The same in a file.
    pub subscriber_key_file: PathBuf,
    /// How tokens are signed with these keys.
    pub algorithm: Algorithm,
    /// The same for publishers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher_algorithm: Option<Algorithm>,
    /// The same for subscribers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber_algorithm: Option<Algorithm>,
    /// What the audience of a token may be, besides the address of the hub.
    pub audiences: Vec<String>,
    /// The cookie that may hold a token; empty for none.
    pub cookie: String,
    /// Origins whose pages may write with a cookie, besides the gateway's own.
    pub publish_origins: Vec<String>,
    /// Bytes of a token.
    #[serde(with = "size")]
    pub token_bytes: usize,
    /// The shortest time between two requests for the same keys.
    #[serde(with = "duration")]
    pub jwks_interval: Duration,
    /// How long a key set is used while its server is away.
    #[serde(with = "duration")]
    pub jwks_max_age: Duration,
    /// Who else may issue tokens.
    pub issuers: Vec<IssuerSettings>,
}

/// `[[auth.issuers]]`: an issuer of tokens as draft-08 has them. One without keys of its own uses those of `[auth]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    /// What `iss` is in its tokens, to the letter.
    pub name: String,
    /// What its tokens for publishers are verified with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<KeySettings>,
    /// What its tokens for subscribers are verified with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<KeySettings>,
}

/// A key, or the address of a set of keys, and the algorithms that it is good for.
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
    /// How tokens are signed; empty for `auth.algorithm`, or for ES256, RS256 and EdDSA with a key set.
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
    /// Whether nobody could have a token, so that everybody may do everything.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.publisher().is_none() && self.subscriber().is_none() && self.issuers.is_empty()
    }

    /// Whether a request to publish over HTTP could be granted.
    #[must_use]
    pub fn has_publishers(&self) -> bool {
        self.is_development()
            || self.publisher().is_some()
            || self.issuers.iter().any(|it| it.publisher.is_some())
    }

    /// The key for publishers, if there is one.
    #[must_use]
    pub fn publisher(&self) -> Option<KeySettings> {
        let algorithm = self.publisher_algorithm.unwrap_or(self.algorithm);
        key(&self.publisher_key, &self.publisher_key_file, algorithm)
    }

    /// The key for subscribers, if there is one.
    #[must_use]
    pub fn subscriber(&self) -> Option<KeySettings> {
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

/// `[mercure]`: which dialects of the protocol are spoken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MercureSettings {
    /// Which dialects are understood.
    pub compat: Compat,
    /// Claims that tokens of the old dialect have to have as well, and which are then checked.
    pub old_token_claims: Vec<OldClaim>,
    /// What a subscriber gets whose cursor is not known.
    pub unknown_ids: UnknownIds,
    /// Whether it is told who subscribes to what: by a list, and by events.
    pub subscriptions: bool,
    /// How long a subscriber that is gone may take to come back before its leave is told.
    #[serde(with = "duration")]
    pub leave_grace: Duration,
    /// Subscriptions on the list.
    pub max_subscriptions: usize,
    /// Those of them from one address. Loopback addresses are not counted.
    pub max_subscriptions_per_address: usize,
    /// Events of subscriptions kept, beside all others.
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

/// A claim that the old dialect does not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OldClaim {
    /// Until when the token is good.
    Exp,
    /// For whom it is: the same audiences as for other tokens.
    Aud,
    /// Who has issued it: one of `auth.issuers`.
    Iss,
}

/// The dialects of Mercure that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// Both where old clients can have tokens: in development mode and with a key of `[auth]`. With issuers alone draft-08.
    #[default]
    Auto,
    /// Draft-08, and draft-07 for old clients.
    Both,
    /// Draft-08 alone.
    ModernOnly,
}

/// What follows a cursor that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownIds {
    /// Everything that the history still has.
    #[default]
    Replay,
    /// Nothing but what comes from now on.
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
}
