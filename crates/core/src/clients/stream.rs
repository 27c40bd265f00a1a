//! Which stream a client has: attached, on trial, carried, replaced, ended.

use std::{sync::Arc, time::Instant};

use super::{
    cell::{Cell, Group, Stream},
    table::Clients,
};
use crate::transport::{EndReason, StreamId, Transport};

/// A stream while it is open. Dropping it leaves its clients without one.
#[derive(Debug)]
pub struct Attached {
    pub(super) clients: Clients,
    pub(super) group: Arc<Group>,
    pub(super) transport: Transport,
}

impl Attached {
    /// The clients of the stream, and its interest.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.clients.detach(&self.group, self.transport);
    }
}

impl Clients {
    /// Makes `group` the stream of its clients. The streams that they had end, unless other clients
    /// use them.
    #[must_use]
    pub fn attach(&self, group: &Arc<Group>, transport: Transport, until: Instant) -> Attached {
        for cell in group.cells() {
            self.take_stream(&cell, group, transport, until);
        }
        Attached { clients: self.clone(), group: group.clone(), transport }
    }

    /// Keeps `group` beside the streams of its clients until one of them names it.
    #[must_use]
    pub fn attach_on_trial(
        &self,
        group: &Arc<Group>,
        transport: Transport,
        until: Instant,
    ) -> Attached {
        for cell in group.cells() {
            let stream = Stream { group: group.clone(), transport, until };
            let before = cell.held().trial.replace(stream);
            if let Some(before) = before {
                self.end_stream(before.group, EndReason::Replaced(group.steer().id()));
            }
            self.keep(&cell);
        }
        Attached { clients: self.clone(), group: group.clone(), transport }
    }

    /// Makes `group` the stream of one of its clients.
    pub(super) fn take_stream(
        &self,
        cell: &Arc<Cell>,
        group: &Arc<Group>,
        transport: Transport,
        until: Instant,
    ) {
        let stream = Stream { group: group.clone(), transport, until };
        let before = {
            let mut held = cell.held();
            held.has_left = false;
            held.stream.replace(stream)
        };
        self.keep(cell);
        let Some(before) = before.filter(|it| !Arc::ptr_eq(&it.group, group)) else { return };
        self.leave_stream(cell, before, group.steer().id());
    }

    /// Takes a client from a stream that it had. Without further clients the stream ends.
    fn leave_stream(&self, cell: &Arc<Cell>, before: Stream, newcomer: StreamId) {
        if before.group.remove(cell) {
            let hub = self.hub().clone();
            self.spawn(async move {
                before.group.refresh(&hub).await;
            });
        } else {
            self.end_stream(before.group, EndReason::Replaced(newcomer));
        }
    }

    /// Ends a stream.
    fn end_stream(&self, group: Arc<Group>, reason: EndReason) {
        self.spawn(async move {
            group.steer().end(reason).await;
        });
    }

    /// Makes a stream on trial the client's stream, if `id` is its id. It goes on where the one
    /// before ended.
    pub async fn accept_trial(&self, cell: &Arc<Cell>, id: StreamId) -> bool {
        let (trial, before, served) = {
            let mut held = cell.held();
            let Some(trial) = held.trial.take_if(|it| it.id() == id) else { return false };
            let before = held.stream.replace(trial.clone());
            (trial, before, held.cursor)
        };
        self.keep(cell);
        let mut after = served.unwrap_or(cell.held().client.began);
        if let Some(before) = before {
            let reason = EndReason::Replaced(trial.id());
            after = before.group.steer().end(reason).await.unwrap_or(after);
        }
        trial.group.begin(self.hub(), after).await;
        true
    }

    /// Makes a stream carry another client, which leaves the one that it had.
    pub fn carry(&self, cell: &Arc<Cell>, stream: &Stream) {
        stream.group.add(cell);
        self.take_stream(cell, &stream.group, stream.transport, stream.until);
    }

    /// Makes a stream no longer carry a client, which is then without one.
    pub fn drop_carried(&self, cell: &Arc<Cell>, stream: &Stream) {
        let is_this = |it: &mut Stream| Arc::ptr_eq(&it.group, &stream.group);
        let had_it = cell.held().stream.take_if(is_this).is_some();
        stream.group.remove(cell);
        if had_it {
            self.let_go(cell, stream.transport);
        }
    }

    /// Ends a client and its stream, unless that is for others as well.
    pub async fn dismiss(&self, cell: &Arc<Cell>) {
        let stream = cell.held().stream.take();
        if let Some(stream) = stream {
            if stream.group.remove(cell) {
                stream.group.refresh(self.hub()).await;
            } else {
                stream.group.steer().end(EndReason::Ended).await;
            }
        }
        self.end(cell).await;
    }

    /// Leaves the clients of a stream without one, if it is still theirs.
    fn detach(&self, group: &Arc<Group>, transport: Transport) {
        let cursor = group.steer().served();
        for cell in group.cells() {
            let is_theirs = {
                let mut held = cell.held();
                let is_this = |it: &mut Stream| Arc::ptr_eq(&it.group, group);
                let _ = held.trial.take_if(is_this);
                let is_theirs = held.stream.take_if(is_this).is_some();
                if is_theirs {
                    held.cursor = cursor.or(held.cursor);
                }
                is_theirs || held.stream.is_none()
            };
            if is_theirs {
                self.let_go(&cell, transport);
            }
        }
    }
}
