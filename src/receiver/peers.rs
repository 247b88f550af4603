//! The addresses that connections come from, each with its part of the room and of the places.
//!
//! An IPv6 address stands for its /64, which is what one customer of a network has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crowd::Crowd;
use super::room::Room;

/// Who cannot be told from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(IpAddr);

/// The addresses that are connected to one port.
#[derive(Debug)]
pub(super) struct Peers {
    room: Arc<Room>,
    /// The most connections of each.
    most: usize,
    by_origin: Mutex<HashMap<Origin, (usize, Arc<Peer>)>>,
}

/// One address, as long as it is connected.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) room: Arc<Room>,
    pub(super) crowd: Crowd,
}

/// A connection of an address.
#[derive(Debug)]
pub(super) struct Visit {
    peers: Arc<Peers>,
    pub(super) origin: Origin,
    pub(super) peer: Arc<Peer>,
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

impl Peers {
    /// Those of a port, each with a part of `room`, and `most` connections at most.
    pub(super) fn new(room: Arc<Room>, most: usize) -> Arc<Self> {
        Arc::new(Self { room, most, by_origin: Mutex::default() })
    }

    /// One more connection from `address`. Where it has as many as it may, a stranger among them makes place; `None`
    /// where there is none.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Visit> {
        let origin = Origin::from(address);
        let mut all = self.by_origin();
        let (connections, peer) = all
            .entry(origin)
            .or_insert_with(|| (0, Arc::new(Peer { room: self.room.part(), crowd: Crowd::default() })));
        if *connections >= self.most && !peer.crowd.ask_one() {
            return None;
        }
        *connections += 1;
        Some(Visit { peers: self.clone(), origin, peer: peer.clone() })
    }

    /// The most connections of one address.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    fn by_origin(&self) -> MutexGuard<'_, HashMap<Origin, (usize, Arc<Peer>)>> {
        self.by_origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut all = self.peers.by_origin();
        if let Some((connections, _)) = all.get_mut(&self.origin) {
            *connections -= 1;
            if *connections == 0 {
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
        let peers = Peers::new(Room::new(1000), 2);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let first = peers.enter(one).unwrap();
        let second = peers.enter(one).unwrap();
        assert!(peers.enter(one).is_none(), "it has two, and none of them is a stranger");
        assert!(peers.enter(other).is_some());
        first.peer.crowd.stranger_comes();
        assert!(peers.enter(one).is_some(), "a stranger makes place");
        first.peer.crowd.stranger_goes();
        drop((first, second));
        assert_eq!(peers.by_origin().len(), 0, "nothing is left of those who have gone");
    }
}
