//! The command line: what it accepts, and what `--help` teaches. Nothing else names clap.

mod queue;
mod reading;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::tz::TimeZone;

use crate::operator::dead_letters::{self, Filter, Style};
use crate::operator::queue as operator_queue;
use crate::operator::reading::{Query, Tail};
use crate::telemetry::probe::Ability;
use crate::values::when::Written;
use crate::version;
use queue::{QUEUE_EXAMPLES, QueueArguments};
use reading::{QUERY_EXAMPLES, QueryArguments, TAIL_EXAMPLES, TailArguments};

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The command.
    pub command: Command,
    /// The configuration files, in the order in which they are merged.
    pub files: Vec<PathBuf>,
    /// `path=value` settings that go over the files.
    pub sets: Vec<String>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take logs in and write them out until told to stop.
    Run,
    /// Check the configuration.
    Validate,
    /// Print the configuration in force.
    PrintConfig,
    /// Print the DDL.
    Schema {
        /// The version of the store that is there; 0 for none.
        since: i32,
    },
    /// Print a mapping for an existing table.
    Mapping {
        /// Schema and table.
        table: String,
    },
    /// Look at records that PostgreSQL refused, send them again, or delete them.
    DeadLetters(dead_letters::Command),
    /// Look at the queue on disk, or drop records of it.
    Queue {
        /// What to do.
        command: operator_queue::Command,
        /// Its directory; by default the configured one.
        directory: Option<PathBuf>,
    },
    /// Show the partitions.
    Partitions {
        /// As JSON objects.
        json: bool,
    },
    /// Show records that are stored.
    Query(Query),
    /// Show records as they are stored.
    Tail(Tail),
    /// Look into everything that writing records takes.
    Doctor {
        /// As JSON objects.
        json: bool,
    },
    /// Ask a running forebay how it is.
    Health {
        /// What it must be able to do.
        at_least: Ability,
    },
}

/// Reads the process's command line. Ends the process for `--help` and `--version` (status 0) and
/// for what is not understood (status 2).
pub fn parse() -> Invocation {
    Cli::parse().into()
}

/// The definition, for making manual pages.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Takes OpenTelemetry logs (OTLP) in and writes them to PostgreSQL.
///
/// forebay holds records in a bounded buffer and writes them in batches over a few connections of
/// its own, so that applications never wait for the database and the database never feels a flood.
#[derive(Parser)]
#[command(name = "forebay", version, long_version = version::long(), after_long_help = GUIDE)]
struct Cli {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    source: Source,
}

#[derive(Subcommand)]
enum Action {
    /// Check the configuration and exit
    Validate(Source),
    /// Print the configuration in force, as YAML
    ///
    /// All --config are merged, --set goes on top, ${env:...} is replaced, and each key that was not written has its
    /// default. Passwords are shown as [REDACTED]; but for them, what is printed is a configuration that means the
    /// same. What is wrong is said as by validate.
    PrintConfig(Source),
    /// Print the DDL of the tables and the view, for a database where forebay may not create them
    Schema {
        /// Only what a store of this version lacks
        #[arg(long, value_name = "VERSION", default_value_t = 0)]
        since: i32,
        #[command(flatten)]
        source: Source,
    },
    /// Search the records that are stored; the oldest first, as in a log file
    #[command(after_long_help = QUERY_EXAMPLES)]
    Query(QueryArguments),
    /// Show the last records that are stored, and go on with those that come
    #[command(after_long_help = TAIL_EXAMPLES)]
    Tail(TailArguments),
    /// Print a mapping to begin with for an existing table, as YAML
    ///
    /// Every column of the live table with its type, filled by what its name suggests, and with a default where it is
    /// NOT NULL: for exporters.postgres.table, which docs/existing-tables.md explains.
    Mapping {
        /// Schema and table, such as public.logs
        #[arg(value_name = "SCHEMA.TABLE")]
        table: String,
        #[command(flatten)]
        source: Source,
    },
    /// Look at the records that PostgreSQL refused for their content, send them again, or delete them
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Show the records that wait in the queue on disk; check, export or drop them
    #[command(after_long_help = QUEUE_EXAMPLES)]
    Queue(QueueArguments),
    /// Show the partitions of the store: what they hold, which indexes they have, and what happens to each next
    Partitions {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Check the way to PostgreSQL and the store: what is well, and what to do where it is not
    ///
    /// It looks at connection and TLS, versions, privileges, connection slots, settings, schema, partitions, clocks and
    /// sizes, and changes nothing. Exit status: 0 where all is well or there are warnings only, 1 where there is a
    /// problem, 2 where the configuration is wrong.
    Doctor {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Ask the health page of the forebay that runs on this configuration
    ///
    /// For the health checks of containers: nothing else is needed in the image. Exit status: 0 where forebay is well,
    /// 1 where it is not or does not answer, 2 where the configuration is wrong or has no health page.
    Health {
        /// What it must be able to do
        #[arg(long, value_enum, value_name = "ABILITY", default_value_t = AtLeast::Ready)]
        at_least: AtLeast,
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum AtLeast {
    /// It answers
    Alive,
    /// It takes records, and holds them where the database is away
    Accepting,
    /// It takes records and can write them
    Ready,
}

#[derive(Subcommand)]
enum DeadLetters {
    /// Show them, the newest first
    List {
        #[command(flatten)]
        which: Which,
        /// The most to show; 0 is all
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// Print one JSON object a line, with everything
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Send them again, once the cause of their refusal is fixed
    ///
    /// Each one that is stored leaves the dead letters in the same transaction. One that is refused again stays, with
    /// the new reason. Exit status: 1 where some have stayed.
    Retry {
        #[command(flatten)]
        which: Which,
        /// All of them, or all that the other options leave
        #[arg(long, required_unless_present = "ids")]
        all: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Delete them
    ///
    /// Without --yes nothing is deleted: it says how many would be, and the exit status is 2.
    Purge {
        #[command(flatten)]
        which: Which,
        /// Do it
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        source: Source,
    },
}

/// Which dead letters are meant: those for which all of it holds.
#[derive(Args)]
struct Which {
    /// The one with this id; may be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<i64>,
    /// Those refused with this SQLSTATE, such as 23514
    #[arg(long, value_name = "CODE")]
    sqlstate: Option<String>,
    /// Those of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Those refused since then: a span such as 90m or 24h, or a time such as 2026-11-25 17:05, which is in UTC, as list shows them,
    /// unless it has an offset
    #[arg(long, value_name = "WHEN")]
    since: Option<Written>,
}

/// Where the configuration comes from.
#[derive(Args)]
struct Source {
    /// A configuration file, or env:NAME, or yaml:TEXT; several are merged in order. Without one: the built-in
    /// configuration
    #[arg(long = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Set one key over the files, as in exporters.postgres.pool_size=4; VALUE is YAML; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

const GUIDE: &str = "\
Example:
  DATABASE_URL=postgres://forebay:secret@db:5432/app forebay
  Applications send to http://127.0.0.1:4317 by gRPC, or to http://127.0.0.1:4318 by HTTP
  (OTEL_EXPORTER_OTLP_ENDPOINT); then:
  forebay tail
  forebay query --service shop --severity WARN --since 15m

Environment of the built-in configuration:
  DATABASE_URL                    where PostgreSQL is, or `embedded` for a private one [embedded]
  LOG_BUFFER_ASYNC_ENABLED        false: answer only once the records are written [true]
  LOG_BUFFER_MAX_ENTRIES          the most records held in memory [10000]
  LOG_BUFFER_BATCH_SIZE           records that make a batch due [100]
  LOG_BUFFER_FLUSH_INTERVAL       the longest wait for a batch: 1.0 (seconds) or 500ms [1.0]
  LOG_BUFFER_DEDICATED_POOL_SIZE  connections to PostgreSQL [2]
  LOG_BUFFER_STORAGE_DIRECTORY    keep records on disk until PostgreSQL has them, there [with
                                  `embedded` in .forebay/queue, else in memory only]

Ports, on 127.0.0.1 unless configured:
  4317   OTLP/gRPC
  4318   OTLP/HTTP
  8888   forebay's own metrics, /metrics
  13133  health

Exit status:
  0  done
  1  failed while running, or records were left that could not be written
  2  the command line or the configuration is wrong; no port was opened

Where something is wrong, or before the first start:
  forebay doctor                checks everything that writing takes, each with its cure
  forebay print-config          shows every key with the value in force
  forebay partitions            shows what is kept, for how long, and with which indexes
  forebay health                asks a running forebay how it is
  forebay queue                 shows the records that wait in the queue on disk
  forebay dead-letters list     shows the records that PostgreSQL refused for their content

Every key of the configuration, with its default, is in otel-config.yaml.";

impl From<Cli> for Invocation {
    fn from(cli: Cli) -> Self {
        let Source { mut files, mut sets } = cli.source;
        let (command, source) = match cli.action {
            None => return Self { command: Command::Run, files, sets },
            Some(Action::Validate(source)) => (Command::Validate, source),
            Some(Action::PrintConfig(source)) => (Command::PrintConfig, source),
            Some(Action::Schema { since, source }) => (Command::Schema { since }, source),
            Some(Action::Partitions { json, source }) => (Command::Partitions { json }, source),
            Some(Action::Mapping { table, source }) => (Command::Mapping { table }, source),
            Some(Action::Doctor { json, source }) => (Command::Doctor { json }, source),
            Some(Action::Health { at_least, source }) => {
                (Command::Health { at_least: at_least.into() }, source)
            }
            Some(Action::Query(arguments)) => {
                let (query, source) = arguments.split();
                (Command::Query(query), source)
            }
            Some(Action::Tail(arguments)) => {
                let (tail, source) = arguments.split();
                (Command::Tail(tail), source)
            }
            Some(Action::Queue(arguments)) => {
                let (command, directory, source) = arguments.split();
                (Command::Queue { command, directory }, source)
            }
            Some(Action::DeadLetters(action)) => {
                let (command, source) = action.split();
                (Command::DeadLetters(command), source)
            }
        };
        files.extend(source.files);
        sets.extend(source.sets);
        Self { command, files, sets }
    }
}

impl From<AtLeast> for Ability {
    fn from(at_least: AtLeast) -> Self {
        match at_least {
            AtLeast::Alive => Self::Alive,
            AtLeast::Accepting => Self::Accepting,
            AtLeast::Ready => Self::Ready,
        }
    }
}

impl DeadLetters {
    fn split(self) -> (dead_letters::Command, Source) {
        match self {
            Self::List { which, limit, json, source } => {
                let style = if json { Style::Json } else { Style::Lines };
                (dead_letters::Command::List { filter: which.into(), limit, style }, source)
            }
            Self::Retry { which, all: _, source } => {
                (dead_letters::Command::Retry { filter: which.into() }, source)
            }
            Self::Purge { which, yes, source } => {
                (dead_letters::Command::Purge { filter: which.into(), confirmed: yes }, source)
            }
        }
    }
}

impl From<Which> for Filter {
    fn from(which: Which) -> Self {
        let Which { ids, sqlstate, service, since } = which;
        let since = since.map(|written| written.within(&TimeZone::UTC));
        Self { ids, sqlstate, service, since }
    }
}

#[cfg(test)]
mod tests;
