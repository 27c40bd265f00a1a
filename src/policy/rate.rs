//! How many actions clients may do, each and all of one address.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};
use tidegate_core::event::ClientKey;

use crate::settings::ClientSettings;

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock, NoOpMiddleware>;

/// The rates of actions. They forget those that have been quiet.
#[derive(Debug)]
pub(crate) struct ActionRates {
    clients: Rate<ClientKey>,
    addresses: Rate<IpAddr>,
}

#[derive(Debug)]
struct Rate<K: std::hash::Hash + Eq + Clone> {
    limiter: Limiter<K>,
    burst: u32,
    /// The number of keys at which quiet ones are forgotten.
    sweep_at: AtomicUsize,
}

impl ActionRates {
    /// Creates the rates of these settings.
    pub(crate) fn new(settings: &ClientSettings) -> Self {
        let per_address = settings.actions_per_second_per_address;
        let burst_of_address = per_address.saturating_mul(2).max(settings.burst);
        Self {
            clients: Rate::new(settings.actions_per_second, settings.burst),
            addresses: Rate::new(per_address, burst_of_address),
        }
    }

    /// Counts `n` actions of a client.
    ///
    /// # Errors
    /// Returns how long the client has to wait.
    pub(crate) fn spend(&self, client: &ClientKey, n: u32) -> Result<(), Duration> {
        self.clients.spend(client, n)
    }

    /// Counts `n` actions of clients at an address.
    ///
    /// # Errors
    /// Returns how long they have to wait.
    pub(crate) fn spend_at(&self, address: &IpAddr, n: u32) -> Result<(), Duration> {
        self.addresses.spend(address, n)
    }
}

impl<K: std::hash::Hash + Eq + Clone> Rate<K> {
    const LEAST: usize = 1024;

    fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
        let sweep_at = AtomicUsize::new(Self::LEAST);
        Self { limiter: RateLimiter::hashmap(quota), burst: burst.max(1), sweep_at }
    }

    fn spend(&self, key: &K, n: u32) -> Result<(), Duration> {
        let count = self.limiter.len();
        if self.sweep_at.load(Relaxed) <= count {
            self.limiter.retain_recent();
            self.sweep_at.store(Self::LEAST.max(2 * self.limiter.len()), Relaxed);
        }
        let Some(n) = NonZeroU32::new(n.min(self.burst)) else { return Ok(()) };
        match self.limiter.check_key_n(key, n) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(early)) => Err(early.wait_time_from(DefaultClock::default().now())),
            // Not reached: `n` is at most the burst.
            Err(_) => Err(Duration::from_secs(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_burst_and_then_its_rate() {
        let settings = ClientSettings { burst: 3, actions_per_second: 1, ..Default::default() };
        let rates = ActionRates::new(&settings);
        let (one, other) = (ClientKey::kept([1; 16]), ClientKey::kept([2; 16]));
        assert_eq!(rates.spend(&one, 3), Ok(()));
        let wait = rates.spend(&one, 1).expect_err("its burst is spent");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(rates.spend(&other, 3), Ok(()));
        assert_eq!(rates.spend(&other, 0), Ok(()));
    }
}
