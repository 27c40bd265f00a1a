//! HTTP/2: from the streams of a connection to requests, and from responses to frames.
//!
//! actix-http serves HTTP/2 without bounds: any number of streams, 16 MiB of headers each, and no
//! limit on the time that a response waits for its reader. Here all three are bounded. A stream
//! that the peer resets ends its request at once.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use actix_http::{HttpMessage as _, Payload, Request, Response, error::PayloadError};
use actix_server::GracefulShutdownSignal;
use actix_service::Service;
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    http::{
        Method, StatusCode, Version,
        header::{
            CONNECTION, CONTENT_LENGTH, DATE, HOST, HeaderName, HeaderValue, HttpDate,
            TRANSFER_ENCODING, TryIntoHeaderValue as _, UPGRADE,
        },
    },
    web::Bytes,
};
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_stream::Stream;
use tracing::{debug, trace};

use super::{connection::Encrypted, presence::Presence};

/// Bytes of a request's decoded headers. A longer list is answered with 431. Half the limit for
/// HTTP/1.1, because a connection may have many requests at once.
const HEADER_LIST_BYTES: u32 = 64 << 10;

/// Bytes of one request's body that may arrive before the handler reads them.
const STREAM_WINDOW: u32 = 64 << 10;

/// Bytes of the bodies of all requests of a connection that may arrive before they are read.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Bytes of a response that wait for the socket: one frame of the largest default size.
const SEND_BUFFER_BYTES: usize = 16 << 10;

/// The bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Concurrent streams. One more is refused with `REFUSED_STREAM`; a client may retry it.
    pub(super) streams: u32,
    /// Time without progress after which a response is reset.
    pub(super) write_deadline: Duration,
}

/// Serves a connection until it ends.
pub(super) async fn serve<S, T>(
    stream: T,
    presence: &Rc<Presence>,
    peer: Option<SocketAddr>,
    app: Rc<S>,
    bounds: Bounds,
    stopping: GracefulShutdownSignal,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request, Future: 'static> + 'static,
    S::Response: Into<Response<BoxBody>>,
    S::Error: Into<Response<BoxBody>>,
{
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let mut connection = match builder.handshake::<_, Bytes>(stream).await {
        Ok(connection) => connection,
        Err(error) => return debug!(%error, "no HTTP/2"),
    };
    let mut stop = pin!(stopping.notified());
    let mut is_stopping = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = &mut stop, if !is_stopping => {
                is_stopping = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        let (request, respond) = match accepted {
            None => return,
            Some(Err(error)) => return debug!(%error, "a connection over HTTP/2 ends"),
            Some(Ok(accepted)) => accepted,
        };
        let is_head = request.method() == Method::HEAD;
        let serving = Presence::serve(presence);
        let response = app.call(to_actix(request, peer));
        actix_rt::spawn(async move {
            if let Err(error) = answer(response, respond, is_head, bounds.write_deadline).await {
                trace!(%error, "a response over HTTP/2 ends early");
            }
            drop(serving);
        });
    }
}

fn to_actix(request: http::Request<RecvStream>, peer: Option<SocketAddr>) -> Request {
    let (mut parts, body) = request.into_parts();
    let body = Upload(body);
    let payload = if body.0.is_end_stream() {
        Payload::None
    } else {
        Payload::Stream { payload: Box::pin(body) as _ }
    };
    let mut request = Request::with_payload(payload);
    let head = request.head_mut();
    // `:authority` takes precedence over `Host` (RFC 9113, section 8.3.1).
    if let Some(host) = parts.uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok())
    {
        parts.headers.insert(HOST, host);
    }
    head.uri = parts.uri;
    head.method = parts.method;
    head.version = Version::HTTP_2;
    head.headers = parts.headers.into();
    head.peer_addr = peer;
    request.extensions_mut().insert(Encrypted);
    request
}

/// Waits for the response and sends it. Drops both when the peer resets the stream, or the
/// connection ends.
async fn answer<E>(
    response: impl Future<Output = Result<impl Into<Response<BoxBody>>, E>>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
    write_deadline: Duration,
) -> Result<(), h2::Error>
where
    E: Into<Response<BoxBody>>,
{
    let response = tokio::select! {
        biased;
        response = response => response.map_or_else(Into::into, Into::into),
        reset = poll_fn(|cx| respond.poll_reset(cx)) => return reset.map(drop),
    };
    let (head, mut body) = from_actix(response);
    let is_whole = is_head || matches!(body.size(), BodySize::None | BodySize::Sized(0));
    let mut stream = respond.send_response(head, is_whole)?;
    if is_whole {
        return Ok(());
    }
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)) => chunk,
            reset = poll_fn(|cx| stream.poll_reset(cx)) => return reset.map(drop),
        };
        match chunk {
            Some(Ok(chunk)) => {
                if !send(&mut stream, chunk, write_deadline).await? {
                    stream.send_reset(Reason::CANCEL);
                    return Ok(());
                }
            }
            Some(Err(error)) => {
                debug!(error, "a response could not be read to its end");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            None => return stream.send_data(Bytes::new(), true),
        }
    }
}

/// Sends `chunk` as the window allows. Returns `false` if the peer reset the stream or made no
/// progress for `write_deadline`.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut chunk: Bytes,
    write_deadline: Duration,
) -> Result<bool, h2::Error> {
    while !chunk.is_empty() {
        stream.reserve_capacity(chunk.len());
        while stream.capacity() == 0 {
            match timeout(write_deadline, poll_fn(|cx| stream.poll_capacity(cx))).await {
                Ok(Some(capacity)) => drop(capacity?),
                // The stream was reset, or the window stayed closed.
                Ok(None) | Err(_) => return Ok(false),
            }
        }
        let taken = chunk.split_to(chunk.len().min(stream.capacity()));
        stream.send_data(taken, false)?;
    }
    Ok(true)
}

/// The head of a response in HTTP/2, and its body.
fn from_actix(response: Response<BoxBody>) -> (http::Response<()>, BoxBody) {
    /// Headers that belong to a connection of HTTP/1.1 (RFC 9113, section 8.2.2).
    const OF_CONNECTIONS: [HeaderName; 5] = [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let (response, body) = response.into_parts();
    let mut head = http::Response::new(());
    *head.status_mut() = response.status();
    let headers = head.headers_mut();
    let sent = response.headers().iter().filter(|(name, _)| !OF_CONNECTIONS.contains(name));
    headers.extend(sent.map(|(name, value)| (Some(name.clone()), value.clone())));
    if !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && let BodySize::Sized(length) = body.size()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(DATE)
        && let Ok(now) = HttpDate::from(SystemTime::now()).try_into_value()
    {
        headers.insert(DATE, now);
    }
    (head, body)
}

/// The body of a request.
struct Upload(RecvStream);

impl Stream for Upload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let broken = |error| PayloadError::Incomplete(Some(io::Error::other(error)));
        let Some(chunk) = ready!(self.0.poll_data(cx)) else { return Poll::Ready(None) };
        let released = chunk.and_then(|chunk| {
            // Lets the peer send as much again.
            self.0.flow_control().release_capacity(chunk.len())?;
            Ok(chunk)
        });
        Poll::Ready(Some(released.map_err(broken)))
    }
}
