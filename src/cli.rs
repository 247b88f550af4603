//! The command line: what it accepts, and what `--help` teaches. Nothing else names clap.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take logs in and write them out until told to stop.
    Run,
    /// Check the configuration.
    Validate,
    /// Print the DDL.
    Schema {
        /// The version of the store that is there; 0 for none.
        since: i32,
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
    /// Print the DDL of the tables and the view, for a database where forebay may not create them
    Schema {
        /// Only what a store of this version lacks
        #[arg(long, value_name = "VERSION", default_value_t = 0)]
        since: i32,
        #[command(flatten)]
        source: Source,
    },
}

/// Where the configuration comes from.
#[derive(Args)]
struct Source {
    /// A configuration file; several are merged in order. Without one: the built-in configuration
    #[arg(long = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Set one key over the files, as in exporters.postgres.pool_size=4; VALUE is YAML; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

const GUIDE: &str = "\
Example:
  DATABASE_URL=postgres://forebay:secret@db:5432/app forebay
  Applications send to http://127.0.0.1:4317 (OTEL_EXPORTER_OTLP_ENDPOINT); then, in psql:
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
  8888   forebay's own metrics, /metrics
  13133  health

Exit status:
  0  done
  1  failed while running, or records were left that could not be written
  2  the command line or the configuration is wrong; no port was opened

Every key of the configuration, with its default, is in otel-config.yaml.";

impl From<Cli> for Invocation {
    fn from(cli: Cli) -> Self {
        let Source { mut files, mut sets } = cli.source;
        let (command, source) = match cli.action {
            None => return Self { command: Command::Run, files, sets },
            Some(Action::Validate(source)) => (Command::Validate, source),
            Some(Action::Schema { since, source }) => (Command::Schema { since }, source),
        };
        files.extend(source.files);
        sets.extend(source.sets);
        Self { command, files, sets }
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
        for (name, command) in [("validate", Command::Validate), ("schema", Command::Schema { since: 0 })] {
            let arguments = [name, "--config", "a.yaml", "--set", "x=1"];
            assert_eq!(read(&arguments), invocation(command, &["a.yaml"], &["x=1"]));
            let arguments = ["--config", "a.yaml", name, "--config", "b.yaml"];
            assert_eq!(read(&arguments), invocation(command, &["a.yaml", "b.yaml"], &[]));
        }
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
