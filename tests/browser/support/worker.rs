//! A worker as it could be written in any language: it speaks HTTP, and reports on demand of the
//! test.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tidegate_testkit::gateway::client;
use tokio::task::JoinHandle;

use super::Gateway;

/// The interval of reports by [`Work::keep`], much shorter than the shortest lease of a test.
const KEEP: Duration = Duration::from_millis(150);

/// A job that a worker has claimed.
pub(crate) struct Work {
    pub(crate) id: String,
    address: String,
    lease: String,
    http: Client,
}

/// Reports repeatedly until dropped.
pub(crate) struct Keeping(JoinHandle<()>);

impl Work {
    /// Creates a job without a worker. Returns its id.
    pub(crate) async fn create(gateway: &Gateway, title: &str) -> String {
        let job = json!({ "type": "report", "title": title });
        let address = format!("{}/jobs", gateway.origin());
        let created = client().post(address).json(&job).send().await.expect("an answer");
        assert_eq!(created.status(), 202);
        let created: Value = created.json().await.expect("JSON");
        created["id"].as_str().expect("a job has an id").to_owned()
    }

    /// Claims the queued job, or the next one.
    pub(crate) async fn claim(gateway: &Gateway) -> Self {
        let address = format!("{}/jobs", gateway.origin());
        let claim = json!({ "types": ["report"], "wait": 60 });
        let http = client();
        let claimed = http.post(format!("{address}/claim")).json(&claim).send().await;
        let claimed = claimed.expect("an answer");
        assert_eq!(claimed.status(), 200, "there is a job");
        let claimed: Value = claimed.json().await.expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let (id, lease) = (text(&claimed["job"]["id"]), text(&claimed["lease"]));
        Self { address: format!("{address}/{id}"), id, lease, http }
    }

    /// Creates a job, and claims it.
    pub(crate) async fn begin(gateway: &Gateway, title: &str) -> Self {
        let id = Self::create(gateway, title).await;
        let work = Self::claim(gateway).await;
        assert_eq!(work.id, id);
        work
    }

    /// Reports progress. `done` of 100 also numbers the report. Returns the reply.
    pub(crate) async fn progress(&self, done: u32, stage: &str, message: &str) -> Value {
        self.report("progress", report(done, stage, message).to_string()).await
    }

    /// Reports less progress than before.
    pub(crate) async fn report_at(&self, seq: u32, done: u32) {
        let report = json!({ "seq": seq, "done": done, "total": 100 });
        self.report("progress", report.to_string()).await;
    }

    /// Repeats a report, so that the lease does not expire.
    pub(crate) fn keep(&self, done: u32, stage: &str) -> Keeping {
        let request = self.http.post(format!("{}/progress", self.address));
        let request = request.header("content-type", "application/json");
        let request = request.header("tidegate-lease", &self.lease);
        let request = request.body(report(done, stage, "").to_string());
        Keeping(tokio::spawn(async move {
            loop {
                let _ = request.try_clone().expect("the body is text").send().await;
                tokio::time::sleep(KEEP).await;
            }
        }))
    }

    /// Appends text to the log.
    pub(crate) async fn log(&self, offset: usize, text: &str) {
        let request = self.http.post(format!("{}/log?offset={offset}", self.address));
        let request = request.header("tidegate-lease", &self.lease);
        let request = request.header("content-type", "text/plain").body(text.to_owned());
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
    }

    /// Asks a question.
    pub(crate) async fn ask(&self, question: Value) {
        let told = self.report("ask", question.to_string()).await;
        assert_eq!(told["state"], "waiting");
    }

    /// Returns the answer to a question, which there must be.
    pub(crate) async fn answer(&self, name: &str) -> Value {
        let request = self.http.get(format!("{}/answers/{name}?wait=20", self.address));
        let response = request.header("tidegate-lease", &self.lease).send().await;
        let mut told: Value = response.expect("an answer").json().await.expect("JSON");
        told["answer"].take()
    }

    pub(crate) async fn complete(&self, result: Value) {
        self.report("complete", json!({ "result": result }).to_string()).await;
    }

    pub(crate) async fn complete_with_link(&self, link: &str) {
        self.report("complete", json!({ "link": link }).to_string()).await;
    }

    pub(crate) async fn fail(&self, problem: Value) {
        self.report("fail", json!({ "problem": problem }).to_string()).await;
    }

    async fn report(&self, what: &str, body: String) -> Value {
        let request = self.http.post(format!("{}/{what}", self.address)).body(body);
        let request = request.header("content-type", "application/json");
        let response = request.header("tidegate-lease", &self.lease).send().await;
        let response = response.expect("an answer");
        let status = response.status();
        let text = response.text().await.expect("text");
        assert!(status.is_success(), "{what}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn report(done: u32, stage: &str, message: &str) -> Value {
    json!({ "seq": done, "done": done, "total": 100, "stage": stage, "message": message })
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}
