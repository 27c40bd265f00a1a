//! The names of a log's keys in Redis.

use sha2::{Digest as _, Sha256};

use crate::history::{Shelf, disk::tables::shelf_name};

/// The keys of one log. The braces keep them in one slot of a Redis Cluster.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(hub: &str) -> Self {
        Self { prefix: format!("tg:{{{hub}}}:") }
    }

    /// The key of a part of the log, such as `meta`.
    pub(super) fn of(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    /// The keys of several parts.
    pub(super) fn all(&self, parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| self.of(part)).collect()
    }

    /// The key of a shelf.
    pub(super) fn shelf(&self, shelf: Shelf) -> String {
        format!("{}r:{}", self.prefix, shelf_name(shelf))
    }

    /// The key of a reply. The key that its sender chose may be long, and secret.
    pub(super) fn reply(&self, key: &str) -> String {
        use std::fmt::Write as _;
        let mut name = format!("{}k:", self.prefix);
        for byte in &Sha256::digest(key)[..16] {
            // Writing to a string does not fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}
