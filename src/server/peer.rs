//! Whether the peer of a request may still listen, as far as what is read from it tells.
//!
//! A peer that has ended its side may have half closed and wait for its answer, or be gone. So it is answered, and what
//! would wait for something to come ends.

use std::{cell::Cell, io, rc::Rc, task::Poll, time::Duration};

use actix_web::HttpRequest;
use tokio::sync::Notify;

/// The peer of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer(Rc<Side>);

#[derive(Debug, Default)]
struct Side {
    has_ended: Cell<bool>,
    ended: Notify,
}

impl Peer {
    /// The peer of a request. Of one that came over another server's connection nothing is known: it stays.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request.conn_data::<Self>().cloned().unwrap_or_default()
    }

    /// Notes what was read from it: no bytes are the end of its side.
    pub(super) fn has_sent(&self, read: &Poll<io::Result<()>>, is_nothing: bool) {
        if is_nothing && matches!(read, Poll::Ready(Ok(()))) {
            self.end();
        }
    }

    /// Notes that nothing more comes from it.
    pub(super) fn end(&self) {
        if !self.0.has_ended.replace(true) {
            self.0.ended.notify_waiters();
        }
    }

    /// Whether it has ended its side.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.has_ended.get()
    }

    /// Returns when it has ended its side.
    pub(crate) async fn ended(self) {
        let ended = self.0.ended.notified();
        if !self.has_ended() {
            ended.await;
        }
    }

    /// Returns when it has waited for this long, or has ended its side.
    pub(crate) async fn waits(self, time: Duration) {
        // A peer that does not wait at all needs no timer.
        if !time.is_zero() {
            let _ = tokio::time::timeout(time, self.ended()).await;
        }
    }
}
