//! When clients without a stream end.

use std::{collections::BTreeSet, time::Instant};

use crate::event::ClientKey;

/// The clients without a stream, by the time at which they end.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeSet<(Instant, ClientKey)>);

impl Leases {
    /// Sets or changes the end of a client. Returns whether it is the first one to end.
    pub(super) fn set(&mut self, client: ClientKey, before: Option<Instant>, at: Instant) -> bool {
        self.remove(client, before);
        self.0.insert((at, client));
        self.0.first() == Some(&(at, client))
    }

    /// Removes a client whose end was at `before`.
    pub(super) fn remove(&mut self, client: ClientKey, before: Option<Instant>) {
        if let Some(before) = before {
            self.0.remove(&(before, client));
        }
    }

    /// The number of clients without a stream.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the next client ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|it| it.0)
    }

    /// Takes the client that ends first, if it ends by `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<ClientKey> {
        let first = *self.0.first()?;
        (first.0 <= now).then(|| self.0.pop_first().map(|it| it.1)).flatten()
    }

    /// The client that ends first.
    pub(super) fn first(&self) -> Option<ClientKey> {
        self.0.first().map(|it| it.1)
    }
}
