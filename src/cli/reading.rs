//! `forebay query` and `forebay tail`: what they accept.

use std::io;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::Source;
use crate::operator::reading::{Attribute, Filter, Look, Query, Style, Tail, TraceId};
use crate::table::Severity;
use crate::telemetry::logs::wants_colours;
use crate::values::duration::GoDuration;
use crate::values::scalar::{Scalar as _, Words};
use crate::values::when::Written;

/// A search.
#[derive(Args)]
pub(super) struct QueryArguments {
    #[command(flatten)]
    which: Which,
    /// Only records since this time: a span such as 15m or 24h, or a time such as 2026-11-25 17:05, in the time zone that is shown [default: 1h;
    /// with --trace: any time]
    #[arg(long, value_name = "WHEN")]
    since: Option<Written>,
    /// Only records before this time
    #[arg(long, value_name = "WHEN")]
    until: Option<Written>,
    /// The most to show, the newest; 0 is all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u32,
    /// The longest that the search may take
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = span)]
    timeout: Duration,
    #[command(flatten)]
    look: Looks,
    #[command(flatten)]
    source: Source,
}

/// A tail.
#[derive(Args)]
pub(super) struct TailArguments {
    #[command(flatten)]
    which: Which,
    /// Number of existing records to show first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u32,
    /// How far back to look for the lines shown first
    #[arg(long, value_name = "WHEN", default_value = "1h")]
    since: Written,
    /// How late a record may come: one that is stored longer than this after its time is not shown
    #[arg(long, value_name = "SPAN", default_value = "1m", value_parser = span)]
    window: Duration,
    #[command(flatten)]
    look: Looks,
    #[command(flatten)]
    source: Source,
}

/// Which records are meant: those for which all of it holds.
#[derive(Args)]
struct Which {
    /// Only this service; repeat to match any of several
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<String>,
    /// Only this severity or a higher one: TRACE, DEBUG, INFO, WARN, ERROR, FATAL
    #[arg(long, value_name = "NAME")]
    severity: Option<Severity>,
    /// Only records with this text in their body, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only records of this trace
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
    /// Only records with this attribute; repeat to match all of several
    #[arg(long = "attribute", value_name = "KEY=VALUE")]
    attributes: Vec<Attribute>,
}

/// How records are shown.
#[derive(Args)]
struct Looks {
    /// Print one JSON object a line, with all columns of the view
    #[arg(long)]
    json: bool,
    /// Show times in UTC, not in the local time zone, and take those that are given for UTC
    #[arg(long)]
    utc: bool,
    /// Whether to colour; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

#[derive(Clone, Copy, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

pub(super) const QUERY_EXAMPLES: &str = "\
Examples:
  forebay query --severity ERROR --since 15m
  forebay query --service shop --text 'card declined' --since 24h --limit 0 | less -R
  forebay query --since '2026-11-25 17:05' --until '2026-11-25 17:20'
  forebay query --trace 5b8efff798038103d269b633813fc60c
  forebay query --attribute http.route=/orders --attribute order=17 --json | jq .body

WHEN is a span before now (15m), a date (2026-11-25, its midnight), or date and time (2026-11-25 17:05, with seconds and their
fraction or without, a T instead of the space or not), all in the local time zone (TZ), or with --utc in UTC; with an offset
(2026-11-25T17:05:00+01:00, ...Z) it is that point in time. It needs SELECT on the view, and USAGE on its schema.";

pub(super) const TAIL_EXAMPLES: &str = "\
Examples:
  forebay tail
  forebay tail --service shop --service till --severity WARN
  forebay tail -n 0 --json | jq -r .body

It goes on until Ctrl-C, also over a restart of the database. Of more than 1,000 new records at a time the newest are shown,
and the number of the others is said. It needs SELECT on the view, and USAGE on its schema.";

impl QueryArguments {
    pub(super) fn split(self) -> (Query, Source) {
        let Self { which, since, until, limit, timeout, look, source } = self;
        let zone = look.zone();
        let [since, until] = [since, until].map(|written| written.map(|written| written.within(&zone)));
        (Query { filter: which.into(), since, until, limit, timeout, style: look.into() }, source)
    }
}

impl TailArguments {
    pub(super) fn split(self) -> (Tail, Source) {
        let Self { which, lines, since, window, look, source } = self;
        let since = since.within(&look.zone());
        (Tail { filter: which.into(), lines, since, window, style: look.into() }, source)
    }
}

impl From<Which> for Filter {
    fn from(which: Which) -> Self {
        let Which { services, severity, text, trace, attributes } = which;
        Self { services, severity, text, trace, attributes }
    }
}

impl Looks {
    /// The time zone of times that are shown or given.
    fn zone(&self) -> TimeZone {
        if self.utc { TimeZone::UTC } else { TimeZone::system() }
    }
}

impl From<Looks> for Style {
    fn from(looks: Looks) -> Self {
        if looks.json {
            return Self::Json;
        }
        let colours = match looks.color {
            Colour::Auto => wants_colours(&io::stdout()),
            Colour::Always => true,
            Colour::Never => false,
        };
        Self::Lines(Look { colours, zone: looks.zone() })
    }
}

fn span(text: &str) -> Result<Duration, Words> {
    GoDuration::parse(text).map(|span| span.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::super::{Cli, Command, Invocation};
    use super::*;
    use crate::values::when::When;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn records_are_chosen_by_what_is_said() {
        let command = |arguments: &str| {
            let arguments: Vec<_> = arguments.split(' ').collect();
            Cli::try_parse_from([&["forebay"], &arguments[..]].concat())
                .map(|cli| Invocation::from(cli).command)
                .map_err(|error| error.kind())
        };
        let Ok(Command::Query(query)) = command(
            "query --service shop --service till --severity error --text x --attribute a=b --since 15m --until 1m --limit 0 \
             --timeout 2m --json",
        ) else {
            panic!("a query")
        };
        let filter = Filter {
            services: vec!["shop".into(), "till".into()],
            severity: Some(Severity::Error),
            text: Some("x".into()),
            trace: None,
            attributes: vec!["a=b".parse().unwrap()],
        };
        let (since, until) = (Some(When::Ago(MINUTE * 15)), Some(When::Ago(MINUTE)));
        let expected = Query { filter, since, until, limit: 0, timeout: MINUTE * 2, style: Style::Json };
        assert_eq!(query, expected);
        let Ok(Command::Tail(tail)) = command("tail -n 3 --window 5m --utc --color always") else {
            panic!("a tail")
        };
        let look = Look { colours: true, zone: TimeZone::UTC };
        assert_eq!((tail.lines, tail.window, tail.style), (3, MINUTE * 5, Style::Lines(look)));
        let Ok(Command::Query(query)) =
            command("query --utc --json --since 2026-11-25T17:05 --until 2026-11-26")
        else {
            panic!("a query")
        };
        let at = |text: &str| Some(When::Time(text.parse().unwrap()));
        let expected = (at("2026-11-25T17:05:00Z"), at("2026-11-26T00:00:00Z"));
        assert_eq!((query.since, query.until), expected);
        for wrong in [
            "query --since 2026-11-25T17:05:00x",
            "tail --since 17:05",
            "tail --severity loud",
            "tail --window 5",
            "query --trace 17",
            "query --attribute a",
        ] {
            assert_eq!(command(wrong), Err(ErrorKind::ValueValidation), "{wrong}");
        }
    }
}
