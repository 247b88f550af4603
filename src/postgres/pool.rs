//! The connections: a pool of their own, bounded waits, and sessions that end by themselves when we vanish.

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
    /// The longest that getting a connection may take in all.
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

    /// A connection that answers and can write.
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

    /// Has `work` done on a connection, within `limit` (see [`Session::within`]).
    ///
    /// # Errors
    ///
    /// What keeps us from a connection, what `work` failed with, or [`Failure::deadline`].
    pub async fn session<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.get().await?.within(limit, work).await
    }

    /// Asks the server to cancel what `connection` waits for; for `patience` at most.
    pub async fn cancel(&self, connection: &Connection, patience: Duration) {
        let Ok(tls) = tls::connector(&self.target.tls) else { return };
        // Where it does not get through, the session's end does the same.
        let _ = tokio::time::timeout(patience, connection.cancel_token().cancel_query(tls)).await;
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// What our SQL means, whatever the role's, the database's or the server's settings are: how literals are read and values are
/// written, by which partitions' bounds are read back, what a transaction sees, how a table is stored. A plain role may set all
/// of it (context "user"), in every version.
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

/// The triggers of an existing table may rely on the settings that the role's sessions have, and on their search_path; they see these
/// from here to the end of the transaction, in which nothing of forebay's own is called any more.
pub(crate) static AS_THE_ROLE_HAS_THEM: LazyLock<String> = LazyLock::new(|| {
    let names = MEANING.iter().map(|(name, _)| *name).chain(["search_path"]);
    names.map(|name| format!("SET LOCAL {name} TO DEFAULT")).collect::<Vec<_>>().join("; ")
});

/// Sets what holds for the session. The first statements call nothing: from then on no name is looked up elsewhere, and what follows
/// has time.
async fn set_up(
    client: &deadpool_postgres::ClientWrapper,
    settings: &str,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("SET search_path = {SEARCH_PATH}; SET statement_timeout = 0")).await?;
    client.batch_execute(settings).await
}

/// The session's own settings, all of which a plain role may set (context "user"). One that this server does not have is passed
/// over.
///
/// `synchronous_commit` is set because a role's or database's default of `off` would let a crash take back what
/// was answered as stored. The TCP settings end the session of a forebay that vanished without a word, and
/// with it the lock on its lane's row.
fn session_settings(statement_timeout: Duration) -> String {
    // PostgreSQL 17 and newer. Like the others it does not end a COPY that waits for us before we send something.
    let transaction_timeout = format!("{}ms", (statement_timeout + Duration::from_secs(5)).as_millis());
    // It has to end before the batch's deadline, to tell a lock from a server that does not answer.
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

/// Bounds a hook, which deadpool does not. A session that does not answer is given up, and the next one has its turn.
async fn answered(
    limit: Duration,
    hook: impl Future<Output = Result<(), HookError>>,
) -> Result<(), HookError> {
    let silent = |_| Err(HookError::message("the session does not answer"));
    tokio::time::timeout(limit, hook).await.unwrap_or_else(silent)
}

/// A server that has become a standby, or read-only by a setting, keeps its sessions. They are of no use. Nor is one in a transaction,
/// which work should have ended: its now is before that of the statement.
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
