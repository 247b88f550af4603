//! `forebay tail`: the last records, and then new ones as they are stored, until stopped.
//!
//! Records become visible in the order of commits, not of their times, and some come late. So new records are not found by time:
//! each look takes a snapshot, and shows the records that were not in the one before. That is exact: each once, without remembering
//! what was shown. (It needs writers that use no savepoints, as forebay's lanes.) Time only bounds how much of the table a look
//! reads: a record that is stored more than `window` after its time is not shown.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep;

use super::filter::Condition;
use super::session::{Moment, ViewReader};
use super::snapshot::Snapshot;
use super::{Filter, Style};
use crate::operator::command_error::CommandError;
use crate::postgres::Row;
use crate::postgres::dsn::Target;
use crate::postgres::error::{Class, Failure};
use crate::store::Config;
use crate::values::plain::{grouped, plain};
use crate::values::when::When;

/// What to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Which records.
    pub filter: Filter,
    /// How many stored records to show first.
    pub lines: u32,
    /// How far back to look for them.
    pub since: When,
    /// The longest time between a record's own time and its storage.
    pub window: Duration,
    /// How they are shown.
    pub style: Style,
}

/// The most records shown by one look.
const MOST: usize = 1_000;
/// The shortest wait between two looks.
const PACE: Duration = Duration::from_millis(500);
/// The next look waits this many times as long as the last one took, so that the database has four fifths of its time for others.
const REST: u32 = 4;
/// The longest time of a look.
const LIMIT: Duration = Duration::from_secs(15);
/// The shortest and the longest wait between attempts to connect.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// Follows the store at `target` until the output is closed; records go to `out`, remarks to `progress`.
///
/// # Errors
///
/// If the store cannot be reached at first, or denies access. Later it may disappear and come back.
pub async fn tail(
    tail: &Tail,
    target: Target,
    config: &Config,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), CommandError> {
    let reader = ViewReader::new(target, config, LIMIT, "forebay tail")?;
    let mut follower = Follower { tail, reader, last: None };
    let mut wait = SHORTEST;
    loop {
        let begun = Instant::now();
        match follower.look().await {
            Ok(seen) => {
                if wait != SHORTEST {
                    writeln!(progress, "forebay: the database is back")?;
                    wait = SHORTEST;
                }
                seen.tell(progress)?;
                out.write_all(tail.style.show(&seen.rows).as_bytes())?;
                out.flush()?;
                sleep(PACE.max(begun.elapsed() * REST)).await;
            }
            Err(CommandError::Store(failure) | CommandError::TooLong(failure))
                if follower.last.is_some() && failure.class != Class::Refused =>
            {
                if wait == SHORTEST {
                    let failure = plain(&failure.to_string());
                    writeln!(progress, "forebay: {failure}; trying again until the database is back")?;
                }
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The state between two looks.
struct Follower<'a> {
    tail: &'a Tail,
    reader: ViewReader,
    /// The snapshot and the time of the last look.
    last: Option<(Snapshot, SystemTime)>,
}

/// The result of a look.
struct Seen {
    /// The newest records, the oldest of them first.
    rows: Vec<Row>,
    /// The number of new records that are not shown.
    more: u64,
    /// Whether the database is another than at the last look, or an older state of it.
    is_other: bool,
}

impl Follower<'_> {
    async fn look(&mut self) -> Result<Seen, CommandError> {
        let (seen, last) = self.reader.at_a_moment(async |moment| self.look_at(moment).await).await?;
        self.last = Some(last);
        Ok(seen)
    }

    /// The records that are new at this moment, and the state for the next look.
    async fn look_at(&self, moment: &Moment<'_>) -> Result<(Seen, (Snapshot, SystemTime)), CommandError> {
        if moment.is_standby {
            return Err(CommandError::Standby);
        }
        let mut condition = self.tail.filter.condition();
        let mut most = MOST;
        let mut is_other = false;
        match &self.last {
            None => {
                condition.and("time >= ?", self.tail.since.at(moment.now));
                most = self.tail.lines as usize;
            }
            Some((snapshot, at)) => {
                is_other = !snapshot.is_before(&moment.snapshot);
                let since = at.checked_sub(self.tail.window).unwrap_or(SystemTime::UNIX_EPOCH);
                condition.and("time >= ?", since);
                condition.holds(snapshot.is_without());
            }
        }
        let seen = self.read(moment, &condition, most).await;
        let (mut rows, more) = seen.map_err(|failure| self.reader.explain(failure, moment))?;
        rows.reverse();
        Ok((Seen { rows, more, is_other }, (moment.snapshot.clone(), moment.now)))
    }

    /// The newest records, at most `most`, the newest first, and how many more there are.
    async fn read(
        &self,
        moment: &Moment<'_>,
        condition: &Condition,
        most: usize,
    ) -> Result<(Vec<Row>, u64), Failure> {
        let (from, values) = (format!("{}.logs l WHERE {condition}", self.reader.schema), condition.values());
        let select = format!(
            "SELECT {} FROM {from} ORDER BY time DESC, time_unix_nano DESC LIMIT {}",
            self.tail.style.columns(),
            most + 1
        );
        let mut rows = self.reader.answered(moment.connection.query(&*select, &values)).await?;
        let are_all = rows.len() <= most || self.last.is_none();
        rows.truncate(most);
        if are_all {
            return Ok((rows, 0));
        }
        let count = format!("SELECT count(*) FROM {from}");
        let all: i64 = self.reader.answered(moment.connection.query_one(&*count, &values)).await?.get(0);
        Ok((rows, all.unsigned_abs() - most as u64))
    }
}

impl Seen {
    fn tell(&self, progress: &mut dyn Write) -> std::io::Result<()> {
        if self.is_other {
            let what = "the database is another one than before, or an older state of it";
            writeln!(progress, "forebay: {what}; what was stored meanwhile may not be shown")?;
        }
        if self.more > 0 {
            let more = grouped(self.more);
            writeln!(
                progress,
                "forebay: {more} more records; narrow it with --service, --severity or --text"
            )?;
        }
        Ok(())
    }
}
