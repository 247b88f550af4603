//! What somebody drops of the store while forebay runs is made again: a table or the schema, or the database with all that is
//! in it, as it goes with a reset, a restore, a failed migration of somebody else's. What is held is written there then.
//!
//! A lane or the keeper that meets a missing table looks at once, so that no row is found at fault for it. A table that is
//! only away, under another name, is waited for (`table/ddl/parts.rs`).

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{HOUSEKEEPING, Store, schema};
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;

/// When it was last looked whether the store is all there, and when something was made again.
#[derive(Debug, Default)]
pub(crate) struct Renewal(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    looked: Option<Instant>,
    made: Option<Instant>,
}

impl Store {
    /// Where `failure` says that a table is missing, which was met by a try that began at `tried`: makes the store again where parts
    /// of it are missing. Gives whether that was done since the try began, so that it is worth another one at once.
    pub(crate) async fn makes_again(&self, failure: &Failure, tried: Instant) -> bool {
        if !self.config.create_schema || !failure.may_be_a_missing_table() {
            return false;
        }
        let mut looks = self.renewal.0.lock().await;
        if looks.looked < Some(tried) {
            let parts = async |connection: &Connection| schema::parts(connection, &self.schema).await;
            // It may be a table of somebody else's, which a trigger names.
            match self.pool.session(HOUSEKEEPING, parts).await {
                Ok(there) if there.tables_again(&self.schema).is_empty() => {
                    looks.looked = Some(Instant::now())
                }
                _ => self.look_again(&mut looks).await,
            }
        }
        looks.made > Some(tried)
    }

    /// Makes the store again where parts of it are missing.
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
