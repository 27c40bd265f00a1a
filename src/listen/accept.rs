//! From accepted sockets to requests: plain connections, whose streams move to a shard, and
//! encrypted ones.

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
    connection::{Connection, Encrypted, Handle},
    descriptors::{Descriptors, Left},
    frames::Frames,
    http2,
    intake::Intake,
    presence::{Presence, Served, Times, make_room},
};
use crate::settings::Settings;

/// Bytes in a connection's write buffer at which actix writes. Small, because actix never shrinks
/// the buffer.
const WRITE_BUFFER: usize = 4096;

/// Time limit for closing a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The ALPN names of the versions of HTTP.
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// Connections that are closed at once when descriptors run short.
const AT_ONCE: usize = 16;

/// The terms for all connections of a listener.
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
            // `Presence` enforces these times, and for every request of a connection.
            .client_request_timeout(Duration::ZERO)
            .keep_alive(KeepAlive::Os)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            // A peer that has half closed gets its answer too. Waiting handlers watch `Peer`.
            .h1_allow_half_closed(true)
            .h1_write_buffer_size(WRITE_BUFFER)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
    }
}

/// Admits a connection, if there is room for it.
fn admit(stream: TcpStream, terms: &Terms) -> io::Result<(Connection, Option<SocketAddr>)> {
    let peer = stream.peer_addr()?;
    let counted = terms.addresses.count(peer.ip());
    let counted = counted.ok_or_else(|| io::Error::from(io::ErrorKind::QuotaExceeded))?;
    let left = terms.descriptors.left(&stream);
    let n_leaving = if left == Left::Enough { 0 } else { make_room(AT_ONCE) };
    if left == Left::Hardly && n_leaving == 0 {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    Ok((Connection::new(stream, Presence::new(terms.times), counted), Some(peer)))
}

/// Wraps a plain connection so that it passes on one request at a time.
fn whole_requests(connection: Connection) -> Intake<Connection> {
    let (presence, peer) = (connection.presence(), connection.peer());
    Intake::new(connection, presence, peer)
}

/// Calls `app`. The connection counts as serving until the response has ended.
fn serve<S>(
    request: Request,
    app: &S,
) -> impl Future<Output = Result<Response<Served>, S::Error>> + 'static + use<S>
where
    S: Service<Request, Future: 'static> + 'static,
    S::Response: Into<Response<BoxBody>>,
{
    let presence = request.conn_data::<Rc<Presence>>();
    let serving = presence.map(|presence| {
        presence.allowance().begin(&request);
        Presence::serve(presence)
    });
    let response = app.call(request);
    async move {
        let response: Response<BoxBody> = response.await?.into();
        Ok(response.map_body(|_, body| Served::new(body, serving)))
    }
}

/// Serves plain connections. Their streams can take over the socket.
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
        .on_connect_ext(move |intake: &Intake<Connection>, extensions| {
            let connection = intake.get_ref();
            extensions.insert(connection.presence());
            extensions.insert(connection.peer());
            if has_socket_sink {
                extensions.insert::<Handle>(connection.handle());
            }
        })
        .h1(map_config(app, |()| AppConfig::default()));
    let terms = terms.clone();
    let admit = move |stream: TcpStream| {
        let admitted = admit(stream, &terms).map_err(DispatchError::Io);
        ready(admitted.map(|(connection, peer)| (whole_requests(connection), peer)))
    };
    fn_service(admit).and_then(http)
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

/// Serves decrypted connections in the version of HTTP that the handshake chose. Both share `app`.
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
                .on_connect_ext(|intake: &Intake<TlsStream<Connection>>, extensions| {
                    let (connection, _) = intake.get_ref().get_ref();
                    extensions.insert(connection.presence());
                    extensions.insert(connection.peer());
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
                let (address, presence) = (connection.peer_address(), connection.presence());
                let peer = connection.peer();
                presence.handshake_done(is_http_2);
                let (app, http_1, terms) = (app.clone(), http_1.clone(), terms.clone());
                async move {
                    if !is_http_2 {
                        let stream = Intake::new(stream, presence, peer);
                        return http_1.call((stream, address)).await;
                    }
                    let stream = Frames::new(stream, presence.clone());
                    http2::serve(stream, &presence, address, app, terms.bounds, terms.stopping)
                        .await;
                    Ok(())
                }
            }))
        }
    })
}
