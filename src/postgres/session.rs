//! A connection for a piece of work. Whatever becomes of the work, no transaction of it is left for the connection's next user.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use super::error::{Class, Failure};

/// What statements are sent by, within a piece of work.
pub type Connection = Object;

/// A connection from a pool. Work is done on it by [`Session::within`] alone. Dropped, it goes back to the pool where all work has
/// ended, with its transactions; otherwise the connection ends: after a deadline, and where the work was dropped on its way.
#[derive(Debug)]
pub struct Session {
    connection: Option<Connection>,
    /// No transaction is under way, as far as a server's answers tell.
    is_free: bool,
}

/// Why a piece of work failed, as far as it tells what becomes of the connection.
pub trait Cause: From<Failure> {
    /// What PostgreSQL or the way to it has to do with it.
    fn failure(&self) -> Option<&Failure>;
}

/// The longest wait for a rollback.
const ROLLING_BACK: Duration = Duration::from_secs(10);

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection: Some(connection), is_free: true }
    }

    /// Has `work` done, within `limit`. The work ends each transaction that it begins; where it fails, that is done here.
    ///
    /// # Errors
    ///
    /// The failure of `work`, or [`Failure::deadline`]. Of no further use is a connection that an earlier piece of work has left unusable.
    pub async fn within<T, E: Cause>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let is_free = std::mem::take(&mut self.is_free);
        let Some(connection) = self.connection.as_ref().filter(|_| is_free) else {
            return Err(Failure::session_end().into());
        };
        // A piece of work is large, and whoever waits for it should not be.
        let done = bounded(limit, Box::pin(work(connection))).await;
        self.is_free = match &done {
            Ok(_) => true,
            Err(cause) if cause.failure().is_none_or(Failure::leaves_connection_usable) => {
                end_transaction(connection).await.is_ok()
            }
            Err(_) => false,
        };
        done
    }

    /// Ends the connection.
    pub fn end(mut self) {
        self.is_free = false;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.is_free
        {
            // Taken out of its pool, it ends with its only user.
            drop(Object::take(connection));
        }
    }
}

impl Cause for Failure {
    fn failure(&self) -> Option<&Failure> {
        Some(self)
    }
}

/// Bounds a part of a piece of work.
///
/// # Errors
///
/// The failure of `work`, or [`Failure::deadline`].
pub async fn bounded<T, E: From<Failure>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(Failure::deadline(limit.as_secs_f64()).into()))
}

/// Has `part` of a piece of work done, which goes on where that fails: its transaction is rolled back then. The outer failure is the
/// connection's, for which nothing goes on.
///
/// # Errors
///
/// Where the connection is of no further use.
pub async fn attempt<T, E: Cause>(
    connection: &Connection,
    part: impl Future<Output = Result<T, E>>,
) -> Result<Result<T, E>, E> {
    match part.await {
        Err(cause) if cause.failure().is_some_and(|failure| failure.class == Class::Connection) => Err(cause),
        Err(cause) => {
            end_transaction(connection).await?;
            Ok(Err(cause))
        }
        done => Ok(done),
    }
}

/// Ends the transaction that a failed piece of work has left, if it has. A ROLLBACK outside of one would be a warning in the server's log.
async fn end_transaction(connection: &Connection) -> Result<(), Failure> {
    bounded(ROLLING_BACK, async {
        // The clock of a transaction stands still; in a failed one there is no answer but an error.
        let begun = connection.simple_query("SELECT now() = statement_timestamp()").await;
        let is_outside = begun.is_ok_and(|messages| {
            messages
                .iter()
                .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t")))
        });
        if !is_outside {
            connection.batch_execute("ROLLBACK").await?;
        }
        Ok(())
    })
    .await
}
