//! A real Redis, with a directory of its own.

use std::{
    env,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{deadline::DEADLINE, environment, launch::directory, ports::free_port};

/// A running Redis. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    process: Child,
    arguments: Vec<String>,
    directory: Arc<TempDir>,
    /// Its port of 127.0.0.1.
    pub port: u16,
}

/// The arguments of a Redis that syncs every write before it answers.
pub const SYNCED: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

impl Redis {
    /// Starts Redis with more arguments, which replace the defaults. Returns nothing if Redis is
    /// not installed, unless `REQUIRE_ALL_TESTS` is 1.
    ///
    /// # Panics
    /// If Redis is required and missing, or if it does not start.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_at(free_port(), arguments)
    }

    /// Starts Redis like [`Redis::start`], at a port of 127.0.0.1.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn start_at(port: u16, arguments: &[&str]) -> Option<Self> {
        let runs = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if runs.is_err() {
            let is_required = env::var_os("REQUIRE_ALL_TESTS").is_some_and(|it| it == "1");
            assert!(!is_required, "redis-server is not installed");
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        let directory = directory();
        let process = spawn(&arguments, &directory, port);
        let redis = Self { process, arguments, directory, port };
        redis.wait_until_ready();
        Some(redis)
    }

    /// Its address, as settings take it.
    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, as a crash or the kernel would.
    pub fn kill(&mut self) {
        self.process.kill().expect("Redis runs");
        self.process.wait().expect("Redis has ended");
    }

    /// Starts it again after its end, on the same directory and port.
    pub fn restart(&mut self) {
        self.process = spawn(&self.arguments, &self.directory, self.port);
        self.wait_until_ready();
    }

    /// Stops it without ending it.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(status.expect("`kill` can be run").success(), "{name} was sent");
    }

    /// Runs a command, and returns the answer as Redis writes it.
    ///
    /// # Panics
    /// If Redis does not answer.
    pub fn run(&self, command: &[&str]) -> String {
        self.try_run(command).expect("Redis answers")
    }

    fn try_run(&self, command: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut request = format!("*{}\r\n", command.len());
        for word in command {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        // Redis closes the connection after this, so that the answer ends.
        stream.write_all(format!("{request}*1\r\n$4\r\nQUIT\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
    }

    fn wait_until_ready(&self) {
        let begun = Instant::now();
        let is_ready =
            || self.try_run(&["PING"]).is_ok_and(|it| it == "+PONG\r\n" || it.contains("NOAUTH"));
        while !is_ready() {
            assert!(begun.elapsed() < DEADLINE, "Redis does not start");
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn spawn(arguments: &[String], directory: &TempDir, port: u16) -> Child {
    let mut command = environment::command("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--logfile", "log", "--dir"]).arg(directory.path()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server starts")
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
