//! Streaming responses. On a plain connection, a shard takes the socket from actix once the head is
//! sent. Elsewhere the response body is the stream.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BodySize, MessageBody},
    http::Version,
};
use bytes::Bytes;
use tidegate_core::{
    delivery::{Body, Shard, Subscription},
    transport::{Ending, StreamWriter, Style, Transport},
};
use tracing::warn;

use crate::{
    gateway::Gateway,
    listen::{Handle, Peer},
};

/// Bytes of the head passed to actix at a time.
const CHUNK: usize = 4000;

/// Answers `request` with a stream that begins with `head`.
pub(crate) fn respond(
    request: &HttpRequest,
    mut response: HttpResponseBuilder,
    head: Bytes,
    subscription: Subscription,
    mut style: Style,
) -> HttpResponse {
    let shard =
        request.app_data::<Shard>().expect("`Gateway::configure` adds a shard to its routes");
    if request.version() >= Version::HTTP_2 {
        let body = Body::new(shard.subscribe(subscription), style, head);
        return response.body(Streaming::new(request, body));
    }
    response.force_close();
    let is_chunked = request.version() == Version::HTTP_11 && style.writer.is_chunkable();
    let mut response = match request.conn_data::<Handle>() {
        Some(handle) => {
            if is_chunked {
                // actix frames the head; the shard writes to the socket itself.
                style.writer.chunk();
            }
            let handle = handle.clone();
            let rest = Some((shard.clone(), subscription, style));
            response.body(HandOver { head, handle, rest })
        }
        None => {
            let body = Body::new(shard.subscribe(subscription), style, head);
            response.body(Streaming::new(request, body))
        }
    };
    // Without chunks, the end of the connection ends the body.
    response.head_mut().no_chunking(!is_chunked);
    response
}

/// The encoder of a plain event stream.
pub(crate) fn plain_sse() -> StreamWriter {
    StreamWriter::Sse { visible_heartbeats: false, is_json: false, is_chunked: false }
}

/// The gateway's style for streams.
pub(crate) fn style(gateway: &Gateway, writer: StreamWriter) -> Style {
    let settings = gateway.settings();
    let delivery = &settings.delivery;
    let is_document = writer.transport() == Transport::Iframe;
    let ending = Ending {
        recycle_after: is_document.then_some(settings.iframe.recycle_after),
        last_event: None,
        retry: delivery.retry,
        retry_spread: delivery.retry_spread,
    };
    Style { writer, is_old_dialect: false, ending, write_deadline: delivery.write_deadline }
}

/// A randomized reconnection delay for clients that are not admitted now, so that they do not all
/// return at once.
pub(crate) fn retry_later(gateway: &Gateway) -> Duration {
    let delivery = &gateway.settings().delivery;
    delivery.retry + delivery.retry_spread.mul_f64(fastrand::f64())
}

/// A stream written by actix from beginning to end.
struct Streaming {
    body: Body,
    peer: Peer,
    /// Resolves when the peer has ended its side. It may be gone, which is not noticed otherwise
    /// while nothing is written.
    ended: Pin<Box<dyn Future<Output = ()>>>,
}

impl Streaming {
    fn new(request: &HttpRequest, body: Body) -> Self {
        let peer = Peer::of(request);
        Self { body, ended: Box::pin(peer.clone().ended()), peer }
    }
}

impl MessageBody for Streaming {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.peer.has_ended() {
            return Poll::Ready(None);
        }
        let chunk = self.body.poll_chunk(cx);
        if chunk.is_pending() {
            return self.ended.as_mut().poll(cx).map(|()| None);
        }
        chunk.map(|chunk| chunk.map(Ok))
    }
}

/// A stream whose head is written by actix, and the rest by a shard.
struct HandOver {
    head: Bytes,
    handle: Handle,
    rest: Option<(Shard, Subscription, Style)>,
}

impl MessageBody for HandOver {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if !self.head.is_empty() {
            let length = self.head.len().min(CHUNK);
            return Poll::Ready(Some(Ok(self.head.split_to(length))));
        }
        // Needs no waker: actix flushes next, and then gives up the socket.
        if let Some((shard, subscription, style)) = self.rest.take() {
            self.handle.arm(move |stream| {
                if let Err(error) = shard.adopt(stream, subscription, style) {
                    warn!(%error, "a stream cannot be served");
                }
            });
        }
        Poll::Pending
    }
}
