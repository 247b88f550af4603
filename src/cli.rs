//! The command line: what it accepts, and what `--help` teaches. Nothing else names clap.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::exporter::dead_letters::{self, Filter, Since, Style};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What is to be done.
    pub command: Command,
    /// The configuration files, in the order in which they are merged.
    pub files: Vec<PathBuf>,
    /// `path=value` settings that go over the files.
    pub sets: Vec<String>,
}

/// What is to be done.
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
    /// Look into everything that writing records takes.
    Doctor {
        /// As JSON objects.
        json: bool,
    },
}

/// Reads the process's command line. Ends the process for `--help` and `--version` (status 0) and
/// for what is not understood (status 2).
pub fn parse() -> Invocation {
    Cli::parse().into()
}

/// Takes OpenTelemetry logs (OTLP) in and writes them to PostgreSQL.
///
/// forebay holds records in a bounded buffer and writes them in batches over a few connections of
/// its own, so that applications never wait for the database and the database never feels a flood.
#[derive(Parser)]
#[command(name = "forebay", version, after_long_help = GUIDE)]
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
    /// Send them again, once what they were refused for is mended
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
    /// Those refused since then: a span such as 90m or 24h, a date (UTC) or a time
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
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
  (OTEL_EXPORTER_OTLP_ENDPOINT); then, in psql:
  SELECT time, severity, service_name, body FROM otel.logs ORDER BY time DESC LIMIT 10;

Environment of the built-in configuration:
  DATABASE_URL                    where PostgreSQL is, or `embedded` for a private one [embedded]
  LOG_BUFFER_ASYNC_ENABLED        false: answer only once the records are written [true]
  LOG_BUFFER_MAX_ENTRIES          the most records held in memory [10000]
  LOG_BUFFER_BATCH_SIZE           records that make a batch due [100]
  LOG_BUFFER_FLUSH_INTERVAL       the longest wait for a batch, in seconds [1.0]
  LOG_BUFFER_DEDICATED_POOL_SIZE  connections to PostgreSQL [2]

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
            Some(Action::Mapping { table, source }) => (Command::Mapping { table }, source),
            Some(Action::Doctor { json, source }) => (Command::Doctor { json }, source),
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
        Self { ids, sqlstate, service, since }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Invocation, ErrorKind> {
        let cli = Cli::try_parse_from([&["forebay"], arguments].concat());
        cli.map(Into::into).map_err(|error| error.kind())
    }

    fn invocation(command: Command, files: &[&str], sets: &[&str]) -> Result<Invocation, ErrorKind> {
        Ok(Invocation {
            command,
            files: files.iter().map(PathBuf::from).collect(),
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
        })
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn files_and_sets_keep_their_order() {
        let arguments = ["--config", "b.yaml", "--set=x.y=1", "--config=a.yaml", "--set", "x.y=a=b"];
        assert_eq!(read(&arguments), invocation(Command::Run, &["b.yaml", "a.yaml"], &["x.y=1", "x.y=a=b"]));
        assert_eq!(read(&[]), invocation(Command::Run, &[], &[]));
    }

    #[test]
    fn options_may_stand_before_and_after_a_subcommand() {
        for (name, command) in [
            ("validate", Command::Validate),
            ("print-config", Command::PrintConfig),
            ("schema", Command::Schema { since: 0 }),
            ("doctor", Command::Doctor { json: false }),
        ] {
            let arguments = [name, "--config", "a.yaml", "--set", "x=1"];
            assert_eq!(read(&arguments), invocation(command.clone(), &["a.yaml"], &["x=1"]));
            let arguments = ["--config", "a.yaml", name, "--config", "b.yaml"];
            assert_eq!(read(&arguments), invocation(command, &["a.yaml", "b.yaml"], &[]));
        }
        let mapping = Command::Mapping { table: "a.b".to_owned() };
        assert_eq!(read(&["mapping", "--config", "c.yaml", "a.b"]), invocation(mapping, &["c.yaml"], &[]));
        assert_eq!(read(&["mapping"]), Err(ErrorKind::MissingRequiredArgument));
    }

    #[test]
    fn dead_letters_are_chosen_by_what_is_said() {
        use dead_letters::Command::{List, Purge, Retry};
        let read = |arguments: &str| {
            let arguments: Vec<_> = arguments.split(' ').collect();
            read(&[&["dead-letters"], &arguments[..]].concat()).map(|invocation| invocation.command)
        };
        let command = |command| Ok(Command::DeadLetters(command));
        let (filter, style) = (Filter::default(), Style::Lines);
        assert_eq!(read("list"), command(List { filter, limit: 50, style }));
        let filter = Filter {
            ids: vec![3, 4],
            sqlstate: Some("23514".into()),
            service: Some("shop".into()),
            since: Some(Since::Ago(std::time::Duration::from_secs(60))),
        };
        let which = "--id 3 --sqlstate 23514 --id=4 --service shop --since 1m";
        let list = List { filter: filter.clone(), limit: 0, style: Style::Json };
        assert_eq!(read(&format!("list {which} --json --limit 0")), command(list));
        assert_eq!(read(&format!("retry {which}")), command(Retry { filter: filter.clone() }));
        assert_eq!(read(&format!("retry --all {which}")), command(Retry { filter: filter.clone() }));
        assert_eq!(read(&format!("purge {which} --yes")), command(Purge { filter, confirmed: true }));
        let purge = Purge { filter: Filter::default(), confirmed: false };
        assert_eq!(read("purge"), command(purge));
        assert_eq!(read("retry"), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(read("retry --sqlstate 23514"), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(read("list --since yesterday"), Err(ErrorKind::ValueValidation));
    }

    #[test]
    fn what_is_not_understood_is_a_usage_error() {
        assert_eq!(read(&["--confg", "a"]), Err(ErrorKind::UnknownArgument));
        assert_eq!(read(&["start"]), Err(ErrorKind::InvalidSubcommand));
        assert_eq!(read(&["--config"]), Err(ErrorKind::InvalidValue));
    }

    #[test]
    fn the_guide_names_every_variable_of_the_shipped_file() {
        let shipped = include_str!("../otel-config.yaml");
        let keys = shipped.lines().filter(|line| !line.trim_start().starts_with('#'));
        let names: Vec<&str> =
            keys.filter_map(|key| key.split("${env:").nth(1)?.split(":-").next()).collect();
        assert_eq!(names.len(), 6);
        for name in names {
            assert!(GUIDE.contains(name), "{name}");
        }
    }
}
