//! Examples under test and readers of their responses. Every wait has a deadline.

use std::{
    ffi::OsStr,
    process::{Command, ExitStatus, Stdio},
};

use reqwest::{Client, Response, header::ACCEPT};
use serde_json::Value;
pub(crate) use tidegate_testkit::{deadline::in_time, programs::example};
use tidegate_testkit::{environment, sse::Stream};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Child,
};

/// A client that uses no proxy, whatever the environment says.
pub(crate) fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client")
}

/// A running example.
pub(crate) struct App {
    child: Child,
    /// Its address, as `127.0.0.1:port`.
    pub(crate) address: String,
}

impl App {
    /// Starts an example on a free port.
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0").await
    }

    /// Starts an example and waits until it prints its address.
    pub(crate) async fn start_at(name: &str, address: &str) -> Self {
        Self::start_with(name, address, &[]).await
    }

    /// Starts an example with more arguments.
    pub(crate) async fn start_with(name: &str, address: &str, arguments: &[&OsStr]) -> Self {
        let mut command = command(name, address);
        command.args(arguments);
        let mut child = command.stderr(Stdio::null()).spawn().expect("the example starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let greeting = in_time("the greeting", lines.next_line()).await.expect("readable");
        let greeting = greeting.unwrap_or_default();
        let (_, rest) = greeting.split_once("http://").expect("the greeting has an address");
        let (address, _) = rest.split_once('/').expect("the address ends");
        Self { child, address: address.to_owned() }
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) {
        in_time("the end after SIGKILL", self.child.kill()).await.expect("it runs");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        terminate(self.child.id().expect("it runs"));
    }

    /// Waits for its end. Returns its exit status.
    pub(crate) async fn end(mut self) -> ExitStatus {
        in_time("the end after SIGTERM", self.child.wait()).await.expect("it can be waited for")
    }
}

/// Runs an example that ends by itself. Returns its exit status and its error output.
pub(crate) async fn run(name: &str, address: &str) -> (ExitStatus, String) {
    let mut command = command(name, address);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the example starts");
    let mut stderr = child.stderr.take().expect("a pipe");
    let mut said = String::new();
    in_time("the end", stderr.read_to_string(&mut said)).await.expect("readable");
    (in_time("the end", child.wait()).await.expect("it can be waited for"), said)
}

fn command(name: &str, address: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::from(environment::command(example(name)));
    command.args(["--listen", address]).kill_on_drop(true);
    command.stdout(Stdio::piped());
    command
}

/// Sends SIGTERM.
pub(crate) fn terminate(pid: u32) {
    let status = Command::new("kill").arg(pid.to_string()).status().expect("there is a kill");
    assert!(status.success(), "cannot send SIGTERM to {pid}");
}

/// Opens an event stream; `cursor` is the `Last-Event-ID`.
pub(crate) async fn listen(url: &str, cursor: Option<&str>) -> Stream {
    let mut request = client().get(url).header(ACCEPT, "text/event-stream, */*;q=0.1");
    if let Some(cursor) = cursor {
        request = request.header("last-event-id", cursor);
    }
    Stream::open(request).await
}

/// A document of `/iframe`, read piece by piece.
pub(crate) struct Document {
    response: Response,
    text: String,
}

impl Document {
    /// Opens a document.
    pub(crate) async fn open(url: &str) -> Self {
        let response = in_time("the head of a document", client().get(url).send()).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200, "{url}");
        Self { response, text: String::new() }
    }

    /// The argument of the next call.
    pub(crate) async fn call(&mut self) -> Value {
        self.until(">tidegate(").await;
        let argument = self.until(")</script>").await;
        serde_json::from_str(&argument).expect("the argument is JSON")
    }

    /// Returns everything before the next `end`, which is dropped.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some((before, behind)) = self.text.split_once(end) {
                let (before, behind) = (before.to_owned(), behind.to_owned());
                self.text = behind;
                return before;
            }
            let chunk = in_time(end, self.response.chunk()).await.expect("readable");
            let chunk = chunk.unwrap_or_else(|| panic!("the document ended before {end:?}"));
            self.text.push_str(str::from_utf8(&chunk).expect("the document is ASCII here"));
        }
    }
}
