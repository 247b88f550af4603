//! Counts the connections of each address to one port, and bounds them.
//!
//! IPv6 addresses are counted by /64, the network that one customer usually has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crowd::Crowd;

/// An IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

/// The addresses with connections to one port.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The most connections of one address.
    most: usize,
    by_origin: Mutex<HashMap<Origin, Address>>,
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    crowd: Arc<Crowd>,
}

/// One connection, counted until it is dropped.
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
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, by_origin: Mutex::default() })
    }

    /// Counts one more connection from `address`. If the address is at its limit, a newcomer among its connections is asked to
    /// close; without one, the result is `None`.
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
    fn ipv6_addresses_are_counted_by_network() {
        let origin = |address: &str| Origin::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8:1:2::3"), origin("2001:db8:1:2:ffff::4"));
        assert_ne!(origin("2001:db8:1:2::3"), origin("2001:db8:1:3::3"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[test]
    fn each_address_has_its_own_limit() {
        let all = Addresses::new(2);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let first = all.enter(one).unwrap();
        let second = all.enter(one).unwrap();
        assert!(all.enter(one).is_none(), "it has two, and neither is a newcomer");
        assert!(all.enter(other).is_some());
        let number = first.crowd.newcomer_comes(Arc::default());
        assert!(all.enter(one).is_some(), "a newcomer makes room");
        first.crowd.newcomer_goes(number);
        drop((first, second));
        assert_eq!(all.by_origin().len(), 0, "closed connections leave no entry");
    }
}
