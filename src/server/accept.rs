//! From accepted sockets to requests: plain ones, whose streams go to a shard, and encrypted ones.

use std::{fmt, future::ready, sync::Arc, time::Duration};

use actix_http::{HttpServiceBuilder, Request, Response, TlsAcceptorConfig};
use actix_rt::net::TcpStream;
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config,
};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    Error,
    body::{BoxBody, MessageBody},
    dev::AppConfig,
};
use rustls::ServerConfig;

use super::connection::{Connection, Handle};
use crate::settings::Settings;

/// Bytes that actix may keep in a connection's write buffer before it writes. Small, because it keeps the memory.
const WRITE_BUFFER: usize = 4096;

/// Time for the closing of a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// In the extensions of the requests that came over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encrypted;

/// What the connections of a listener have in common.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) head_timeout: Duration,
    pub(super) keep_alive: Duration,
    /// Whether streams may leave actix for a shard.
    pub(super) has_socket_sink: bool,
    pub(super) stopping: GracefulShutdownSignal,
}

impl Terms {
    pub(super) fn new(settings: &Settings, stopping: GracefulShutdownSignal) -> Self {
        Self {
            head_timeout: settings.server.head_timeout,
            keep_alive: settings.server.keep_alive,
            has_socket_sink: settings.delivery.socket_sink,
            stopping,
        }
    }

    fn http<T, S>(&self) -> HttpServiceBuilder<T, S>
    where
        S: ServiceFactory<Request, Config = ()>,
        S::Error: Into<Response<BoxBody>> + 'static,
        S::InitError: fmt::Debug,
        <S::Service as Service<Request>>::Future: 'static,
    {
        let stopping = self.stopping.clone();
        HttpServiceBuilder::default()
            .client_request_timeout(self.head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .keep_alive(self.keep_alive)
            .h1_allow_half_closed(false)
            .h1_write_buffer_size(WRITE_BUFFER)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
    }
}

/// Serves plain connections. Their streams can take the socket.
pub(super) fn plain<I, S, B>(
    app: I,
    terms: &Terms,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), InitError = ()> + use<I, S, B>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let has_socket_sink = cfg!(unix) && terms.has_socket_sink;
    let app = app.into_factory().map_err(|error| error.into().error_response());
    let http = terms
        .http()
        .on_connect_ext(move |connection: &Connection, extensions| {
            if has_socket_sink {
                extensions.insert::<Handle>(connection.handle());
            }
        })
        .h1(map_config(app, |()| AppConfig::default()));
    fn_service(|stream: TcpStream| {
        let connection = Connection::new(stream);
        let peer = connection.peer_address();
        ready(Ok((connection, peer)))
    })
    .and_then(http)
}

/// Serves connections over TLS, as HTTP/2 or HTTP/1.1.
pub(super) fn encrypted<I, S, B>(
    app: I,
    terms: &Terms,
    config: &Arc<ServerConfig>,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), InitError = ()> + use<I, S, B>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let app = app.into_factory().map_err(|error| error.into().error_response());
    let handshake = TlsAcceptorConfig::default().handshake_timeout(HANDSHAKE_TIMEOUT);
    terms
        .http()
        .on_connect_ext(|_: &TlsStream<TcpStream>, extensions| {
            extensions.insert(Encrypted);
        })
        .finish(map_config(app, |()| AppConfig::default()))
        .rustls_0_23_with_config(ServerConfig::clone(config), handshake)
}
