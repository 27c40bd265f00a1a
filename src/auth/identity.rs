//! The identity by which publishers are told apart.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Claims;

/// A publisher: the issuer and the subject of its access token. Without a subject, it is the owner
/// of the signing key: the issuer or the gateway. Without keys all clients are one publisher.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity([u8; 16]);

impl Identity {
    /// Returns the identity of all clients in development mode.
    pub(crate) fn development() -> Self {
        Self::of("development", "", "")
    }

    /// Returns the identity of a bearer. `has_own_keys` is true if its issuer does not use the keys
    /// of `[auth]`.
    pub(crate) fn of_claims(claims: &Claims, has_own_keys: bool) -> Self {
        let text = |name: &str| claims.all().get(name).and_then(Value::as_str);
        match (text("iss"), text("sub")) {
            (issuer, Some(subject)) => Self::of("subject", issuer.unwrap_or_default(), subject),
            (Some(issuer), None) if has_own_keys => Self::of("issuer", issuer, ""),
            (_, None) => Self::of("gateway", "", ""),
        }
    }

    /// Hashes the parts. `kind` separates identities of different origin, such as a subject and an
    /// issuer.
    fn of(kind: &str, issuer: &str, subject: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [kind, issuer, subject] {
            // Length-prefixed: an issuer may contain any character, so no separator would be safe.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut identity = [0; 16];
        identity.copy_from_slice(&digest[..16]);
        Self(identity)
    }

    /// Returns a key of this publisher, which differs from every key of another publisher.
    pub(crate) fn scope(&self, key: &str) -> String {
        let mut scoped = String::with_capacity(2 * self.0.len() + 1 + key.len());
        for byte in self.0 {
            // Writing to a string never fails.
            let _ = write!(scoped, "{byte:02x}");
        }
        scoped.push(':');
        scoped.push_str(key);
        scoped
    }
}
