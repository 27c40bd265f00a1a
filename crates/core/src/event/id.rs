//! The identifiers of an event: its position, its id, its type, and the client keys that it
//! excepts.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::text::{self, Invalid};

/// A place in the history. Positions only grow, are compared but never assumed dense, and are never
/// shown to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position before every event.
    pub const START: Self = Self(0);

    /// The position after every event.
    pub const MAX: Self = Self(u64::MAX);
}

/// The id of an event as clients see it: chosen by the publisher, or `urn:uuid:` and a random UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// The cursor for everything that the history has (draft-08, "Reconciliation").
    pub const EARLIEST: &'static str = "earliest";

    /// Parses an id chosen by a publisher.
    ///
    /// # Errors
    /// Refuses an id that is over `limit` bytes, breaks the string rule, begins or ends with a
    /// space, is `earliest`, or begins with `#`. `#` marks cursor tokens.
    pub fn parse(value: &str, limit: usize) -> Result<Self, Invalid> {
        text::check("id", value, limit)?;
        // Header values are trimmed, so a client would return a different cursor.
        if value.trim() != value {
            return Err(Invalid::Rule { field: "id", rule: "begins or ends with a space" });
        }
        if value.starts_with('#') {
            return Err(Invalid::Rule { field: "id", rule: "begins with `#`, which is reserved" });
        }
        if value == Self::EARLIEST {
            return Err(Invalid::Rule { field: "id", rule: "is `earliest`, which is reserved" });
        }
        Ok(Self(value.into()))
    }

    /// Restores an id that a history has stored.
    pub fn kept(value: &str) -> Self {
        Self(value.into())
    }

    /// Creates a random id. Ids are not ordered by time, because ids of private events may leak as
    /// cursors.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().urn().encode_lower(&mut uuid::Uuid::encode_buffer()).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of an event, which browsers use as the name of the DOM event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(Box<str>);

impl EventType {
    /// The type of the events that announce subscriptions (draft-08, "Active subscriptions").
    pub(crate) const SUBSCRIPTION: &'static str = "mercure";

    /// Parses a type chosen by a publisher.
    ///
    /// # Errors
    /// Refuses a type that is over `limit` bytes, breaks the string rule, or is reserved for the
    /// hub: `mercure`, `tidegate.…`.
    pub fn parse(value: &str, limit: usize) -> Result<Self, Invalid> {
        text::check("type", value, limit)?;
        if value == Self::SUBSCRIPTION || value.starts_with("tidegate.") {
            return Err(Invalid::Rule {
                field: "type",
                rule: "is one that only the hub itself may use",
            });
        }
        Ok(Self(value.into()))
    }

    /// Restores a type that a history has stored.
    pub fn kept(value: &str) -> Self {
        Self(value.into())
    }

    /// Creates a type for the hub's own events.
    pub(crate) fn of_hub(value: &'static str) -> Self {
        Self(value.into())
    }

    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random text that excepts a subscriber from an update. Only its hash is kept, so that a history
/// shows no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey([u8; 16]);

impl ClientKey {
    /// Bytes of a client's id: the hash of its key in base64.
    pub(super) const ID_BYTES: usize = 22;

    /// Parses a key. `field` names it in an error.
    ///
    /// # Errors
    /// Refuses a key that is empty, over `limit` bytes, or breaks the string rule.
    pub fn parse(field: &'static str, value: &str, limit: usize) -> Result<Self, Invalid> {
        if value.is_empty() {
            return Err(Invalid::Rule { field, rule: "is empty" });
        }
        text::check(field, value, limit)?;
        let digest = Sha256::digest(value.as_bytes());
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        Ok(Self(hash))
    }

    /// Restores a key that a history has stored.
    pub fn kept(hash: [u8; 16]) -> Self {
        Self(hash)
    }

    /// Returns the key with this public id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(id).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The client's public id: the hash in base64.
    #[must_use]
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The hash that a history stores.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
