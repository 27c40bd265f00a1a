//! A running gateway: the process, its addresses, and its end.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, ExitStatus},
    sync::Arc,
    thread,
    time::Duration,
};

use reqwest::Client;
use tempfile::TempDir;

use crate::{
    deadline::{found, in_time},
    greeting::Greeting,
    launch::{LOG, Launch},
};

/// Lines at the end of the log that a failing test prints.
const N_LAST_LINES: usize = 20;

/// A running gateway, which is killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    /// Its process.
    pub process: Child,
    /// Its first address without TLS.
    pub address: SocketAddr,
    /// All its URLs, in the order of the settings, plain ones first.
    pub urls: Vec<String>,
    /// The URL for operators, if it has one.
    pub operations: Option<String>,
    /// A client for requests to it.
    pub client: Client,
    /// Its working directory.
    pub directory: Arc<TempDir>,
    launch: Launch,
}

/// Returns an HTTP client that uses no proxy and reuses no connection of a killed process.
pub fn client() -> Client {
    // So short that no request is sent on a connection of a killed process.
    let idle = Duration::from_millis(1);
    Client::builder().no_proxy().pool_idle_timeout(idle).build().expect("an HTTP client")
}

impl Launch {
    /// Starts the gateway, and returns when it has printed its addresses.
    pub fn start(&self) -> Gateway {
        let mut command = self.command();
        if self.preamble.is_some() {
            command.stderr(self.piped_log());
        }
        let mut process = command.spawn().expect("the gateway starts");
        let Some(greeting) = Greeting::read(process.stdout.take().expect("a pipe")) else {
            let _ = process.kill();
            let _ = process.wait();
            let log = fs::read_to_string(self.directory().path().join(LOG)).unwrap_or_default();
            panic!("the gateway prints no address; its log: {log}");
        };
        Gateway::new(process, greeting, self.clone())
    }

    /// Starts the gateway on another thread, so that the test's own servers keep running.
    pub async fn start_aside(&self) -> Gateway {
        let launch = self.clone();
        tokio::task::spawn_blocking(move || launch.start()).await.expect("the gateway starts")
    }
}

impl Gateway {
    pub(crate) fn new(process: Child, greeting: Greeting, launch: Launch) -> Self {
        let Greeting { address, urls, operations } = greeting;
        let directory = launch.directory().clone();
        Self { process, address, urls, operations, client: client(), directory, launch }
    }

    /// Kills it, as a crash or the kernel would.
    pub fn kill(&mut self) {
        self.process.kill().expect("the gateway runs");
        self.process.wait().expect("the gateway has ended");
    }

    /// Sends a signal, written like `-TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(status.expect("`kill` can be run").success(), "{name} was sent");
    }

    /// Sends SIGTERM, and waits until it has ended in good order.
    pub async fn terminate(&mut self) {
        self.signal("-TERM");
        let status = self.ended().await;
        assert!(status.success(), "an orderly end: {status}");
    }

    /// Waits for its end. The test's own servers keep running.
    async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        let ended = found(async || process.try_wait().expect("it can be waited for"));
        in_time("the end of the gateway", ended).await
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.launch.set(key, value);
    }

    /// Starts it again after its end, on the same directory and at the same address.
    pub async fn restart(&mut self) {
        self.launch.set("SERVER__LISTEN", &self.address.to_string());
        *self = self.launch.start_aside().await;
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join(LOG)).expect("a log")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking()
            && let Ok(log) = fs::read_to_string(self.directory.path().join(LOG))
        {
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(N_LAST_LINES)..];
            eprintln!("the end of the gateway's log:\n{}", last.join("\n"));
        }
    }
}
