//! Limits the number of subscribers, in total and per address.

use std::{fmt, net::IpAddr};

use crate::budget::{Budget, CountedAddress, Full};

/// The seats of a gateway; clones share the same seats.
#[derive(Debug, Clone)]
pub struct Seats(Budget);

/// A taken seat. Dropping it makes room for another subscriber.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    /// Boxed, because most subscribers at loopback addresses have none.
    more: Option<Box<More>>,
}

/// Additional data of some seats.
#[derive(Debug, Default)]
struct More {
    /// The address that the seat counts against.
    address: Option<CountedAddress>,
    /// Guards dropped with the seat.
    guards: Vec<Box<dyn fmt::Debug + Send>>,
}

impl Seats {
    /// Creates `capacity` seats; one address may take `capacity_per_address` of them.
    #[must_use]
    pub fn new(capacity: usize, capacity_per_address: usize) -> Self {
        Self(Budget::new(capacity, capacity_per_address))
    }

    /// Lowers the capacity to at most `capacity`, and returns the capacity now.
    pub fn limit(&self, capacity: usize) -> usize {
        self.0.limit(capacity)
    }

    /// Takes a seat for a subscriber at `address`. Loopback addresses have no limit of their own.
    ///
    /// # Errors
    /// If none is free.
    pub fn take(&self, address: Option<IpAddr>) -> Result<Seat, Full> {
        let address = CountedAddress::of(address);
        self.0.take(address, 1)?;
        let more = address.map(|it| Box::new(More { address: Some(it), guards: Vec::new() }));
        Ok(Seat { seats: self.clone(), more })
    }

    /// Checks whether [`Seats::take`] would find a seat.
    ///
    /// # Errors
    /// If none is free.
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), Full> {
        self.take(address).map(drop)
    }
}

impl Seat {
    /// Adds a guard that is dropped with the seat.
    #[must_use]
    pub fn guarding(mut self, guard: impl fmt::Debug + Send + 'static) -> Self {
        self.guard(guard);
        self
    }

    /// Adds a guard that is dropped with the seat.
    pub fn guard(&mut self, guard: impl fmt::Debug + Send + 'static) {
        self.more.get_or_insert_default().guards.push(Box::new(guard));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.0.give_back(self.more.as_ref().and_then(|it| it.address), 1);
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
