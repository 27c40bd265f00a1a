//! A deployment that asks before it goes on: the page of the job becomes a form.
//!
//! It shows how work inside the program asks a person with [`JobHandle::ask`], and that the answer
//! decides what the work does.
//!
//! ```sh
//! cargo run --example approval  # another address: -- --listen 127.0.0.1:4000
//! ```
//!
//! Open <http://127.0.0.1:3012/> and begin a deployment. Open the page of the job in a second
//! window and answer in one of them: the other shows what was answered. It also works with scripts
//! turned off.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use actix_web::{
    HttpResponse,
    http::header::LOCATION,
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use clap::Parser;
use tidegate::{
    gateway::Gateway,
    jobs::{Field, JobHandle, JobResult, NewJob, Question},
    problem::Problem,
    server::{Server, guard},
    settings::{HistorySettings, ServerSettings, Settings},
    telemetry,
};
use tokio::{runtime::Handle, time::sleep};

/// The time that each step of the deployment takes.
const STEP: Duration = Duration::from_millis(400);

/// How long a deployment waits for its approval.
const PATIENCE: Duration = Duration::from_secs(3600);

const PAGE: &str = "<!doctype html><meta charset=utf-8>\
    <meta name=viewport content='width=device-width, initial-scale=1'>\
    <meta name=color-scheme content='light dark'><title>Deploy</title>\
    <h1>Deploy</h1><form action=deploy method=post><button>Begin</button></form>";

/// Deploys nothing, after asking for approval.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3012")]
    listen: SocketAddr,
}

#[actix_web::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse().listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("approval: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the application and the gateway until SIGTERM or Ctrl-C.
async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let settings = Settings {
        server: ServerSettings { listen: vec![listen], ..ServerSettings::default() },
        history: HistorySettings::in_memory(),
        ..Settings::default()
    };
    telemetry::start(&settings.log).map_err(anyhow::Error::msg)?;
    let gateway = Gateway::start(settings)?;
    let server = Server::bind(gateway.clone())?;
    greet(&server);
    let runtime = Handle::current();
    server.run(move |config| configure(config, &gateway, &runtime)).await?;
    Ok(())
}

fn configure(config: &mut ServiceConfig, gateway: &Gateway, runtime: &Handle) {
    config
        .app_data(web::Data::new((gateway.clone(), runtime.clone())))
        .route("/", web::get().to(async || HttpResponse::Ok().content_type("text/html").body(PAGE)))
        .service(web::resource("/deploy").wrap(from_fn(guard)).route(web::post().to(begin)));
}

/// `POST /deploy`: begins a deployment, and shows its page.
async fn begin(shared: web::Data<(Gateway, Handle)>) -> Result<HttpResponse, Problem> {
    let (gateway, runtime) = (**shared).clone();
    let (kind, title) = ("deploy".to_owned(), "Deployment of 4f2c".to_owned());
    let new = NewJob { kind, title, payload: None, key: None };
    // On the runtime that lasts longest: those that serve requests end earlier.
    let spawning = async move { gateway.tracker().spawn(new, deploy).await };
    let job = runtime.spawn(spawning).await;
    let job = job.map_err(|error| Problem::unavailable("stopping", error.to_string()))??;
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, format!("jobs/{}", job.id))).finish())
}

async fn deploy(job: JobHandle) -> anyhow::Result<JobResult> {
    for (done, step) in ["build", "test"].into_iter().enumerate() {
        job.progress(done as f64, Some(4.0), Some(step), None).await?;
        job.log(&format!("{step}: done\n")).await?;
        sleep(STEP).await;
    }
    let question = Question::new("The tests have passed. Deploy 4f2c to production?")
        .field(Field::confirm("go").label("Deploy"))
        .field(Field::choice("when", &["now", "in the night"]).label("When"))
        .field(Field::text("why").label("A note for the log").optional().max(200))
        .until(PATIENCE)
        .otherwise("go", false)
        .otherwise("when", "now");
    let answer = job.ask(question).await?;
    if !answer.is_yes("go") {
        anyhow::bail!("it was not approved");
    }
    let (when, why) = (answer.text("when").unwrap_or_default(), answer.text("why"));
    job.log(&format!("deploy {when}: {}\n", why.unwrap_or("no note"))).await?;
    job.progress(3.0, Some(4.0), Some("deploy"), None).await?;
    sleep(STEP).await;
    Ok(JobResult::inline(&format!("4f2c is deployed {when}"))?)
}

#[expect(clippy::print_stdout, reason = "the greeting of the example")]
fn greet(server: &Server) {
    for url in server.urls() {
        println!("the page is at {url}");
    }
}
