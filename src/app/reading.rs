//! The commands that show what is stored.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::sleep;

use super::commands::{at_the_store, block_on};
use super::{Error, target};
use crate::config::Config;
use crate::operator::reading::{self, Query, Tail};
use crate::postgres::dsn::Target;
use crate::shutdown::Signals;

/// How often to check whether anybody still reads.
const LOOK: Duration = Duration::from_millis(200);

/// Searches the store. Records go to `out`, a remark to `progress`.
///
/// # Errors
///
/// The store cannot be reached, or refuses.
pub fn query(
    config: &Config,
    query: &Query,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), Error> {
    let work = async |target: Target| {
        Ok(reading::query(query, target, &config.exporter.store(), out, progress).await?)
    };
    block_on(at_the_store(config, target(config)?, work))
}

/// Follows new records until a signal, or until nobody reads standard output any more. Both are normal ends. Records go to
/// `out`, remarks to `progress`.
///
/// # Errors
///
/// The store cannot be reached at first, or refuses.
pub fn tail(
    config: &Config,
    tail: &Tail,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), Error> {
    let work = async |target: Target| {
        let mut signals = Signals::listen().map_err(Error::Runtime)?;
        let store = config.exporter.store();
        tokio::select! {
            done = reading::tail(tail, target, &store, out, progress) => Ok(done?),
            _ = signals.next() => Ok(()),
            () = nobody_reads() => Ok(()),
        }
    };
    block_on(at_the_store(config, target(config)?, work))
}

/// Waits until the other end of standard output is closed, as by `| head`. A file has no other end.
async fn nobody_reads() {
    let stdout = io::stdout();
    loop {
        // No flag is requested, since errors are reported in any case.
        let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
        let closed = poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        if closed && asked[0].revents().contains(PollFlags::ERR) {
            return;
        }
        sleep(LOOK).await;
    }
}
