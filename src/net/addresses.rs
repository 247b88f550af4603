//! The addresses that connections to one port come from, each with its part of the places.
//!
//! An IPv6 address stands for its /64, which is what one customer of a network has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crowd::Crowd;

/// An address, or a network whose addresses one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

/// The addresses that are connected to one port.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The most connections of each.
    most: usize,
    by_origin: Mutex<HashMap<Origin, Address>>,
}

/// The connections of one address.
#[derive(Debug, Default)]
struct Address {
    connections: usize,
    crowd: Arc<Crowd>,
}

/// A connection of an address.
#[derive(Debug)]
pub(super) struct Visit {
    addresses: Arc<Addresses>,
    pub(super) origin: Origin,
    /// All connections of the address.
    pub(super) crowd: Arc<Crowd>,
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

impl Addresses {
    /// None yet; each is to have `most` connections at most.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, by_origin: Mutex::default() })
    }

    /// One more connection from `address`. Where it has as many as it may, one without an admitted request makes place;
    /// `None` where there is none.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Visit> {
        let origin = Origin::from(address);
        let mut all = self.by_origin();
        let Address { connections, crowd } = all.entry(origin).or_default();
        if *connections >= self.most && !crowd.ask_one() {
            return None;
        }
        *connections += 1;
        Some(Visit { addresses: self.clone(), origin, crowd: crowd.clone() })
    }

    fn by_origin(&self) -> MutexGuard<'_, HashMap<Origin, Address>> {
        self.by_origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut all = self.addresses.by_origin();
        if let Some(address) = all.get_mut(&self.origin) {
            address.connections -= 1;
            if address.connections == 0 {
                all.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_stands_for_its_network() {
        let origin = |address: &str| Origin::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8:1:2::3"), origin("2001:db8:1:2:ffff::4"));
        assert_ne!(origin("2001:db8:1:2::3"), origin("2001:db8:1:3::3"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[test]
    fn an_address_has_its_places_and_the_others_have_theirs() {
        let all = Addresses::new(2);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let first = all.enter(one).unwrap();
        let second = all.enter(one).unwrap();
        assert!(all.enter(one).is_none(), "it has two, and a request was admitted on each of them");
        assert!(all.enter(other).is_some());
        first.crowd.newcomer_comes();
        assert!(all.enter(one).is_some(), "a newcomer makes place");
        first.crowd.newcomer_goes();
        drop((first, second));
        assert_eq!(all.by_origin().len(), 0, "nothing is left of those who have gone");
    }
}
