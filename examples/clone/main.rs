//! “We are cloning your repository”: a long task with a page that shows its progress.
//!
//! It shows how an application turns long work into a job. The work is a future that reports to a
//! [`JobHandle`]. The gateway serves the page that waits, and the application the page with the
//! result. Git runs as a child process, and its own progress moves the bar.
//!
//! ```sh
//! cargo run --example clone                  # another address: -- --listen 127.0.0.1:4000
//! cargo run --example clone -- --allow-file  # repositories of this machine as well
//! ```
//!
//! Open <http://127.0.0.1:3012/> and type the address of a repository. Open the page of the job in
//! a second window, cancel it, or turn scripts off: everything still works. Two visitors who want
//! the same repository at the same time wait for the same job.
//!
//! A visitor can make this machine fetch any https address it reaches. So try it out on your own
//! machine, and do not put it on the internet.

mod address;
mod clones;
mod git;
mod pages;
mod progress;

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ACCEPT, LOCATION},
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use clap::Parser;
use serde::Deserialize;
use tidegate::{
    gateway::Gateway,
    jobs::{Job, JobError, JobHandle, JobResult, NewJob},
    problem::Problem,
    server::{Server, guard},
    settings::{HistorySettings, JobSettings, ServerSettings, Settings},
    telemetry,
};
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{address::Address, clones::Clones, git::Git};

/// The limit of a request in bytes: more than the longest address takes with every character
/// escaped.
const LONGEST_REQUEST: usize = 16 * 1024;

/// Shows how far the clone of a repository has come.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3012")]
    listen: SocketAddr,
    /// Also clone repositories of this machine (file:///…).
    #[arg(long)]
    allow_file: bool,
    /// Folder for the clones, which are removed at the end; the system's for temporary files if not
    /// given.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Clones that are kept; the oldest is removed for a new one.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = parse_keep)]
    keep: usize,
    /// Seconds that a clone may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    /// The git program.
    #[arg(long, value_name = "PROGRAM", default_value = "git")]
    git: OsString,
}

/// The form that the page posts.
#[derive(Debug, Deserialize)]
struct Wish {
    #[serde(default)]
    address: String,
}

/// What the handlers share.
#[derive(Debug, Clone)]
struct Context {
    gateway: Gateway,
    clones: Arc<Clones>,
    git: Git,
    /// Runs the jobs. This runtime lasts until the last job has ended; those that serve requests
    /// end earlier.
    runtime: Handle,
}

#[actix_web::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clone: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the application and the gateway until SIGTERM or Ctrl-C.
async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let settings = settings(arguments.listen);
    telemetry::start(&settings.log).map_err(anyhow::Error::msg)?;
    let gateway = Gateway::start(settings)?;
    let server = Server::bind(gateway.clone())?;
    let clones = Arc::new(Clones::new(arguments.dir.as_deref(), arguments.keep)?);
    let git = Git {
        program: arguments.git,
        is_file_allowed: arguments.allow_file,
        time_limit: Duration::from_secs(arguments.time_limit),
    };
    greet(&server);
    let context = Context { gateway, clones: clones.clone(), git, runtime: Handle::current() };
    server.run(move |config| configure(config, &context)).await?;
    clones.end().await;
    Ok(())
}

fn settings(listen: SocketAddr) -> Settings {
    Settings {
        server: ServerSettings {
            listen: vec![listen],
            // Trusts a proxy on this machine to report the address that the browser used.
            trusted_proxies: vec![IpAddr::from(Ipv4Addr::LOCALHOST).into()],
            ..ServerSettings::default()
        },
        // A bar that moves smoothly, for the few visitors who watch.
        jobs: JobSettings {
            progress_interval: Duration::from_millis(50),
            max_jobs: 1000,
            ..JobSettings::default()
        },
        history: HistorySettings::in_memory(),
        ..Settings::default()
    }
}

fn parse_keep(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|it| 0 < *it).ok_or_else(|| "not a number of 1 or more".to_owned())
}

/// The application's own routes.
fn configure(config: &mut ServiceConfig, context: &Context) {
    let context = web::Data::new(context.clone());
    let form = web::FormConfig::default().limit(LONGEST_REQUEST).error_handler(|error, _| {
        Problem::malformed(format!("the form cannot be read: {error}")).into()
    });
    config.service(
        web::resource("/")
            .app_data(context.clone())
            .route(web::get().to(ask))
            .route(web::head().to(ask))
            .wrap(from_fn(guard)),
    );
    config.service(
        web::resource("/clones")
            .app_data(context.clone())
            .app_data(form)
            .route(web::post().to(begin))
            .default_service(web::to(|| async {
                Err::<HttpResponse, _>(Problem::method_not_allowed("POST"))
            }))
            .wrap(from_fn(guard)),
    );
    config.service(
        web::resource("/clones/{name}/")
            .app_data(context)
            .route(web::get().to(list))
            .route(web::head().to(list))
            .wrap(from_fn(guard)),
    );
}

/// `GET /`: asks for an address.
async fn ask(context: web::Data<Context>) -> HttpResponse {
    pages::ask("", None, context.git.is_file_allowed)
}

/// `POST /clones`: starts a clone, or finds the same one in progress, and redirects to the page
/// that waits for it.
async fn begin(
    request: HttpRequest,
    context: web::Data<Context>,
    wish: web::Form<Wish>,
) -> Result<HttpResponse, Problem> {
    let is_file_allowed = context.git.is_file_allowed;
    let address = match Address::parse(&wish.address, is_file_allowed) {
        Ok(address) => address,
        Err(refusal) if wants_page(&request) => {
            return Ok(pages::ask(&wish.address, Some(&refusal), is_file_allowed));
        }
        Err(refusal) => return Err(Problem::field("address", refusal)),
    };
    let job = context.spawn(address).await?;
    let location = format!("/jobs/{}", job.id);
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, location)).finish())
}

fn wants_page(request: &HttpRequest) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|it| it.contains("text/html"))
}

/// `GET /clones/{name}/`: the files of a clone.
async fn list(context: web::Data<Context>, name: web::Path<String>) -> HttpResponse {
    let Some(clone) = context.clones.get(&name) else { return pages::missing() };
    let listed = clone.clone();
    match spawn_blocking(move || listed.files()).await {
        Ok((files, are_more)) => pages::listing(&clone, &files, are_more),
        Err(_) => pages::missing(),
    }
}

impl Context {
    /// Creates a job that clones `address`. Requests for the same address share one job until it
    /// ends.
    async fn spawn(&self, address: Address) -> Result<Job, Problem> {
        let new = NewJob {
            kind: "clone".to_owned(),
            title: format!("Cloning {}", address.as_str()),
            payload: None,
            key: Some(address.as_str().to_owned()),
        };
        let (tracker, context) = (self.gateway.tracker().clone(), self.clone());
        // Counted from here, so that the program does not end before the work begins.
        let running = self.clones.running();
        let work = |job| async move {
            let _running = running;
            context.clone_repository(address, &job).await
        };
        let spawned = self.runtime.spawn(async move { tracker.spawn(new, work).await }).await;
        let stopping = |_| Problem::unavailable("stopping", "the program is stopping");
        spawned.map_err(stopping)?.map_err(JobError::into)
    }

    /// The work of a job: clones, and links to the page with the files. An incomplete clone is
    /// removed.
    async fn clone_repository(
        self,
        address: Address,
        job: &JobHandle,
    ) -> Result<JobResult, String> {
        let _turn = tokio::select! {
            turn = self.clones.turns.acquire() => turn.map_err(|error| error.to_string())?,
            () = job.cancelled() => return Err("it was stopped".to_owned()),
        };
        let folder = self.clones.new_folder(&address);
        let folder = folder.map_err(|error| format!("there is no folder for it: {error}"))?;
        match self.git.clone(&address, folder.path(), job).await {
            Ok(()) => Ok(JobResult::link(self.clones.keep(address, folder).await)),
            Err(error) => {
                let _ = spawn_blocking(move || drop(folder)).await;
                Err(error)
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "the person who starts the example reads this")]
fn greet(server: &Server) {
    for url in server.urls() {
        println!("clone a repository at {url}");
    }
}
