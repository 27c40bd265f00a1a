//! The parts of the tests: the gateway's binary, a browser, subscribing pages, and a failing
//! network.

mod browser;
mod cloner;
mod gateway;
mod network;
mod page;
mod worker;

use std::time::{Duration, Instant};

pub(crate) use self::{
    browser::{in_browser, in_browser_that_trusts_everybody, in_browser_without_scripts},
    cloner::Cloner,
    gateway::{Gateway, free_port},
    network::{Passing, Proxy, serve_page},
    page::{Heard, Page},
    worker::Work,
};

/// How long a condition may take to become true. Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(90);

/// The interval between checks of a condition.
const LOOK: Duration = Duration::from_millis(25);

/// Checks until there is a result.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for this: {what}");
        tokio::time::sleep(LOOK).await;
    }
}
