//! A streaming response: the body of a subscription, as actix wants it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BodySize, MessageBody},
    http::Version,
};
use bytes::Bytes;

use crate::{
    delivery::{Body, Ending},
    gateway::Gateway,
};

/// Answers `request` with a stream.
pub(crate) fn respond(
    request: &HttpRequest,
    mut response: HttpResponseBuilder,
    body: Body,
) -> HttpResponse {
    // On HTTP/1 the end of the connection is the end of the body. HTTP/1.0 knows no chunks; and Chromium takes a chunked
    // document that is cut off for one that still loads, so that the iframe's script would see it only by the silence.
    if request.version() < Version::HTTP_2 {
        let mut response = response.force_close().body(Streaming(body));
        response.head_mut().no_chunking(true);
        return response;
    }
    response.body(Streaming(body))
}

/// How the gateway's streams end.
pub(crate) fn ending(gateway: &Gateway, recycle_after: Option<usize>) -> Ending {
    let delivery = &gateway.settings().delivery;
    Ending {
        recycle_after,
        last_event: None,
        retry: delivery.retry,
        retry_spread: delivery.retry_spread,
    }
}

struct Streaming(Body);

impl MessageBody for Streaming {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.0.poll_chunk(cx).map(|chunk| chunk.map(Ok))
    }
}
