//! Active subscriptions: a list over HTTP, and an event for each join and leave (draft-08, "Active
//! subscriptions").
//!
//! Subscribers are listed until their [`Presence`] is dropped. Each change is announced as a
//! private event of the hub, in order. A separate thread announces, so that no subscriber waits for
//! it. Off by default; then there is neither list nor thread.

mod announce;
pub mod name;
mod presence;
mod recover;
mod registry;
mod update;

use std::{io, time::Duration};

pub use self::{
    presence::{Newcomer, Presence, Signs},
    registry::{Full, Listed, Registry},
    update::document,
};
use crate::hub::Hub;

/// The public paths of subscriptions.
#[derive(Debug, Clone)]
pub struct Names {
    /// The path of the list.
    pub root: String,
    /// Whether subscriptions are also announced under the names of the old dialect.
    pub has_old: bool,
}

impl Names {
    /// The path of the subscription with this key.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }
}

/// Starts the list and the thread that announces its changes. The list has at most `capacity`
/// subscriptions. A subscriber that returns within `grace` has not left.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(hub: &Hub, names: Names, capacity: usize, grace: Duration) -> io::Result<Registry> {
    let registry = Registry::new(capacity, grace);
    announce::start(registry.core(), hub, names, capacity)?;
    Ok(registry)
}
