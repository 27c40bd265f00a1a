//! Budgets: limits in total and per address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

use crate::shrink;

/// The longest IPv6 prefix that identifies one customer of a provider, in bits.
const IPV6_NETWORK: u32 = 64;

/// A budget. Clones share it.
///
/// ```
/// use tidegate_core::budget::{Budget, Full};
///
/// let budget = Budget::new(100, 60);
/// let mut share = budget.share(Some([192, 0, 2, 1].into()));
/// assert_eq!(share.grow(60), Ok(()));
/// assert_eq!(share.grow(1), Err(Full::Address(60)));
/// ```
#[derive(Debug, Clone)]
pub struct Budget(Arc<BudgetCore>);

#[derive(Debug)]
struct BudgetCore {
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    capacity: usize,
    in_all: usize,
    by_address: HashMap<CountedAddress, usize, RandomState>,
}

/// Why there is no room, with the limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The total is used up.
    InAll(usize),
    /// The address has used up its part.
    Address(usize),
}

/// The address that a peer counts for: an IPv4 address itself, or the network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CountedAddress(IpAddr);

/// A share of a budget, which is returned when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    address: Option<CountedAddress>,
    amount: usize,
}

impl Budget {
    /// Creates a budget of `capacity` in total, of which each address may take `per_address`.
    #[must_use]
    pub fn new(capacity: usize, per_address: usize) -> Self {
        let taken = Mutex::new(Taken { capacity, ..Taken::default() });
        Self(Arc::new(BudgetCore { per_address, taken }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lowers the capacity to at most `capacity`. Returns the present one.
    pub fn limit(&self, capacity: usize) -> usize {
        let mut taken = self.taken();
        taken.capacity = taken.capacity.min(capacity);
        taken.capacity
    }

    /// Creates an empty share for a peer at `address`. Peers at loopback addresses count only
    /// towards the total.
    #[must_use]
    pub fn share(&self, address: Option<IpAddr>) -> Share {
        Share { budget: self.clone(), address: CountedAddress::of(address), amount: 0 }
    }

    /// Takes `amount` for a peer. The caller must give it back.
    ///
    /// # Errors
    /// If the limit would be exceeded. The peer's own limit is checked first.
    pub fn take(&self, address: Option<CountedAddress>, amount: usize) -> Result<(), Full> {
        let mut taken = self.taken();
        let limit = self.0.per_address;
        if let Some(address) = address {
            let here = taken.by_address.get(&address).copied().unwrap_or_default();
            if limit < here.saturating_add(amount) {
                return Err(Full::Address(limit));
            }
        }
        if taken.capacity < taken.in_all.saturating_add(amount) {
            return Err(Full::InAll(taken.capacity));
        }
        taken.in_all += amount;
        if let Some(address) = address {
            *taken.by_address.entry(address).or_default() += amount;
        }
        Ok(())
    }

    /// Gives back what was taken.
    pub fn give_back(&self, address: Option<CountedAddress>, amount: usize) {
        let mut taken = self.taken();
        taken.in_all -= amount;
        let Some(address) = address else { return };
        if let Some(here) = taken.by_address.get_mut(&address) {
            *here -= amount;
            if *here == 0 {
                taken.by_address.remove(&address);
                shrink::map(&mut taken.by_address);
            }
        }
    }
}

impl Share {
    /// Takes `amount` more.
    ///
    /// # Errors
    /// If the limit would be exceeded.
    pub fn grow(&mut self, amount: usize) -> Result<(), Full> {
        self.budget.take(self.address, amount)?;
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if 0 < self.amount {
            self.budget.give_back(self.address, self.amount);
        }
    }
}

impl CountedAddress {
    /// Returns the address that a peer counts for. Loopback addresses have no limit of their own.
    #[must_use]
    pub fn of(peer: Option<IpAddr>) -> Option<Self> {
        let address = match peer?.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let host_bits = u128::BITS - IPV6_NETWORK;
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> host_bits << host_bits))
            }
            address => address,
        };
        Some(Self(address)).filter(|it| !it.0.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_peers_own_limit_comes_before_the_total_and_shares_come_back() {
        let budget = Budget::new(100, 60);
        let mut one = budget.share(address("192.0.2.1"));
        one.grow(40).expect("room");
        let mut same = budget.share(address("::ffff:192.0.2.1"));
        assert_eq!(same.grow(30), Err(Full::Address(60)));
        same.grow(20).expect("room");
        let mut other = budget.share(address("192.0.2.2"));
        assert_eq!(other.grow(50), Err(Full::InAll(100)));
        drop(one);
        other.grow(50).expect("room again");
        drop((same, other));
        assert!(budget.taken().by_address.is_empty(), "nothing is kept of those who left");
        let mut loopback = budget.share(address("127.0.0.1"));
        loopback.grow(100).expect("no limit of its own");
    }

    #[test]
    fn memory_is_given_back_when_many_addresses_have_left() {
        let budget = Budget::new(usize::MAX, 1);
        let shares: Vec<Share> = (1..10_000)
            .map(|it| {
                let mut share = budget.share(Some(std::net::Ipv4Addr::from_bits(it).into()));
                share.grow(1).expect("room");
                share
            })
            .collect();
        drop(shares);
        assert!(budget.taken().by_address.capacity() <= shrink::FEW);
    }
}
