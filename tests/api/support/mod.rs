//! Shared by the tests: a gateway as a child process, an event stream reader, and plain sockets.

pub mod raw;
pub mod sinks;
pub mod sse;
pub mod tls;
pub mod tokens;
pub mod watch;

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, Response};
use serde_json::Value;

/// Time limit for anything before a test fails. Generous, because test machines are busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running gateway of its own.
pub struct Gateway {
    pub process: Child,
    pub address: SocketAddr,
    /// All its URLs, in the order of the settings, plain ones first.
    pub urls: Vec<String>,
    /// The address for operators, if it has one.
    pub operations: Option<String>,
    pub client: Client,
    pub directory: Arc<tempfile::TempDir>,
}

impl Gateway {
    /// A gateway with default settings.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A gateway with some settings, written like `("DELIVERY__HEARTBEAT", "1s")`. It keeps the
    /// history in memory, which is fast and enough for tests without a restart.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> =
            [("HISTORY__STORE", "memory")].iter().chain(settings).copied().collect();
        Self::durable(&settings)
    }

    /// A gateway that may open this many descriptors.
    pub fn with_descriptors(limit: usize, settings: &[(&str, &str)]) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let direct = command(&directory, settings);
        let mut shell = Command::new("bash");
        let script = format!("ulimit -n {limit}; exec \"$0\"");
        shell.args(["-c", &script]).arg(direct.get_program());
        shell.current_dir(&*directory).stdout(Stdio::piped()).stderr(Stdio::null());
        shell.envs(direct.get_envs().filter_map(|(key, value)| Some((key, value?))));
        shell.env("TIDEGATE_HISTORY__STORE", "memory");
        Self::spawned(shell, directory)
    }

    /// A gateway that keeps the history on disk, in a directory of its own.
    pub fn durable(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::on(Arc::new(directory), settings)
    }

    /// A gateway with the store in a directory, which another gateway may have left.
    pub fn on(directory: Arc<tempfile::TempDir>, settings: &[(&str, &str)]) -> Self {
        Self::spawned(command(&directory, settings), directory)
    }

    fn spawned(mut command: Command, directory: Arc<tempfile::TempDir>) -> Self {
        let mut process = command.spawn().expect("the gateway starts");
        let output = BufReader::new(process.stdout.take().expect("standard output is a pipe"));
        let greeting: Vec<String> = output
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.trim().starts_with("access"))
            .map(|line| line.trim().to_owned())
            .collect();
        let told = |what: &'static str| greeting.iter().filter_map(move |it| it.strip_prefix(what));
        let urls: Vec<String> = told("open     ").map(ToOwned::to_owned).collect();
        let operations = told("operate  ").next();
        let operations =
            operations.and_then(|it| it.strip_suffix("metrics")).map(ToOwned::to_owned);
        let address = urls
            .first()
            .and_then(|url| url.strip_prefix("http://")?.trim_end_matches('/').parse().ok());
        let address = address.expect("the gateway prints its address");
        // So short that no request is sent on a connection of a killed process.
        let idle = Duration::from_millis(1);
        let client = Client::builder().pool_idle_timeout(idle).build().expect("an HTTP client");
        Self { process, address, urls, operations, client, directory }
    }

    /// A gateway that keeps the history on disk, and that survives a file growing too large.
    pub fn durable_without_signals() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let direct = command(&directory, &[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\""]).arg(direct.get_program());
        shell.current_dir(&directory).stdout(Stdio::piped()).stderr(Stdio::null());
        shell.envs(direct.get_envs().filter_map(|(key, value)| Some((key, value?))));
        Self::spawned(shell, Arc::new(directory))
    }

    /// Starts a gateway with a custom command. It logs to a pipe, since it cannot write to a file.
    pub fn logged(mut command: Command, directory: Arc<tempfile::TempDir>) -> Self {
        let (mut lines, log) = std::io::pipe().expect("a pipe");
        command.stderr(log);
        let kept = OpenOptions::new().create(true).append(true).open(directory.path().join("log"));
        let mut kept = kept.expect("a file for the log");
        std::thread::spawn(move || std::io::copy(&mut lines, &mut kept));
        Self::spawned(command, directory)
    }

    /// Kills it, and starts another gateway on what it left.
    pub fn crash(mut self, settings: &[(&str, &str)]) -> Self {
        self.kill();
        Self::on(self.directory.clone(), settings)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill().expect("the gateway runs");
        self.process.wait().expect("the gateway has ended");
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).expect("a log")
    }

    /// Returns the full URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Publishes a form and returns the reply.
    pub async fn post(&self, form: &[(&str, &str)]) -> Response {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client
            .post(self.url("/events"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .expect("a reply")
    }

    /// Publishes a form at the hub's own address with a token and returns the reply.
    pub async fn post_as(&self, token: &str, form: &[(&str, &str)]) -> Response {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.client.post(self.url("/.well-known/mercure")).bearer_auth(token);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(body).send().await.expect("a reply")
    }

    /// Gets a path with a token.
    pub async fn get_as(&self, token: &str, path: &str) -> Response {
        self.client.get(self.url(path)).bearer_auth(token).send().await.expect("a reply")
    }

    /// Opens an event stream with a token.
    pub async fn open_as(&self, token: &str, path: &str) -> sse::Stream {
        sse::Stream::open(self.client.get(self.url(path)).bearer_auth(token)).await
    }

    /// Publishes data under a topic and returns the id.
    pub async fn publish(&self, topic: &str, data: &str) -> String {
        let reply = self.post(&[("topic", topic), ("data", data)]).await;
        assert_eq!(reply.status(), 200);
        reply.text().await.expect("the id")
    }

    /// Publishes JSON and returns the reply.
    pub async fn post_json(&self, body: impl Into<reqwest::Body>) -> Response {
        let request =
            self.client.post(self.url("/events")).header("content-type", "application/json");
        request.body(body).send().await.expect("a reply")
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.expect("a reply")
    }

    /// Polls and returns the reply's JSON.
    pub async fn poll(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status(), 200);
        reply.json().await.expect("a JSON reply")
    }

    /// Opens an event stream.
    pub async fn open(&self, path: &str) -> sse::Stream {
        sse::Stream::open(self.client.get(self.url(path))).await
    }

    /// Returns the value of a metric, written as in the page: `tidegate_updates_total`.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").await.text().await.expect("a page");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {page}")).parse().expect("a number")
    }

    /// Waits until a metric has a value.
    pub async fn until_metric(&self, name: &str, value: f64) {
        let reached = async {
            while self.metric(name).await != value {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let outcome = tokio::time::timeout(DEADLINE, reached).await;
        assert!(outcome.is_ok(), "{name} does not become {value}");
    }

    /// Sends a signal to the process.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

/// A command for the gateway in a directory.
pub fn command(directory: &tempfile::TempDir, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let log = OpenOptions::new().create(true).append(true).open(directory.path().join("log"));
    command.current_dir(directory).stdout(Stdio::piped()).stderr(log.expect("a file for the log"));
    command.env("TIDEGATE_SERVER__LISTEN", "127.0.0.1:0");
    command.envs(settings.iter().map(|(key, value)| (format!("TIDEGATE_{key}"), value)));
    command
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Checks that a reply is a problem document with a status, and returns it.
pub async fn problem(reply: Response, status: u16) -> Value {
    let kind = reply
        .headers()
        .get("content-type")
        .expect("a content type")
        .to_str()
        .expect("text")
        .to_owned();
    let actual = reply.status();
    let text = reply.text().await.expect("a body");
    assert_eq!(actual, status, "{text}");
    assert_eq!(kind, "application/problem+json");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().is_some_and(|it| !it.is_empty()), "{text}");
    document
}

/// Returns the text at a JSON pointer.
pub fn text_at(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer} in {value}")).to_owned()
}
