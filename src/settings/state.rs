//! `[state]` and `[members]`: the JSON object of a topic, and the clients that are present.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::state::StateOptions;

use super::{
    Settings,
    units::{duration, size},
};

/// `[state]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateSettings {
    /// Bytes of the state of one topic, as JSON.
    #[serde(with = "size")]
    pub document_bytes: usize,
    /// Bytes of one patch, as JSON.
    #[serde(with = "size")]
    pub patch_bytes: usize,
    /// Names at the top level of one state.
    pub names: usize,
    /// Levels of objects and arrays in one state.
    pub depth: usize,
    /// Bytes of one name, at any level.
    #[serde(with = "size")]
    pub name_bytes: usize,
    /// Topics that have state or members.
    pub documents: usize,
    /// Memory for the state and the members of all topics, in bytes.
    #[serde(with = "size")]
    pub bytes: usize,
}

/// `[members]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberSettings {
    /// Bytes of what one client says of itself, as JSON.
    #[serde(with = "size")]
    pub bytes: usize,
    /// The least time between two changes of the members of one topic. Later ones are gathered.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Members of one topic above which only their number is told.
    pub listed: usize,
}

impl Default for StateSettings {
    fn default() -> Self {
        let StateOptions {
            document_bytes,
            patch_bytes,
            names,
            depth,
            name_bytes,
            documents,
            bytes,
            ..
        } = StateOptions::default();
        Self { document_bytes, patch_bytes, names, depth, name_bytes, documents, bytes }
    }
}

impl Default for MemberSettings {
    fn default() -> Self {
        let StateOptions { member_bytes, interval, listed, .. } = StateOptions::default();
        Self { bytes: member_bytes, interval, listed }
    }
}

impl StateSettings {
    /// The most levels that the parser of JSON descends.
    const DEEPEST: usize = 100;

    /// The longest name, which is part of a key in the store.
    const LONGEST_NAME: usize = 4096;

    /// Checks its values. Returns what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("state.document_bytes", self.document_bytes),
            ("state.patch_bytes", self.patch_bytes),
            ("state.depth", self.depth),
        ] {
            if value == 0 {
                return Err(format!("{key} is 0; it has to be at least 1"));
            }
        }
        if Self::DEEPEST < self.depth {
            return Err(format!("state.depth is more than {}", Self::DEEPEST));
        }
        if Self::LONGEST_NAME < self.name_bytes {
            return Err(format!("state.name_bytes is more than {}", Self::LONGEST_NAME));
        }
        Ok(())
    }
}

impl Settings {
    /// The limits of state and members. The same terms apply to all topics.
    pub(crate) fn state_options(&self) -> StateOptions {
        let (state, members) = (&self.state, &self.members);
        StateOptions {
            document_bytes: state.document_bytes,
            patch_bytes: state.patch_bytes,
            names: state.names,
            depth: state.depth,
            name_bytes: state.name_bytes,
            documents: state.documents,
            bytes: state.bytes,
            member_bytes: members.bytes,
            interval: members.interval,
            listed: members.listed,
            ..StateOptions::default()
        }
    }
}
