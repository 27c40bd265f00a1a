//! Active subscriptions: a list over HTTP, and an event for each join and leave (draft-08, "Active
//! subscriptions").
//!
//! Subscribers are listed until their [`Presence`] is dropped. Each change is announced as a
//! private event of the hub, in order. A separate thread announces, so that no subscriber waits for
//! it. Off by default; then there is neither list nor thread.

mod announce;
mod asked;
mod endpoint;
mod name;
mod presence;
mod recover;
mod registry;

use std::io;

pub use self::presence::Presence;
pub(crate) use self::{
    endpoint::configure,
    presence::{Newcomer, Signs},
    registry::{Full, Registry},
};
use crate::{
    hub::{Hub, Interest},
    settings::Settings,
};

/// The public paths of subscriptions.
#[derive(Debug, Clone)]
struct Names {
    /// The path of the list.
    root: String,
    has_old: bool,
}

impl Names {
    fn new(settings: &Settings) -> Self {
        Self {
            root: format!("{}/subscriptions", settings.server.hub_url().path()),
            has_old: settings.speaks_old_dialect(),
        }
    }

    /// The path of the subscription with this key.
    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }
}

/// The interest in all events about subscriptions.
pub(crate) fn interest(settings: &Settings) -> Interest {
    recover::interest(&Names::new(settings))
}

/// Starts the list and the thread that announces its changes, if they are enabled.
///
/// # Errors
/// If the thread cannot be started.
pub(crate) fn start(hub: &Hub, settings: &Settings) -> io::Result<Option<Registry>> {
    let mercure = &settings.mercure;
    if !mercure.subscriptions {
        return Ok(None);
    }
    let registry = Registry::new(mercure.max_subscriptions, mercure.leave_grace);
    announce::start(registry.inner(), hub, Names::new(settings), mercure.max_subscriptions)?;
    Ok(Some(registry))
}
