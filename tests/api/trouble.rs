//! Faults below a store: its file loses its name, its disk is full, another process has it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;

use crate::support::{DEADLINE, Gateway, command, problem, text_at};

fn directory(gateway: &Gateway) -> PathBuf {
    gateway.directory.path().join("data")
}

fn file(gateway: &Gateway) -> PathBuf {
    directory(gateway).join("tidegate.redb")
}

/// Waits for a health status, and returns the detail of a refusal.
async fn until_ready(gateway: &Gateway, status: u16) -> String {
    let waiting = async {
        loop {
            let reply = gateway.get("/health/ready").await;
            if reply.status() == status {
                return reply.text().await.expect("text");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let text = tokio::time::timeout(DEADLINE, waiting).await.expect("health in time");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    document["detail"].as_str().unwrap_or_default().to_owned()
}

async fn publish(gateway: &Gateway, data: &str) -> reqwest::Response {
    let request = gateway.client.post(gateway.url("/events")).header("idempotency-key", data);
    let body = json!({ "topics": ["t"], "data": data });
    request.json(&body).send().await.expect("a reply")
}

async fn create_job(gateway: &Gateway) -> reqwest::Response {
    let request = gateway.client.post(gateway.url("/jobs"));
    request.json(&json!({ "type": "t" })).send().await.expect("a reply")
}

/// Returns what every subscriber of the topic receives from the first event on.
async fn stored(gateway: &Gateway) -> Vec<String> {
    // There are some, so a poll that waits returns soon.
    let page = gateway.poll("/poll?topic=t&last_event_id=earliest&wait=20").await;
    let events = page["events"].as_array().expect("events");
    events.iter().map(|it| text_at(it, "/data")).collect()
}

fn cannot_start(gateway: &Gateway) -> String {
    let mut second = command(&gateway.directory, &[("SERVER__SHUTDOWN_TIMEOUT", "0s")]);
    let output = second.stderr(Stdio::piped()).output().expect("it ends");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("text")
}

#[tokio::test]
async fn a_renamed_store_acknowledges_nothing_and_goes_on_under_its_name() {
    let gateway = Gateway::durable(&[]);
    let mut stream = gateway.open("/events?topic=t").await;
    assert_eq!(publish(&gateway, "before").await.status(), 200);
    let job = text_at(&create_job(&gateway).await.json().await.expect("JSON"), "/id");
    let elsewhere = directory(&gateway).join("elsewhere");
    fs::rename(file(&gateway), &elsewhere).expect("renamed");
    for at in 0..20 {
        problem(publish(&gateway, &format!("meanwhile {at}")).await, 503).await;
    }
    problem(create_job(&gateway).await, 503).await;
    let said = until_ready(&gateway, 503).await;
    let path = file(&gateway);
    assert!(said.contains(&*path.to_string_lossy()), "{said}");
    assert!(said.contains("back") && said.contains("history.path"), "{said}");
    assert_eq!(gateway.get("/health/live").await.status(), 200);
    assert_eq!(stored(&gateway).await, ["before"], "reads go on");
    assert_eq!(gateway.get(&format!("/jobs/{job}")).await.status(), 200);
    let refused = cannot_start(&gateway);
    assert!(refused.contains("in use by another process"), "{refused}");
    assert!(!path.exists(), "no new store is made");
    fs::rename(&elsewhere, &path).expect("renamed");
    until_ready(&gateway, 200).await;
    for at in 0..20 {
        assert_eq!(publish(&gateway, &format!("meanwhile {at}")).await.status(), 200);
    }
    let mut expected = vec!["before".to_owned()];
    expected.extend((0..20).map(|at| format!("meanwhile {at}")));
    assert_eq!(stream.data(21).await, expected);
    let gateway = gateway.crash(&[]);
    assert_eq!(stored(&gateway).await, expected, "each once");
}

#[tokio::test]
async fn a_file_that_moves_while_publishers_publish_loses_nothing_acknowledged() {
    let gateway = Arc::new(Gateway::durable(&[]));
    let mut stream = gateway.open("/events?topic=t").await;
    let publishing: Vec<_> = (0..4)
        .map(|who| {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                for at in 0..50 {
                    let data = format!("{who} {at}");
                    while publish(&gateway, &data).await.status() != 200 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        })
        .collect();
    let (path, elsewhere) = (file(&gateway), directory(&gateway).join("elsewhere"));
    let moving = tokio::spawn(async move {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            fs::rename(&path, &elsewhere).expect("renamed");
            tokio::time::sleep(Duration::from_millis(150)).await;
            fs::rename(&elsewhere, &path).expect("renamed");
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    });
    let mut got = stream.data(200).await;
    for it in publishing {
        it.await.expect("published");
    }
    moving.await.expect("moved");
    until_ready(&gateway, 200).await;
    let mut all = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(all.data(200).await, got, "live subscribers miss nothing");
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 200, "each once");
}

#[tokio::test]
async fn a_deleted_directory_is_said_and_its_events_can_be_saved() {
    let mut gateway = Gateway::durable(&[]);
    for at in 0..5 {
        assert_eq!(publish(&gateway, &at.to_string()).await.status(), 200);
    }
    fs::remove_dir_all(directory(&gateway)).expect("removed");
    problem(publish(&gateway, "lost").await, 503).await;
    let said = until_ready(&gateway, 503).await;
    let open = said.split_whitespace().find(|it| it.starts_with("/proc/")).expect("a copy of it");
    let saved = fs::read(open).expect("the gateway still holds it");
    fs::create_dir(directory(&gateway)).expect("a directory");
    fs::write(file(&gateway), saved).expect("a file");
    problem(publish(&gateway, "lost").await, 503).await;
    gateway.kill();
    let gateway = Gateway::on(gateway.directory.clone(), &[]);
    let stored = stored(&gateway).await;
    assert_eq!(stored[..5], ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_file_in_the_place_of_the_store_is_not_taken_for_it() {
    let gateway = Gateway::durable(&[]);
    assert_eq!(publish(&gateway, "before").await.status(), 200);
    let copy = directory(&gateway).join("copy");
    fs::copy(file(&gateway), &copy).expect("copied");
    fs::rename(&copy, file(&gateway)).expect("renamed");
    problem(publish(&gateway, "lost").await, 503).await;
    let said = until_ready(&gateway, 503).await;
    assert!(said.contains("another file"), "{said}");
    assert_eq!(stored(&gateway).await, ["before"]);
}

/// A separate file system for the store, which needs rights that not every user has.
struct Mount {
    path: PathBuf,
    image: Option<PathBuf>,
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let status = command.args(arguments).stderr(Stdio::null()).stdout(Stdio::null()).status();
    status.is_ok_and(|it| it.success())
}

impl Mount {
    fn small(path: &Path) -> Option<Self> {
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=8m", "none", path.to_str()?]);
        mounted.then(|| Self { path: path.to_owned(), image: None })
    }

    /// A file system that can be frozen, so that nothing reaches the disk.
    fn on_image(path: &Path) -> Option<Self> {
        let image = path.with_extension("image");
        fs::File::create(&image).ok()?.set_len(64 << 20).ok()?;
        let text = image.to_str()?;
        let mounted = run("mkfs.ext4", &["-q", text])
            && run("mount", &["-o", "loop", text, path.to_str()?])
            // Without freezing there is nothing to test.
            && run("fsfreeze", &["-f", path.to_str()?])
            && run("fsfreeze", &["-u", path.to_str()?]);
        mounted.then(|| Self { path: path.to_owned(), image: Some(image) })
    }

    fn remount(&self, how: &str) {
        let path = self.path.to_str().expect("text");
        assert!(run("mount", &["-o", &format!("remount,{how}"), path]), "remount,{how}");
    }

    fn freeze(&self, flag: &str) {
        assert!(run("fsfreeze", &[flag, self.path.to_str().expect("text")]), "fsfreeze {flag}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.path.to_str().expect("text");
        if self.image.is_some() {
            run("fsfreeze", &["-u", path]);
        }
        run("umount", &["-l", path]);
    }
}

/// A directory for a gateway with a separate file system for the store, or `None` if unavailable.
fn mounted(mount: fn(&Path) -> Option<Mount>) -> Option<(Arc<tempfile::TempDir>, Mount)> {
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let data = directory.path().join("data");
    fs::create_dir(&data).expect("a directory");
    let mount = mount(&data);
    if mount.is_none() {
        eprintln!("skipped: file systems cannot be mounted here");
    }
    Some((directory, mount?))
}

/// Checks that reads are served while writes fail, and that all is well after the repair.
async fn serves_what_there_is(gateway: Gateway, job: &str, repair: impl FnOnce(), reason: &str) {
    let said = until_ready(&gateway, 503).await;
    assert!(said.contains(reason) && said.contains("tidegate.redb"), "{said}");
    let log = gateway.log();
    assert!(log.contains("nothing can be published"), "{log}");
    assert_eq!(stored(&gateway).await, ["before"]);
    let mut stream = gateway.open("/events?topic=t&last_event_id=earliest").await;
    assert_eq!(stream.next().await.data, "before");
    assert_eq!(gateway.get(&format!("/jobs/{job}")).await.status(), 200);
    let refused = problem(publish(&gateway, "after").await, 503).await;
    assert!(refused["detail"].as_str().expect("text").contains(reason), "{refused}");
    problem(create_job(&gateway).await, 503).await;
    repair();
    until_ready(&gateway, 200).await;
    assert_eq!(publish(&gateway, "after").await.status(), 200);
    assert_eq!(stream.next().await.data, "after");
    assert_eq!(create_job(&gateway).await.status(), 202);
    let gateway = gateway.crash(&[]);
    assert_eq!(stored(&gateway).await, ["before", "after"]);
}

#[tokio::test]
async fn a_start_on_a_read_only_file_system_serves_what_there_is() {
    let Some((directory, mount)) = mounted(Mount::small) else { return };
    let mut gateway = Gateway::on(directory.clone(), &[]);
    assert_eq!(publish(&gateway, "before").await.status(), 200);
    let job = text_at(&create_job(&gateway).await.json().await.expect("JSON"), "/id");
    gateway.kill();
    mount.remount("ro");
    let gateway = Gateway::on(directory, &[]);
    serves_what_there_is(gateway, &job, || mount.remount("rw"), "ead-only").await;
}

#[tokio::test]
async fn a_start_on_a_disk_that_takes_nothing_serves_what_there_is() {
    let mut gateway = Gateway::durable_without_signals();
    assert_eq!(publish(&gateway, "before").await.status(), 200);
    let job = text_at(&create_job(&gateway).await.json().await.expect("JSON"), "/id");
    gateway.kill();
    let gateway = Gateway::after("trap '' XFSZ; ulimit -S -f 0", gateway.directory.clone());
    let id = gateway.process.id().to_string();
    let repair = || assert!(run("prlimit", &["--pid", &id, "--fsize=unlimited:"]));
    serves_what_there_is(gateway, &job, repair, "File too large").await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_serves_what_there_is() {
    let Some((directory, _mount)) = mounted(Mount::small) else { return };
    let mut gateway = Gateway::on(directory.clone(), &[]);
    assert_eq!(publish(&gateway, "before").await.status(), 200);
    gateway.kill();
    let filler = directory.path().join("data/filler");
    let mut filling = fs::File::create(&filler).expect("a file");
    while filling.write_all(&[1; 4096]).is_ok() {}
    drop(filling);
    let gateway = Gateway::on(directory, &[]);
    assert_eq!(stored(&gateway).await, ["before"]);
    // Free pages of the file accept a little.
    let padding = "x".repeat(200_000);
    let mut n_stored = 1;
    let fill = async || {
        let body = json!({ "topics": ["t"], "data": padding });
        let request = gateway.client.post(gateway.url("/events")).json(&body);
        request.send().await.expect("a reply").status()
    };
    while fill().await == 200 {
        n_stored += 1;
        assert!(n_stored < 100, "the disk is never full");
    }
    let said = until_ready(&gateway, 503).await;
    assert!(said.contains("No space left"), "{said}");
    fs::remove_file(filler).expect("removed");
    until_ready(&gateway, 200).await;
    assert_eq!(publish(&gateway, "after").await.status(), 200);
}

#[tokio::test]
async fn who_waits_for_a_store_says_so_at_once() {
    let gateway = Gateway::durable(&[]);
    let mut second = command(&gateway.directory, &[("SERVER__SHUTDOWN_TIMEOUT", "2s")]);
    let mut second = second.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(second.stderr.take().expect("a pipe")).lines();
    let waiting = lines.by_ref().map_while(Result::ok).find(|it| it.contains("another process"));
    let waiting = waiting.expect("a line");
    assert!(second.try_wait().expect("it can be asked").is_none(), "said while it waits");
    for part in [&*file(&gateway).to_string_lossy(), "history.path", "3s"] {
        assert!(waiting.contains(part), "{part} in {waiting}");
    }
    assert!(!second.wait().expect("it ends").success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let rest = rest.join("\n");
    assert!(rest.contains("in use by another process") && rest.contains("3s"), "{rest}");
}

#[tokio::test]
async fn the_time_of_commits_is_measured() {
    let gateway = Gateway::durable(&[]);
    assert_eq!(publish(&gateway, "1").await.status(), 200);
    assert!(1.0 <= gateway.metric("tidegate_history_commit_seconds_count").await);
    assert!(0.0 < gateway.metric("tidegate_history_commit_seconds_sum").await);
}

#[tokio::test]
async fn a_commit_that_hangs_is_said_while_it_hangs() {
    let Some((directory, mount)) = mounted(Mount::on_image) else { return };
    let gateway = Arc::new(Gateway::on(directory, &[("HISTORY__SLOW_COMMIT", "200ms")]));
    assert_eq!(publish(&gateway, "before").await.status(), 200);
    mount.freeze("-f");
    let publishing = tokio::spawn({
        let gateway = gateway.clone();
        async move { publish(&gateway, "after").await.status() }
    });
    let said = until_ready(&gateway, 503).await;
    assert!(said.contains("history.slow_commit"), "{said}");
    assert!(!publishing.is_finished());
    mount.freeze("-u");
    assert_eq!(publishing.await.expect("no panic"), 200);
    assert_eq!(publish(&gateway, "quick").await.status(), 200);
    until_ready(&gateway, 200).await;
    assert_eq!(stored(&gateway).await, ["before", "after", "quick"]);
}
