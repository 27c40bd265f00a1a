//! Runs `git clone`, and kills it with all of its helpers when it is no longer wanted.

use std::{collections::VecDeque, env, ffi::OsString, path::Path, process::Stdio, time::Duration};

use tidegate::jobs::JobHandle;
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::{
    address::Address,
    progress::{News, Output, WHOLE},
};

/// Lines of git's output that explain a failure.
const LAST_LINES: usize = 5;

/// How long git and its helpers may take to end after they were killed.
const END: Duration = Duration::from_secs(5);

/// The settings for running git.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    /// The program.
    pub(crate) program: OsString,
    /// Whether repositories of this machine may be cloned.
    pub(crate) is_file_allowed: bool,
    /// The time limit of a clone.
    pub(crate) time_limit: Duration,
}

impl Git {
    /// Clones `address` into the empty folder `folder` and reports to `job`. Git has ended when
    /// this returns. The error is for people.
    pub(crate) async fn clone(
        &self,
        address: &Address,
        folder: &Path,
        job: &JobHandle,
    ) -> Result<(), String> {
        let child = self.command(address, folder).spawn();
        let mut child = Group(child.map_err(|error| format!("git cannot be started: {error}"))?);
        let mut stderr = child.0.stderr.take().expect("it is a pipe");
        let mut last_lines = VecDeque::new();
        let ended = tokio::select! {
            ended = timeout(self.time_limit, follow(&mut child.0, &mut stderr, job, &mut last_lines)) => ended,
            () = job.cancelled() => {
                child.end(&mut stderr).await;
                return Err("it was stopped".to_owned());
            }
        };
        match ended {
            Ok(Ok(true)) => {
                // Git does not announce that it has written the last file.
                let _ = job.progress(WHOLE, Some(WHOLE), Some("Done"), None).await;
                Ok(())
            }
            Ok(Ok(false)) => {
                let lines: Vec<_> = last_lines.into();
                Err(format!("git could not clone it:\n{}", lines.join("\n")))
            }
            Ok(Err(error)) => {
                child.end(&mut stderr).await;
                Err(format!("git could not be followed: {error}"))
            }
            Err(_) => {
                child.end(&mut stderr).await;
                Err(format!("it took longer than the limit of {} s", self.time_limit.as_secs()))
            }
        }
    }

    fn command(&self, address: &Address, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // The git settings of this program's user are not for visitors: other addresses, hooks,
        // passwords.
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GIT_") {
                command.env_remove(name);
            }
        }
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").env_remove("SSH_ASKPASS");
        for setting in [
            "protocol.allow=never",
            "protocol.https.allow=always",
            "core.hooksPath=/dev/null",
            "core.askPass=",
            "credential.helper=",
        ] {
            command.args(["-c", setting]);
        }
        if self.is_file_allowed {
            command.args(["-c", "protocol.file.allow=always"]);
        }
        // Nothing after `--` is an option. The folder is `.`, so that no message shows its path.
        command.args(["clone", "--progress", "--template=", "--", address.as_str(), "."]);
        command.current_dir(folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        #[cfg(unix)]
        command.process_group(0);
        command
    }
}

/// Reports git's output until it ends. Returns whether the clone succeeded.
async fn follow(
    child: &mut Child,
    stderr: &mut ChildStderr,
    job: &JobHandle,
    last_lines: &mut VecDeque<String>,
) -> std::io::Result<bool> {
    let mut output = Output::default();
    let mut piece = [0; 4096];
    loop {
        let n_bytes = stderr.read(&mut piece).await?;
        // The last line may lack a line end.
        let read = if n_bytes == 0 { &b"\n"[..] } else { &piece[..n_bytes] };
        let News { lines, step } = output.take(read);
        // Errors are ignored here: `cancelled` notices when the job is no longer this worker's.
        if !lines.is_empty() {
            let _ = job.log(&(lines.join("\n") + "\n")).await;
        }
        if let Some(step) = step {
            let (stage, message) = (Some(step.stage), Some(&*step.message));
            let _ = job.progress(step.reached, Some(WHOLE), stage, message).await;
        }
        // Git's greeting does not explain a failure.
        last_lines.extend(lines.into_iter().filter(|it| !it.starts_with("Cloning into ")));
        last_lines.drain(..last_lines.len().saturating_sub(LAST_LINES));
        if n_bytes == 0 {
            return Ok(child.wait().await?.success());
        }
    }
}

/// A child process and its own children, which are killed with it.
#[derive(Debug)]
struct Group(Child);

impl Group {
    fn kill(&mut self) {
        // A child without an id has ended, and has waited for its own children.
        #[cfg(unix)]
        if let Some(pid) = self.0.id().and_then(|it| i32::try_from(it).ok()) {
            use rustix::process::{Pid, Signal, kill_process_group};
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
        }
        let _ = self.0.start_kill();
    }

    /// Kills the group, and waits until its last process has closed the pipe. No process writes
    /// files after that.
    async fn end(&mut self, stderr: &mut ChildStderr) {
        self.kill();
        let mut rest = [0; 4096];
        let ended = async {
            while let Ok(1..) = stderr.read(&mut rest).await {}
            let _ = self.0.wait().await;
        };
        let _ = timeout(END, ended).await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
