//! What the tests are made of: the gateway's own binary, programs that receive, and a network that fails.

mod client;
mod gateway;
mod network;
mod token;

use std::time::Duration;

pub(crate) use self::{
    client::{Client, Event, Library, installed},
    gateway::Gateway,
    network::Proxy,
    token::{Role, modern, old, short_lived},
};

/// How long anything may take before a test fails; generous, because machines that run tests are busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// The result of `future`, which has to come before the deadline.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(result) => result,
        Err(_) => panic!("waited {DEADLINE:?} in vain for this: {what}"),
    }
}
