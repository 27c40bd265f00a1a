//! Access tokens of both dialects, valid and invalid, and settings of a gateway that trusts them.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The key of publishers.
pub const PUBLISHER_KEY: &str = "a-key-for-publishers-of-32-bytes";
/// The key of subscribers.
pub const SUBSCRIBER_KEY: &str = "a-key-for-subscribers-of-32-byte";
/// The audience of access tokens (draft-08).
pub const HUB: &str = "https://hub.example/.well-known/mercure";
/// The issuer of access tokens (draft-08).
pub const ISSUER: &str = "https://issuer.example";
/// The type of an authorization detail that grants topics.
pub const DETAIL: &str = "https://mercure.rocks/authorization-detail";

/// The lifetime of an access token in seconds, longer than any test.
pub const LIFETIME: i64 = 3600;

/// The settings of a gateway with keys for both roles. Its public URL names another host than the
/// one that tests connect to.
pub const KEYS: [(&str, &str); 3] = [
    ("AUTH__PUBLISHER_KEY", PUBLISHER_KEY),
    ("AUTH__SUBSCRIBER_KEY", SUBSCRIBER_KEY),
    ("SERVER__PUBLIC_URL", "https://hub.example"),
];

/// A file that names an issuer of draft-08 access tokens, which uses the gateway's own keys.
pub fn trusting(issuer: &str) -> tempfile::NamedTempFile {
    settings_file(&format!("[[auth.issuers]]\nname = '{issuer}'\n"))
}

/// A file with settings.
pub fn settings_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a writable file");
    file
}

/// Returns the time in `seconds` from now, in seconds since the epoch.
pub fn from_now(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_second() + seconds
}

/// Signs claims with a secret, under any header.
pub fn sign_with(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).expect("a token")
}

/// Signs claims with a secret as HS256.
pub fn sign(kind: Option<&str>, claims: &Value, secret: &str) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = kind.map(ToOwned::to_owned);
    sign_with(&header, claims, &EncodingKey::from_secret(secret.as_bytes()))
}

/// The claims of an access token (draft-08) that grants an action on matchers, written as
/// `("exact", "…")`.
pub fn modern_claims(action: &str, matchers: &[(&str, &str)]) -> Value {
    let topics: Vec<Value> =
        matchers.iter().map(|(kind, text)| json!({ "match": text, "match_type": kind })).collect();
    claims(action, &topics, LIFETIME)
}

/// The claims of an access token (draft-08) that expires in this many seconds.
fn claims(action: &str, topics: &[Value], seconds: i64) -> Value {
    json!({
        "iss": ISSUER,
        "aud": HUB,
        "exp": from_now(seconds),
        "authorization_details": [{ "type": DETAIL, "actions": [action], "topics": topics }],
    })
}

/// A publisher's access token (draft-08).
pub fn modern_publisher(matchers: &[(&str, &str)]) -> String {
    sign(Some("at+jwt"), &modern_claims("publish", matchers), PUBLISHER_KEY)
}

/// A subscriber's access token (draft-08).
pub fn modern_subscriber(matchers: &[(&str, &str)]) -> String {
    sign(Some("at+jwt"), &modern_claims("subscribe", matchers), SUBSCRIBER_KEY)
}

/// A subscriber's access token (draft-08) for one topic, with a matcher of the default type, that
/// expires in this many seconds.
pub fn expiring_subscriber(topic: &str, seconds: i64) -> String {
    let claims = claims("subscribe", &[json!({ "match": topic })], seconds);
    sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY)
}

/// A publisher's access token of the old dialect.
pub fn old_publisher(selectors: &[&str]) -> String {
    sign(Some("JWT"), &json!({ "mercure": { "publish": selectors } }), PUBLISHER_KEY)
}

/// A subscriber's access token of the old dialect.
pub fn old_subscriber(selectors: &[&str]) -> String {
    sign(Some("JWT"), &json!({ "mercure": { "subscribe": selectors } }), SUBSCRIBER_KEY)
}
