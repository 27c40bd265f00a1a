//! Access tokens of both dialects, and the settings of a gateway that trusts them.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::Gateway;

const PUBLISHER_KEY: &str = "a-key-for-publishers-of-32-bytes";
const SUBSCRIBER_KEY: &str = "a-key-for-subscribers-of-32-byte";
const HUB: &str = "https://hub.example/.well-known/mercure";
const ISSUER: &str = "https://issuer.example";
const DETAIL: &str = "https://mercure.rocks/authorization-detail";

/// Lifetime of an access token in seconds, longer than any test.
const LIFETIME: i64 = 3600;

/// What an access token grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Publish,
    Subscribe,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }

    fn sign(self, kind: &str, claims: &Value) -> String {
        let key = match self {
            Self::Publish => PUBLISHER_KEY,
            Self::Subscribe => SUBSCRIBER_KEY,
        };
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(kind.to_owned());
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(key.as_bytes()))
            .expect("a token")
    }
}

/// An access token of the old dialect that grants one topic.
pub(crate) fn old(role: Role, topic: &str) -> String {
    role.sign("JWT", &json!({ "mercure": { role.as_str(): [topic] } }))
}

/// An access token (draft-08) that grants one topic.
pub(crate) fn modern(role: Role, topic: &str) -> String {
    short_lived(role, topic, LIFETIME)
}

/// An access token that expires in this many seconds, or up to one less.
pub(crate) fn short_lived(role: Role, topic: &str, seconds: i64) -> String {
    let topics = [json!({ "match": topic })];
    let details = [json!({ "type": DETAIL, "actions": [role.as_str()], "topics": topics })];
    let expires = jiff::Timestamp::now().as_second() + seconds;
    let claims =
        json!({ "iss": ISSUER, "aud": HUB, "exp": expires, "authorization_details": details });
    role.sign("at+jwt", &claims)
}

impl Gateway {
    /// Starts a gateway with keys. Subscribers without an access token receive public events.
    pub(crate) async fn start_guarded() -> Self {
        let issuer = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = format!("[[auth.issuers]]\nname = '{ISSUER}'\n");
        std::fs::write(issuer.path(), text).expect("a writable file");
        Self::start(&[
            ("CONFIG", issuer.path().to_str().expect("text")),
            ("AUTH__PUBLISHER_KEY", PUBLISHER_KEY),
            ("AUTH__SUBSCRIBER_KEY", SUBSCRIBER_KEY),
            ("AUTH__ANONYMOUS", "true"),
            ("SERVER__PUBLIC_URL", "https://hub.example"),
        ])
        .await
    }
}
