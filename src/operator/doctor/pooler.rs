//! Whether a connection pooler is in between, told by what it does to sessions, whichever pooler it is.

use std::time::Duration;

use crate::postgres::SimpleQueryMessage;
use tokio::time::{Instant, sleep};

use super::{Checked, Patient, ok, warning};
use crate::postgres::error::{Class, Failure};
use crate::postgres::pool::Pool;
use crate::postgres::session::{Connection, Session, attempt};
use crate::store::HOUSEKEEPING;

/// A server process that is still there so long after its only client has gone has another one in between.
const GOING: Duration = Duration::from_secs(1);

/// Opens a second session, and has the two take turns. A pooler in transaction mode then mixes up their server
/// processes; one in session mode keeps the second one's when that is over.
pub(super) async fn check(p: &Patient<'_>) -> Checked {
    let pool = Pool::new(p.host.clone(), 1, p.config.timeout);
    let pool = pool.map_err(|error| Failure::new(Class::Refused, error.to_string()))?;
    let second = match pool.get().await {
        Ok(second) => second,
        // That is a finding of the connection slots.
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

/// Begins a transaction; gives the server process that it runs in.
async fn begin(connection: &Connection) -> Result<String, Failure> {
    connection.batch_execute("BEGIN").await?;
    let messages = connection.simple_query("SELECT pg_backend_pid()").await?;
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    pid.map(str::to_owned).ok_or_else(|| Failure::new(Class::Unknown, "no server process is named"))
}
