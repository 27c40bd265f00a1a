//! The gateway in normal use: the binary, on a port, with settings in the environment.

use std::{env, net::TcpListener, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Settings for tests: clients reconnect soon.
const SETTINGS: [(&str, &str); 5] = [
    ("HISTORY__STORE", "memory"),
    ("LOG__FILTER", "off"),
    ("SERVER__WORKERS", "2"),
    ("DELIVERY__RETRY", "200ms"),
    ("DELIVERY__RETRY_SPREAD", "200ms"),
];

/// Ports that tests listen on, below those that the system assigns to outgoing connections. A port
/// is therefore still free after the gateway was down for a while.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A gateway that can be killed and restarted at the same address.
pub(crate) struct Gateway {
    port: u16,
    settings: Vec<(String, String)>,
    directory: TempDir,
    http: reqwest::Client,
    process: Child,
}

impl Gateway {
    /// Starts a gateway; settings are written `SECTION__KEY`.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> = SETTINGS
            .iter()
            .chain(settings)
            .map(|(key, value)| (format!("TIDEGATE_{key}"), (*value).to_owned()))
            .collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        // So short that no request is sent on a connection of a killed process.
        let idle = Duration::from_millis(1);
        let http = reqwest::Client::builder().pool_idle_timeout(idle).build();
        let port = free_port();
        let process = launch(port, &settings, &directory).await;
        Self { port, settings, directory, http: http.expect("an HTTP client"), process }
    }

    /// Returns the origin of the gateway's own pages.
    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills it, as a crash or the kernel would.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.expect("the gateway runs");
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub(crate) async fn terminate(&mut self) {
        let id = self.process.id().expect("the gateway runs").to_string();
        let signal = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(signal.expect("`kill` can be run").success(), "the signal was sent");
        let status = self.process.wait().await.expect("the gateway runs");
        assert!(status.success(), "an orderly end: {status}");
    }

    /// Changes a setting for the next start.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.push((format!("TIDEGATE_{key}"), value.to_owned()));
    }

    /// Starts it again after its end.
    pub(crate) async fn restart(&mut self) {
        self.process = launch(self.port, &self.settings, &self.directory).await;
    }

    /// Publishes updates, all at once.
    pub(crate) async fn publish(&self, updates: &[Value]) {
        let request = self.http.post(format!("{}/events", self.origin())).json(updates);
        let response = request.send().await.expect("the gateway answers");
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        assert!(status.is_success(), "published: {status} {text}");
    }

    /// Publishes numbered updates one by one, as [`numbered`] makes them.
    pub(crate) async fn publish_numbered(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.publish(&[numbered(number)]).await;
        }
    }

    /// Returns the value of a metric for a transport.
    pub(crate) async fn count(&self, metric: &str, transport: &str) -> u64 {
        self.sample(metric, "transport", transport).await.expect("every transport is counted")
    }

    /// Returns how many requests were refused for this reason.
    pub(crate) async fn refused(&self, reason: &str) -> u64 {
        self.sample("requests_refused_total", "reason", reason).await.unwrap_or(0)
    }

    async fn sample(&self, metric: &str, label: &str, value: &str) -> Option<u64> {
        let response = self.http.get(format!("{}/metrics", self.origin())).send().await;
        let text = response.expect("the gateway answers").text().await.expect("text");
        let name = format!("tidegate_{metric}{{{label}=\"{value}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    /// Waits until each of these transports has a subscriber.
    pub(crate) async fn has_subscribers(&self, transports: &[&str]) {
        for transport in transports {
            super::eventually(&format!("a subscriber over {transport}"), async || {
                (0 < self.count("subscribers", transport).await).then_some(())
            })
            .await;
        }
    }
}

/// A numbered update: topic `x`, id and data by `number`.
pub(crate) fn numbered(number: usize) -> Value {
    json!({ "topics": ["x"], "id": format!("id-{number}"), "data": format!("data {number}") })
}

/// Returns a port without a listener.
pub(crate) fn free_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("the iterator does not end")
}

async fn launch(port: u16, settings: &[(String, String)], directory: &TempDir) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    // Not in the repository, whose tidegate.toml it would read.
    command.current_dir(directory.path()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().expect("the gateway starts");
    let output = process.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(output).lines();
    loop {
        let line = lines.next_line().await.expect("its output is text");
        let line = line.expect("the gateway listens before it ends");
        if line.trim_start().starts_with("open ") {
            break;
        }
    }
    // Drains later output, so that the process does not block.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    process
}
