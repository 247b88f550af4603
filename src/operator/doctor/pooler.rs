//! Detects a connection pooler of any make by its effect on sessions.

use std::time::Duration;

use crate::postgres::SimpleQueryMessage;
use tokio::time::{Instant, sleep};

use super::{Checked, Patient, ok, warning};
use crate::postgres::error::{Class, Failure};
use crate::postgres::pool::Pool;
use crate::postgres::session::{Connection, Session, attempt};
use crate::store::HOUSEKEEPING;

/// If a server process still exists this long after its client has gone, a pooler keeps it.
const GOING: Duration = Duration::from_secs(1);

/// Opens a second session, and alternates between the two. A pooler in transaction mode then mixes up their server processes; one
/// in session mode keeps the process of the second after its end.
pub(super) async fn check(p: &Patient<'_>) -> Checked {
    let pool = Pool::new(p.host.clone(), 1, p.config.timeout);
    let pool = pool.map_err(|error| Failure::new(Class::Refused, error.to_string()))?;
    let second = match pool.get().await {
        Ok(second) => second,
        // The check of the connections reports that.
        Err(failure) => {
            return Ok(vec![warning(format!("cannot be told without a second session: {failure}"))]);
        }
    };
    attempt(p.connection, take_turns(p.connection, second)).await?
}

async fn take_turns(first: &Connection, mut second: Session) -> Checked {
    let mixed = async |second: &Connection| {
        let before = begin(first).await?;
        let other = begin(second).await?;
        first.batch_execute("COMMIT").await?;
        second.batch_execute("COMMIT").await?;
        let after = begin(first).await?;
        first.batch_execute("COMMIT").await?;
        Ok::<_, Failure>((before != after, other))
    };
    let (is_mixed_up, other) = second.within(HOUSEKEEPING, mixed).await?;
    if is_mixed_up {
        return Ok(vec![warning(
            "a connection pooler in transaction mode is in between: forebay's own synchronous_commit and timeouts do \
             not hold there, and prepared statements need PgBouncer 1.22 with max_prepared_statements; connect to \
             PostgreSQL itself, or to a pool in session mode",
        )]);
    }
    second.end();
    let gone = Instant::now() + GOING;
    let still_there = format!("SELECT 1 FROM pg_stat_get_activity({other})");
    while first.query_opt(&still_there, &[]).await?.is_some() {
        if Instant::now() >= gone {
            return Ok(vec![ok("a connection pooler in session mode is in between, which is as good")]);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(vec![ok("none is in between")])
}

/// Begins a transaction; returns the pid of its server process.
async fn begin(connection: &Connection) -> Result<String, Failure> {
    connection.batch_execute("BEGIN").await?;
    let messages = connection.simple_query("SELECT pg_backend_pid()").await?;
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    pid.map(str::to_owned).ok_or_else(|| Failure::new(Class::Unknown, "no server process is named"))
}
