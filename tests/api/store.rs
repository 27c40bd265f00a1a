use std::{
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use serde_json::json;

use crate::support::{DEADLINE, Gateway, command, problem};

fn file(gateway: &Gateway) -> PathBuf {
    gateway.directory.path().join("data/tidegate.redb")
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let outcome = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(outcome.is_ok(), "{what} in time");
}

/// Sets how large the files may be that the gateway writes, as a disk does.
fn limit(gateway: &Gateway, bytes: &str) {
    let id = gateway.process.id().to_string();
    let status =
        Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}:")]).status();
    assert!(status.expect("`prlimit` can be run").success());
}

#[tokio::test]
async fn a_full_disk_refuses_publishers_and_nobody_else_until_there_is_room() {
    let gateway = Gateway::durable_without_signals();
    let mut stream = gateway.open("/events?topic=t").await;
    gateway.publish("t", "before").await;
    assert_eq!(stream.next().await.data, "before");
    let size = std::fs::metadata(file(&gateway)).expect("the store is there").len();
    limit(&gateway, &size.to_string());
    let padding = "x".repeat(200_000);
    let publish = async |key: usize| {
        let request = gateway.client.post(gateway.url("/events"));
        let request = request.header("idempotency-key", format!("key {key}"));
        let body = json!({ "topics": ["t"], "data": format!("{key} {padding}") });
        request.json(&body).send().await.expect("a reply")
    };
    let mut stored = 0;
    let refused = loop {
        let reply = publish(stored).await;
        if reply.status() != 200 {
            break problem(reply, 503).await;
        }
        assert!(stream.next().await.data.starts_with(&format!("{stored} ")));
        stored += 1;
        assert!(stored < 200, "the disk is never full");
    };
    let detail = refused["detail"].as_str().expect("text");
    assert!(detail.contains("Idempotency-Key"), "{detail}");
    let health = problem(gateway.get("/health/ready").await, 503).await;
    let said = health["detail"].as_str().expect("text");
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(gateway.get("/health/live").await.status(), 200);
    let mut newcomer = gateway.open("/events?topic=t").await;
    let job = gateway
        .client
        .post(gateway.url("/jobs"))
        .json(&json!({ "type": "t", "payload": padding[..60_000] }));
    let _ = job.send().await.expect("a reply");
    limit(&gateway, "unlimited");
    until("health", async || gateway.get("/health/ready").await.status() == 200).await;
    // The same request again, as the refusal says.
    assert_eq!(publish(stored).await.status(), 200);
    let expected = format!("{stored} ");
    assert!(stream.next().await.data.starts_with(&expected), "the stream goes on");
    assert!(newcomer.next().await.data.starts_with(&expected));
    let gateway = gateway.crash(&[]);
    let mut all = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(all.next().await.data, "before");
    for at in 0..=stored {
        assert!(all.next().await.data.starts_with(&format!("{at} ")), "each once");
    }
}

fn tool(gateway: &Gateway, arguments: &[&str]) -> Output {
    let mut command = command(&gateway.directory, &[("SERVER__SHUTDOWN_TIMEOUT", "0s")]);
    command.stderr(std::process::Stdio::piped()).arg("store").args(arguments);
    command.output().expect("it ends")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_named() {
    let mut gateway = Gateway::durable(&[]);
    for at in 0..50 {
        gateway.publish("t", &format!("{at} {}", "x".repeat(2000))).await;
    }
    gateway.signal("-TERM");
    gateway.process.wait().expect("it ends");
    assert!(tool(&gateway, &["verify"]).status.success());
    let store = std::fs::OpenOptions::new().write(true).open(file(&gateway)).expect("a file");
    store.write_all_at(b"nobody knows what this is, and it is long enough", 0).expect("written");
    let start = command(&gateway.directory, &[]).stderr(std::process::Stdio::piped()).output();
    let start = start.expect("it ends");
    assert!(!start.status.success());
    let text = said(&start);
    assert!(text.contains("tidegate.redb") && text.contains("tidegate store verify"), "{text}");
    let verified = tool(&gateway, &["verify"]);
    assert!(!verified.status.success(), "{}", said(&verified));
}

#[tokio::test]
async fn damage_in_the_middle_is_found_by_verify() {
    let mut gateway = Gateway::durable(&[]);
    for at in 0..200 {
        gateway.publish("t", &format!("{at} {}", "needle".repeat(300))).await;
    }
    gateway.signal("-TERM");
    gateway.process.wait().expect("it ends");
    let bytes = std::fs::read(file(&gateway)).expect("a file");
    let needles: Vec<usize> =
        (0..bytes.len() - 12).filter(|at| &bytes[*at..*at + 12] == b"needleneedle").collect();
    let store = std::fs::OpenOptions::new().write(true).open(file(&gateway)).expect("a file");
    for at in needles.iter().step_by(50) {
        store.write_all_at(b"\xff", *at as u64).expect("written");
    }
    let verified = tool(&gateway, &["verify"]);
    assert!(!verified.status.success(), "{}", said(&verified));
    assert!(said(&verified).contains("tidegate.redb"), "{}", said(&verified));
}

#[tokio::test]
async fn what_is_exported_can_be_imported_elsewhere() {
    let mut gateway = Gateway::durable(&[]);
    let first = gateway.publish("a", "1").await;
    let reply = gateway
        .post_json(r#"{"topics":["a","b"],"data":"two\nlines","type":"x","retry":7,"private":false,"except":["me"]}"#)
        .await;
    assert_eq!(reply.status(), 200);
    let id = gateway.create(json!({ "type": "t", "payload": { "a": 1 } })).await;
    assert!(!tool(&gateway, &["export"]).status.success(), "it is in use");
    gateway.signal("-TERM");
    gateway.process.wait().expect("it ends");
    let info = tool(&gateway, &["info"]);
    assert!(info.status.success() && said(&info).contains("events"), "{}", said(&info));
    assert!(tool(&gateway, &["compact"]).status.success());
    let exported = tool(&gateway, &["export"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let other = tempfile::tempdir().expect("a temporary directory");
    let import = || {
        let mut importing = command(&other, &[]);
        importing.arg("store").arg("import").stdin(std::process::Stdio::piped());
        let mut process = importing.spawn().expect("it starts");
        process.stdin.take().expect("a pipe").write_all(&exported.stdout).expect("written");
        process.wait().expect("it ends")
    };
    assert!(import().success());
    assert!(!import().success(), "a store that is there is not written over");
    let gateway = Gateway::on(std::sync::Arc::new(other), &[]);
    let mut stream = gateway.open(&format!("/events?topic=a&last_event_id={first}")).await;
    let event = stream.next().await;
    assert_eq!((&*event.kind, &*event.data), ("x", "two\nlines"));
    assert_eq!(gateway.claim("t", 0).await.expect("the job").0, id);
    assert_eq!(gateway.metric("tidegate_gaps_total").await, 0.0);
}
