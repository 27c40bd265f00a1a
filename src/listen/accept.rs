//! From accepted sockets to requests: plain ones, whose streams go to a shard, and encrypted ones.

use std::{fmt, future::ready, io, net::SocketAddr, rc::Rc, time::Duration};

use actix_http::{HttpServiceBuilder, KeepAlive, Request, Response, error::DispatchError};
use actix_rt::net::TcpStream;
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory,
    fn_factory, fn_service, map_config,
};
use actix_tls::accept::{
    TlsError,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{Error, body::BoxBody, dev::AppConfig};
use rustls::ServerConfig;

use super::{
    addresses::Addresses,
    connection::{Connection, Decrypted, Handle},
    descriptors::{Descriptors, Left},
    http2,
    presence::{Presence, Served, Times, make_room},
};
use crate::settings::Settings;

/// Bytes that actix may keep in a connection's write buffer before it writes. Small, because it keeps the memory.
const WRITE_BUFFER: usize = 4096;

/// Time for the closing of a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What TLS calls the versions of HTTP.
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// Connections that give way when descriptors run short, before it is looked again.
const AT_ONCE: usize = 16;

/// In the extensions of the requests that came over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encrypted;

/// What the connections of a listener have in common.
#[derive(Clone)]
pub(crate) struct Terms {
    times: Times,
    descriptors: Descriptors,
    addresses: Addresses,
    /// Whether streams may leave actix for a shard.
    has_socket_sink: bool,
    bounds: http2::Bounds,
    stopping: GracefulShutdownSignal,
}

impl Terms {
    pub(crate) fn new(
        settings: &Settings,
        descriptors: Descriptors,
        stopping: GracefulShutdownSignal,
    ) -> Self {
        let times =
            Times { head: settings.server.head_timeout, keep_alive: settings.server.keep_alive };
        let bounds = http2::Bounds {
            streams: settings.limits.streams_per_connection,
            write_deadline: settings.delivery.write_deadline,
        };
        Self {
            times,
            bounds,
            descriptors,
            addresses: Addresses::new(settings),
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
            // The connection sees to these times itself, and to those of every request.
            .client_request_timeout(Duration::ZERO)
            .keep_alive(KeepAlive::Os)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            // Answers are for peers that have half closed as well. What waits looks after them itself.
            .h1_allow_half_closed(true)
            .h1_write_buffer_size(WRITE_BUFFER)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
    }
}

/// Lets a connection in, if there is room for it.
fn admit(stream: TcpStream, terms: &Terms) -> io::Result<(Connection, Option<SocketAddr>)> {
    let peer = stream.peer_addr()?;
    let counted = terms.addresses.count(peer.ip());
    let counted = counted.ok_or_else(|| io::Error::from(io::ErrorKind::QuotaExceeded))?;
    let left = terms.descriptors.left(&stream);
    if left != Left::Enough && make_room(AT_ONCE) == 0 && left == Left::Hardly {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    Ok((Connection::new(stream, Presence::new(terms.times), counted), Some(peer)))
}

/// Has `app` respond. The connection knows of the request until its response has ended.
fn serve<S>(
    request: Request,
    app: &S,
) -> impl Future<Output = Result<Response<Served>, S::Error>> + 'static + use<S>
where
    S: Service<Request, Future: 'static> + 'static,
    S::Response: Into<Response<BoxBody>>,
{
    let serving = request.conn_data::<Rc<Presence>>().map(Presence::serve);
    let response = app.call(request);
    async move {
        let response: Response<BoxBody> = response.await?.into();
        Ok(response.map_body(|_, body| Served::new(body, serving)))
    }
}

/// Serves plain connections. Their streams can take the socket.
pub(crate) fn plain<I, S>(
    app: I,
    terms: &Terms,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), InitError = ()> + use<I, S>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<BoxBody>> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
{
    let has_socket_sink = cfg!(unix) && terms.has_socket_sink;
    let app = apply_fn_factory(app.into_factory(), serve)
        .map_err(|error: S::Error| error.into().error_response());
    let http = terms
        .http()
        .on_connect_ext(move |connection: &Connection, extensions| {
            extensions.insert(connection.presence());
            extensions.insert(connection.peer());
            if has_socket_sink {
                extensions.insert::<Handle>(connection.handle());
            }
        })
        .h1(map_config(app, |()| AppConfig::default()));
    let terms = terms.clone();
    fn_service(move |stream: TcpStream| ready(admit(stream, &terms).map_err(DispatchError::Io)))
        .and_then(http)
}

/// Serves connections over TLS, as HTTP/2 or HTTP/1.1.
pub(crate) fn encrypted<I, S>(
    app: I,
    terms: &Terms,
    config: &ServerConfig,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), InitError = ()> + use<I, S>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<BoxBody>> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
{
    let mut config = config.clone();
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    let mut acceptor = Acceptor::new(config);
    acceptor.set_handshake_timeout(HANDSHAKE_TIMEOUT);
    let admitting = terms.clone();
    let admit = move |stream: TcpStream| ready(admit(stream, &admitting).map_err(TlsError::Tls));
    fn_service(admit)
        .map(|(connection, _)| connection)
        .and_then(acceptor.map_err(TlsError::into_service_error))
        .and_then(by_version(app.into_factory(), terms.clone()).map_err(TlsError::Service))
}

/// Serves decrypted connections in the version of HTTP that their handshake chose. Both versions share one `app`.
fn by_version<S>(
    app: S,
    terms: Terms,
) -> impl ServiceFactory<
    TlsStream<Connection>,
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
>
where
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<BoxBody>> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
{
    let app = Rc::new(app.map_err(|error: S::Error| error.into().error_response()));
    fn_factory(move || {
        let (app, terms) = (app.clone(), terms.clone());
        async move {
            let app = app.new_service(AppConfig::default()).await.map_err(drop)?;
            let app = Rc::new(app);
            let for_http_1 = app.clone();
            let http_1 = terms
                .http()
                .on_connect_ext(|stream: &Decrypted, extensions| {
                    extensions.insert(stream.connection().presence());
                    extensions.insert(stream.connection().peer());
                    extensions.insert(Encrypted);
                })
                .h1(apply_fn_factory(
                    fn_factory(move || ready(Ok::<_, ()>(for_http_1.clone()))),
                    serve,
                ));
            let http_1 = Rc::new(http_1.new_service(()).await?);
            Ok(fn_service(move |stream: TlsStream<Connection>| {
                let (connection, session) = stream.get_ref();
                let is_http_2 = session.alpn_protocol() == Some(HTTP_2);
                let peer = connection.peer_address();
                connection.presence().is_encrypted(is_http_2);
                let stream = Decrypted::new(stream);
                let (app, http_1, terms) = (app.clone(), http_1.clone(), terms.clone());
                async move {
                    if !is_http_2 {
                        return http_1.call((stream, peer)).await;
                    }
                    http2::serve(stream, peer, app, terms.bounds, terms.stopping).await;
                    Ok(())
                }
            }))
        }
    })
}
