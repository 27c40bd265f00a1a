//! The parts of the tests: the gateway's binary, receiving programs, and a failing network.

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

/// Time limit for anything before a test fails. Generous, because test machines are busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// Returns the result of `future`, which must be ready before the deadline.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(result) => result,
        Err(_) => panic!("waited {DEADLINE:?} in vain for this: {what}"),
    }
}
