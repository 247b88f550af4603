//! A connection for a piece of work. However the work ends, it leaves no open transaction to the connection's next user.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use super::error::{Class, Failure};

/// A connection that statements are sent on, within a piece of work.
pub type Connection = Object;

/// A connection from a pool, used only by [`Session::within`]. When dropped, it goes back to the pool if all work and all
/// transactions have ended. Otherwise (after a deadline, or if the work was cancelled) the connection is closed.
#[derive(Debug)]
pub struct Session {
    connection: Option<Connection>,
    /// No transaction is open, as far as the server's answers tell.
    is_free: bool,
}

/// The error of a piece of work. It decides whether the connection can be kept.
pub trait Cause: From<Failure> {
    /// The failure of PostgreSQL or the network behind it, if any.
    fn failure(&self) -> Option<&Failure>;
}

/// The longest wait for a rollback.
const ROLLING_BACK: Duration = Duration::from_secs(10);

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection: Some(connection), is_free: true }
    }

    /// Runs `work` within `limit`. The work ends each transaction that it begins; if it fails, this rolls back.
    ///
    /// # Errors
    ///
    /// The failure of `work`, [`Failure::deadline`], or the end of the session if earlier work left it unusable.
    pub async fn within<T, E: Cause>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let is_free = std::mem::take(&mut self.is_free);
        let Some(connection) = self.connection.as_ref().filter(|_| is_free) else {
            return Err(Failure::session_end().into());
        };
        // Boxed, because the future of a piece of work is large.
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
            // Taken out of the pool, the connection is closed when dropped.
            drop(Object::take(connection));
        }
    }
}

impl Cause for Failure {
    fn failure(&self) -> Option<&Failure> {
        Some(self)
    }
}

/// Limits the time of a part of a piece of work.
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

/// Runs `part` of a piece of work that can go on without it: if the part fails, its transaction is rolled back. The outer failure
/// is the connection's, which ends the whole work.
///
/// # Errors
///
/// The connection can no longer be used.
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
