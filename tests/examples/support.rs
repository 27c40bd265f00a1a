//! Programs under test and readers of their streams. Every wait has a deadline.

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use reqwest::{Client, Response, header::ACCEPT};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Child,
    time::timeout,
};

/// Longer than anything takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Returns the result of `future`, which must be ready before the deadline.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(result) => result,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

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
    let mut command = tokio::process::Command::new(example(name));
    command.args(["--listen", address]).kill_on_drop(true);
    command.stdout(Stdio::piped());
    command
}

/// Returns the example's program: `target/debug/examples/…`, where this one is in
/// `target/debug/deps`.
pub(crate) fn example(name: &str) -> PathBuf {
    let this = env::current_exe().expect("this program has a path");
    let target = this.ancestors().nth(2).expect("it lies in the target directory");
    let program = target.join("examples").join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing; run `cargo build --examples`", program.display());
    program
}

/// Sends SIGTERM.
pub(crate) fn terminate(pid: u32) {
    let status = Command::new("kill").arg(pid.to_string()).status().expect("there is a kill");
    assert!(status.success(), "cannot send SIGTERM to {pid}");
}

/// A streaming response, read piece by piece.
pub(crate) struct Stream {
    response: Response,
    text: String,
}

/// An event of an event stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) id: String,
}

impl Stream {
    /// Opens a stream; `cursor` is the `Last-Event-ID`.
    pub(crate) async fn open(url: &str, cursor: Option<&str>) -> Self {
        let mut request = client().get(url).header(ACCEPT, "text/event-stream, */*;q=0.1");
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        let response = in_time("the head of a stream", request.send()).await.expect("an answer");
        assert_eq!(response.status(), 200, "{url}");
        Self { response, text: String::new() }
    }

    /// The next event, for streams of `/events`.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let block = self.until("\n\n").await;
            let mut event = Event::default();
            for line in block.lines() {
                match line.split_once(": ") {
                    Some(("event", kind)) => kind.clone_into(&mut event.kind),
                    Some(("data", data)) => event.data.push_str(data),
                    Some(("id", id)) => id.clone_into(&mut event.id),
                    _ => {}
                }
            }
            if !event.data.is_empty() {
                return event;
            }
        }
    }

    /// The argument of the next call, for documents of `/iframe`.
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
            let chunk = chunk.unwrap_or_else(|| panic!("the stream ended before {end:?}"));
            self.text.push_str(str::from_utf8(&chunk).expect("the stream is ASCII here"));
        }
    }

    /// Waits for the end of the stream, orderly or not.
    pub(crate) async fn end(mut self) {
        while let Ok(Some(_)) = in_time("the end of a stream", self.response.chunk()).await {}
    }
}
