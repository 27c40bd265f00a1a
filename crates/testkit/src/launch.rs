//! How a gateway is started: its program, directory and settings.

use std::{
    fs::OpenOptions,
    io,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use tempfile::TempDir;

use crate::environment;

/// The file in the gateway's directory that its log is appended to.
pub(crate) const LOG: &str = "log";

/// A description of a gateway process, from which it can be started more than once.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    directory: Arc<TempDir>,
    settings: Vec<(String, String)>,
    /// Shell commands that run first, in the process that becomes the gateway.
    pub(crate) preamble: Option<String>,
}

/// Creates a directory for a gateway. It is removed after its last use.
pub fn directory() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a temporary directory"))
}

impl Launch {
    /// A gateway with default settings on a free port of 127.0.0.1. Its working directory is
    /// `directory`, which another gateway may have left.
    pub fn new(program: &str, directory: Arc<TempDir>) -> Self {
        let launch =
            Self { program: program.into(), directory, settings: Vec::new(), preamble: None };
        launch.with(&[("SERVER__LISTEN", "127.0.0.1:0")])
    }

    /// Makes the gateway listen on a port of 127.0.0.1, at which it can be restarted.
    #[must_use]
    pub fn at_port(self, port: u16) -> Self {
        self.with(&[("SERVER__LISTEN", &format!("127.0.0.1:{port}"))])
    }

    /// Adds settings, written like `("DELIVERY__HEARTBEAT", "1s")`. The last value of each counts.
    #[must_use]
    pub fn with(mut self, settings: &[(&str, &str)]) -> Self {
        for (key, value) in settings {
            self.set(key, value);
        }
        self
    }

    /// Adds a setting.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((format!("TIDEGATE_{key}"), value.to_owned()));
    }

    /// Runs shell commands first, in the process that becomes the gateway. The log goes through a
    /// pipe, since such a process may be unable to write files.
    #[must_use]
    pub fn after(mut self, preamble: &str) -> Self {
        self.preamble = Some(preamble.to_owned());
        self
    }

    /// The directory of the gateway.
    pub fn directory(&self) -> &Arc<TempDir> {
        &self.directory
    }

    /// Returns a command that starts the gateway. Its output is a pipe, and its log is a file.
    pub fn command(&self) -> Command {
        let mut command = match &self.preamble {
            None => environment::command(&self.program),
            Some(preamble) => {
                let mut shell = environment::command("sh");
                shell.args(["-c", &format!("{preamble}; exec \"$0\"")]).arg(&self.program);
                shell
            }
        };
        let path = self.directory.path().join(LOG);
        let log = OpenOptions::new().create(true).append(true).open(path);
        command.stdout(Stdio::piped()).stderr(log.expect("a file for the log"));
        // The repository has a `tidegate.toml`, which a gateway would read there.
        command.current_dir(self.directory.path());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Returns the end of a pipe whose bytes this process appends to the log.
    pub(crate) fn piped_log(&self) -> io::PipeWriter {
        let (mut lines, writer) = io::pipe().expect("a pipe");
        let path = self.directory.path().join(LOG);
        let mut log = OpenOptions::new().append(true).open(path).expect("a file for the log");
        thread::spawn(move || io::copy(&mut lines, &mut log));
        writer
    }
}
