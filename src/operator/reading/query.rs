//! `forebay query`: records of a span of time, the oldest first, as in a log file.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use super::filter::Condition;
use super::session::{Moment, ViewReader};
use super::{Filter, Style};
use crate::operator::command_error::CommandError;
use crate::postgres::Row;
use crate::postgres::dsn::Target;
use crate::store::Config;
use crate::values::when::When;

/// A search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Which records.
    pub filter: Filter,
    /// The begin; by default an hour ago, and for a trace no limit.
    pub since: Option<When>,
    /// The end.
    pub until: Option<When>,
    /// The most to be shown, the newest; 0 is all.
    pub limit: u32,
    /// The longest that the search may take.
    pub timeout: Duration,
    /// The output format.
    pub style: Style,
}

/// The default of `since`.
const LAST_HOUR: When = When::Ago(Duration::from_secs(3600));

/// The most records held in memory at a time.
const PAGE: usize = 2_000;

/// Searches the store at `target`; records go to `out`, a remark to `progress`.
///
/// # Errors
///
/// If the store cannot be reached or denies access, or the search takes too long.
pub async fn query(
    query: &Query,
    target: Target,
    config: &Config,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), CommandError> {
    let reader = ViewReader::new(target, config, query.timeout, "forebay query")?;
    let mut shown = 0;
    let mut show = |rows: &[Row]| {
        shown += rows.len();
        out.write_all(query.style.show(rows).as_bytes())
    };
    let read = async |moment: &Moment<'_>| {
        let condition = query.condition(moment.now);
        let select = query.statement(&format!("{}.logs l WHERE {condition}", reader.schema));
        all_but_last(&reader, moment, &select, &condition, &mut show).await
    };
    // The last page is shown after the transaction, so that a slow reader holds up nothing.
    let last = reader.at_a_moment(read).await?;
    show(&last)?;
    if shown > 0 && shown == query.limit as usize {
        writeln!(progress, "these are the newest {shown}, and there may be older ones; --limit 0 shows all")?;
    }
    Ok(())
}

/// Shows the pages of an answer except the last, which it returns.
async fn all_but_last(
    reader: &ViewReader,
    moment: &Moment<'_>,
    select: &str,
    condition: &Condition,
    show: &mut impl FnMut(&[Row]) -> io::Result<()>,
) -> Result<Vec<Row>, CommandError> {
    let failed = |failure| reader.explain(failure, moment);
    let (connection, values) = (moment.connection, condition.values());
    let declare = format!("DECLARE page NO SCROLL CURSOR FOR {select}");
    reader.answered(connection.execute(&declare, &values)).await.map_err(failed)?;
    let fetch = format!("FETCH {PAGE} FROM page");
    loop {
        // Without a prepared statement: a pooler keeps those for others, and what a FETCH gives is its cursor's.
        let page = reader.answered(connection.query_typed(&fetch, &[])).await.map_err(failed)?;
        if page.len() < PAGE {
            return Ok(page);
        }
        show(&page)?;
    }
}

impl Query {
    fn condition(&self, now: SystemTime) -> Condition {
        let mut condition = self.filter.condition();
        if let Some(since) = self.since.or(self.filter.trace.is_none().then_some(LAST_HOUR)) {
            condition.and("time >= ?", since.at(now));
        }
        if let Some(until) = self.until {
            condition.and("time < ?", until.at(now));
        }
        condition
    }

    fn statement(&self, from: &str) -> String {
        let columns = self.style.columns();
        let newest = match self.limit {
            0 => from.to_owned(),
            limit => {
                format!("(SELECT l.* FROM {from} ORDER BY time DESC, time_unix_nano DESC LIMIT {limit}) l")
            }
        };
        format!("SELECT {columns} FROM {newest} ORDER BY time, time_unix_nano")
    }
}
