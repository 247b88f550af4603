//! The deferred steps of a migration: kept to be retried, logged when they change, shown by health. Records are written meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::telemetry::Health;

/// The deferred steps, each with its cure.
#[derive(Debug)]
pub(crate) struct Waits {
    health: Health,
    waits: Mutex<Vec<String>>,
}

impl Waits {
    pub(super) fn new(health: Health) -> Self {
        Self { health, waits: Mutex::default() }
    }

    /// Whether any step is deferred.
    pub(crate) fn any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Replaces the deferred steps.
    pub(crate) fn are(&self, waits: Vec<String>) {
        let before = std::mem::replace(&mut *self.lock(), waits.clone());
        if waits == before {
            return;
        }
        if waits.is_empty() {
            info!("no step of a migration waits any more");
            self.health.migration_waits(None);
            return;
        }
        let waits = waits.join("; ");
        warn!(
            waits,
            "a step of a migration waits, and is tried again every half minute; records are written"
        );
        self.health.migration_waits(Some(waits));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
