//! The gateway in normal use: the binary, on a port, with settings in the environment.

use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};
use tidegate_testkit::{
    gateway,
    launch::{Launch, directory},
    ports::free_port,
};

/// Settings for tests: clients reconnect soon.
const SETTINGS: [(&str, &str); 5] = [
    ("HISTORY__STORE", "memory"),
    ("LOG__FILTER", "off"),
    ("SERVER__WORKERS", "2"),
    ("DELIVERY__RETRY", "200ms"),
    ("DELIVERY__RETRY_SPREAD", "200ms"),
];

/// A gateway that can be killed and restarted at the same address.
pub(crate) struct Gateway(gateway::Gateway);

impl Gateway {
    /// Starts a gateway; settings are written `SECTION__KEY`.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let launch = Launch::new(env!("CARGO_BIN_EXE_tidegate"), directory());
        let launch = launch.at_port(free_port()).with(&SETTINGS).with(settings);
        Self(launch.start_aside().await)
    }

    /// Returns the origin of the gateway's own pages.
    pub(crate) fn origin(&self) -> String {
        self.url("")
    }

    /// Publishes updates, all at once.
    pub(crate) async fn publish(&self, updates: &[Value]) {
        let response = self.post_json(json!(updates).to_string()).await;
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        assert!(status.is_success(), "published: {status} {text}");
    }

    /// Publishes numbered updates one by one, as [`numbered`] makes them.
    pub(crate) async fn publish_numbered(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.publish(&[numbered(number)]).await;
        }
    }

    /// Returns the value of a metric for a transport.
    pub(crate) async fn count(&self, metric: &str, transport: &str) -> u64 {
        let name = format!("tidegate_{metric}{{transport=\"{transport}\"}}");
        self.sample(&name).await.expect("every transport is counted")
    }

    /// Returns how many requests were refused for this reason.
    pub(crate) async fn refused(&self, reason: &str) -> u64 {
        let name = format!("tidegate_requests_refused_total{{reason=\"{reason}\"}}");
        self.sample(&name).await.unwrap_or(0)
    }

    /// Waits until each of these transports has a subscriber.
    pub(crate) async fn has_subscribers(&self, transports: &[&str]) {
        for transport in transports {
            super::eventually(&format!("a subscriber over {transport}"), async || {
                (0 < self.count("subscribers", transport).await).then_some(())
            })
            .await;
        }
    }
}

/// A numbered update: topic `x`, id and data by `number`.
pub(crate) fn numbered(number: usize) -> Value {
    json!({ "topics": ["x"], "id": format!("id-{number}"), "data": format!("data {number}") })
}

impl Deref for Gateway {
    type Target = gateway::Gateway;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
