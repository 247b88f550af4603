//! The addresses that connections come from, each with its part of the room and of the places.
//!
//! An IPv6 address stands for its /64, which is what one customer of a network has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crowd::Crowd;
use super::metrics::Transport;
use super::room::Room;

/// Who cannot be told from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(IpAddr);

/// The addresses that are connected, at whichever port: each has one part of the room for all of them.
#[derive(Debug)]
pub(super) struct Peers {
    room: Arc<Room>,
    by_origin: Mutex<HashMap<Origin, Arc<Peer>>>,
}

/// The addresses as one port sees them.
#[derive(Debug)]
pub(super) struct Doorway {
    peers: Arc<Peers>,
    transport: Transport,
    /// The most connections of each at this port.
    most: usize,
}

/// One address, as long as it is connected.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) room: Arc<Room>,
    /// By [`Transport`].
    ports: [AtPort; 2],
}

/// The connections of an address to one port.
#[derive(Debug, Default)]
struct AtPort {
    connections: AtomicUsize,
    crowd: Crowd,
}

/// A connection of an address.
#[derive(Debug)]
pub(super) struct Visit {
    peers: Arc<Peers>,
    transport: Transport,
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
    /// Nobody yet; each is to have a part of `room`.
    pub(super) fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self { room, by_origin: Mutex::default() })
    }

    /// At the port of `transport`, where each has `most` connections at most.
    pub(super) fn at(self: &Arc<Self>, transport: Transport, most: usize) -> Doorway {
        Doorway { peers: self.clone(), transport, most }
    }

    fn by_origin(&self) -> MutexGuard<'_, HashMap<Origin, Arc<Peer>>> {
        self.by_origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doorway {
    /// One more connection from `address`. Where it has as many as it may, a stranger among them makes place; `None`
    /// where there is none.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Visit> {
        let Self { peers, transport, most } = self;
        let origin = Origin::from(address);
        let mut all = peers.by_origin();
        let peer = all
            .entry(origin)
            .or_insert_with(|| Arc::new(Peer { room: peers.room.part(), ports: Default::default() }));
        let AtPort { connections, crowd } = &peer.ports[*transport as usize];
        // They change behind the lock only.
        if connections.load(Ordering::Relaxed) >= *most && !crowd.ask_one() {
            return None;
        }
        connections.fetch_add(1, Ordering::Relaxed);
        Some(Visit { peers: peers.clone(), transport: *transport, origin, peer: peer.clone() })
    }

    /// The most connections of one address.
    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl Peer {
    /// Its connections to the port of `transport`, where one may have to go for another.
    pub(super) fn crowd(&self, transport: Transport) -> &Crowd {
        &self.ports[transport as usize].crowd
    }

    fn is_gone(&self) -> bool {
        self.ports.iter().all(|port| port.connections.load(Ordering::Relaxed) == 0)
    }
}

impl Visit {
    /// The port that it is at.
    pub(super) fn transport(&self) -> Transport {
        self.transport
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut all = self.peers.by_origin();
        self.peer.ports[self.transport as usize].connections.fetch_sub(1, Ordering::Relaxed);
        if self.peer.is_gone() {
            all.remove(&self.origin);
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
        let all = Peers::new(Room::new(1000));
        let peers = all.at(Transport::Grpc, 2);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let first = peers.enter(one).unwrap();
        let second = peers.enter(one).unwrap();
        assert!(peers.enter(one).is_none(), "it has two, and none of them is a stranger");
        assert!(peers.enter(other).is_some());
        first.peer.crowd(Transport::Grpc).stranger_comes();
        assert!(peers.enter(one).is_some(), "a stranger makes place");
        first.peer.crowd(Transport::Grpc).stranger_goes();
        drop((first, second));
        assert_eq!(all.by_origin().len(), 0, "nothing is left of those who have gone");
    }

    #[test]
    fn an_address_has_one_part_of_the_room_for_all_ports_and_its_places_at_each() {
        let all = Peers::new(Room::new(1000));
        let (grpc, http) = (all.at(Transport::Grpc, 1), all.at(Transport::Http, 1));
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let first = grpc.enter(one).unwrap();
        assert!(grpc.enter(one).is_none());
        let second = http.enter(one).unwrap();
        assert!(Arc::ptr_eq(&first.peer.room, &second.peer.room));
        assert!(!Arc::ptr_eq(&first.peer.room, &http.enter(other).unwrap().peer.room));
        drop(first);
        assert_eq!(all.by_origin().len(), 1, "it is still at the other port");
        drop(second);
        assert_eq!(all.by_origin().len(), 0);
    }
}
