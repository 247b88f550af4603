//! The connection pool: bounded waits, and sessions that end by themselves if forebay disappears.

use std::sync::LazyLock;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool as DeadPool, PoolError, RecyclingMethod, Runtime,
    TimeoutType,
};

use super::connect::Connector;
use super::dsn::{DsnError, Target};
use super::error::{Class, Failure};
use super::session::{Connection, Session};
use super::tls;
use crate::table::ddl::SEARCH_PATH;

/// The pool of the exporter's connections.
#[derive(Debug)]
pub struct Pool {
    pool: DeadPool,
    target: Target,
    /// The longest that getting a connection may take in total.
    patience: Duration,
}

const WAITING: Duration = Duration::from_secs(2);
const RECYCLING: Duration = Duration::from_secs(2);
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const PREPARING: Duration = Duration::from_secs(5);

impl Pool {
    /// A pool of `size` connections to `target`, whose statements may take `statement_timeout`.
    pub fn new(target: Target, size: usize, statement_timeout: Duration) -> Result<Self, DsnError> {
        let connector = tls::connector(&target.tls)?;
        let creating = target.connecting();
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let connector = Connector::new(target.clone(), connector);
        let manager = Manager::from_connect(tokio_postgres::Config::new(), connector, recycling);
        let settings = session_settings(statement_timeout);
        let prepare = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let settings = settings.clone();
            Box::pin(answered(PREPARING, async move {
                set_up(client, &settings).await.map_err(HookError::Backend)
            }))
        });
        let check = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(answered(RECYCLING, check_free(client)))
        });
        let pool = DeadPool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAITING))
            .create_timeout(Some(creating))
            .recycle_timeout(Some(RECYCLING))
            .post_create(prepare)
            .post_recycle(check)
            .build()
            .expect("a runtime is set, which is all that the builder can miss");
        let patience = WAITING + RECYCLING * 2 + creating + PREPARING;
        Ok(Self { pool, target, patience })
    }

    /// A connection that responds and can write.
    pub async fn get(&self) -> Result<Session, Failure> {
        let got = tokio::time::timeout(self.patience, self.pool.get()).await;
        let got = got.unwrap_or(Err(PoolError::Timeout(TimeoutType::Create)));
        got.map(Session::new).map_err(|error| {
            let mut failure = Failure::from(error);
            if failure.sqlstate.is_none() && failure.class == Class::Connection {
                failure.message = format!("{} ({})", failure.message, self.target.describe());
            }
            failure
        })
    }

    /// Runs `work` on a connection, within `limit` (see [`Session::within`]).
    ///
    /// # Errors
    ///
    /// The failure to get a connection, the failure of `work`, or [`Failure::deadline`].
    pub async fn session<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.get().await?.within(limit, work).await
    }

    /// Asks the server to cancel the statement of `connection`, for `patience` at most.
    pub async fn cancel(&self, connection: &Connection, patience: Duration) {
        let Ok(tls) = tls::connector(&self.target.tls) else { return };
        // If the request fails, the end of the session cancels the statement.
        let _ = tokio::time::timeout(patience, connection.cancel_token().cancel_query(tls)).await;
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// Settings that fix the meaning of our SQL, whatever the role, the database or the server has set: how literals are read, how
/// values are written (partition bounds are read back from them), what a transaction sees, how a table is stored. A plain role
/// may set all of them (context "user"), in every version.
const MEANING: [(&str, &str); 15] = [
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("quote_all_identifiers", "off"),
    ("client_min_messages", "warning"),
    ("check_function_bodies", "on"),
    ("gin_fuzzy_search_limit", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("default_table_access_method", "heap"),
];

/// Restores the role's own settings and search_path, on which the triggers of an existing table may rely. It holds until the
/// end of the transaction, which runs no further SQL of forebay's own.
pub(crate) static AS_THE_ROLE_HAS_THEM: LazyLock<String> = LazyLock::new(|| {
    let names = MEANING.iter().map(|(name, _)| *name).chain(["search_path"]);
    names.map(|name| format!("SET LOCAL {name} TO DEFAULT")).collect::<Vec<_>>().join("; ")
});

/// Applies the session's settings. The first statements call no function: after them, names are looked up in our search_path
/// only, and the other settings have no timeout.
async fn set_up(
    client: &deadpool_postgres::ClientWrapper,
    settings: &str,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("SET search_path = {SEARCH_PATH}; SET statement_timeout = 0")).await?;
    client.batch_execute(settings).await
}

/// The session's own settings, all of which a plain role may set (context "user"). Settings that this server does not have are
/// skipped.
///
/// `synchronous_commit` is set because with a role's or database's default of `off`, a crash could lose records that were
/// reported as stored. The TCP settings end the session of a forebay that disappeared, and with it the lock on its lane's row.
fn session_settings(statement_timeout: Duration) -> String {
    // PostgreSQL 17 and newer. Like the others, it does not end a COPY that waits for our data.
    let transaction_timeout = format!("{}ms", (statement_timeout + Duration::from_secs(5)).as_millis());
    // Shorter than the batch's deadline, so that a lock can be told from a server that does not respond.
    let lock_timeout = format!("{}ms", LOCK_TIMEOUT.min(statement_timeout / 2).as_millis().max(1));
    let statement_timeout = format!("{}ms", statement_timeout.as_millis().max(1));
    let settings = [
        ("synchronous_commit", "on"),
        ("statement_timeout", &statement_timeout),
        ("transaction_timeout", &transaction_timeout),
        ("lock_timeout", &lock_timeout),
        ("idle_in_transaction_session_timeout", "10s"),
        ("idle_session_timeout", "0"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "20000"),
        ("client_connection_check_interval", "5000"),
    ];
    let all = settings.iter().chain(&MEANING);
    let values: Vec<_> = all.map(|(name, value)| format!("('{name}', '{value}')")).collect();
    format!(
        "SELECT set_config(name, wanted.value, false) FROM (VALUES {}) wanted(name, value) JOIN pg_settings USING (name)",
        values.join(", ")
    )
}

/// Limits the time of a hook, which deadpool does not. A session that does not respond is closed, and the next one is tried.
async fn answered(
    limit: Duration,
    hook: impl Future<Output = Result<(), HookError>>,
) -> Result<(), HookError> {
    let silent = |_| Err(HookError::message("the session does not answer"));
    tokio::time::timeout(limit, hook).await.unwrap_or_else(silent)
}

/// Refuses sessions that are of no use. A server that became a standby, or read-only by a setting, keeps its sessions. A session
/// in a transaction, which its last user should have ended, has a now() before the time of the statement.
async fn check_free(client: &deadpool_postgres::ClientWrapper) -> Result<(), HookError> {
    let select = "SELECT current_setting('transaction_read_only'), now() = statement_timestamp()";
    let rows = client.simple_query(select).await.map_err(HookError::Backend)?;
    let is = |at, wanted| {
        rows.iter().any(|message| {
            matches!(message, tokio_postgres::SimpleQueryMessage::Row(row) if row.get(at) == Some(wanted))
        })
    };
    match (is(0, "off"), is(1, "t")) {
        (true, true) => Ok(()),
        (false, _) => Err(HookError::message("the session has become read-only")),
        (true, false) => Err(HookError::message("the session is in a transaction")),
    }
}
