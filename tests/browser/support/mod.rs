//! The parts of the tests: the gateway's binary, a browser, subscribing pages, and another site.

mod browser;
mod cloner;
mod gateway;
mod page;
mod site;
mod worker;

use std::time::Duration;

use tidegate_testkit::deadline::{found, within};

pub(crate) use self::{
    browser::{in_browser, in_browser_that_trusts_every_certificate, in_browser_without_scripts},
    cloner::Cloner,
    gateway::Gateway,
    page::{Heard, Page},
    site::serve_page,
    worker::Work,
};

/// How long a condition may take to become true. Only a failing test waits so long. Browsers need
/// more time than gateways.
const PATIENCE: Duration = Duration::from_secs(90);

/// Checks until there is a result.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, found(look)).await
}
