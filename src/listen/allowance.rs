//! How much of an HTTP/1 connection's input may be passed to actix-http.

use std::cell::Cell;

use actix_http::{HttpMessage as _, Request, RequestHead};
use actix_web::http::header::CONTENT_LENGTH;

use super::framing::{Chunks, Line};

/// How much of a connection's input may be passed on.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    pub(super) body: Cell<Body>,
    /// Bytes passed on after the end of a head whose request has not begun.
    pub(super) after_head: Cell<Option<u64>>,
    pub(super) line: Cell<Line>,
    /// Whether bytes were read ahead.
    pub(super) is_ahead: Cell<bool>,
}

/// What is missing of the body of the current request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Body {
    #[default]
    Nothing,
    Bytes(u64),
    /// A chunked body, up to its end.
    Chunked(Chunks),
}

impl Allowance {
    /// Notes the beginning of a request, which may have a body.
    pub(super) fn begin(&self, request: &Request) {
        let early = self.after_head.take().unwrap_or(0);
        let length = content_length(request.head()).saturating_sub(early);
        self.body.set(match length {
            _ if request.chunked().unwrap_or(false) => Body::Chunked(Chunks::default()),
            0 => Body::Nothing,
            length => Body::Bytes(length),
        });
    }

    /// Notes the end of the request. Returns whether bytes were read ahead.
    pub(super) fn end(&self) -> bool {
        self.body.set(Body::Nothing);
        self.line.set(Line::Start);
        self.is_ahead.get()
    }

    /// Whether bytes were read ahead.
    pub(super) fn is_ahead(&self) -> bool {
        self.is_ahead.get()
    }
}

fn content_length(head: &RequestHead) -> u64 {
    let value = head.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    value.and_then(|it| it.trim().parse().ok()).unwrap_or(0)
}
