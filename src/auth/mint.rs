//! Creation of access tokens, for tests and operators, with the keys of the settings.

use std::{fs, path::PathBuf, time::Duration};

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Value, json};
use tidegate_core::matching::MatcherKind;

use super::{Dialect, Role, grants::DETAIL};
use crate::settings::{IssuerSettings, KeySettings, Settings};

/// The contents of a new access token.
#[derive(Debug, Clone)]
pub struct Order {
    /// What its bearer may publish under, as matchers.
    pub publish: Vec<String>,
    /// The private events that its bearer may receive, as matchers.
    pub subscribe: Vec<String>,
    /// The type of these matchers, in the new dialect.
    pub kind: MatcherKind,
    /// Its dialect. The default is draft-08 if the settings or `issuer` name an issuer, else
    /// draft-07.
    pub dialect: Option<Dialect>,
    /// Its issuer. The default is the first one of the settings.
    pub issuer: Option<String>,
    /// Its audience. The default is the hub's address, or the first audience of the settings.
    pub audience: Option<String>,
    /// Time until it expires.
    pub lifetime: Duration,
    /// A private key as PEM, for algorithms that need one.
    pub key_file: Option<PathBuf>,
    /// Its signature algorithm, if not that of the settings.
    pub algorithm: Option<Algorithm>,
}

impl Order {
    fn role(&self, settings: &Settings) -> Result<Role, String> {
        match (self.publish.is_empty(), self.subscribe.is_empty()) {
            (true, true) => Err("there is nothing to grant: --publish or --subscribe".to_owned()),
            (false, true) => Ok(Role::Publisher),
            (true, false) => Ok(Role::Subscriber),
            (false, false) if self.key_file.is_some() => Ok(Role::Publisher),
            (false, false) => {
                let auth = &settings.auth;
                match (auth.publisher(), auth.subscriber()) {
                    (Some(one), Some(other)) if one == other => Ok(Role::Publisher),
                    _ => {
                        Err("publishers and subscribers have different keys; make a token for each"
                            .to_owned())
                    }
                }
            }
        }
    }
}

/// Creates an access token with a key of the settings.
///
/// ```
/// use std::time::Duration;
///
/// use jiff::Timestamp;
/// use tidegate::{
///     auth::{MatcherKind, Order, mint},
///     settings::Settings,
/// };
///
/// # fn main() -> Result<(), String> {
/// let mut settings = Settings::default();
/// settings.auth.subscriber_key = "a secret of 32 bytes or more ...".into();
/// let order = Order {
///     publish: Vec::new(),
///     subscribe: vec!["https://example.com/users/1".into()],
///     kind: MatcherKind::Exact,
///     lifetime: Duration::from_secs(600),
///     dialect: None,
///     issuer: None,
///     audience: None,
///     key_file: None,
///     algorithm: None,
/// };
/// let token = mint(&settings, &order, Timestamp::now())?;
/// # assert_eq!(token.split('.').count(), 3);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Why it cannot be created, in one sentence for the operator.
pub fn mint(settings: &Settings, order: &Order, now: Timestamp) -> Result<String, String> {
    let role = order.role(settings)?;
    let issuers = &settings.auth.issuers;
    let dialect = match order.dialect {
        Some(dialect) => dialect,
        None if issuers.is_empty() && order.issuer.is_none() => Dialect::Old,
        None => Dialect::Modern,
    };
    let issuer = match &order.issuer {
        _ if dialect == Dialect::Old => None,
        Some(name) => Some(
            issuers
                .iter()
                .find(|it| it.name == *name)
                .ok_or_else(|| format!("`{name}` is not one of auth.issuers"))?,
        ),
        None => Some(issuers.first().ok_or("there are no auth.issuers")?),
    };
    let (key, algorithm) = signing_key(settings, order, role, issuer)?;
    let expires = now.as_second().saturating_add_unsigned(order.lifetime.as_secs());
    let (kind, claims) = match issuer {
        None => ("JWT", old_claims(order, now, expires)),
        Some(issuer) => ("at+jwt", modern_claims(settings, order, &issuer.name, now, expires)?),
    };
    let mut header = Header::new(algorithm);
    header.typ = Some(kind.to_owned());
    jsonwebtoken::encode(&header, &claims, &key)
        .map_err(|error| format!("the token cannot be signed: {error}"))
}

fn old_claims(order: &Order, now: Timestamp, expires: i64) -> Value {
    json!({
        "mercure": { "publish": order.publish, "subscribe": order.subscribe },
        "iat": now.as_second(),
        "exp": expires,
    })
}

fn modern_claims(
    settings: &Settings,
    order: &Order,
    issuer: &str,
    now: Timestamp,
    expires: i64,
) -> Result<Value, String> {
    let own = settings.server.public_url.is_some().then(|| settings.server.hub_url().into());
    let audience = order
        .audience
        .clone()
        .or(own)
        .or_else(|| settings.auth.audiences.first().cloned())
        .ok_or("there is no audience: give --audience, or set server.public_url")?;
    let detail = |action: &str, topics: &[String]| {
        let topics: Vec<Value> = topics
            .iter()
            .map(|it| json!({ "match": it, "match_type": order.kind.as_str() }))
            .collect();
        json!({ "type": DETAIL, "actions": [action], "topics": topics })
    };
    let details = [("publish", &order.publish), ("subscribe", &order.subscribe)];
    let details = details.into_iter().filter(|(_, topics)| !topics.is_empty());
    // RFC 9068, section 2.2, requires all claims but the details.
    Ok(json!({
        "iss": issuer,
        "aud": audience,
        "sub": issuer,
        "client_id": issuer,
        "iat": now.as_second(),
        "exp": expires,
        "jti": uuid::Uuid::new_v4().to_string(),
        "authorization_details":
            details.map(|(action, topics)| detail(action, topics)).collect::<Vec<Value>>(),
    }))
}

fn signing_key(
    settings: &Settings,
    order: &Order,
    role: Role,
    issuer: Option<&IssuerSettings>,
) -> Result<(EncodingKey, Algorithm), String> {
    let auth = &settings.auth;
    let own = match role {
        Role::Publisher => auth.publisher(),
        Role::Subscriber => auth.subscriber(),
    };
    let keys = match (issuer, role) {
        (Some(IssuerSettings { publisher: None, subscriber: None, .. }) | None, _) => own,
        (Some(issuer), Role::Publisher) => issuer.publisher.clone(),
        (Some(issuer), Role::Subscriber) => issuer.subscriber.clone(),
    };
    let named = keys.as_ref().and_then(|it| it.algorithms.first().copied());
    let algorithm = order.algorithm.or(named).unwrap_or(auth.algorithm);
    if let Some(file) = &order.key_file {
        let text = read(file)?;
        let key = match algorithm.family() {
            AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(text.trim_end().as_bytes())),
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(text.as_bytes()),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(text.as_bytes()),
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(text.as_bytes()),
        };
        let key = key.map_err(|error| format!("{}: {error}", file.display()))?;
        return Ok((key, algorithm));
    }
    // For these algorithms the settings have public keys only, which cannot sign.
    if algorithm.family() != AlgorithmFamily::Hmac {
        return Err(format!("{algorithm:?} needs the private key: --key-file"));
    }
    let KeySettings { key, key_file, .. } = keys.ok_or_else(|| {
        let setting = match role {
            Role::Publisher => "auth.publisher_key",
            Role::Subscriber => "auth.subscriber_key",
        };
        format!("there is no key to sign with; set {setting}, or give --key-file")
    })?;
    let secret = if key.is_empty() { read(&key_file)? } else { key.reveal().to_owned() };
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.trim().is_empty() {
        return Err(format!("the key file {} is empty", key_file.display()));
    }
    Ok((EncodingKey::from_secret(secret.as_bytes()), algorithm))
}

fn read(file: &PathBuf) -> Result<String, String> {
    fs::read_to_string(file)
        .map_err(|error| format!("the file {} cannot be read: {error}", file.display()))
}
