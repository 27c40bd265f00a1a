//! The gateway in normal use: the binary, on a port, with settings in the environment.

use std::ops::{Deref, DerefMut};

use tidegate_testkit::{
    gateway,
    launch::{Launch, directory},
    ports::free_port,
    tokens::{ISSUER, KEYS, trusting},
};

/// Settings for tests: clients reconnect soon, and tolerate a busy machine.
const SETTINGS: [(&str, &str); 3] =
    [("LOG__FILTER", "off"), ("DELIVERY__RETRY", "100ms"), ("DELIVERY__HEARTBEAT", "1s")];

/// A gateway that can be killed and restarted at the same address.
pub(crate) struct Gateway(gateway::Gateway);

impl Gateway {
    /// Starts a gateway; settings are written `SECTION__KEY`.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let launch = Launch::new(env!("CARGO_BIN_EXE_tidegate"), directory());
        let launch = launch.at_port(free_port()).with(&SETTINGS).with(settings);
        Self(launch.start_aside().await)
    }

    /// Starts a gateway with keys. Subscribers without an access token receive public events.
    pub(crate) async fn start_guarded() -> Self {
        let issuer = trusting(ISSUER);
        let more = [("CONFIG", issuer.path().to_str().expect("text")), ("AUTH__ANONYMOUS", "true")];
        Self::start(&[&KEYS[..], &more].concat()).await
    }

    /// Publishes a form.
    pub(crate) async fn publish(&self, form: &[(&str, &str)]) {
        succeeded(self.post_to_hub(form).await).await;
    }

    /// Publishes a form with an access token.
    pub(crate) async fn publish_as(&self, token: &str, form: &[(&str, &str)]) {
        succeeded(self.post_as(token, form).await).await;
    }

    /// Publishes a numbered event under the topic `x`.
    pub(crate) async fn publish_number(&self, number: usize) {
        let (id, data) = (format!("id-{number}"), number.to_string());
        self.publish(&[("topic", "x"), ("id", &id), ("data", &data)]).await;
    }
}

async fn succeeded(reply: reqwest::Response) {
    assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap_or_default());
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
