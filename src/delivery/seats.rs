//! How many subscribers there may be, in all and from one address.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

/// The bits of an IPv6 address that one customer of a provider shares at least.
const IPV6_NETWORK: u32 = 64;

/// The seats of a gateway; clones are the same seats.
#[derive(Debug, Clone)]
pub struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    capacity_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    capacity: usize,
    in_all: usize,
    by_address: HashMap<IpAddr, usize, RandomState>,
}

/// Why there is no seat; with the limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many subscribers as there may be.
    InAll(usize),
    /// There are as many from this address as there may be.
    Address(usize),
}

/// A seat that is taken; dropping it makes room for another subscriber.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    /// In a box, because nearly everybody on one machine has none.
    more: Option<Box<More>>,
}

/// What comes with some seats.
#[derive(Debug, Default)]
struct More {
    /// Whom it counts for.
    address: Option<IpAddr>,
    /// What ends with the subscription.
    guard: Option<Box<dyn fmt::Debug + Send>>,
}

impl Seats {
    /// `capacity` seats, of which those at one address may take `capacity_per_address`.
    #[must_use]
    pub fn new(capacity: usize, capacity_per_address: usize) -> Self {
        let taken = Mutex::new(Taken { capacity, ..Taken::default() });
        Self(Arc::new(Inner { capacity_per_address, taken }))
    }

    /// Leaves at most `capacity` seats, and tells how many there are now.
    pub fn limit(&self, capacity: usize) -> usize {
        let mut taken = self.taken();
        taken.capacity = taken.capacity.min(capacity);
        taken.capacity
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat for a subscriber at `address`. Loopback addresses may take all there are.
    ///
    /// # Errors
    /// If there is none.
    pub fn take(&self, address: Option<IpAddr>) -> Result<Seat, Full> {
        let address = address.map(network).filter(|it| !it.is_loopback());
        let mut taken = self.taken();
        if taken.capacity <= taken.in_all {
            return Err(Full::InAll(taken.capacity));
        }
        if let Some(address) = address {
            let limit = self.0.capacity_per_address;
            let here = taken.by_address.entry(address).or_default();
            if limit <= *here {
                if limit == 0 {
                    taken.by_address.remove(&address);
                }
                return Err(Full::Address(limit));
            }
            *here += 1;
        }
        taken.in_all += 1;
        let more = address.map(|it| Box::new(More { address: Some(it), guard: None }));
        Ok(Seat { seats: self.clone(), more })
    }

    /// Whether [`Seats::take`] would find a seat.
    ///
    /// # Errors
    /// If there is none.
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), Full> {
        self.take(address).map(drop)
    }
}

impl Seat {
    /// The same seat, with something that is dropped when the subscriber leaves it.
    #[must_use]
    pub fn guarding(mut self, guard: impl fmt::Debug + Send + 'static) -> Self {
        self.more.get_or_insert_default().guard = Some(Box::new(guard));
        self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.in_all -= 1;
        let Some(address) = self.more.as_ref().and_then(|it| it.address) else { return };
        if let Some(here) = taken.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

/// Who shares the limit of `address`: an IPv4 address stands for itself, an IPv6 address for its network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let host_bits = u128::BITS - IPV6_NETWORK;
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> host_bits << host_bits))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn seats_are_limited_in_all_and_by_address_and_come_back() {
        let seats = Seats::new(3, 2);
        let one = seats.take(address("192.0.2.1")).expect("a seat");
        let _two = seats.take(address("::ffff:192.0.2.1")).expect("a seat");
        assert_eq!(seats.check(address("192.0.2.1")), Err(Full::Address(2)));
        let _three = seats.take(address("192.0.2.2")).expect("a seat");
        assert_eq!(seats.check(address("192.0.2.3")), Err(Full::InAll(3)));
        drop(one);
        assert_eq!(seats.check(address("192.0.2.1")), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_loopback_is_none() {
        let seats = Seats::new(10, 1);
        let _one = seats.take(address("2001:db8::1")).expect("a seat");
        assert_eq!(seats.check(address("2001:db8::2")), Err(Full::Address(1)));
        assert_eq!(seats.check(address("2001:db8:0:1::2")), Ok(()));
        let _loopback = [seats.take(address("127.0.0.1")), seats.take(address("127.0.0.1"))];
        assert_eq!(seats.check(address("::1")), Ok(()));
        assert_eq!(Seats::new(1, 0).check(address("192.0.2.1")), Err(Full::Address(0)));
    }
}
