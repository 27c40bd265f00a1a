//! The number of connections from each address.

use std::{net::IpAddr, sync::Arc};

use tidegate_core::budget::{Budget, Share};

use crate::settings::{ServerSettings, Settings};

/// Counts the connections of each address. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    server: Arc<ServerSettings>,
    budget: Budget,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(#[expect(dead_code, reason = "it is held")] Option<Share>);

impl Addresses {
    pub(super) fn new(settings: &Settings) -> Self {
        let budget = Budget::new(usize::MAX, settings.limits.connections_per_address);
        Self { server: Arc::new(settings.server.clone()), budget }
    }

    /// Counts a connection from `peer`, or returns `None` if it exceeds the limit. Loopback
    /// addresses and trusted proxies have no limit and take no lock.
    pub(super) fn count(&self, peer: IpAddr) -> Option<Counted> {
        let peer = peer.to_canonical();
        if peer.is_loopback() || self.server.trusts(peer) {
            return Some(Counted(None));
        }
        let mut share = self.budget.share(Some(peer));
        share.grow(1).ok()?;
        Some(Counted(Some(share)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_by_address_and_come_back() {
        let mut settings = Settings::default();
        settings.limits.connections_per_address = 2;
        settings.server.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        let addresses = Addresses::new(&settings);
        let count = |text: &str| addresses.count(text.parse().expect("an address"));
        let one = count("192.0.2.1").expect("room");
        let _two = count("::ffff:192.0.2.1").expect("room");
        assert!(count("192.0.2.1").is_none());
        let _others = ["2001:db8::1", "2001:db8::2"].map(|it| count(it).expect("room"));
        assert!(count("2001:db8::3").is_none() && count("2001:db8:0:1::").is_some());
        let _exempt = ["127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3"]
            .map(|it| [count(it), count(it), count(it)].map(|it| it.expect("room for any number")));
        drop(one);
        assert!(count("192.0.2.1").is_some());
    }
}
