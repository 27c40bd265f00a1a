//! How many connections there are from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use foldhash::fast::RandomState;

use crate::{
    delivery::network,
    settings::{ServerSettings, Settings},
};

/// The connections of each address; clones count together.
#[derive(Debug, Clone)]
pub(super) struct Addresses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: ServerSettings,
    limit: usize,
    open: Mutex<HashMap<IpAddr, usize, RandomState>>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(Option<(Addresses, IpAddr)>);

impl Addresses {
    pub(super) fn new(settings: &Settings) -> Self {
        let limit = settings.limits.connections_per_address;
        Self(Arc::new(Inner { server: settings.server.clone(), limit, open: Mutex::default() }))
    }

    /// Counts a connection from `peer`, or returns `None` if it is one too many. Loopback addresses and trusted proxies
    /// may have any number.
    pub(super) fn count(&self, peer: IpAddr) -> Option<Counted> {
        let address = network(peer);
        if address.is_loopback() || self.0.server.trusts(peer.to_canonical()) {
            return Some(Counted(None));
        }
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.entry(address).or_default();
        if self.0.limit <= *here {
            return None;
        }
        *here += 1;
        Some(Counted(Some((self.clone(), address))))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((addresses, address)) = &self.0 else { return };
        let mut open = addresses.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = open.get_mut(address) {
            *here -= 1;
            if *here == 0 {
                open.remove(address);
            }
        }
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
        let _exempt = ["127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3"].map(|it| {
            [count(it), count(it), count(it)].map(|it| it.expect("room for any number"))
        });
        drop(one);
        assert!(count("192.0.2.1").is_some());
        assert_eq!(addresses.0.open.lock().expect("a lock").len(), 2);
    }
}
