//! Programs that receive with a library.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::Deserialize;
use tidegate_testkit::{deadline::in_time, environment};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const NODE_PROGRAM: &str = include_str!("../receive.mjs");
const PYTHON_PROGRAM: &str = include_str!("../receive.py");

/// A client library, with the name that the programs use for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    /// For Node.js.
    Node(&'static str),
    /// For Python.
    Python(&'static str),
}

const LIBRARIES: [Library; 8] = [
    Library::Node("eventsource"),
    Library::Node("eventsource-2"),
    Library::Node("event-source-polyfill"),
    Library::Node("@microsoft/fetch-event-source"),
    Library::Python("httpx-sse"),
    Library::Python("requests-sse"),
    Library::Python("sseclient-py"),
    Library::Python("sseclient-py over requests"),
];

/// Returns the libraries, or none if some are missing and the environment does not require every
/// test.
pub(crate) async fn installed() -> &'static [Library] {
    let mut missing = Vec::new();
    for (program, folder) in [("node", "node_modules"), ("python3", "python")] {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).status().await;
        if !version.is_ok_and(|it| it.success()) {
            missing.push(format!("there is no {program} on this machine"));
        }
        if !folder_of_libraries().join(folder).join(".installed").is_file() {
            missing.push(format!("the libraries for {program} are not installed"));
        }
    }
    if missing.is_empty() {
        return &LIBRARIES;
    }
    let missing = format!("{}; see tests/clients/install", missing.join(", "));
    assert!(env::var_os("REQUIRE_ALL_TESTS").is_none_or(|it| it != "1"), "{missing}");
    eprintln!("skipped: {missing}");
    &[]
}

/// Returns `target/clients`, where `tests/clients/install` puts the libraries.
pub(crate) fn folder_of_libraries() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    target.join("clients")
}

/// An event as a library delivers it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) id: String,
}

/// One line of a program's output.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Event(Event),
    Open { open: bool },
    Lost { lost: bool },
    Refused { refused: u16 },
}

/// A running program.
pub(crate) struct Client {
    pub(crate) library: Library,
    /// How often it has reported an open stream.
    pub(crate) n_opened: usize,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Client {
    /// Starts a program, which subscribes at once.
    pub(crate) fn start(library: Library, address: &str, headers: &[(&str, &str)]) -> Self {
        let folder = folder_of_libraries();
        let (mut command, name) = match library {
            Library::Node(name) => {
                let mut command = environment::command("node");
                // As an inline program it resolves libraries from the working directory.
                command.args(["--input-type=module", "--eval", NODE_PROGRAM, "--"]);
                (command, name)
            }
            Library::Python(name) => {
                let mut command = environment::command("python3");
                command.args(["-c", PYTHON_PROGRAM]).env("PYTHONPATH", folder.join("python"));
                (command, name)
            }
        };
        command.args([name, address]).current_dir(&folder);
        command.args(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        let mut command = Command::from(command);
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the program starts");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { library, n_opened: 0, lines, _process: process }
    }

    /// Waits until a stream is open. No event may arrive before.
    pub(crate) async fn opened(&mut self) {
        let said = self.next_but("an open stream", |it| matches!(it, Said::Lost { .. })).await;
        assert!(matches!(said, Said::Open { .. }), "{:?} says {said:?}", self.library);
    }

    /// Returns the next event, however often the stream is reopened before.
    pub(crate) async fn event(&mut self) -> Event {
        let is_about_streams = |it: &Said| matches!(it, Said::Open { .. } | Said::Lost { .. });
        match self.next_but("an event", is_about_streams).await {
            Said::Event(event) => event,
            said => panic!("{:?} says {said:?}", self.library),
        }
    }

    /// The data of the next events.
    pub(crate) async fn data(&mut self, count: usize) -> Vec<String> {
        let mut data = Vec::new();
        while data.len() < count {
            data.push(self.event().await.data);
        }
        data
    }

    /// Returns the status of its final refusal, however often the stream is reopened before.
    pub(crate) async fn refused(&mut self) -> u16 {
        let is_about_streams = |it: &Said| matches!(it, Said::Open { .. } | Said::Lost { .. });
        match self.next_but("a refusal", is_about_streams).await {
            Said::Refused { refused } => refused,
            said => panic!("{:?} says {said:?}", self.library),
        }
    }

    /// Returns the next line that is not skipped.
    async fn next_but(&mut self, what: &str, is_passed_over: impl Fn(&Said) -> bool) -> Said {
        let what = format!("{what} by {:?}", self.library);
        in_time(&what, async {
            loop {
                let said = self.next().await;
                if !is_passed_over(&said) {
                    return said;
                }
            }
        })
        .await
    }

    async fn next(&mut self) -> Said {
        let line = self.lines.next_line().await.expect("text");
        let line = line.unwrap_or_else(|| panic!("{:?} ends by itself", self.library));
        let said: Said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it says {line}"));
        match said {
            Said::Open { open } => {
                assert!(open, "{line}");
                self.n_opened += 1;
            }
            Said::Lost { lost } => assert!(lost, "{line}"),
            Said::Event(_) | Said::Refused { .. } => {}
        }
        said
    }
}
