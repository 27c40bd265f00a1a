//! The HTTP server: sockets, routes, the guard, and orderly shutdown.
//!
//! It runs a gateway as its settings demand, and decides nothing about updates or subscribers.

mod embed;
mod listeners;
mod routes;

use std::{io, net::TcpListener, num::NonZero, time::Duration};

use actix_server::ServerHandle;
use actix_web::{App, web::ServiceConfig};
use tracing::{error, info};

pub use self::embed::Mount;
pub(crate) use self::listeners::Listeners;
pub use crate::http::guard::guard;
use crate::{
    gateway::Gateway,
    listen::{self, Certificate, Terms},
    settings::Settings,
};

/// The interval of checks whether all streams have ended.
const DRAIN_TICK: Duration = Duration::from_millis(20);

/// A gateway with its listening sockets.
///
/// ```no_run
/// use actix_web::web;
/// use tidegate::{gateway::Gateway, server::Server};
///
/// # async fn run(gateway: Gateway) -> std::io::Result<()> {
/// let server = Server::bind(gateway)?;
/// println!("{}", server.urls().join(" "));
/// let routes = |config: &mut web::ServiceConfig| {
///     config.route("/about", web::get().to(async || "A feed"));
/// };
/// server.run(routes).await
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    gateway: Gateway,
    listeners: Listeners,
}

impl Server {
    /// Listens on every address of `server.listen`, `tls.listen` and `ops.listen`, and reads the
    /// certificate. Uses listeners passed on to this process where they fit.
    ///
    /// # Errors
    /// If the settings are contradictory, the certificate cannot be used, or an address cannot be
    /// listened on. The text names it.
    pub fn bind(gateway: Gateway) -> io::Result<Self> {
        let listeners = Listeners::bind(gateway.settings())?;
        Ok(Self { gateway, listeners })
    }

    /// Serves a gateway with sockets that listen already.
    pub(crate) fn new(gateway: Gateway, listeners: Listeners) -> Self {
        Self { gateway, listeners }
    }

    /// Returns the URLs to open, with the ports that the system chose.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let of = |scheme: &'static str, listeners: &[TcpListener]| -> Vec<String> {
            let addresses = listeners.iter().filter_map(|it| it.local_addr().ok());
            addresses.map(|it| format!("{scheme}://{it}/")).collect()
        };
        [of("http", &self.listeners.plain), of("https", &self.listeners.encrypted)].concat()
    }

    /// Returns the URLs for operators (`ops.listen`), with the ports that the system chose.
    #[must_use]
    pub fn operations_urls(&self) -> Vec<String> {
        let addresses = self.listeners.operations.iter().filter_map(|it| it.local_addr().ok());
        addresses.map(|it| format!("http://{it}/")).collect()
    }

    /// Serves the gateway until SIGTERM or SIGINT. Routes added by `configure` precede the
    /// gateway's.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn run(
        self,
        configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> io::Result<()> {
        let settings = self.gateway.settings().clone();
        let app = {
            let gateway = self.gateway.clone();
            move || {
                let gateway = gateway.clone();
                App::new()
                    .configure(configure.clone())
                    .configure(move |config| gateway.configure_all(config))
            }
        };
        let workers = match settings.server.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let descriptors = listen::raise_limit(self.gateway.seats());
        // A worker whose handshakes are all under way would accept nothing else either.
        actix_tls::accept::max_concurrent_tls_connect(descriptors.connections());
        let mut server = actix_server::Server::build()
            .workers(workers)
            // Connections give way before this limit is reached.
            .max_concurrent_connections(descriptors.connections())
            .shutdown_timeout(whole_seconds(settings.server.shutdown_timeout))
            .disable_signals();
        let terms = Terms::new(&settings, descriptors, server.graceful_shutdown_signal());
        let Listeners { plain, encrypted, operations, tls } = self.listeners;
        for listener in plain {
            let (app, terms) = (app.clone(), terms.clone());
            server = server.listen("plain", listener, move || listen::plain(app(), &terms))?;
        }
        let certificate = tls.as_ref().map(|(certificate, _)| certificate.clone());
        if let Some((_, config)) = tls {
            for listener in encrypted {
                let (app, terms, config) = (app.clone(), terms.clone(), config.clone());
                let accept = move || listen::encrypted(app(), &terms, &config);
                server = server.listen("encrypted", listener, accept)?;
            }
        }
        for listener in operations {
            let (gateway, terms) = (self.gateway.clone(), terms.clone());
            let app = move || {
                let gateway = gateway.clone();
                App::new().configure(move |config| gateway.configure_operations(config))
            };
            server = server.listen("operations", listener, move || listen::plain(app(), &terms))?;
        }
        actix_rt::spawn(reload_on_signal(certificate, settings));
        let server = server.run();
        actix_rt::spawn(stop_on_signal(self.gateway, server.handle()));
        server.await?;
        info!("stopped");
        Ok(())
    }
}

/// Rounds up, because actix supports whole seconds only.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(0 < time.subsec_nanos())
}

/// Shuts down in order. First it stops accepting: new connections wait for the next gateway on the
/// same listener, if there is one. Then it ends streams and polls, because actix would wait for
/// them or does not know them.
async fn stop_on_signal(gateway: Gateway, server: ServerHandle) {
    let signal = signal().await;
    info!(signal, "stopping");
    server.pause().await;
    gateway.hub().drain();
    let ended = async {
        while 0 < gateway.hub().totals().open.iter().sum::<u64>() {
            tokio::time::sleep(DRAIN_TICK).await;
        }
    };
    let time = gateway.settings().server.shutdown_timeout;
    let have_ended = tokio::time::timeout(time, ended).await.is_ok();
    if !have_ended {
        info!("some streams have not ended in time");
    }
    // Requests had the same time as streams.
    server.stop(have_ended).await;
}

/// Reloads the certificate at SIGHUP, if there is one. Without one the signal must not end the
/// process either.
async fn reload_on_signal(certificate: Option<Certificate>, settings: Settings) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        while hangup.recv().await.is_some() {
            match certificate.as_ref().map(|it| it.reload(&settings.tls)) {
                None => info!("SIGHUP: there is no certificate to be read again"),
                Some(Ok(())) => info!("the certificate was read again"),
                Some(Err(error)) => error!(error, "the certificate in use stays in use"),
            }
        }
    }
    #[cfg(not(unix))]
    drop((certificate, settings));
}

/// Waits for SIGTERM or SIGINT, and returns its name.
async fn signal() -> &'static str {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            return tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = tokio::signal::ctrl_c() => "SIGINT",
            };
        }
    }
    // If listening for the signal fails, its default action ends the process.
    let _ = tokio::signal::ctrl_c().await;
    "SIGINT"
}
