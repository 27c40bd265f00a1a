//! The gateway in normal use: the binary, on a port, with settings in the environment.

use std::{env, net::TcpListener, process::Stdio};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::in_time;

/// Settings for tests: clients reconnect soon, and tolerate a busy machine.
const SETTINGS: [(&str, &str); 3] =
    [("LOG__FILTER", "off"), ("DELIVERY__RETRY", "100ms"), ("DELIVERY__HEARTBEAT", "1s")];

/// Ports that tests listen on, below those that the system assigns to outgoing connections. A port
/// is therefore still free after the gateway was down for a while.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A gateway that can be killed and restarted at the same address.
pub(crate) struct Gateway {
    pub(crate) port: u16,
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
        // No connection is kept: one of a killed process would fail the next request.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
        let port = free_port();
        let process = launch(port, &settings, &directory).await;
        Self { port, settings, directory, http: http.expect("an HTTP client"), process }
    }

    /// The address of the hub.
    pub(crate) fn hub(&self) -> String {
        hub_at(self.port)
    }

    /// Kills it, as a crash or the kernel would.
    pub(crate) async fn kill(&mut self) {
        in_time("the end after SIGKILL", self.process.kill()).await.expect("the gateway runs");
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub(crate) async fn terminate(&mut self) {
        let id = self.process.id().expect("the gateway runs").to_string();
        let signal = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(signal.expect("`kill` can be run").success(), "the signal was sent");
        let status = in_time("the end after SIGTERM", self.process.wait()).await;
        assert!(status.expect("the gateway runs").success(), "an orderly end");
    }

    /// Starts it again after its end.
    pub(crate) async fn restart(&mut self) {
        self.process = launch(self.port, &self.settings, &self.directory).await;
    }

    /// Publishes a form.
    pub(crate) async fn publish(&self, form: &[(&str, &str)]) {
        self.publish_as("", form).await;
    }

    /// Publishes a form with an access token.
    pub(crate) async fn publish_as(&self, token: &str, form: &[(&str, &str)]) {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = self.http.post(self.hub()).body(body);
        request = request.header("content-type", "application/x-www-form-urlencoded");
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let reply = in_time("a reply", request.send()).await.expect("the gateway answers");
        assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap_or_default());
    }

    /// Publishes a numbered event under the topic `x`.
    pub(crate) async fn publish_number(&self, number: usize) {
        let (id, data) = (format!("id-{number}"), number.to_string());
        self.publish(&[("topic", "x"), ("id", &id), ("data", &data)]).await;
    }
}

/// Returns the URL of a hub at a port.
pub(super) fn hub_at(port: u16) -> String {
    format!("http://127.0.0.1:{port}/.well-known/mercure")
}

/// Returns a port without a listener.
fn free_port() -> u16 {
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
        let line = in_time("the gateway's start", lines.next_line()).await;
        let line = line.expect("its output is text").expect("it listens before it ends");
        if line.trim_start().starts_with("open ") {
            break;
        }
    }
    // Drains later output, so that the process does not block.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    process
}
