//! Who subscribes to what: a list over HTTP, and an event whenever somebody comes or goes (draft-08, "Active
//! subscriptions").
//!
//! Newcomers come in and are listed; dropping their [`Presence`] takes them off. Each change is announced as a private
//! event of the hub, in the order in which they happen, by a thread of its own, so that nobody who comes or goes waits.
//! Off by default; then nothing here exists.

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

/// Where subscriptions are, as everybody sees it.
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

    /// The path of what is listed under `key`.
    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }
}

/// Everything that is told of subscriptions.
pub(crate) fn interest(settings: &Settings) -> Interest {
    recover::interest(&Names::new(settings))
}

/// Starts the list and the thread that announces its changes, if the settings want it.
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
