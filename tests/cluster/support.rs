//! The nodes of these tests.

use std::{
    collections::HashSet,
    ops::{Deref, DerefMut},
    process::Output,
};

use reqwest::{Response, StatusCode};
use serde_json::Value;
use tidegate_testkit::{
    deadline::{eventually, in_time},
    gateway,
    launch::{Launch, directory},
    redis::Redis,
    sse::{Dispatched, Stream},
};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// A gateway of a cluster.
pub struct Node(gateway::Gateway);

impl Node {
    /// Starts a node on a Redis.
    pub fn start(redis: &Redis) -> Self {
        Self::with(&redis.address(), &[])
    }

    /// Starts a node with the log at an address, and more settings.
    pub fn with(address: &str, settings: &[(&str, &str)]) -> Self {
        Self(launch(address).with(settings).start())
    }

    /// Publishes an update, and returns its id.
    pub async fn publish(&self, topic: &str, data: &str) -> String {
        let reply = self.post(&[("topic", topic), ("data", data)]).await;
        assert_eq!(reply.status(), 200, "{:?}", reply.text().await);
        reply.text().await.expect("an id")
    }

    /// Publishes an update until it is acknowledged.
    pub async fn publish_surely(&self, topic: &str, data: &str) {
        eventually("an acknowledgement", async || {
            self.post(&[("topic", topic), ("data", data)]).await.status() == 200
        })
        .await;
    }

    /// Opens an event stream.
    pub async fn open(&self, path: &str) -> Stream {
        Stream::open(self.client.get(self.url(path))).await
    }

    /// Polls.
    pub async fn poll(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status(), 200);
        reply.json().await.expect("JSON")
    }

    /// Everything in its history on a topic, oldest first.
    pub async fn everything(&self, topic: &str) -> Vec<String> {
        let mut path = format!("/poll?topic={topic}&last_event_id=earliest&wait=0");
        let mut all = Vec::new();
        loop {
            let polled = self.poll(&path).await;
            let events = polled["events"].as_array().expect("a list");
            all.extend(events.iter().map(|it| it["data"].as_str().expect("text").to_owned()));
            if polled["more"] != true {
                return all;
            }
            path = format!("/{}", polled["next"].as_str().expect("an address"));
        }
    }

    /// Waits until it is ready to publish.
    pub async fn until_ready(&self) {
        let is_ready = async || self.get("/health/ready?publish").await.status() == 200;
        eventually("the node is ready", is_ready).await;
    }
}

impl Deref for Node {
    type Target = gateway::Gateway;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A gateway with the log at an address.
pub fn launch(address: &str) -> Launch {
    let settings =
        [("HISTORY__STORE", "redis"), ("CLUSTER__REDIS", address), ("SERVER__WORKERS", "1")];
    Launch::new(PROGRAM, directory()).with(&settings)
}

/// Starts some nodes on a Redis.
pub fn nodes<const N: usize>(redis: &Redis) -> [Node; N] {
    std::array::from_fn(|_| Node::start(redis))
}

/// Runs a gateway that must not start.
pub fn refused(launch: &Launch) -> String {
    let mut command = launch.command();
    let Output { status, stderr, .. } =
        command.stderr(std::process::Stdio::piped()).output().expect("the gateway can be run");
    assert!(!status.success());
    String::from_utf8_lossy(&stderr).into_owned()
}

/// Checks the status of a problem, and returns its type and detail.
pub async fn problem(reply: Response, status: u16) -> (String, String) {
    assert_eq!(reply.status(), StatusCode::from_u16(status).expect("a status"));
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
    let document: Value = reply.json().await.expect("JSON");
    let text = |name: &str| document[name].as_str().expect("text").to_owned();
    (text("type"), text("detail"))
}

/// The reason of a gap event.
pub fn reason(event: &Dispatched) -> String {
    assert_eq!(event.kind, "tidegate.gap", "{event:?}");
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    data["reason"].as_str().expect("text").to_owned()
}

/// Reads a stream up to an event with this data.
pub async fn up_to(stream: &mut Stream, last: &str) -> Vec<String> {
    let mut data = Vec::new();
    in_time("the last event", async {
        while data.last().is_none_or(|it| it != last) {
            data.push(stream.next().await.data);
        }
    })
    .await;
    data
}

/// Checks that nothing is there twice.
pub fn assert_unique(all: &[String]) {
    let unique: HashSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len(), "something is there twice");
}
