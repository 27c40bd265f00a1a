//! An application with a server of its own, and the gateway at `/push` in it.
//!
//! It shows how to add live updates to an existing actix application. Every visit of the page is
//! published, and every open page shows it. The application keeps its own addresses, its own answer
//! to unknown ones, and its own `/metrics`.
//!
//! ```sh
//! cargo run --example embedded  # another address: -- --listen 127.0.0.1:4000
//! ```
//!
//! Open <http://127.0.0.1:3012/> in two windows and reload one of them.

use std::{net::SocketAddr, process::ExitCode};

use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Parser;
use jiff::Timestamp;
use serde::Serialize;
use tidegate::{
    event::Draft,
    gateway::Gateway,
    problem::Problem,
    settings::{HistorySettings, Settings},
    telemetry,
};

const PAGE: &str = include_str!("page.html");

/// A page that shows its visits live.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3012")]
    listen: SocketAddr,
}

/// A visit of the page, as the payload of an event.
#[derive(Debug, Serialize)]
struct Visit {
    time: Timestamp,
}

#[actix_web::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse().listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedded: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the application until SIGTERM or Ctrl-C.
async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let settings = Settings { history: HistorySettings::in_memory(), ..Settings::default() };
    telemetry::start(&settings.log).map_err(anyhow::Error::msg)?;
    let gateway = Gateway::start(settings)?;
    let push = gateway.mount("/push").without_operations();
    let shared = web::Data::new(gateway.clone());
    let app = move || {
        let push = push.clone();
        App::new()
            .app_data(shared.clone())
            .route("/", web::get().to(visit))
            .route("/metrics", web::get().to(async || "the application's own"))
            .configure(move |config| push.configure(config))
            .default_service(web::to(missing))
    };
    // Without this signal an open stream would delay the end of the server.
    let server = HttpServer::new(app).shutdown_signal(gateway.shutdown_signal()).bind(listen)?;
    greet(&server.addrs());
    server.run().await?;
    gateway.close();
    Ok(())
}

/// `GET /`: publishes the visit, and shows the page.
async fn visit(gateway: web::Data<Gateway>) -> Result<HttpResponse, Problem> {
    let visit = Visit { time: Timestamp::now() };
    let draft = Draft::json("visits", &visit).expect("a time is written as JSON");
    let id = gateway.publish(draft).await?;
    let page = PAGE.replace("{id}", &id.to_string());
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page))
}

async fn missing() -> HttpResponse {
    HttpResponse::NotFound().body("this application has no such page")
}

#[expect(clippy::print_stdout, reason = "the greeting of the example")]
fn greet(addresses: &[SocketAddr]) {
    for address in addresses {
        println!("the page is at http://{address}/");
    }
}
