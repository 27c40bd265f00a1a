//! Who publishes, as far as the gateway has to tell publishers apart.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Claims;

/// A publisher: the issuer and the subject of its access token, or without them the key that the token was signed with.
/// Without keys everything that publishes is one publisher.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity([u8; 16]);

impl Identity {
    /// Everything that publishes in development mode.
    pub(super) fn development() -> Self {
        Self::of("development", "", "")
    }

    /// The bearer of a token. `has_own_keys` says whether its issuer has keys of its own, and not those of `[auth]`.
    pub(super) fn of_claims(claims: &Claims, has_own_keys: bool) -> Self {
        let text = |name: &str| claims.all().get(name).and_then(Value::as_str);
        match (text("iss"), text("sub")) {
            (issuer, Some(subject)) => Self::of("subject", issuer.unwrap_or_default(), subject),
            (Some(issuer), None) if has_own_keys => Self::of("issuer", issuer, ""),
            (_, None) => Self::of("gateway", "", ""),
        }
    }

    /// `kind` keeps apart what is known by different things, such as a subject and an issuer.
    fn of(kind: &str, issuer: &str, subject: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [kind, issuer, subject] {
            // An issuer may hold any character, so that no separator would do.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut identity = [0; 16];
        identity.copy_from_slice(&digest[..16]);
        Self(identity)
    }

    /// A key of this publisher's, which no key of another one equals.
    pub(crate) fn scope(&self, key: &str) -> String {
        let mut scoped = String::with_capacity(2 * self.0.len() + 1 + key.len());
        for byte in self.0 {
            // Writing to a string does not fail.
            let _ = write!(scoped, "{byte:02x}");
        }
        scoped.push(':');
        scoped.push_str(key);
        scoped
    }
}
