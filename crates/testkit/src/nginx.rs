//! A real nginx in front of a server.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use reqwest::StatusCode;
use tempfile::TempDir;

use crate::{
    deadline::{found, in_time},
    gateway::client,
    ports::free_port,
};

/// A running nginx. Dropping it stops it with its workers.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    /// Its base URL, as `http://localhost:port`.
    pub base: String,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx with the configuration that `write` makes of its port and its directory.
    /// Returns nothing if nginx is not installed, unless `REQUIRE_ALL_TESTS` is 1.
    ///
    /// # Panics
    /// If nginx is required and missing, or if it does not start.
    pub fn start(write: impl FnOnce(u16, &Path) -> String) -> Option<Self> {
        let Some(program) = program() else {
            let is_required = env::var_os("REQUIRE_ALL_TESTS").is_some_and(|it| it == "1");
            assert!(!is_required, "nginx is not installed");
            eprintln!("skipped: nginx is not installed");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let file = directory.path().join("nginx.conf");
        fs::write(&file, write(port, directory.path())).expect("a writable directory");
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-c"]).arg(file).stdin(Stdio::null());
        let child = command.spawn().expect("nginx starts");
        Some(Self { child, base: format!("http://localhost:{port}"), _directory: directory })
    }

    /// Starts nginx with these locations in its only server, and defaults for everything else.
    pub fn serving(locations: &str) -> Option<Self> {
        Self::start(|port, directory| {
            let directory = directory.display();
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
                .collect();
            format!(
                "daemon off;\npid {directory}/pid;\nerror_log stderr warn;\nevents {{}}\n\
                 http {{\naccess_log off;\n{temporary}server {{\nlisten 127.0.0.1:{port};\n\
                 {locations}\n}}\n}}\n"
            )
        })
    }

    /// Waits until a path is answered with a status.
    pub async fn answers(&self, path: &str, status: StatusCode) {
        let url = format!("{}{path}", self.base);
        let answered = found(async || {
            let reply = client().get(&url).send().await;
            reply.is_ok_and(|it| it.status() == status).then_some(())
        });
        in_time("an answer of nginx", answered).await;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Not SIGKILL, which would leave its workers running.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Returns the nginx program. Debian installs it outside the `PATH` of ordinary users.
fn program() -> Option<&'static str> {
    let runs =
        |program: &&str| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok();
    ["nginx", "/usr/sbin/nginx"].into_iter().find(runs)
}
