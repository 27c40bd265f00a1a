//! The worker example: no job is lost when its worker is killed or stopped, or while the gateway is
//! down.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tidegate_testkit::environment;
use tokio::process::{Child, Command};

use crate::{
    gateway::Gateway,
    support::{example, in_time, terminate},
};

/// Settings with which jobs are retried almost at once.
const SOON: &str = "[jobs]\nbackoff = '50ms'";

/// A running worker.
struct WorkerProcess(Child);

impl WorkerProcess {
    fn start(gateway: &str, root: &Path, options: &[&str]) -> Self {
        let mut command = Command::from(environment::command(example("worker")));
        command.args(["--gateway", gateway, "--root"]).arg(root).args(options);
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Self(command.spawn().expect("the worker starts"))
    }

    async fn kill(mut self) {
        in_time("the end after SIGKILL", self.0.kill()).await.expect("it runs");
    }

    fn terminate(&self) {
        terminate(self.0.id().expect("it runs"));
    }

    async fn end(mut self) -> ExitStatus {
        in_time("the end of the worker", self.0.wait()).await.expect("it can be waited for")
    }
}

/// Creates a root with the folder `some` of this many small files. Also returns their checksums.
fn files(number: usize) -> (TempDir, BTreeMap<String, String>) {
    let root = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(root.path().join("some")).expect("a writable folder");
    let mut checksums = BTreeMap::new();
    for number in 0..number {
        let (name, content) = (format!("file-{number:03}"), format!("content {number}"));
        checksums.insert(name.clone(), file(root.path().join("some").join(name), &content));
    }
    (root, checksums)
}

/// Writes a file and returns its checksum.
fn file(path: PathBuf, content: &str) -> String {
    fs::write(path, content).expect("a writable folder");
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn has_begun(status: &Value) -> bool {
    status["state"] == "running" && status["log"]["length"].as_u64() > Some(0)
}

async fn result(gateway: &Gateway, job: &str) -> BTreeMap<String, String> {
    gateway.get(&format!("{job}/result")).await.json().await.expect("JSON")
}

#[tokio::test]
async fn jobs_are_done_over_http() {
    let gateway = Gateway::start("").await;
    let (root, mut checksums) = files(3);
    let some = root.path().join("some");
    checksums.insert("large".to_owned(), file(some.join("large"), &"large".repeat(200_000)));
    checksums.insert("empty".to_owned(), file(some.join("empty"), ""));
    fs::create_dir(some.join("folder")).expect("a writable folder");
    std::os::unix::fs::symlink("/etc/passwd", some.join("link")).expect("a writable folder");
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    let _worker = WorkerProcess::start(&gateway.url(""), root.path(), &["--concurrency", "2"]);

    let status = gateway.wait_for_state(&job, "succeeded").await;
    assert_eq!((&status["attempt"], &status["progress"]["percent"]), (&json!(1), &json!(100.0)));
    let bytes = fs::read_dir(&some).expect("a folder").map(|it| it.expect("an entry"));
    let bytes: u64 = bytes
        .filter(|it| it.file_type().expect("a type").is_file())
        .map(|it| it.metadata().expect("metadata").len())
        .sum();
    assert_eq!(status["progress"]["done"].to_string(), format!("{bytes}.0"));
    assert_eq!(result(&gateway, &job).await, checksums);
    let log = gateway.get(&format!("{job}/log")).await.text().await.expect("text");
    let lines: Vec<String> = checksums.iter().map(|(name, sum)| format!("{sum}  {name}")).collect();
    assert_eq!(log.lines().collect::<Vec<_>>(), lines);
}

#[tokio::test]
async fn folders_outside_the_roots_are_refused_for_good() {
    let gateway = Gateway::start(SOON).await;
    let (root, _) = files(1);
    let _worker = WorkerProcess::start(&gateway.url(""), root.path(), &[]);
    std::os::unix::fs::symlink("/etc", root.path().join("link")).expect("a writable folder");
    for (payload, said) in [
        (json!({ "folder": "/etc" }), "may read"),
        (json!({ "folder": "../../../../../../etc" }), "may read"),
        (json!({ "folder": "link" }), "may read"),
        (json!({ "folder": "missing" }), "may read"),
        (json!({ "fold": "some" }), "unknown field"),
        (Value::Null, "the payload"),
    ] {
        let job = gateway.create("checksum", payload).await;
        let status = gateway.wait_for_state(&job, "failed").await;
        let detail = status["error"]["detail"].as_str().expect("a detail");
        assert!(detail.contains(said), "{status}");
        assert_eq!(status["attempt"], 1, "{status}");
    }
}

#[tokio::test]
async fn the_job_of_a_killed_worker_is_done_by_another() {
    let gateway = Gateway::start("[jobs]\nlease = '1s'\nbackoff = '50ms'").await;
    let (root, checksums) = files(60);
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    let worker = WorkerProcess::start(&gateway.url(""), root.path(), &["--delay", "50ms"]);
    gateway.wait_for(&job, has_begun).await;
    worker.kill().await;

    let _another = WorkerProcess::start(&gateway.url(""), root.path(), &["--delay", "20ms"]);
    let status = gateway.wait_for_state(&job, "succeeded").await;
    assert_eq!(status["attempt"], 2);
    assert_eq!(result(&gateway, &job).await, checksums);
    let log = gateway.get(&format!("{job}/log")).await.text().await.expect("text");
    let lines = log.lines().count();
    assert!(60 < lines && lines < 120, "both have written: {log}");
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_its_worker_works() {
    let gateway = Gateway::start("[jobs]\nlease = '600ms'").await;
    let (root, checksums) = files(1);
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    let _worker = WorkerProcess::start(&gateway.url(""), root.path(), &["--delay", "2s"]);
    let status = gateway.wait_for_state(&job, "succeeded").await;
    assert_eq!(status["attempt"], 1);
    assert_eq!(result(&gateway, &job).await, checksums);
}

#[tokio::test]
async fn a_worker_that_is_stopped_hands_its_job_over() {
    // Lease and back-off are a minute, so another worker does not wait for their end. Nor does this
    // count as a failed attempt.
    let settings = "[jobs]\nlease = '60s'\nbackoff = '60s'\nmax_attempts = 1";
    let gateway = Gateway::start(settings).await;
    let (root, checksums) = files(30);
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    let options = ["--delay", "50ms", "--grace", "0s"];
    let worker = WorkerProcess::start(&gateway.url(""), root.path(), &options);
    gateway.wait_for(&job, has_begun).await;
    let _another = WorkerProcess::start(&gateway.url(""), root.path(), &[]);
    worker.terminate();
    assert!(worker.end().await.success());
    let status = gateway.wait_for_state(&job, "succeeded").await;
    assert_eq!(status["attempt"], 2);
    assert_eq!(result(&gateway, &job).await, checksums);
}

#[tokio::test]
async fn a_cancelled_job_of_a_worker_that_is_stopped_is_not_done_by_another() {
    let gateway = Gateway::start("").await;
    let (root, _) = files(2);
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    let options = ["--delay", "60s", "--grace", "0s"];
    let worker = WorkerProcess::start(&gateway.url(""), root.path(), &options);
    gateway.wait_for(&job, has_begun).await;
    assert_eq!(gateway.post(&format!("{job}/cancel")).await.status(), 202);
    worker.terminate();
    assert!(worker.end().await.success());
    gateway.wait_for_state(&job, "cancelled").await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_ends_what_it_can_and_takes_no_more() {
    let gateway = Gateway::start(SOON).await;
    let (root, checksums) = files(20);
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    let next = gateway.create("checksum", json!({ "folder": "some" })).await;
    let worker = WorkerProcess::start(&gateway.url(""), root.path(), &["--delay", "20ms"]);
    gateway.wait_for(&job, has_begun).await;
    worker.terminate();
    assert!(worker.end().await.success());
    let status = gateway.wait_for_state(&job, "succeeded").await;
    assert_eq!(status["attempt"], 1);
    assert_eq!(result(&gateway, &job).await, checksums);
    assert_eq!(gateway.wait_for_state(&next, "queued").await["attempt"], 0);
}

#[tokio::test]
async fn a_cancelled_job_stops() {
    let gateway = Gateway::start("").await;
    let (root, _) = files(2);
    fs::write(root.path().join("some/zeros"), vec![0; 1 << 20]).expect("a writable folder");
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    let _worker = WorkerProcess::start(&gateway.url(""), root.path(), &["--delay", "300ms"]);
    gateway.wait_for(&job, has_begun).await;
    assert_eq!(gateway.post(&format!("{job}/cancel")).await.status(), 202);
    let status = gateway.wait_for_state(&job, "cancelled").await;
    assert_eq!(status["error"]["detail"], "it was cancelled");
}

#[tokio::test]
async fn workers_that_have_ended_are_given_nothing() {
    let gateway = Gateway::start("").await;
    let (root, _) = files(1);
    for is_killed in [true, false] {
        let worker = WorkerProcess::start(&gateway.url(""), root.path(), &[]);
        let job = gateway.create("checksum", json!({ "folder": "some" })).await;
        gateway.wait_for_state(&job, "succeeded").await;
        // Now it waits for the next job.
        if is_killed {
            worker.kill().await;
        } else {
            worker.terminate();
            assert!(worker.end().await.success());
        }
        let job = gateway.create("checksum", json!({ "folder": "some" })).await;
        let _another = WorkerProcess::start(&gateway.url(""), root.path(), &[]);
        assert_eq!(gateway.wait_for_state(&job, "succeeded").await["attempt"], 1);
    }
}

#[tokio::test]
async fn a_worker_waits_for_a_gateway_that_is_away() {
    let mut gateway = Gateway::start("").await;
    let (root, checksums) = files(2);
    let worker = WorkerProcess::start(&gateway.url(""), root.path(), &[]);
    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    gateway.wait_for_state(&job, "succeeded").await;
    gateway.kill();
    gateway.restart().await;

    let job = gateway.create("checksum", json!({ "folder": "some" })).await;
    gateway.wait_for_state(&job, "succeeded").await;
    assert_eq!(result(&gateway, &job).await, checksums);
    worker.terminate();
    assert!(worker.end().await.success());
}

#[tokio::test]
async fn a_worker_whose_type_is_unknown_says_so_and_ends() {
    let gateway = Gateway::start("[jobs.types.clone]").await;
    let (root, _) = files(1);
    let worker = WorkerProcess::start(&gateway.url(""), root.path(), &[]);
    assert!(!worker.end().await.success());
}
