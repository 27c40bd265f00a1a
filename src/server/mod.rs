//! Listening: sockets, routes, who may ask at all, and the orderly end.
//!
//! Settings and a gateway come in; a running HTTP server goes out. It decides nothing about updates or subscribers.

mod descriptors;
mod guard;
mod listen;
mod public;
mod refusals;
mod routes;

use std::{io, net::SocketAddr, net::TcpListener, num::NonZero, time::Duration};

use actix_web::{App, HttpServer, dev::ServerHandle, web::ServiceConfig};
use tracing::info;

pub use self::guard::guard;
pub(crate) use self::{public::public_base, routes::resource};
use crate::gateway::Gateway;

/// Bytes that actix may keep in a connection's write buffer before it writes. Small, because it keeps the memory.
const WRITE_BUFFER: usize = 4096;

/// A gateway that listens.
#[derive(Debug)]
pub struct Server {
    gateway: Gateway,
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Binds every address of `server.listen`.
    ///
    /// # Errors
    /// If the settings make no sense, or an address cannot be listened on; the text names it.
    pub fn bind(gateway: Gateway) -> io::Result<Self> {
        let settings = gateway.settings();
        settings.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listen = &settings.server.listen;
        let listeners =
            listen.iter().map(|it| listen::bind(*it, settings)).collect::<Result<_, _>>()?;
        Ok(Self { gateway, listeners })
    }

    /// The addresses that it listens on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|it| it.local_addr().ok()).collect()
    }

    /// Serves the gateway, and what `configure` adds before it, until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn run(
        self,
        configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> io::Result<()> {
        let settings = self.gateway.settings().server.clone();
        let gateway = self.gateway.clone();
        let factory = move || {
            let gateway = gateway.clone();
            App::new()
                .configure(configure.clone())
                .configure(move |config| gateway.configure(config))
        };
        let workers = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let mut server = HttpServer::new(factory)
            .client_request_timeout(settings.head_timeout)
            .keep_alive(settings.keep_alive)
            .h1_allow_half_closed(false)
            .h1_write_buffer_size(WRITE_BUFFER)
            .shutdown_timeout(whole_seconds(settings.shutdown_timeout))
            .max_connections(descriptors::raise_limit() / workers)
            .workers(workers)
            .disable_signals();
        for listener in self.listeners {
            server = server.listen(listener)?;
        }
        let server = server.run();
        actix_web::rt::spawn(stop_on_signal(self.gateway, server.handle()));
        server.await?;
        info!("stopped");
        Ok(())
    }
}

/// Rounded up, for actix knows whole seconds only.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(0 < time.subsec_nanos())
}

/// The orderly end: streams and polls are ended first, because actix would wait for them.
async fn stop_on_signal(gateway: Gateway, server: ServerHandle) {
    let signal = signal().await;
    info!(signal, "stopping");
    gateway.hub().drain();
    server.stop(true).await;
}

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
    // If it cannot be listened for, it cannot be waited for either: the default action ends the process.
    let _ = tokio::signal::ctrl_c().await;
    "SIGINT"
}
