//! A streaming response. On a plain connection its body takes the socket from actix once the head is out; elsewhere it
//! is the stream.

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
use tracing::warn;

use crate::{
    delivery::{Body, Ending, Shard, Style, Subscription},
    gateway::Gateway,
    server::{Handle, Peer},
    transport::StreamWriter,
};

/// What of the head is given to actix at a time.
const CHUNK: usize = 4000;

/// Answers `request` with a stream that begins with `head`.
pub(crate) fn respond(
    request: &HttpRequest,
    mut response: HttpResponseBuilder,
    head: Bytes,
    subscription: Subscription,
    mut style: Style,
) -> HttpResponse {
    let shard = request.app_data::<Shard>().expect("the gateway's routes carry a shard");
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
    // Without chunks the end of the connection is the end of the body.
    response.head_mut().no_chunking(!is_chunked);
    response
}

/// How the gateway writes streams.
pub(crate) fn style(gateway: &Gateway, writer: StreamWriter) -> Style {
    let delivery = &gateway.settings().delivery;
    let ending = Ending {
        recycle_after: None,
        last_event: None,
        retry: delivery.retry,
        retry_spread: delivery.retry_spread,
    };
    Style { writer, is_old_dialect: false, ending, write_deadline: delivery.write_deadline }
}

/// When somebody who cannot come in now should return; not all at once.
pub(crate) fn retry_later(gateway: &Gateway) -> Duration {
    let delivery = &gateway.settings().delivery;
    delivery.retry + delivery.retry_spread.mul_f64(fastrand::f64())
}

/// A stream that is a response of actix from its beginning to its end.
struct Streaming {
    body: Body,
    peer: Peer,
    /// When the peer has ended its side: it may be gone, which nothing else tells as long as nothing is written.
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

/// A stream of which actix writes the head, and a shard the rest.
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
        // Nobody is to be woken: actix flushes next, and that ends it.
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
