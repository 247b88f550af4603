//! The program: reads the command line, loads the configuration, runs the command, and turns errors into the exit status.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use forebay::app::{self, Load};
use forebay::cli::{self, Command, Invocation};
use forebay::config::{self, Config};
use forebay::operator::command_error::CommandError;
use forebay::operator::dead_letters::{self, Outcome};
use forebay::operator::queue;
use forebay::table::ddl::ddl_since;
use forebay::table::identifier::Schema;
use forebay::telemetry::probe::Ability;
use forebay::values::plain::{plain_json, plain_lines};

/// Receivers allocate memory that lanes free. glibc's arenas need locks for that, on which a sender would wait.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something failed while running, undelivered records included.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let invocation = cli::parse();
    let config = match config::load(&invocation.files, &invocation.sets) {
        Ok(config) => config,
        Err(error) => return fail(REFUSED, &error),
    };
    match invocation.command {
        Command::DeadLetters(command) => dead_letters(&config, &command),
        Command::Doctor { json } => doctor(&config, json),
        Command::Queue { command, directory } => queue(&config, &command, directory.as_deref()),
        Command::Partitions { json } => ended(app::partitions(&config, json, &mut io::stdout().lock())),
        Command::Query(query) => {
            ended(app::query(&config, &query, &mut io::stdout().lock(), &mut io::stderr()))
        }
        Command::Tail(tail) => ended(app::tail(&config, &tail, &mut io::stdout().lock(), &mut io::stderr())),
        Command::Health { at_least } => health(&config, at_least),
        Command::Mapping { table } => match app::mapping(&config, &table) {
            Ok(yaml) => print(yaml.trim_end()),
            Err(error) => end(&error),
        },
        Command::Run => {
            let Invocation { files, sets, .. } = invocation;
            run(config, &(Arc::new(move || config::load(&files, &sets)) as Load))
        }
        Command::Validate => match app::check(&config) {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| eprintln!("forebay: warning: {}", plain_lines(warning)));
                print(&format!("the configuration is valid: {config}"))
            }
            Err(error) => fail(REFUSED, &error),
        },
        Command::PrintConfig => match app::check(&config) {
            Ok(_) => print(config.to_yaml().trim_end()),
            Err(error) => fail(REFUSED, &error),
        },
        Command::Schema { since } => print(&ddl_since(since, &Schema::new(config.exporter.schema))),
    }
}

fn run(config: Config, load: &Load) -> ExitCode {
    match app::run(config, load) {
        Ok(summary) if summary.undelivered > 0 => ExitCode::from(FAILED),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn dead_letters(config: &Config, command: &dead_letters::Command) -> ExitCode {
    match app::dead_letters(config, command, &mut io::stdout().lock(), &mut io::stderr()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeStayed) => ExitCode::from(FAILED),
        Ok(Outcome::Unconfirmed) => ExitCode::from(REFUSED),
        Err(error) => end(&error),
    }
}

fn queue(config: &Config, command: &queue::Command, directory: Option<&Path>) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let outcome = app::queue(config, command, directory, &mut out, &mut io::stderr());
    let flushed = out.flush().map_err(|error| app::Error::Command(CommandError::Output(error)));
    match outcome.and_then(|outcome| flushed.map(|()| outcome)) {
        Ok(queue::Outcome::Done) => ExitCode::SUCCESS,
        Ok(queue::Outcome::Damaged) => ExitCode::from(FAILED),
        Ok(queue::Outcome::Unconfirmed) => ExitCode::from(REFUSED),
        Err(error) => end(&error),
    }
}

fn doctor(config: &Config, json: bool) -> ExitCode {
    match app::doctor(config, json, &mut io::stdout().lock()) {
        Ok(diagnosis) if diagnosis.problems > 0 => ExitCode::from(FAILED),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn health(config: &Config, at_least: Ability) -> ExitCode {
    match app::health(config, at_least) {
        Ok(found) if found.well => print(&plain_json(&found.page)),
        Ok(found) => fail(FAILED, &plain_json(&found.page)),
        Err(error) => end(&error),
    }
}

fn ended(result: Result<(), app::Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn end(error: &app::Error) -> ExitCode {
    match error {
        // The reader has closed the pipe, as with `| head`.
        app::Error::Command(CommandError::Output(cause)) if cause.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        error => fail(if error.is_configuration() { REFUSED } else { FAILED }, error),
    }
}

fn print(text: &str) -> ExitCode {
    ended(writeln!(io::stdout(), "{text}").map_err(CommandError::Output).map_err(app::Error::Command))
}

fn fail(status: u8, error: &dyn Display) -> ExitCode {
    // The message may quote text of a server or a table.
    eprintln!("forebay: {}", plain_lines(&error.to_string()));
    ExitCode::from(status)
}
