//! The clone example: git's progress moves the bar, the end leads to the files, and forbidden
//! addresses are refused.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use reqwest::{
    Client, Response,
    header::{ACCEPT, CONTENT_TYPE, LOCATION},
    redirect::Policy,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::support::{App, client, in_time, listen};

/// Files of the repository.
const N_FILES: usize = 3000;

/// Bytes of a file. They are random, so that git takes some time.
const FILE_BYTES: usize = 4096;

/// Commits of the repository. Each adds a part of the files, and changes some again.
const N_COMMITS: usize = 10;

/// A running example, and the folders around it.
struct Cloner {
    app: App,
    folder: TempDir,
}

impl Cloner {
    async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clones = folder.path().join("clones");
        fs::create_dir(&clones).expect("a folder");
        let mut all = vec![OsStr::new("--dir"), clones.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        let app = App::start_with("clone", "127.0.0.1:0", &all).await;
        Self { app, folder }
    }

    /// The folders of finished clones.
    fn clones(&self) -> Vec<PathBuf> {
        let entries = |folder: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).expect("a folder");
            entries.map(|it| it.expect("an entry").path()).collect()
        };
        entries(&self.folder.path().join("clones")).iter().flat_map(|it| entries(it)).collect()
    }

    /// Sends the form, as a browser without a script does.
    async fn post(&self, address: &str) -> Response {
        let request = browser().post(self.app.url("/clones")).body(form(address));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        in_time("an answer", request.header(ACCEPT, "text/html").send()).await.expect("an answer")
    }

    /// Sends the form, and returns the path of the job.
    async fn begin(&self, address: &str) -> String {
        let response = self.post(address).await;
        assert_eq!(response.status(), 303, "{address}");
        let path = location(&response);
        assert!(path.starts_with("/jobs/"), "{path}");
        path
    }

    async fn get(&self, path: &str) -> Response {
        let request = browser().get(self.app.url(path)).header(ACCEPT, "text/html");
        in_time("an answer", request.send()).await.expect("an answer")
    }

    /// Returns the status for a path that no client library has normalized.
    async fn raw_get(&self, path: &str) -> u16 {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.app.address).await?;
            let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.app.address);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = in_time("an answer", exchange).await.expect("an answer");
        answer.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status")
    }

    /// Follows a job to its end. Returns the statuses received.
    async fn follow(&self, job: &str) -> Vec<Value> {
        let mut stream = listen(&self.app.url(job), None).await;
        let mut told = Vec::new();
        loop {
            let event = stream.next().await;
            let data: Value = serde_json::from_str(&event.data).expect("the data is JSON");
            match event.kind.as_str() {
                "job.log" => {}
                "job.done" => {
                    told.push(data);
                    return told;
                }
                _ => told.push(data),
            }
        }
    }

    /// Returns the listing of a job's clone, to which the job's page leads.
    async fn listing(&self, job: &str) -> (String, String) {
        let result = location(&self.get(job).await);
        let listing = location(&self.get(&result).await);
        let response = self.get(&listing).await;
        assert_eq!(response.status(), 200, "{listing}");
        (listing, response.text().await.expect("a page"))
    }
}

/// A browser that does not follow redirects by itself.
fn browser() -> Client {
    Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client")
}

fn form(address: &str) -> String {
    let escape = |byte| format!("%{byte:02x}");
    format!("address={}", address.bytes().map(escape).collect::<String>())
}

fn location(response: &Response) -> String {
    assert_eq!(response.status(), 303, "{}", response.url());
    response.headers()[LOCATION].to_str().expect("an address").to_owned()
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(what, waiting).await;
}

/// Creates a bare repository of some thousand small objects. Returns its address.
fn repository(folder: &Path) -> String {
    let path = folder.join("many files.git");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        git.stdout(Stdio::null()).stderr(Stdio::null());
        git
    };
    let bare = path.to_str().expect("text");
    let made = git(&["init", "--bare", "-b", "main", bare]).status().expect("git runs");
    assert!(made.success(), "git init: {made}");
    let mut commits = String::from("reset refs/heads/main\n");
    for commit in 0..N_COMMITS {
        let _ = writeln!(commits, "commit refs/heads/main\ncommitter A <a@b.c> {commit} +0000");
        let _ = writeln!(commits, "data 1\nx");
        for file in (commit..N_FILES).step_by(N_COMMITS).chain(0..20) {
            let mut random = fastrand::Rng::with_seed((file * N_COMMITS + commit) as u64);
            let text: String = (0..FILE_BYTES).map(|_| random.alphanumeric()).collect();
            let path = format!("folder {}/{file}.txt", file % 7);
            let _ = writeln!(commits, "M 100644 inline {path}\ndata {}\n{text}", text.len());
        }
        let _ = writeln!(commits, "M 100644 inline <b>&\"\ndata 3\nabc");
    }
    let mut import = git(&["-C", bare, "fast-import", "--quiet"]);
    let mut import = import.stdin(Stdio::piped()).spawn().expect("git runs");
    let mut stdin = import.stdin.take().expect("a pipe");
    stdin.write_all(commits.as_bytes()).expect("git reads");
    drop(stdin);
    let imported = import.wait().expect("git ends");
    assert!(imported.success(), "git fast-import: {imported}");
    format!("file://{}", bare.replace(' ', "%20"))
}

/// A program like a git that makes no progress. It starts a helper, and writes down both process
/// ids.
fn slow_git(folder: &Path) -> PathBuf {
    let path = folder.join("slow-git");
    let script = format!(
        "#!/bin/sh\nsleep 600 &\necho begun > file\n\
         printf 'Receiving objects:  10%% (1/10)\\rReceiving objects:  20%% (2/10)\\r' >&2\n\
         echo $$ $! >> {}\nwait\n",
        folder.join("pids").display()
    );
    fs::write(&path, script).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// The process ids of the slow git and its helper.
async fn slow_pids(folder: &Path) -> Vec<String> {
    let path = folder.join("pids");
    let read = || fs::read_to_string(&path).unwrap_or_default();
    eventually("the slow git", || read().ends_with('\n')).await;
    read().split_whitespace().map(str::to_owned).collect()
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|it| !it.is_empty() && !it.starts_with(" Z"))
}

#[tokio::test]
async fn the_bar_follows_git_and_the_end_leads_to_the_files() {
    let cloner = Cloner::start(&["--allow-file"]).await;
    let address = repository(cloner.folder.path());
    let page = cloner.get("/").await.text().await.expect("a page");
    assert!(page.contains("method=\"post\" action=\"/clones\"") && !page.contains("<script"));
    let job = cloner.begin(&address).await;
    let told = cloner.follow(&job).await;
    let end = told.last().expect("an end");
    assert_eq!(
        (&end["state"], &end["title"]),
        (&"succeeded".into(), &format!("Cloning {address}").into()),
        "{end}"
    );
    let mut percents: Vec<f64> =
        told.iter().filter_map(|it| it["progress"]["percent"].as_f64()).collect();
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!(percents.last(), Some(&100.0));
    percents.dedup();
    assert!(4 <= percents.len(), "{percents:?}");
    assert!(told.iter().any(|it| it["progress"]["stage"] == "Receiving objects"), "{told:?}");

    let log = cloner.get(&format!("{job}/log")).await.text().await.expect("text");
    assert!(log.contains("Receiving objects: 100% ") && !log.contains('\r'), "{log}");
    let here = cloner.folder.path().join("clones");
    assert!(!log.contains(here.to_str().expect("text")), "{log}");

    let (path, listing) = cloner.listing(&job).await;
    assert!(listing.contains(&format!("{} files.", N_FILES + 1)), "{listing}");
    assert!(listing.contains("<td>folder 6/2995.txt</td>"), "{listing}");
    assert!(listing.contains("<td>&lt;b&gt;&amp;&quot;</td><td>3 B</td>"), "{listing}");
    assert!(!listing.contains(".git/") && listing.contains(&address));
    for wrong in ["x/", "../", "..%2f/", "%2e%2e/", "./", "%2fetc/", "..%5c/", "%00/", "%ff/"] {
        assert_eq!(cloner.raw_get(&format!("/clones/{wrong}")).await, 404, "{wrong}");
    }
    for wrong in ["folder%206/2995.txt", ".git/config", "../", "..%2f..%2f", ".", "./"] {
        assert_eq!(cloner.raw_get(&format!("{path}{wrong}")).await, 404, "{wrong}");
    }
}

#[tokio::test]
async fn only_the_newest_clones_are_kept_and_none_after_the_end() {
    let cloner = Cloner::start(&["--allow-file", "--keep", "1"]).await;
    let address = repository(cloner.folder.path());
    let first = cloner.begin(&address).await;
    cloner.follow(&first).await;
    let (listing, _) = cloner.listing(&first).await;
    let second = cloner.begin(&address).await;
    assert_ne!(first, second, "the first one has ended");
    cloner.follow(&second).await;
    assert_eq!(cloner.get(&listing).await.status(), 404);
    assert_eq!(cloner.clones().len(), 1);
    cloner.listing(&second).await;
    let Cloner { app, folder } = cloner;
    app.terminate();
    assert!(app.end().await.success());
    assert_eq!(fs::read_dir(folder.path().join("clones")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn what_is_no_repository_is_a_failed_job_that_says_so() {
    let cloner = Cloner::start(&["--allow-file"]).await;
    let job = cloner.begin("file:///nowhere/at/all.git").await;
    let told = cloner.follow(&job).await;
    let end = told.last().expect("an end");
    assert_eq!(end["state"], "failed");
    let detail = end["error"]["detail"].as_str().expect("a problem has a detail");
    assert!(detail.starts_with("git could not clone it:\nfatal: "), "{detail}");
    assert!(detail.contains("'/nowhere/at/all.git' does not"), "{detail}");
    assert_eq!(cloner.clones(), Vec::<PathBuf>::new());

    let missing = Cloner::start(&["--git", "/nowhere/git"]).await;
    let job = missing.begin("https://example.invalid/a").await;
    let told = missing.follow(&job).await;
    let detail = told.last().expect("an end")["error"]["detail"].to_string();
    assert!(detail.contains("git cannot be started"), "{detail}");
}

#[tokio::test]
async fn who_asks_for_the_same_gets_the_same_job_and_cancel_ends_git() {
    let folder = tempfile::tempdir().expect("a folder");
    let git = slow_git(folder.path());
    let cloner = Cloner::start(&["--git", git.to_str().expect("text")]).await;
    let (one, other) = tokio::join!(
        cloner.begin("https://example.invalid/a.git"),
        cloner.begin("  HTTPS://Example.invalid:443/b/../a.git/ "),
    );
    assert_eq!(one, other);
    let pids = slow_pids(folder.path()).await;
    assert_eq!(pids.len(), 2, "git was run once");
    assert!(pids.iter().all(|it| is_alive(it)), "{pids:?}");
    assert_eq!(cloner.clones().len(), 1);

    let mut watching = listen(&cloner.app.url(&one), None).await;
    let reached = loop {
        let status: Value = serde_json::from_str(&watching.next().await.data).expect("JSON");
        if let Some(percent) = status["progress"]["percent"].as_f64() {
            break percent;
        }
    };
    // One fifth of what is received, or one tenth if the second step did not exist yet.
    assert!([12.9, 19.8].contains(&reached), "{reached}");
    let request = client().post(cloner.app.url(&format!("{one}/cancel"))).send();
    assert!(in_time("an answer", request).await.expect("an answer").status().is_success());
    let end = loop {
        let event = watching.next().await;
        if event.kind == "job.done" {
            break serde_json::from_str::<Value>(&event.data).expect("the data is JSON");
        }
    };
    assert_eq!(end["state"], "cancelled", "{end}");
    assert!(!pids.iter().any(|it| is_alive(it)), "{pids:?}");
    assert_eq!(cloner.clones(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_clone_that_takes_too_long_is_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let git = slow_git(folder.path());
    let cloner = Cloner::start(&["--git", git.to_str().expect("text"), "--time-limit", "1"]).await;
    let job = cloner.begin("https://example.invalid/a.git").await;
    let told = cloner.follow(&job).await;
    let end = told.last().expect("an end");
    assert_eq!(end["error"]["detail"], "it took longer than the limit of 1 s", "{end}");
    let pids = slow_pids(folder.path()).await;
    assert!(!pids.iter().any(|it| is_alive(it)), "{pids:?}");
    assert_eq!(cloner.clones(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_end_of_the_program_ends_git() {
    let folder = tempfile::tempdir().expect("a folder");
    let git = slow_git(folder.path());
    let cloner = Cloner::start(&["--git", git.to_str().expect("text")]).await;
    cloner.begin("https://example.invalid/a.git").await;
    let pids = slow_pids(folder.path()).await;
    let Cloner { app, folder } = cloner;
    app.terminate();
    assert!(app.end().await.success());
    assert!(!pids.iter().any(|it| is_alive(it)), "{pids:?}");
    assert_eq!(fs::read_dir(folder.path().join("clones")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn what_must_not_be_cloned_is_refused() {
    let cloner = Cloner::start(&["--git", "/nowhere/git"]).await;
    let long = format!("https://example.com/{}", "a".repeat(1000));
    for address in [
        "",
        " \n ",
        "http://example.com/a",
        "ssh://git@example.com/a",
        "git@example.com:a",
        "git://example.com/a",
        "ext::sh -c id",
        "https::https://example.com/a",
        "--upload-pack=/bin/id",
        "-oProxyCommand=id",
        "-oProxyCommand=https://example.com/",
        "file:///etc",
        "/etc",
        "https://",
        "https://-oProxyCommand=id/a",
        "https://-x.example.com/a",
        "https://user:secret@example.com/a",
        "https://user@example.com/a",
        "https://example.com/a?b",
        "https://example.com/a#b",
        "https://example.com/a b",
        "https://example.com/a\nb",
        "https://example.com\\a",
        "\"><script>alert(1)</script>",
        &long,
    ] {
        let response = cloner.post(address).await;
        assert_eq!(response.status(), 400, "{address}");
        let page = response.text().await.expect("a page");
        assert!(page.contains("role=\"alert\">"), "{address}: {page}");
        assert!(!page.contains("<script>"), "{address}: {page}");

        let request = client().post(cloner.app.url("/clones")).body(form(address));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let response = in_time("an answer", request.send()).await.expect("an answer");
        assert_eq!(response.status(), 400, "{address}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["field"], "address", "{address}: {problem}");
    }
    let huge = cloner.post(&"a".repeat(20_000)).await;
    assert_eq!(huge.status(), 400);
    let list = client().get(cloner.app.url("/jobs")).header(ACCEPT, "application/json").send();
    let list: Value = in_time("a list", list).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(0), "{list}");

    let allowed = Cloner::start(&["--allow-file", "--git", "/nowhere/git"]).await;
    for address in ["file://example.com/a", "file:///a?b", "http://example.com/a"] {
        assert_eq!(allowed.post(address).await.status(), 400, "{address}");
    }
    let foreign = client().post(cloner.app.url("/clones")).header("origin", "https://evil.example");
    assert_eq!(foreign.body(form("https://a.b/c")).send().await.expect("an answer").status(), 403);
    let rebound = client().get(cloner.app.url("/")).header("host", "evil.example");
    assert_eq!(rebound.send().await.expect("an answer").status(), 421);
}
