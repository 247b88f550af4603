//! What of a migration waits while records are written: kept to be tried again, said where it changes, shown by health.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::telemetry::Health;

/// What waits, each with its cure.
#[derive(Debug, Default)]
pub(super) struct Waits {
    waits: Mutex<Vec<String>>,
}

impl Waits {
    /// Whether anything does.
    pub(super) fn any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// From here on these do.
    pub(super) fn are(&self, waits: Vec<String>, health: &Health) {
        let before = std::mem::replace(&mut *self.lock(), waits.clone());
        if waits == before {
            return;
        }
        if waits.is_empty() {
            info!("no step of a migration waits any more");
            health.migration_waits(None);
            return;
        }
        let waits = waits.join("; ");
        warn!(
            waits,
            "a step of a migration waits, and is tried again every half minute; records are written"
        );
        health.migration_waits(Some(waits));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
