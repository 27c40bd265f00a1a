use std::{
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{DEADLINE, Gateway, command, directory, problem};

fn file(gateway: &Gateway) -> PathBuf {
    gateway.directory.path().join("data/tidegate.redb")
}

/// Waits until `is_so`.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let outcome = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(outcome.is_ok(), "{what} in time");
}

/// Limits the size of files that the gateway writes, as a full disk does.
fn limit(gateway: &Gateway, bytes: &str) {
    let id = gateway.process.id().to_string();
    let status =
        Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}:")]).status();
    assert!(status.expect("`prlimit` can be run").success());
}

#[tokio::test]
async fn a_full_disk_refuses_only_publishers_until_there_is_room() {
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
    // Retries the same request, as the refusal says.
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
    store.write_all_at(b"no store begins like this, and it is long enough", 0).expect("written");
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
    let other = directory();
    let import = || {
        let mut importing = command(&other, &[]);
        importing.arg("store").arg("import").stdin(std::process::Stdio::piped());
        let mut process = importing.spawn().expect("it starts");
        process.stdin.take().expect("a pipe").write_all(&exported.stdout).expect("written");
        process.wait().expect("it ends")
    };
    assert!(import().success());
    assert!(!import().success(), "a store that is there is not written over");
    let gateway = Gateway::on(other, &[]);
    let mut stream = gateway.open(&format!("/events?topic=a&last_event_id={first}")).await;
    let event = stream.next().await;
    assert_eq!((&*event.kind, &*event.data), ("x", "two\nlines"));
    assert_eq!(gateway.claim("t", 0).await.expect("the job").0, id);
    assert_eq!(gateway.metric("tidegate_gaps_total").await, 0.0);
}

/// Copies a store into a directory of its own.
fn with_store(bytes: &[u8]) -> Arc<TempDir> {
    let directory = directory();
    std::fs::create_dir(directory.path().join("data")).expect("made");
    std::fs::write(directory.path().join("data/tidegate.redb"), bytes).expect("written");
    directory
}

fn in_directory(directory: &Arc<TempDir>, arguments: &[&str]) -> Output {
    let mut command = command(directory, &[("SERVER__SHUTDOWN_TIMEOUT", "0s")]);
    command.stderr(std::process::Stdio::piped()).arg("store").args(arguments);
    command.output().expect("it ends")
}

#[tokio::test]
async fn a_store_of_the_first_format_is_migrated_with_all_that_is_in_it() {
    // Created by version 0.1.0 before records had checksums, and compacted.
    let directory = with_store(include_bytes!("stores/format-1.redb"));
    let long = [("HISTORY__MAX_AGE", "876000h")];
    let gateway = Gateway::on(directory, &long);
    let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(stream.data(5).await, ["event 1", "event 2", "event 3", "secret", "two\nlines"]);
    let (id, _) = gateway.claim("build", 0).await.expect("the job that waits");
    assert_eq!(id, "g-KkF70JSuWWrDIi7gPNWQ");
    let log = gateway.get("/jobs/1vUgg39l6pDrT1mdESAgfw/log").await;
    assert_eq!(log.text().await.expect("text"), "read 30 files\n");
    assert!(gateway.log().contains("they get them now"), "it is said");
    let mut gateway = gateway.crash(&long);
    let mut stream = gateway.open("/events?topic=u&last_event_id=urn:t:1").await;
    assert_eq!(stream.next().await.data, "two\nlines");
    gateway.kill();
    assert!(tool(&gateway, &["verify"]).status.success());
}

#[tokio::test]
async fn a_store_of_the_second_format_opens_with_all_that_is_in_it() {
    // Created by version 0.1.0 before records had revisions, killed and compacted.
    let directory = with_store(include_bytes!("stores/format-2.redb"));
    let long = [("HISTORY__MAX_AGE", "876000h"), ("JOBS__SUCCEEDED_RETENTION", "876000h")];
    let gateway = Gateway::on(directory, &long);
    let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(stream.data(5).await, ["event 1", "event 2", "event 3", "secret", "two\nlines"]);
    // The key of the job that waits is taken, though that version kept no keys.
    let nightly = json!({ "type": "build", "title": "again", "key": "nightly" });
    assert_eq!(gateway.create(nightly).await, "h_iOamcuzmLnbXuKVzLaHg");
    let (id, _) = gateway.claim("build", 0).await.expect("the job that waits");
    assert_eq!(id, "h_iOamcuzmLnbXuKVzLaHg");
    // The worker of the job that ran goes on.
    let lease = "iUA3gCOO6MNxkx_1b9hswg";
    let running = "gn_fhYDhjjCg-oyoTJE3PQ";
    let report = json!({ "seq": 2, "done": 60, "total": 100 });
    assert_eq!(gateway.tell(running, lease, "progress", report).await.status(), 200);
    let result = gateway.get("/jobs/45V74eBnqImuB0Eh53qdyw/result").await;
    assert_eq!(result.text().await.expect("text"), r#"{"pages": 12}"#);
    let mut gateway = gateway.crash(&long);
    let log = gateway.get(&format!("/jobs/{running}/log")).await;
    assert_eq!(log.text().await.expect("text"), "read 30 files\n");
    gateway.kill();
    assert!(tool(&gateway, &["verify"]).status.success());
    assert!(tool(&gateway, &["export"]).status.success());
}

#[tokio::test]
async fn a_store_of_the_third_format_opens_with_all_that_is_in_it() {
    // Created by version 0.1.0 before topics had state, killed and compacted.
    let directory = with_store(include_bytes!("stores/format-3.redb"));
    let long = [("HISTORY__MAX_AGE", "876000h"), ("JOBS__SUCCEEDED_RETENTION", "876000h")];
    let gateway = Gateway::on(directory, &long);
    let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(stream.data(5).await, ["event 1", "event 2", "event 3", "secret", "two\nlines"]);
    let nightly = json!({ "type": "build", "title": "again", "key": "nightly" });
    assert_eq!(gateway.create(nightly).await, "DJEhmQILm73e1wxfKft20A");
    // The worker of the job that ran goes on.
    let (running, lease) = ("Ke26CtmrXCYRd9ZfAs2Kxw", "zXvsLnMcrIGdLtnfEQNk9g");
    let report = json!({ "seq": 2, "done": 60, "total": 100 });
    assert_eq!(gateway.tell(running, lease, "progress", report).await.status(), 200);
    assert!(gateway.log().contains("the store has format 4 now"), "it is said");
    let mut gateway = gateway.crash(&long);
    let log = gateway.get(&format!("/jobs/{running}/log")).await;
    assert_eq!(log.text().await.expect("text"), "read 30 files\n");
    gateway.kill();
    assert!(tool(&gateway, &["verify"]).status.success());
    assert!(tool(&gateway, &["export"]).status.success());
}

#[tokio::test]
async fn one_flipped_bit_ends_that_read_and_is_told_and_nothing_else_stops() {
    let mut gateway = Gateway::durable(&[]);
    gateway.publish("whole", "whole").await;
    let reply =
        gateway.post_json(r#"{"topics":["t"],"data":"needleneedleneedle","private":true}"#).await;
    assert_eq!(reply.status(), 200);
    gateway.kill();
    let mut bytes = std::fs::read(file(&gateway)).expect("a file");
    let needles: Vec<usize> =
        (0..bytes.len() - 12).filter(|at| &bytes[*at..*at + 12] == b"needleneedle").collect();
    assert!(!needles.is_empty());
    for at in needles {
        bytes[at] ^= 1;
    }
    std::fs::write(file(&gateway), &bytes).expect("written");
    let mut gateway = Gateway::on(gateway.directory.clone(), &[]);
    let poll = gateway.get("/poll?topic=t&last_event_id=earliest&wait=0").await;
    let poll: serde_json::Value = poll.json().await.expect("JSON");
    assert_eq!(poll["events"], json!([]), "no wrong data: {poll}");
    // A client that resumes there meets the damage again, and so misses nothing silently.
    let cursor = poll["cursor"].as_str().expect("a cursor").replace('#', "%23");
    let mut stream = gateway.open(&format!("/events?topic=t&last_event_id={cursor}")).await;
    assert!(stream.next_or_end().await.is_none(), "it ends instead of going on behind");
    let health = problem(gateway.get("/health/ready").await, 503).await;
    let detail = health["detail"].as_str().expect("text");
    assert!(detail.contains("tidegate store verify"), "{detail}");
    assert_eq!(gateway.get("/health/live").await.status(), 200);
    let mut stream = gateway.open("/events?topic=whole&last_event_id=earliest").await;
    assert_eq!(stream.next().await.data, "whole", "what is whole is served");
    gateway.publish("whole", "more").await;
    assert_eq!(stream.next().await.data, "more");
    gateway.kill();
    let exported = tool(&gateway, &["export"]);
    assert!(!exported.status.success());
    assert!(said(&exported).contains("1 damaged records"), "{}", said(&exported));
    assert!(!String::from_utf8_lossy(&exported.stdout).contains("oeedle"));
    assert!(!tool(&gateway, &["verify"]).status.success());
}

fn import(directory: &Arc<TempDir>, text: &[u8], arguments: &[&str]) -> Output {
    let mut importing = command(directory, &[]);
    importing.args(["store", "import"]).args(arguments);
    importing.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut process = importing.spawn().expect("it starts");
    // An input that is refused early is not read to its end.
    let _ = process.stdin.take().expect("a pipe").write_all(text);
    process.wait_with_output().expect("it ends")
}

#[tokio::test]
async fn a_part_of_an_export_is_refused_and_leaves_nothing() {
    let mut gateway = Gateway::durable(&[]);
    for at in 0..5 {
        gateway.publish("t", &at.to_string()).await;
    }
    gateway.signal("-TERM");
    gateway.process.wait().expect("it ends");
    let exported = tool(&gateway, &["export"]).stdout;
    let other = directory();
    let store = other.path().join("data/tidegate.redb");
    for cut in [1, 10, exported.len() / 2, exported.len() - 1] {
        let output = import(&other, &exported[..cut], &[]);
        assert!(!output.status.success() && !store.exists(), "{cut}: {}", said(&output));
    }
    let lines: Vec<&[u8]> = exported.split_inclusive(|it| *it == b'\n').collect();
    let without_last = lines[..lines.len() - 1].concat();
    let output = import(&other, &without_last, &[]);
    assert!(
        !output.status.success() && said(&output).contains("no last line"),
        "{}",
        said(&output)
    );
    let without_third = [&lines[..2], &lines[3..]].concat().concat();
    let output = import(&other, &without_third, &[]);
    assert!(!output.status.success() && said(&output).contains("5 events"), "{}", said(&output));
    let changed = String::from_utf8_lossy(&exported).replacen("\"0\"", "\"9\"", 1);
    let output = import(&other, changed.as_bytes(), &[]);
    assert!(!output.status.success() && said(&output).contains("checksum"), "{}", said(&output));
    let former =
        String::from_utf8_lossy(&without_last).replacen("\"version\":3", "\"version\":1", 1);
    let output = import(&other, former.as_bytes(), &[]);
    assert!(
        !output.status.success() && said(&output).contains("--without-end"),
        "{}",
        said(&output)
    );
    assert!(!store.exists());
    let output = import(&other, former.as_bytes(), &["--without-end"]);
    assert!(output.status.success(), "{}", said(&output));
    std::fs::remove_file(&store).expect("it is there");
    assert!(import(&other, &exported, &[]).status.success());
    assert!(in_directory(&other, &["verify"]).status.success());
}

#[tokio::test]
async fn an_import_that_is_killed_leaves_nothing_to_serve() {
    let mut gateway = Gateway::durable(&[]);
    gateway.publish("t", "1").await;
    gateway.signal("-TERM");
    gateway.process.wait().expect("it ends");
    let exported = tool(&gateway, &["export"]).stdout;
    let other = directory();
    let mut importing = command(&other, &[]);
    importing.args(["store", "import"]).stdin(std::process::Stdio::piped());
    let mut process = importing.spawn().expect("it starts");
    let mut input = process.stdin.take().expect("a pipe");
    input.write_all(&exported[..exported.len() - 5]).expect("written");
    let unfinished = other.path().join("data/tidegate.redb.new");
    until("the import has begun", async || unfinished.exists()).await;
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    assert!(!in_directory(&other, &["verify"]).status.success());
    // What it left does not block the next import.
    assert!(import(&other, &exported, &[]).status.success());
    assert!(!unfinished.exists());
    let gateway = Gateway::on(other, &[]);
    let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(stream.next().await.data, "1");
}

#[tokio::test]
async fn only_the_owner_can_read_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut gateway = Gateway::durable(&[]);
    let mode =
        |path: PathBuf| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(file(&gateway)), 0o600);
    assert_eq!(mode(gateway.directory.path().join("data")), 0o700);
    gateway.kill();
    std::fs::set_permissions(file(&gateway), std::fs::Permissions::from_mode(0o644)).expect("set");
    let gateway = Gateway::on(gateway.directory.clone(), &[]);
    assert_eq!(mode(file(&gateway)), 0o600);
    assert!(gateway.log().contains("others could read the store"), "{}", gateway.log());
}
