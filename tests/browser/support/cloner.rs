//! The example that clones repositories, and a repository for it.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tidegate_testkit::programs::example;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

/// Files of the repository. Each is an object.
const N_FILES: usize = 3000;

/// The running example with a repository that it may clone.
pub(crate) struct Cloner {
    /// Its URL.
    pub(crate) origin: String,
    /// The repository's address, as typed into the form.
    pub(crate) repository: String,
    _process: Child,
    _folder: TempDir,
}

impl Cloner {
    /// Starts the example. Its git prints progress with pauses of this many milliseconds, because
    /// cloning from a disk would be too fast to watch.
    pub(crate) async fn start(pause: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = repository(folder.path());
        let git = patient_git(folder.path(), pause);
        let mut command = tokio::process::Command::new(example("clone"));
        command.args(["--listen", "127.0.0.1:0", "--allow-file"]);
        command.args([OsStr::new("--dir"), folder.path().as_os_str()]);
        command.args([OsStr::new("--git"), git.as_os_str()]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().expect("the example starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let greeting = lines.next_line().await.expect("readable").unwrap_or_default();
        let (_, address) = greeting.split_once("http://").expect("the greeting has an address");
        let origin = format!("http://{}", address.trim_end_matches('/'));
        Self { origin, repository, _process: process, _folder: folder }
    }
}

/// Creates a script that runs the real git and passes its output on, line by line.
fn patient_git(folder: &Path, pause: u32) -> PathBuf {
    let path = folder.join("patient-git");
    let script = format!(
        "#!/bin/bash\nset -o pipefail\n\
         git \"$@\" 2>&1 >/dev/null | {{\n\
         while IFS= read -r -d $'\\r' line; do printf '%s\\r' \"$line\"; sleep {}; done\n\
         printf '%s' \"$line\"\n\
         }} >&2\n",
        f64::from(pause) / 1000.0
    );
    fs::write(&path, script).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// Creates a bare repository. Returns its address.
fn repository(folder: &Path) -> String {
    let path = folder.join("many.git").display().to_string();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        git.stdout(Stdio::null()).stderr(Stdio::null());
        git
    };
    let made = git(&["init", "--bare", "-b", "main", &path]).status().expect("git runs");
    assert!(made.success(), "git init: {made}");
    let mut commit =
        String::from("commit refs/heads/main\ncommitter A <a@b.c> 0 +0000\ndata 1\nx\n");
    for file in 0..N_FILES {
        let text = format!("file {file}");
        let _ = writeln!(commit, "M 100644 inline {file}.txt\ndata {}\n{text}", text.len());
    }
    let mut import = git(&["-C", &path, "fast-import", "--quiet"]);
    let mut import = import.stdin(Stdio::piped()).spawn().expect("git runs");
    let mut stdin = import.stdin.take().expect("a pipe");
    stdin.write_all(commit.as_bytes()).expect("git reads");
    drop(stdin);
    let imported = import.wait().expect("git ends");
    assert!(imported.success(), "git fast-import: {imported}");
    format!("file://{path}")
}
