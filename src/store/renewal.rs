//! Restores what somebody drops while forebay runs: a table, the schema or the whole database, as in a reset, a restore or somebody
//! else's failed migration. Buffered records are written there afterwards.
//!
//! A lane or the keeper that meets a missing table checks at once, so that no row is blamed for it. A table that was only renamed
//! is waited for (`table/ddl/parts.rs`).

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{HOUSEKEEPING, Store, schema};
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;

/// When the store was last checked for missing parts, and when something was last restored.
#[derive(Debug, Default)]
pub(crate) struct Renewal(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    looked: Option<Instant>,
    made: Option<Instant>,
}

impl Store {
    /// Restores missing parts of the store if `failure`, of an attempt that began at `tried`, says that a table is missing. Returns
    /// whether something was restored since the attempt began, so that another is worthwhile at once.
    pub(crate) async fn makes_again(&self, failure: &Failure, tried: Instant) -> bool {
        if !self.config.create_schema || !failure.may_be_a_missing_table() {
            return false;
        }
        let mut looks = self.renewal.0.lock().await;
        if looks.looked < Some(tried) {
            let parts = async |connection: &Connection| schema::parts(connection, &self.schema).await;
            // The missing table may be somebody else's, to which a trigger refers.
            match self.pool.session(HOUSEKEEPING, parts).await {
                Ok(there) if there.tables_again(&self.schema).is_empty() => {
                    looks.looked = Some(Instant::now())
                }
                _ => self.look_again(&mut looks).await,
            }
        }
        looks.made > Some(tried)
    }

    /// Restores the parts of the store that are missing.
    pub(crate) async fn renew(&self) {
        let mut looks = self.renewal.0.lock().await;
        self.look_again(&mut looks).await;
    }

    async fn look_again(&self, looks: &mut Looks) {
        looks.looked = Some(Instant::now());
        match self.prepare().await {
            Ok(true) => looks.made = Some(Instant::now()),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "parts of the store are missing, and cannot be made again yet")
            }
        }
    }
}
