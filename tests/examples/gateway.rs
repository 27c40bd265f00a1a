//! The gateway's own program, and the jobs in it.

use std::process::Stdio;

use reqwest::{Response, header::ETAG};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{client, in_time};

/// A running gateway.
pub(crate) struct Gateway {
    child: Child,
    /// Where it listens, as `127.0.0.1:port`.
    pub(crate) address: String,
    /// The folder of its settings file.
    _folder: TempDir,
}

impl Gateway {
    /// Starts one with a configuration file.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_at("127.0.0.1:0", settings).await
    }

    pub(crate) async fn start_at(address: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("tidegate.toml"), settings).expect("a writable folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.current_dir(&folder).args(["--listen", address]).kill_on_drop(true);
        command.env("TIDEGATE_HISTORY__STORE", "memory");
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the gateway starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let address = loop {
            let line = in_time("the greeting", lines.next_line()).await.expect("readable");
            let line = line.expect("the greeting has an address");
            if let Some((_, address)) = line.split_once("http://") {
                break address.trim_end_matches('/').to_owned();
            }
        };
        Self { child, address, _folder: folder }
    }

    /// Returns its own URL, or that of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) {
        in_time("the end after SIGKILL", self.child.kill()).await.expect("it runs");
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
