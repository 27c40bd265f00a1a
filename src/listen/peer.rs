//! Whether the peer of a request may still receive, as far as reading from it shows.
//!
//! A peer that has ended its side may have half closed and wait for its reply, or be gone. It is
//! therefore answered, but waiting for further events ends.

use std::{cell::Cell, rc::Rc, time::Duration};

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
    /// Returns the peer of a request. On another server's connection nothing is known, so the peer
    /// never ends its side.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request.conn_data::<Self>().cloned().unwrap_or_default()
    }

    /// Records that nothing more will arrive from the peer.
    pub(super) fn end(&self) {
        if !self.0.has_ended.replace(true) {
            self.0.ended.notify_waiters();
        }
    }

    /// Whether the peer has ended its side.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.has_ended.get()
    }

    /// Completes when the peer has ended its side.
    pub(crate) async fn ended(self) {
        let ended = self.0.ended.notified();
        if !self.has_ended() {
            ended.await;
        }
    }

    /// Completes after `time`, or when the peer has ended its side.
    pub(crate) async fn waits(self, time: Duration) {
        // A zero wait needs no timer.
        if !time.is_zero() {
            let _ = tokio::time::timeout(time, self.ended()).await;
        }
    }
}
