//! Writes records of the queue out.

use std::io::Write;
use std::ops::Range;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Outcome;
use super::otlp;
use super::rows::{self, Row};
use super::settled::Settled;
use crate::buffer::disk::Positions;
use crate::buffer::disk::view::{Part, View};
use crate::operator::command_error::CommandError;
use crate::table::decode::Record;
use crate::table::{Resource, RowFormat, Rows, Scope};
use crate::values::plain::{plain, plain_json};

/// How records are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a record, with the columns of its row.
    Ndjson,
    /// OTLP/JSON, one request a line, as forebay and the Collector's otlpjsonfile receiver take it.
    Otlp,
}

/// A record as a JSON object.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    record: Option<Record<'a>>,
    resource: Option<ShownResource<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<ShownScope<'a>>,
}

#[derive(Serialize)]
struct ShownResource<'a> {
    service_name: Option<&'a str>,
    attributes: Option<&'a RawValue>,
    schema_url: Option<&'a str>,
    dropped_attributes_count: i32,
}

#[derive(Serialize)]
struct ShownScope<'a> {
    name: Option<&'a str>,
    version: Option<&'a str>,
    attributes: Option<&'a RawValue>,
    schema_url: Option<&'a str>,
    dropped_attributes_count: i32,
}

/// Writes the records of `view` that are not `settled`, or all that are there.
pub(super) fn export(
    view: &View,
    settled: Option<&Settled>,
    format: Format,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
) -> Result<Outcome, CommandError> {
    let nothing = Positions::default();
    let (mut records, mut damaged) = (0, 0);
    view.read(settled.map_or(&nothing, |settled| &settled.positions), |part| {
        match part {
            Part::Rows { segment, rows, range, .. } => {
                records += range.len();
                let of_rows = segment.format.as_deref().cloned().unwrap_or_default();
                match format {
                    Format::Ndjson => write_rows(rows, range, &of_rows, out)?,
                    Format::Otlp => otlp::write_request(rows, range, &of_rows, out)?,
                }
            }
            Part::Damaged { numbers, .. } => damaged += numbers.end - numbers.start,
            Part::Torn { .. } => {}
        }
        Ok::<_, CommandError>(())
    })?;
    let unread = view.segments().iter().filter(|segment| segment.about.is_err()).count();
    if let Some(settled) = settled {
        writeln!(remarks, "{}", plain(&settled.source.to_string()))?;
    }
    writeln!(remarks, "{records} records exported")?;
    if damaged > 0 || unread > 0 {
        writeln!(remarks, "{damaged} damaged records and {unread} unreadable segments are not among them")?;
        return Ok(Outcome::Damaged);
    }
    Ok(Outcome::Done)
}

fn write_rows(
    all: &Rows,
    range: Range<usize>,
    format: &RowFormat,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let names = rows::names(format);
    for Row { record, resource, scope } in rows::read(all, range, format, &names) {
        let shown = Shown {
            destination: format.destination.as_deref(),
            record,
            resource: resource.map(ShownResource::from),
            scope: scope.map(ShownScope::from),
        };
        let json = serde_json::to_string(&shown).map_err(std::io::Error::from)?;
        writeln!(out, "{}", plain_json(&json))?;
    }
    Ok(())
}

impl<'a> From<&'a Resource> for ShownResource<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self {
            service_name: resource.service_name.as_deref(),
            attributes: serde_json::from_str(&resource.attributes).ok(),
            schema_url: resource.schema_url.as_deref(),
            dropped_attributes_count: resource.dropped_attributes_count,
        }
    }
}

impl<'a> From<&'a Scope> for ShownScope<'a> {
    fn from(scope: &'a Scope) -> Self {
        Self {
            name: scope.name.as_deref(),
            version: scope.version.as_deref(),
            attributes: serde_json::from_str(&scope.attributes).ok(),
            schema_url: scope.schema_url.as_deref(),
            dropped_attributes_count: scope.dropped_attributes_count,
        }
    }
}
