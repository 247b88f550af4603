//! A sender's connection: its certificate, and the memory that its requests may take.
//!
//! All connections of an address, to both ports, share the memory of that address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::request_memory::RequestMemory;
use super::tls::Presented;
use crate::net::{self, Origin};

/// The other end of one connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: net::Client,
    /// Its certificate, if the port asks for one.
    pub(super) presented: OnceLock<Presented>,
    /// The memory for its requests.
    pub(super) room: Arc<RequestMemory>,
    _address: AddressRoom,
}

/// The memory of each connected address, with the number of its connections.
#[derive(Debug)]
pub(super) struct AddressRooms {
    room: Arc<RequestMemory>,
    by_origin: Mutex<HashMap<Origin, (Arc<RequestMemory>, usize)>>,
}

/// A connection's reference to the memory of its address.
#[derive(Debug)]
struct AddressRoom {
    rooms: Arc<AddressRooms>,
    origin: Origin,
    room: Arc<RequestMemory>,
}

impl Client {
    pub(super) fn new(peer: net::Client, rooms: &Arc<AddressRooms>) -> Self {
        let address = rooms.of(peer.origin);
        Self { peer, presented: OnceLock::new(), room: address.room.part(), _address: address }
    }
}

impl AddressRooms {
    pub(super) fn new(room: Arc<RequestMemory>) -> Arc<Self> {
        Arc::new(Self { room, by_origin: Mutex::default() })
    }

    fn of(self: &Arc<Self>, origin: Origin) -> AddressRoom {
        let mut all = self.by_origin();
        let (room, connections) = all.entry(origin).or_insert_with(|| (self.room.part(), 0));
        *connections += 1;
        let room = room.clone();
        AddressRoom { rooms: self.clone(), origin, room }
    }

    fn by_origin(&self) -> MutexGuard<'_, HashMap<Origin, (Arc<RequestMemory>, usize)>> {
        self.by_origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressRoom {
    fn drop(&mut self) {
        let mut all = self.rooms.by_origin();
        if let Some((_, connections)) = all.get_mut(&self.origin) {
            *connections -= 1;
            if *connections == 0 {
                all.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn all_connections_of_an_address_share_its_memory() {
        let all = AddressRooms::new(RequestMemory::new(1000));
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap().into());
        let (first, second) = (all.of(one), all.of(one));
        assert!(Arc::ptr_eq(&first.room, &second.room));
        assert!(!Arc::ptr_eq(&first.room, &all.of(other).room));
        drop(first);
        assert_eq!(all.by_origin().len(), 1, "it has another connection");
        drop(second);
        assert_eq!(all.by_origin().len(), 0, "closed connections leave no entry");
    }

    #[test]
    fn connections_that_end_at_once_leave_nothing() {
        let all = AddressRooms::new(RequestMemory::new(1000));
        let origin: Origin = "192.0.2.1".parse::<IpAddr>().unwrap().into();
        for _ in 0..1000 {
            let both = [all.of(origin), all.of(origin)];
            std::thread::scope(|threads| {
                both.into_iter().for_each(|one| drop(threads.spawn(move || drop(one))))
            });
            assert_eq!(all.by_origin().len(), 0);
        }
    }
}
