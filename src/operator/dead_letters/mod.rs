//! The dead letters of the store, for the command line: listed, retried, purged.
//!
//! Commands use a connection of their own and small transactions, so that a running forebay keeps its connections and waits for
//! nothing. They go from the newest letter to the oldest, so that they leave out letters that arrive meanwhile.

mod filter;
mod origins;
mod retry;
mod show;

use std::io::Write;
use std::time::Duration;

pub use filter::Filter;
pub use retry::Retried;
pub use show::Style;

use crate::operator::command_error::CommandError;
use crate::postgres::dsn::{DsnError, Target};
use crate::postgres::error::Failure;
use crate::postgres::pool::Pool;
use crate::postgres::session::Connection;
use crate::store::Config;
use crate::store::origins::forget_unnamed;
use crate::table::Destination;
use crate::table::identifier::Schema;
use filter::CONDITION;
use show::Letter;

/// A command on dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show the newest ones.
    List {
        /// The letters to use.
        filter: Filter,
        /// The most to be shown; 0 is all.
        limit: usize,
        /// The output format.
        style: Style,
    },
    /// Retry them.
    Retry {
        /// The letters to use.
        filter: Filter,
    },
    /// Delete them.
    Purge {
        /// The letters to use.
        filter: Filter,
        /// Without this, their number is shown and nothing is deleted.
        confirmed: bool,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command is done.
    Done,
    /// Some letters were refused again.
    SomeStayed,
    /// Nothing was done, because it was not confirmed.
    Unconfirmed,
}

/// The dead letters of one store.
struct DeadLetters {
    /// Has one connection.
    pool: Pool,
    schema: Schema,
    destination: Destination,
    /// The longest that one transaction may take.
    deadline: Duration,
}

/// The most letters in one transaction.
const PAGE: i64 = 500;
/// The most bytes of rows in one transaction, unless one row alone has more.
const PAGE_BYTES: i64 = 4 << 20;

/// Runs `command` on the store at `target`; the answer goes to `out`, progress to `progress`.
///
/// # Errors
///
/// If the store cannot be reached or denies access. Transactions that were committed before stay.
pub async fn run(
    command: &Command,
    target: Target,
    config: &Config,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<Outcome, CommandError> {
    let letters = DeadLetters::new(target, config)?;
    match command {
        Command::List { filter, limit, style } => letters.list(filter, *limit, *style, out, progress).await,
        Command::Retry { filter } => {
            let retried = letters.retry(filter, progress).await?;
            letters.forget_origins().await;
            writeln!(out, "{retried}")?;
            let Retried { refused, .. } = retried;
            Ok(if refused == 0 { Outcome::Done } else { Outcome::SomeStayed })
        }
        Command::Purge { filter, confirmed: false } => {
            let count = letters.count(filter).await?;
            writeln!(out, "{count} would be deleted; nothing is without --yes")?;
            Ok(Outcome::Unconfirmed)
        }
        Command::Purge { filter, confirmed: true } => {
            let deleted = letters.purge(filter).await?;
            letters.forget_origins().await;
            writeln!(out, "{deleted} deleted")?;
            Ok(Outcome::Done)
        }
    }
}

impl DeadLetters {
    fn new(target: Target, config: &Config) -> Result<Self, DsnError> {
        let (pool, schema) = (Pool::new(target, 1, config.timeout)?, Schema::new(config.schema.clone()));
        let destination = config.destination().expect("the configuration was checked");
        Ok(Self { pool, schema, destination, deadline: config.timeout })
    }

    async fn list(
        &self,
        filter: &Filter,
        limit: usize,
        style: Style,
        out: &mut dyn Write,
        progress: &mut dyn Write,
    ) -> Result<Outcome, CommandError> {
        let mut left = if limit == 0 { usize::MAX } else { limit };
        let mut below = i64::MAX;
        while left > 0 {
            let mut ids = self.page(filter, below).await?;
            let Some(last) = ids.last() else { return Ok(Outcome::Done) };
            below = *last;
            ids.truncate(left);
            left -= ids.len();
            for letter in self.read(&ids).await? {
                show::show(&letter, &self.destination, style, out)?;
            }
        }
        let all = self.count(filter).await?;
        if all > limit as i64 {
            writeln!(progress, "these are the newest {limit} of {all}; --limit 0 shows all")?;
        }
        Ok(Outcome::Done)
    }

    async fn count(&self, filter: &Filter) -> Result<i64, Failure> {
        let count = format!("SELECT count(*) FROM {}.dead_letters WHERE {CONDITION}", self.schema);
        let parameters = filter.parameters();
        self.connected(async |c| Ok(c.query_one(&count, &parameters.all()).await?.get(0))).await
    }

    async fn purge(&self, filter: &Filter) -> Result<u64, Failure> {
        let delete = format!("DELETE FROM {}.dead_letters WHERE id = ANY ($1)", self.schema);
        let (mut below, mut deleted) = (i64::MAX, 0);
        loop {
            let ids = self.page(filter, below).await?;
            let Some(last) = ids.last() else { return Ok(deleted) };
            below = *last;
            deleted += self.connected(async |c| Ok(c.execute(&delete, &[&ids]).await?)).await?;
        }
    }

    /// The ids of the next letters below `below`, the highest first: as many as fit one transaction.
    async fn page(&self, filter: &Filter, below: i64) -> Result<Vec<i64>, Failure> {
        let page = format!(
            "SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id DESC) - bytes AS before FROM \
             (SELECT id, octet_length(row) AS bytes FROM {}.dead_letters \
             WHERE {CONDITION} AND id < $6 ORDER BY id DESC LIMIT {PAGE}) newest) sums \
             WHERE before < {PAGE_BYTES} ORDER BY id DESC",
            self.schema
        );
        let parameters = filter.parameters();
        let [ids, sqlstate, service, time, seconds] = parameters.all();
        self.connected(async |c| {
            let statement = c.prepare_cached(&page).await?;
            let all = [ids, sqlstate, service, time, seconds, &below];
            Ok(c.query(&statement, &all).await?.iter().map(|row| row.get(0)).collect())
        })
        .await
    }

    async fn read(&self, ids: &[i64]) -> Result<Vec<Letter>, Failure> {
        let select = format!(
            "SELECT id, at, sqlstate, message, service, attempts, columns, row, destination, resource_id IS NOT NULL \
             FROM {}.dead_letters WHERE id = ANY ($1) ORDER BY id DESC",
            self.schema
        );
        self.connected(async |c| {
            let statement = c.prepare_cached(&select).await?;
            let mut letters: Vec<_> = c.query(&statement, &[&ids]).await?.iter().map(Letter::from).collect();
            let mut old: Vec<_> = letters.iter_mut().filter(|letter| letter.keeps_no_origin()).collect();
            let named: Vec<_> = old.iter().map(|letter| letter.named()).collect();
            for (letter, lacks) in old.iter_mut().zip(origins::lacking(c, &self.schema, &named).await?) {
                letter.lacks = lacks;
            }
            Ok(letters)
        })
        .await
    }

    /// A failure is ignored: the rest takes only a little room, and goes with the next letters.
    async fn forget_origins(&self) {
        let _ = self.connected(async |c| forget_unnamed(c, &self.schema).await).await;
    }

    /// Does `work` on the connection, in bounded time.
    async fn connected<T>(
        &self,
        work: impl AsyncFnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.pool.session(self.deadline, work).await
    }
}
