//! The durable queue of a directory, for the command line: shown, checked, exported, dropped.
//!
//! All but dropping works beside a running forebay and changes nothing. PostgreSQL knows which records are stored. If it does not answer,
//! the directory's own note counts, and the answer says so.

mod check;
mod dropping;
mod export;
mod otlp;
mod rows;
mod settled;
mod show;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

pub use export::Format;

use crate::buffer::disk::view::View;
use crate::operator::command_error::CommandError;
use crate::postgres::dsn::Target;
use crate::store::Config;
use settled::settled;

/// A command on the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show how much waits, by service and severity.
    Show {
        /// As a JSON object.
        json: bool,
    },
    /// Read everything, and report damage.
    Check,
    /// Write records out.
    Export {
        /// Stored records that are still there as well.
        all: bool,
        /// The output format.
        format: Format,
    },
    /// Drop records that wait.
    Drop {
        /// Only those that were accepted longer ago than this.
        older_than: Option<Duration>,
        /// Records and segments that cannot be read as well.
        unreadable: bool,
        /// Without this, their number is shown and nothing is dropped.
        confirmed: bool,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command is done.
    Done,
    /// There is damage.
    Damaged,
    /// Nothing was done, because it was not confirmed.
    Unconfirmed,
}

/// Runs `command` on the queue in `directory`; the answer goes to `out`, remarks to `remarks`. The store at `target` is asked which
/// records are stored; the error is why it cannot be.
///
/// # Errors
///
/// The directory cannot be read, or `out` cannot be written. To drop records, no forebay may use it.
pub async fn run(
    command: &Command,
    directory: &Path,
    target: Result<Target, String>,
    config: &Config,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
) -> Result<Outcome, CommandError> {
    match command {
        Command::Show { json } => {
            let view = View::open(directory)?;
            let settled = settled(&view, target, config).await;
            show::show(directory, &view, &settled, *json, out)
        }
        Command::Check => check::check(&View::open(directory)?, out),
        Command::Export { all: true, format } => {
            export::export(&View::open(directory)?, None, *format, out, remarks)
        }
        Command::Export { all: false, format } => {
            let view = View::open(directory)?;
            let settled = settled(&view, target, config).await;
            export::export(&view, Some(&settled), *format, out, remarks)
        }
        Command::Drop { older_than, unreadable, confirmed } => {
            let view = if *confirmed { dropping::lock(directory)? } else { View::open(directory)? };
            let settled = settled(&view, target, config).await;
            dropping::drop_records(view, &settled, *older_than, *unreadable, *confirmed, out)
        }
    }
}
