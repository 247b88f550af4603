//! The commands that look into the store and end, beside a running forebay or without one.

use std::io::Write;

use super::{Error, check};
use crate::config::Config;
use crate::embedded::{self, Embedded};
use crate::exporter::dead_letters::{self, Outcome};
use crate::exporter::dsn::Target;
use crate::shutdown::Signals;

/// Carries `command` out. The answer goes to `out`, progress to `progress`.
///
/// # Errors
///
/// Where the store cannot be reached, or does not let us.
pub fn dead_letters(
    config: &Config,
    command: &dead_letters::Command,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<Outcome, Error> {
    let target = check(config)?;
    let work =
        async |target: Target| Ok(dead_letters::run(command, target, &config.exporter, out, progress).await?);
    block_on(at_the_store(config, target, work))
}

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(work)
}

/// Has `work` done at `target`, or at the private PostgreSQL: the one that a forebay is running, or else one that is
/// started for this.
async fn at_the_store<T>(
    config: &Config,
    target: Option<Target>,
    work: impl AsyncFnOnce(Target) -> Result<T, Error>,
) -> Result<T, Error> {
    let dir = &config.exporter.data_dir;
    if let Some(target) = target {
        return work(target).await;
    }
    if let Some(dsn) = embedded::running(dir) {
        return work(Target::parse(&dsn)?).await;
    }
    if !dir.join("cluster").exists() {
        return Err(Error::NoStore(dir.clone()));
    }
    let mut signals = Signals::listen().map_err(Error::Runtime)?;
    let embedded = Embedded::start(dir).await?;
    let target = Target::parse(&embedded.dsn())?;
    let done = tokio::select! {
        done = work(target) => done,
        signal = signals.next() => Err(Error::Interrupted(signal)),
    };
    embedded.stop().await?;
    done
}
