//! A worker in a separate process that claims jobs from a gateway over HTTP. It computes the
//! SHA-256 checksums of the files in a folder.
//!
//! ```sh
//! cargo run                                        # the gateway
//! cargo run --example worker -- --root /usr/share  # the worker; start as many as you like
//! curl -i http://127.0.0.1:3000/jobs -H 'Content-Type: application/json' \
//!     -d '{"type": "checksum", "title": "Checksums of the dictionaries",
//!          "payload": {"folder": "dict"}}'
//! ```
//!
//! Open the address in the reply's `Location` in a browser. The page shows the progress and the
//! worker's log, and finally leads to the result. Add `--delay 1s` to have time to look.
//!
//! Then stop the worker with Ctrl-C while it works, or kill it, and start another: the job resumes.
//! A stopped worker gives its job back. A killed one cannot, so the other gets the job when the
//! lease (`jobs.lease`) has expired. An idle worker takes up to five seconds to stop, because it
//! waits for the response to its last claim.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use jiff::SignedDuration;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tidegate::{
    jobs::{JobResult, Task, WorkError, Worker},
    settings::LogSettings,
    telemetry,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{block_in_place, yield_now},
};

/// Bytes read at once. The work can be stopped after each such block.
const BLOCK: usize = 256 << 10;

/// Takes jobs of the type `checksum` from a gateway.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the gateway.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    gateway: String,
    /// A folder below which it reads files; may be given several times.
    #[arg(long = "root", value_name = "DIR", required = true)]
    roots: Vec<PathBuf>,
    /// A token, if the gateway has keys; it has to grant to publish under `/jobs/claim` and
    /// `/jobs/:id`.
    #[arg(long, env = "WORKER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Jobs at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    concurrency: usize,
    /// Time that jobs may go on after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    grace: Duration,
    /// A rest after each file, to have time to look.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    delay: Duration,
}

/// The payload of a job of the type `checksum`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    /// A folder in one of the roots, or a full path below one.
    folder: PathBuf,
}

/// What all jobs share.
#[derive(Debug)]
struct Place {
    /// Full paths without symbolic links.
    roots: Vec<PathBuf>,
    delay: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    match work(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Works until SIGTERM or Ctrl-C.
async fn work(arguments: Arguments) -> anyhow::Result<()> {
    telemetry::start(&LogSettings::default()).map_err(anyhow::Error::msg)?;
    let roots = arguments.roots.iter().map(fs::canonicalize).collect::<io::Result<_>>()?;
    let place = Arc::new(Place { roots, delay: arguments.delay });
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let mut worker = Worker::new(&arguments.gateway, &["checksum"])?
        .concurrency(arguments.concurrency)
        .grace(arguments.grace);
    if let Some(token) = &arguments.token {
        worker = worker.token(token)?;
    }
    worker.run(shutdown, move |task| checksums(task, place.clone())).await?;
    Ok(())
}

/// Runs one job.
async fn checksums(task: Task, place: Arc<Place>) -> Result<JobResult, WorkError> {
    let payload: Payload = task.payload()?;
    let folder = place.find(&payload.folder)?;
    let files = files(&folder).map_err(|error| unreadable(&folder, &error))?;
    let total: u64 = files.values().map(|(_, bytes)| bytes).sum();
    let mut progress = Progress { task: &task, done: 0, total };
    let mut checksums = BTreeMap::new();
    for (name, (path, _)) in files {
        progress.tell(&name);
        let checksum = tokio::select! {
            checksum = checksum(&path, &name, &mut progress) => checksum,
            () = task.cancelled() => return Err(WorkError::fatal("it was cancelled")),
        };
        let checksum = checksum.map_err(|error| unreadable(&path, &error))?;
        task.log(&format!("{checksum}  {name}\n"));
        checksums.insert(name, checksum);
        tokio::time::sleep(place.delay).await;
    }
    JobResult::inline(&checksums).map_err(WorkError::fatal)
}

impl Place {
    /// Finds the requested folder, if it is in a root.
    fn find(&self, folder: &Path) -> Result<PathBuf, WorkError> {
        let candidates = self.roots.iter().filter_map(|root| {
            let found = fs::canonicalize(root.join(folder)).ok()?;
            (found.starts_with(root) && found.is_dir()).then_some(found)
        });
        candidates.into_iter().next().ok_or_else(|| {
            WorkError::fatal(format_args!("`{}` is no folder that I may read", folder.display()))
        })
    }
}

/// Returns the names, paths and sizes of the files in a folder. Links are left out, because they
/// may lead elsewhere.
fn files(folder: &Path) -> io::Result<BTreeMap<String, (PathBuf, u64)>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.insert(name, (entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> WorkError {
    WorkError::retryable(format_args!("{}: {error}", path.display()))
}

/// The progress of a job, in bytes.
#[derive(Debug)]
struct Progress<'a> {
    task: &'a Task,
    done: u64,
    total: u64,
}

impl Progress<'_> {
    fn tell(&self, name: &str) {
        let (done, total) = (self.done as f64, self.total as f64);
        self.task.progress(done, Some(total), Some("reading"), Some(name));
    }
}

async fn checksum(path: &Path, name: &str, progress: &mut Progress<'_>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        let n_bytes = block_in_place(|| -> io::Result<usize> {
            let n_bytes = file.read(&mut block)?;
            hash.update(&block[..n_bytes]);
            Ok(n_bytes)
        })?;
        if n_bytes == 0 {
            break;
        }
        progress.done += n_bytes as u64;
        progress.tell(name);
        yield_now().await;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|it| Duration::try_from(it).ok());
    parsed.ok_or_else(|| "not a duration such as `20ms` or `1s`".to_owned())
}
