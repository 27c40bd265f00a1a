//! A board of prices that move all the time, and the cost of following them over each transport.
//!
//! It shows a program that publishes by itself. It compares the three transports of the gateway
//! with plain polling of a snapshot. It also shows how a page switches transports without losing or
//! repeating a change.
//!
//! ```sh
//! cargo run --example prices  # another address: -- --listen 127.0.0.1:4000
//! ```
//!
//! Open <http://127.0.0.1:3011/>, choose one transport after the other and compare their cost. The
//! prices are made up.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse, Resource,
    web::{self, ServiceConfig},
};
use clap::Parser;
use jiff::Timestamp;
use serde::Serialize;
use tidegate::{
    event::{Draft, EventId},
    gateway::{Gateway, Refused},
    server::Server,
    settings::{HistorySettings, ServerSettings, Settings},
    telemetry,
};
use tokio::sync::Mutex;

/// The goods on the board, and their first prices in cents.
const GOODS: [(&str, i64); 12] = [
    ("barley", 17_925),
    ("cocoa", 612_400),
    ("coffee", 238_150),
    ("copper", 941_300),
    ("cotton", 81_260),
    ("maize", 44_275),
    ("nickel", 1_632_000),
    ("oats", 36_850),
    ("rice", 153_400),
    ("sugar", 19_410),
    ("tin", 3_114_500),
    ("wheat", 57_825),
];

/// The time between two moves of prices.
const TICK: Duration = Duration::from_millis(500);

/// The chance of a price to move at a tick: one in this many.
const MOVES_ONE_IN: u32 = 6;

/// The largest move of a price: this part of itself.
const FURTHEST: i64 = 200;

/// A board of prices, followed over each transport.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3011")]
    listen: SocketAddr,
}

/// A price, as in the snapshot and in every event.
#[derive(Debug, Clone, Serialize)]
struct Price {
    good: &'static str,
    cents: i64,
    /// The number of the change on the whole board, by which a page detects missed changes.
    change: u64,
}

/// All prices, and the position up to which they are published.
#[derive(Debug, Serialize)]
struct Board {
    /// When the program started. The numbers of changes and the history begin anew each time.
    since: Timestamp,
    prices: Vec<Price>,
    /// The number of the last change.
    change: u64,
    /// The id of the last change's event. A subscriber that resumes from it misses no change after
    /// these prices.
    cursor: String,
}

/// The board is locked while a change is published. So a snapshot is never older than an event that
/// a subscriber has, and its cursor fits its prices.
type Shared = Arc<Mutex<Board>>;

#[actix_web::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse().listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prices: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the board and the gateway, and moves the prices, until SIGTERM or Ctrl-C.
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
    let board: Shared = Arc::new(Mutex::new(Board::new()));
    let walk = actix_web::rt::spawn(walk(gateway, board.clone()));
    server.run(move |config| configure(config, &board)).await?;
    walk.abort();
    Ok(())
}

/// The application's own routes.
fn configure(config: &mut ServiceConfig, board: &Shared) {
    config.app_data(web::Data::from(board.clone()));
    config.service(file("/", "text/html", include_str!("prices.html")));
    config.service(file("/transports.js", "text/javascript", include_str!("transports.js")));
    config.route("/prices", web::get().to(snapshot));
}

fn file(path: &str, kind: &'static str, text: &'static str) -> Resource {
    let send = move || async move {
        HttpResponse::Ok()
            .content_type(format!("{kind}; charset=utf-8"))
            .insert_header(("cache-control", "no-cache"))
            .body(text)
    };
    web::resource(path).route(web::get().to(send)).route(web::head().to(send))
}

/// `GET /prices`: all prices, and the id to resume from.
async fn snapshot(board: web::Data<Mutex<Board>>) -> HttpResponse {
    let board = board.lock().await;
    HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(&*board)
}

/// Moves a few prices at every tick.
async fn walk(gateway: Gateway, board: Shared) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        for at in 0..GOODS.len() {
            if fastrand::u32(..MOVES_ONE_IN) != 0 {
                continue;
            }
            if let Err(refused) = board.lock().await.step(at, &gateway).await {
                tracing::warn!(%refused, "a price has not moved");
            }
        }
    }
}

impl Board {
    fn new() -> Self {
        let prices = GOODS.iter().map(|&(good, cents)| Price { good, cents, change: 0 });
        // Before the first change, a page that resumes from here gets every event.
        let cursor = EventId::EARLIEST.to_owned();
        Self { since: Timestamp::now(), prices: prices.collect(), change: 0, cursor }
    }

    /// Moves a price at random. If the change cannot be published, the price has not moved.
    async fn step(&mut self, at: usize, gateway: &Gateway) -> Result<(), Refused> {
        let mut price = self.prices[at].clone();
        let furthest = (price.cents / FURTHEST).max(1);
        let distance = fastrand::i64(1..=furthest);
        price.cents +=
            if fastrand::bool() || price.cents <= distance { distance } else { -distance };
        price.change = self.change + 1;
        let topic = format!("prices/{}", price.good);
        let draft = Draft::json(topic, &price).expect("a price is written as JSON");
        let id = gateway.publish(draft).await?;
        self.change = price.change;
        self.cursor = id.to_string();
        self.prices[at] = price;
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "the person who starts the example reads this")]
fn greet(server: &Server) {
    for url in server.urls() {
        println!("the prices are at {url}");
    }
}
