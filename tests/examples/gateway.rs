//! The gateway's own program, and the jobs in it.

use std::ops::{Deref, DerefMut};

use reqwest::{Response, header::ETAG};
use serde_json::{Value, json};
use tidegate_testkit::{
    gateway,
    launch::{Launch, directory},
};

use crate::support::{client, in_time};

/// A running gateway.
pub(crate) struct Gateway(gateway::Gateway);

impl Gateway {
    /// Starts one with a configuration file.
    pub(crate) async fn start(settings: &str) -> Self {
        let directory = directory();
        std::fs::write(directory.path().join("tidegate.toml"), settings)
            .expect("a writable folder");
        let launch = Launch::new(env!("CARGO_BIN_EXE_tidegate"), directory);
        Self(launch.with(&[("HISTORY__STORE", "memory")]).start_aside().await)
    }

    /// Creates a job and returns its address.
    pub(crate) async fn create(&self, kind: &str, payload: Value) -> String {
        let job = json!({ "type": kind, "payload": payload });
        let request = client().post(self.url("/jobs")).json(&job);
        let response = in_time("a job", request.send()).await.expect("an answer");
        assert_eq!(response.status(), 202);
        self.url(response.headers()["location"].to_str().expect("text"))
    }

    /// Waits until a job's status is as wanted.
    pub(crate) async fn wait_for(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            let mut tag = "\"none\"".to_owned();
            loop {
                let request = client().get(job).header("if-none-match", &tag);
                let response = request.header("prefer", "wait=5").send().await.expect("an answer");
                response.headers()[ETAG].to_str().expect("text").clone_into(&mut tag);
                if response.status() == 304 {
                    continue;
                }
                let status: Value = response.json().await.expect("JSON");
                if wanted(&status) {
                    return status;
                }
                assert!(status["ended_at"].is_null(), "it has ended otherwise: {status}");
            }
        };
        in_time("a job that is as wanted", waiting).await
    }

    /// Waits until a job is in a state.
    pub(crate) async fn wait_for_state(&self, job: &str, state: &str) -> Value {
        self.wait_for(job, |status| status["state"] == state).await
    }

    pub(crate) async fn get(&self, url: &str) -> Response {
        let response = in_time("an answer", client().get(url).send()).await.expect("an answer");
        assert_eq!(response.status(), 200, "{url}");
        response
    }

    pub(crate) async fn post(&self, url: &str) -> Response {
        in_time("an answer", client().post(url).send()).await.expect("an answer")
    }
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
