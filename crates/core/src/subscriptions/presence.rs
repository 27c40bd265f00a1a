//! A listed subscriber, and how its client is recognized.

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    name,
    registry::{Matched, Member, Registry},
};
use crate::matching::Matchers;

/// The identity of a connection's client, as far as it is known. Connections of one client with the
/// same matchers are equal, so a client that returns in time resumes its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Client {
    digest: [u8; 16],
    /// The lease of a poll session between two polls.
    session: Option<Duration>,
}

/// Values shared by the connections of one client.
#[derive(Debug, Clone, Copy)]
pub struct Signs<'a> {
    /// The subject of the access token (`sub`).
    pub subject: Option<&'a str>,
    /// The parameter `client`.
    pub key: Option<&'a str>,
    /// The number and the lease of the poll session.
    pub session: Option<(u64, Duration)>,
}

/// A subscriber about to be listed.
#[derive(Debug)]
pub struct Newcomer {
    pub(super) client: Client,
    pub(super) matched: Box<[Matched]>,
}

impl Client {
    fn of(signs: Signs<'_>, matched: &[Matched]) -> Self {
        let mut digest = Sha256::new();
        let mut add = |text: Option<&str>| {
            let length = text.map_or(u64::MAX, |it| it.len() as u64);
            digest.update(length.to_le_bytes());
            digest.update(text.unwrap_or_default());
        };
        add(signs.subject);
        add(signs.key);
        for it in matched {
            add(Some(it.kind.as_str()));
            add(Some(&it.matcher));
            add(it.payload.as_ref().map(|it| it.get()));
        }
        if let Some((number, _)) = signs.session {
            digest.update(number.to_le_bytes());
        }
        let mut half = [0; 16];
        half.copy_from_slice(&digest.finalize()[..16]);
        Self { digest: half, session: signs.session.map(|(_, lease)| lease) }
    }

    /// Whether several connections of it count as one subscriber.
    pub(super) fn is_shared(&self) -> bool {
        self.session.is_some()
    }

    /// How long it stays listed without a connection.
    pub(super) fn lease(&self) -> Duration {
        self.session.unwrap_or_default()
    }
}

#[cfg(test)]
impl Client {
    pub(super) fn alike(number: u8) -> Self {
        Self { digest: [number; 16], session: None }
    }

    pub(super) fn session(number: u8, lease: Duration) -> Self {
        Self { digest: [number; 16], session: Some(lease) }
    }
}

impl Newcomer {
    /// Creates a newcomer with `matchers`. `payload_for` returns the payload to show with a
    /// matcher. `None` if no matcher is listed.
    pub fn new(
        matchers: &Matchers,
        signs: Signs<'_>,
        payload_for: impl Fn(&str) -> Option<Arc<RawValue>>,
    ) -> Option<Self> {
        let matched: Box<[Matched]> = name::told(matchers)
            .map(|(kind, matcher)| Matched {
                kind,
                matcher: matcher.into(),
                payload: payload_for(matcher),
            })
            .collect();
        let client = Client::of(signs, &matched);
        (!matched.is_empty()).then_some(Self { client, matched })
    }
}

/// A listed subscriber. Dropping this starts its leave.
#[derive(Debug)]
pub struct Presence {
    registry: Registry,
    member: Arc<Member>,
}

impl Presence {
    pub(super) fn new(registry: Registry, member: Arc<Member>) -> Self {
        Self { registry, member }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.registry.leave(&self.member);
    }
}
