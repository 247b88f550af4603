//! The commands that work on the store and end, beside a running forebay or without one.

use std::io::Write;
use std::path::Path;

use super::{Error, private_store, target, warning_of_store};
use crate::config::{Config, mapping_to_yaml};
use crate::embedded::{self, Reached};
use crate::operator::command_error::CommandError;
use crate::operator::dead_letters::{self, Outcome};
use crate::operator::doctor::{Finding, Verdict, examine, examine_queue};
use crate::operator::{partitions, propose, queue};
use crate::postgres::dsn::Target;
use crate::shutdown::Signals;
use crate::telemetry::probe::{self, Ability, Finding as Page};
use crate::values::plain::{plain, plain_json};

/// The number of the doctor's findings by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    ok: u64,
    warnings: u64,
    /// Problems that keep records from being written.
    pub problems: u64,
}

/// Executes `command`. The answer goes to `out`, progress to `progress`.
///
/// # Errors
///
/// The store cannot be reached, or refuses.
pub fn dead_letters(
    config: &Config,
    command: &dead_letters::Command,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<Outcome, Error> {
    let target = target(config)?;
    let work = async |target: Target| {
        Ok(dead_letters::run(command, target, &config.exporter.store(), out, progress).await?)
    };
    block_on(at_the_store(config, target, work))
}

/// Shows the partitions in lines of `out`: for people, or as JSON objects.
///
/// # Errors
///
/// The store cannot be reached, or refuses.
pub fn partitions(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Error> {
    let target = target(config)?;
    let work =
        async |target: Target| Ok(partitions::show(target, &config.exporter.store(), json, out).await?);
    block_on(at_the_store(config, target, work))
}

/// Executes `command` on the durable queue in `directory`, or in the configured one. The answer goes to `out`, remarks to `remarks`.
///
/// # Errors
///
/// There is no queue, or it cannot be read or changed. A store that does not answer is no error.
pub fn queue(
    config: &Config,
    command: &queue::Command,
    directory: Option<&Path>,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
) -> Result<queue::Outcome, Error> {
    let configured = config.storage.as_ref().map(|storage| storage.files.directory.as_path());
    let directory = directory.or(configured).ok_or(Error::NoQueue)?;
    let target = match target(config)? {
        Some(target) => Ok(target),
        None => match embedded::running(&config.exporter.data_dir) {
            Some(dsn) => Ok(Target::parse(&dsn)?),
            None => Err("the private PostgreSQL does not run".to_owned()),
        },
    };
    let store = config.exporter.store();
    block_on(async { Ok(queue::run(command, directory, target, &store, out, remarks).await?) })
}

/// Proposes a mapping for the existing `table`, as YAML.
///
/// # Errors
///
/// The store cannot be reached, or has no such table.
pub fn mapping(config: &Config, table: &str) -> Result<String, Error> {
    let target = target(config)?;
    block_on(at_the_store(config, target, async |target: Target| {
        let columns = propose::propose(target, &config.exporter.store(), table).await?;
        Ok(mapping_to_yaml(table, &columns))
    }))
}

/// Checks everything that writing records needs, and prints a line to `out` for each finding: for people, or as a JSON object.
///
/// # Errors
///
/// The connection string cannot be used, the private PostgreSQL cannot be started, or `out` cannot be written. A problem that
/// is found is not an error.
pub fn doctor(config: &Config, json: bool, out: &mut dyn Write) -> Result<Diagnosis, Error> {
    let mut diagnosis = Diagnosis::default();
    let mut written = Ok(());
    let mut tell = |finding: Finding| {
        diagnosis.count(finding.verdict);
        if written.is_ok() {
            written = write_finding(&finding, json, out);
        }
    };
    let target = target(config)?;
    tell(Finding { check: "configuration", verdict: Verdict::Ok, text: config.to_string() });
    if target.is_none() {
        let warning = warning_of_store(config, None);
        let verdict = if warning.is_some() { Verdict::Warning } else { Verdict::Ok };
        tell(Finding { check: "store", verdict, text: warning.unwrap_or_else(|| private_store(config)) });
    }
    if let Some(storage) = &config.storage {
        examine_queue(storage, &mut tell);
    }
    let looked = block_on(at_the_store(config, target, async |target: Target| {
        examine(&target, &config.exporter.store(), &mut tell).await;
        Ok(())
    }));
    match looked {
        // A store that does not exist yet is no problem.
        Err(error @ Error::NoStore(_)) => {
            tell(Finding { check: "connection", verdict: Verdict::Ok, text: error.to_string() });
        }
        Err(error @ Error::Embedded(embedded::Error::Down { .. })) => {
            tell(Finding { check: "connection", verdict: Verdict::Problem, text: error.to_string() });
        }
        other => other?,
    }
    written.map_err(CommandError::Output)?;
    if !json {
        let Diagnosis { ok, warnings, problems } = diagnosis;
        writeln!(out, "{ok} ok, {warnings} warnings, {problems} problems").map_err(CommandError::Output)?;
    }
    Ok(diagnosis)
}

/// Asks the health page of the forebay that runs on `config` whether it has `ability`.
///
/// # Errors
///
/// There is no page, or no answer.
pub fn health(config: &Config, ability: Ability) -> Result<Page, Error> {
    let page = config.health.as_ref().ok_or(Error::NoHealthPage)?;
    block_on(async { Ok(probe::ask(page, ability).await?) })
}

impl Diagnosis {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Ok => self.ok += 1,
            Verdict::Warning => self.warnings += 1,
            Verdict::Problem => self.problems += 1,
        }
    }
}

fn write_finding(finding: &Finding, json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if json {
        writeln!(out, "{}", plain_json(&serde_json::to_string(finding)?))
    } else {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        writeln!(out, "{verdict:<8} {:<14} {}", finding.check, plain(&finding.text))
    }
}

pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(work)
}

/// Runs `work` at `target`, or at the private PostgreSQL: the one that another forebay runs, or one that is started for this.
pub(super) async fn at_the_store<T>(
    config: &Config,
    target: Option<Target>,
    work: impl AsyncFnOnce(Target) -> Result<T, Error>,
) -> Result<T, Error> {
    let dir = &config.exporter.data_dir;
    if let Some(target) = target {
        return work(target).await;
    }
    let mut signals = Signals::listen().map_err(Error::Runtime)?;
    let embedded = match embedded::reach(dir).await? {
        Reached::Running(dsn) => return work(Target::parse(&dsn)?).await,
        Reached::Started(embedded) => embedded,
        Reached::Nothing => return Err(Error::NoStore(dir.clone())),
    };
    let target = Target::parse(&embedded.dsn())?;
    let done = tokio::select! {
        // `tail` ends by itself at a signal, and is polled first.
        biased;
        done = work(target) => done,
        signal = signals.next() => Err(Error::Interrupted(signal)),
    };
    embedded.stop().await?;
    done
}
