//! Read-only transactions.

use std::time::{Duration, SystemTime};

use super::snapshot::Snapshot;
use crate::operator::command_error::CommandError;
use crate::postgres::dsn::{DsnError, Target};
use crate::postgres::error::{Class, Failure};
use crate::postgres::pool::Pool;
use crate::postgres::session::{Connection, bounded};
use crate::store::Config;
use crate::table::identifier::{Schema, quoted};

/// A reader of the view.
pub(super) struct ViewReader {
    /// Has one connection.
    pool: Pool,
    pub(super) schema: Schema,
    /// The longest that a statement may take.
    limit: Duration,
}

/// A moment of the store: its transaction sees one snapshot.
pub(super) struct Moment<'a> {
    /// In that transaction.
    pub(super) connection: &'a Connection,
    /// By the server's clock.
    pub(super) now: SystemTime,
    pub(super) snapshot: Snapshot,
    pub(super) is_standby: bool,
    /// The role that reads, as SQL.
    role: String,
}

/// How much longer than the server's limit to wait, so that the server reports what took too long.
const GRACE: Duration = Duration::from_secs(3);

/// Times in JSON are in UTC. Each statement is planned for its values, and not compiled. A pager may keep forebay waiting, but not
/// for ever: an open transaction keeps vacuum from its work.
const SETTINGS: &str = "SELECT set_config(name, wanted.value, true) FROM (VALUES ('TimeZone', 'UTC'), \
     ('plan_cache_mode', 'force_custom_plan'), ('jit', 'off'), ('transaction_timeout', '0'), \
     ('cursor_tuple_fraction', '1'), ('idle_in_transaction_session_timeout', '10min')) wanted (name, value) JOIN pg_settings USING (name)";

impl ViewReader {
    /// A reader of the store at `target`, whose statements may take `limit`. Its application_name is `name`.
    pub(super) fn new(
        target: Target,
        config: &Config,
        limit: Duration,
        name: &str,
    ) -> Result<Self, DsnError> {
        Ok(Self {
            pool: Pool::new(target.called(name), 1, limit)?,
            schema: Schema::new(config.schema.clone()),
            limit,
        })
    }

    /// Does `work` in a read-only transaction with one snapshot. Only the server's work has a time limit, since a pager may keep
    /// forebay waiting.
    pub(super) async fn at_a_moment<T>(
        &self,
        work: impl AsyncFnOnce(&Moment<'_>) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let read = async |connection: &Connection| {
            let moment = self.begin(connection).await?;
            let done = work(&moment).await?;
            self.answered(connection.batch_execute("COMMIT")).await?;
            Ok(done)
        };
        self.pool.get().await?.within(Duration::MAX, read).await
    }

    async fn begin<'a>(&self, connection: &'a Connection) -> Result<Moment<'a>, Failure> {
        self.answered(async move {
            let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {SETTINGS}");
            connection.batch_execute(&begin).await?;
            let select = "SELECT pg_current_snapshot()::text, now(), pg_is_in_recovery(), current_user::text";
            let row = connection.query_one(select, &[]).await?;
            let snapshot = Snapshot::parse(row.get(0))
                .ok_or_else(|| Failure::new(Class::Unknown, "PostgreSQL's snapshot cannot be read"))?;
            let (now, is_standby, role) = (row.get(1), row.get(2), quoted(row.get(3)));
            Ok::<_, Failure>(Moment { connection, now, snapshot, is_standby, role })
        })
        .await
    }

    /// Bounds the time of the server's work.
    pub(super) async fn answered<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        bounded(self.limit + GRACE, async { work.await.map_err(Into::into) }).await
    }

    /// `failure` with the GRANT that is missing, or with the advice to narrow a search that took too long.
    pub(super) fn explain(&self, failure: Failure, moment: &Moment<'_>) -> CommandError {
        match failure.sqlstate.as_deref() {
            Some("42501") => {
                let (schema, role) = (self.schema.to_string(), moment.role.clone());
                CommandError::Denied { failure, schema, role }
            }
            Some("57014") => CommandError::TooLong(failure),
            _ => CommandError::Store(failure),
        }
    }
}
