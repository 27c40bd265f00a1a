//! A news feed: an admin page posts items, and every open page shows them at once.
//!
//! It shows how an application embeds the gateway. The application's routes come first, and every
//! other address is the gateway's. It checks the items it receives and publishes them by calling a
//! function.
//!
//! ```sh
//! cargo run --example feed                           # another address: -- --listen 127.0.0.1:4000
//! nginx -e stderr -c "$PWD/examples/feed/nginx.conf" # if you like, with nginx in front
//! ```
//!
//! Open <http://127.0.0.1:3010/> (or, through nginx, <http://127.0.0.1:8010/>) in a few windows and
//! <http://127.0.0.1:3010/admin> in another, and post something. A page that opens late gets the
//! last 20 items.
//!
//! Stop the program and start it again: the pages reconnect by themselves. As the history is in
//! memory, they are then notified that their last event is unknown, and load what there is.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use actix_web::{
    HttpResponse, Resource,
    error::JsonPayloadError,
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use clap::Parser;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tidegate::{
    event::Draft,
    gateway::Gateway,
    problem::Problem,
    server::{Server, guard},
    settings::{DeliverySettings, HistorySettings, ServerSettings, Settings},
    telemetry,
};

const TOPIC: &str = "feed";

/// The limit of a title in characters.
const LONGEST_TITLE: usize = 100;

/// The limit of a text in characters.
const LONGEST_TEXT: usize = 2000;

/// The limit of a request in bytes: more than the longest item takes with every character escaped.
const LONGEST_REQUEST: usize = 32 * 1024;

/// A feed of news, with an admin page.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3010")]
    listen: SocketAddr,
}

/// An item, as the admin page posts it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    title: String,
    #[serde(default)]
    text: String,
}

#[actix_web::main]
async fn main() -> ExitCode {
    match serve(settings(Arguments::parse().listen)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("feed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the application and the gateway until SIGTERM or Ctrl-C.
async fn serve(settings: Settings) -> anyhow::Result<()> {
    telemetry::start(&settings.log).map_err(anyhow::Error::msg)?;
    let gateway = Gateway::start(settings)?;
    let server = Server::bind(gateway.clone())?;
    greet(&server);
    server.run(move |config| configure(config, &gateway)).await?;
    Ok(())
}

fn settings(listen: SocketAddr) -> Settings {
    Settings {
        server: ServerSettings {
            listen: vec![listen],
            // Trusts nginx on this machine to report the address that the browser used.
            trusted_proxies: vec![IpAddr::from(Ipv4Addr::LOCALHOST).into()],
            ..ServerSettings::default()
        },
        // A few readers may reconnect sooner after a restart than the thousands that the defaults
        // are made for.
        delivery: DeliverySettings {
            retry: Duration::from_secs(1),
            retry_spread: Duration::from_secs(1),
            ..DeliverySettings::default()
        },
        history: HistorySettings::in_memory(),
        ..Settings::default()
    }
}

/// The application's own routes.
fn configure(config: &mut ServiceConfig, gateway: &Gateway) {
    let body = web::JsonConfig::default()
        .limit(LONGEST_REQUEST)
        .error_handler(|error, _| unreadable(&error).into());
    config.service(page("/", include_str!("live.html")));
    config.service(page("/admin", include_str!("admin.html")));
    config.service(
        web::resource("/items")
            .app_data(web::Data::new(gateway.clone()))
            .app_data(body)
            .route(web::post().to(post_item))
            .default_service(web::to(|| async {
                Err::<HttpResponse, _>(Problem::method_not_allowed("POST"))
            }))
            .wrap(from_fn(guard)),
    );
}

fn page(path: &str, html: &'static str) -> Resource {
    let show = move || async move {
        HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header(("cache-control", "no-cache"))
            .body(html)
    };
    web::resource(path).route(web::get().to(show)).route(web::head().to(show))
}

/// `POST /items`: checks an item and publishes it.
async fn post_item(
    gateway: web::Data<Gateway>,
    item: web::Json<Item>,
) -> Result<HttpResponse, Problem> {
    let title = item.title.trim();
    let text = item.text.trim();
    if title.is_empty() {
        return Err(Problem::field("title", "the item has no title"));
    }
    check_length("title", title, LONGEST_TITLE)?;
    check_length("text", text, LONGEST_TEXT)?;
    let data = json!({ "title": title, "text": text, "time": Timestamp::now().to_string() });
    let draft =
        Draft { topics: vec![TOPIC.to_owned()], data: data.to_string(), ..Draft::default() };
    let id = gateway.publish(draft).await?;
    Ok(HttpResponse::Created().json(json!({ "id": id.as_str() })))
}

fn check_length(field: &str, value: &str, limit: usize) -> Result<(), Problem> {
    if value.chars().count() <= limit {
        return Ok(());
    }
    let detail = format!("the {field} is longer than {limit} characters");
    Err(Problem::field(field, detail).with_limit(limit))
}

/// Returns the error for a body that is not an item.
fn unreadable(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            let detail = format!("an item has at most {LONGEST_REQUEST} bytes");
            Problem::too_large("body", LONGEST_REQUEST, detail)
        }
        JsonPayloadError::ContentType => {
            Problem::media_type("an item is posted as application/json")
        }
        JsonPayloadError::Deserialize(error) => {
            Problem::malformed(format!("the body is not an item: {error}"))
        }
        _ => Problem::malformed("the body was cut off"),
    }
}

#[expect(clippy::print_stdout, reason = "the person who starts the example reads this")]
fn greet(server: &Server) {
    for url in server.urls() {
        println!("the feed is at {url}, its admin page at {url}admin");
    }
}
