//! A gateway on a listener held by another process, as with systemd's socket units. Connections
//! during a restart wait.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use tidegate_testkit::environment;

use crate::support::DEADLINE;

struct Running(Child);

impl Running {
    /// A gateway on `listener`, with the store of `directory`.
    fn start(listener: &TcpListener, address: SocketAddr, directory: &tempfile::TempDir) -> Self {
        let passed_on = OwnedFd::from(listener.try_clone().expect("a descriptor"));
        let mut shell = environment::command("sh");
        shell.args([
            "-c",
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\"",
            env!("CARGO_BIN_EXE_tidegate"),
        ]);
        shell.current_dir(directory).stdin(passed_on).stdout(Stdio::null()).stderr(Stdio::null());
        shell.env("TIDEGATE_SERVER__LISTEN", address.to_string());
        Self(shell.spawn().expect("a shell"))
    }

    fn terminate(&self) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM).expect("it runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn publish(client: &Client, url: &str, data: String) -> reqwest::Result<String> {
    let body = format!("topic=t&data={data}");
    let request = client.post(url).header("content-type", "application/x-www-form-urlencoded");
    request.body(body).send().await?.error_for_status()?.text().await
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_on_a_listener_that_stays_refuse_no_connection_and_lose_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = format!("http://{address}/events");
    let mut running = Running::start(&listener, address, &directory);
    // A new connection for each request, because connections could be refused.
    let client = Client::builder().pool_max_idle_per_host(0).timeout(DEADLINE).build();
    let client = client.expect("a client");
    let first = publish(&client, &url, "first".to_owned()).await.expect("it waits for the gateway");

    let is_done = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn({
        let (client, url, is_done) = (client.clone(), url.clone(), is_done.clone());
        async move {
            let (mut ids, mut refused) = (vec![first], 0);
            while !is_done.load(SeqCst) {
                match publish(&client, &url, ids.len().to_string()).await {
                    Ok(id) => ids.push(id),
                    Err(error) if error.is_connect() => refused += 1,
                    // Accepted just before the end, and not answered. A publisher would retry it.
                    Err(_) => {}
                }
            }
            (ids, refused)
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        running.terminate();
        // The next gateway waits for the store, and then accepts.
        let next = Running::start(&listener, address, &directory);
        let ends = Instant::now() + DEADLINE;
        while running.0.try_wait().expect("its state").is_none() {
            assert!(Instant::now() < ends, "it ends");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running = next;
    }
    publish(&client, &url, "last".to_owned()).await.expect("it goes on");
    is_done.store(true, SeqCst);
    let (ids, refused) = publishing.await.expect("it ends");
    assert_eq!(refused, 0);
    let mut kept = Vec::new();
    let mut next = format!("http://{address}/poll?topic=t&last_event_id=earliest&wait=0");
    loop {
        let page = client.get(&next).send().await.expect("a reply");
        let page: serde_json::Value = page.json().await.expect("JSON");
        for event in page["events"].as_array().expect("a list") {
            kept.push(event["id"].as_str().expect("an id").to_owned());
        }
        if page["more"] == false {
            break;
        }
        next = page["next"].as_str().expect("an address").to_owned();
    }
    assert!(ids.iter().all(|id| kept.contains(id)), "what was acknowledged is there");
}

#[test]
fn a_listener_that_no_setting_names_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut running = Running::start(&listener, other, &directory);
    let ends = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = running.0.try_wait().expect("its state") {
            break status;
        }
        assert!(Instant::now() < ends, "it ends");
        std::thread::yield_now();
    };
    assert!(!status.success());
}
