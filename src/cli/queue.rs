//! `forebay queue`: the queue on disk.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Source;
use crate::operator::queue::{Command, Format};
use crate::values::duration::GoDuration;
use crate::values::scalar::{Scalar as _, Words};

/// Show the records that wait in the queue on disk; check, export or drop them.
#[derive(Args)]
pub(super) struct QueueArguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// The place of the queue.
#[derive(Args)]
struct Place {
    /// The directory of the queue, instead of the configured one
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

#[derive(Subcommand)]
enum Action {
    /// Show how many records wait, by service and severity; so does `forebay queue` alone
    Show {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Read the whole queue and report each damage: segment, place in the file, numbers of the records
    ///
    /// It changes nothing, and needs no database. Exit status: 1 where there is damage.
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// Write the records that wait to standard output; they stay in the queue
    ///
    /// Exit status: 1 where some records cannot be read; the others are written.
    Export {
        /// Records that PostgreSQL has stored as well, as far as the queue still has them
        #[arg(long)]
        all: bool,
        /// The format of the output
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Written::Ndjson)]
        format: Written,
        #[command(flatten)]
        place: Place,
    },
    /// Drop the records that wait, for good; forebay must be stopped
    ///
    /// Without --yes nothing is dropped: it says how many records would be, by severity, and the exit status is 2.
    Drop {
        /// Only records that were accepted longer ago than this, such as 90m or 2d
        #[arg(long, value_name = "DURATION", value_parser = span)]
        older_than: Option<Duration>,
        /// Damaged records as well, and segments that this version cannot read
        #[arg(long)]
        unreadable: bool,
        /// Do it
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Written {
    /// One JSON object a record, with the columns of its row, its resource and its scope
    Ndjson,
    /// OTLP/JSON, one request a line; only for records that go to log_records
    Otlp,
}

pub(super) const QUEUE_EXAMPLES: &str = "\
Examples:
  forebay queue
  forebay queue --directory /mnt/copy/queue --json | jq .records
  forebay queue check && echo whole
  forebay queue export | gzip > waiting.ndjson.gz
  forebay queue export --format otlp | while read -r request; do
    curl -sS -H 'Content-Type: application/json' -d \"$request\" http://127.0.0.1:4318/v1/logs; done
  forebay queue drop --older-than 6h --yes

PostgreSQL knows which records are stored, and is asked for two seconds at most. If it does not answer, the directory's own
note counts, which may be a little old: more records may seem to wait than do. The answer says which of both it is.
All but drop works while forebay runs, and changes nothing.";

impl QueueArguments {
    pub(super) fn split(self) -> (Command, Option<PathBuf>, Source) {
        let Self { action, json: shown_as_json, place: mut outer } = self;
        let (command, place) = match action {
            None => return (Command::Show { json: shown_as_json }, outer.directory, outer.source),
            Some(Action::Show { json, place }) => (Command::Show { json: json || shown_as_json }, place),
            Some(Action::Check { place }) => (Command::Check, place),
            Some(Action::Export { all, format, place }) => {
                (Command::Export { all, format: format.into() }, place)
            }
            Some(Action::Drop { older_than, unreadable, yes, place }) => {
                (Command::Drop { older_than, unreadable, confirmed: yes }, place)
            }
        };
        outer.source.files.extend(place.source.files);
        outer.source.sets.extend(place.source.sets);
        (command, place.directory.or(outer.directory), outer.source)
    }
}

impl From<Written> for Format {
    fn from(written: Written) -> Self {
        match written {
            Written::Ndjson => Self::Ndjson,
            Written::Otlp => Self::Otlp,
        }
    }
}

fn span(text: &str) -> Result<Duration, Words> {
    GoDuration::parse(text).map(|span| span.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::super::{Cli, Command as Any, Invocation};
    use super::*;

    #[test]
    fn a_queue_is_chosen_and_something_done_with_it() {
        let read = |arguments: &str| {
            let arguments: Vec<_> = arguments.split(' ').collect();
            let cli = Cli::try_parse_from([&["forebay"], &arguments[..]].concat());
            cli.map(Invocation::from).map_err(|error| error.kind())
        };
        let command = |arguments: &str| match read(arguments).map(|read| read.command) {
            Ok(Any::Queue { command, directory }) => Ok((command, directory)),
            Ok(other) => panic!("{other:?}"),
            Err(kind) => Err(kind),
        };
        let here = |command| Ok((command, Some(PathBuf::from("q"))));
        assert_eq!(command("queue"), Ok((Command::Show { json: false }, None)));
        assert_eq!(command("queue --directory q"), here(Command::Show { json: false }));
        for arguments in [
            "queue --json --directory q",
            "queue show --json --directory q",
            "queue --json --directory q show",
        ] {
            assert_eq!(command(arguments), here(Command::Show { json: true }), "{arguments}");
        }
        assert_eq!(command("queue check --directory q"), here(Command::Check));
        let export = |all, format| here(Command::Export { all, format });
        assert_eq!(command("queue --directory q export"), export(false, Format::Ndjson));
        assert_eq!(command("queue export --all --format otlp --directory q"), export(true, Format::Otlp));
        let older_than = Some(Duration::from_secs(5400));
        let drop = Command::Drop { older_than, unreadable: true, confirmed: true };
        assert_eq!(command("queue drop --older-than 90m --unreadable --yes --directory q"), here(drop));
        let drop = Command::Drop { older_than: None, unreadable: false, confirmed: false };
        assert_eq!(command("queue drop --directory q"), here(drop));
        assert_eq!(command("queue drop --older-than long"), Err(ErrorKind::ValueValidation));
        let files = read("queue --config a check --config b").unwrap().files;
        assert_eq!(files, ["a", "b"].map(PathBuf::from));
    }
}
