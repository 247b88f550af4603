//! The columns of `log_records`, each stated once: name, type, and how a record fills it.
//!
//! Table and rows have this order. Fixed-size columns come first, widest first, so that PostgreSQL adds no padding.

use super::interned::Id;
use super::row::RowWriter;
use super::text::ReplacedKind;
use crate::otlp::value::AnyValue;
use crate::otlp::{InvalidId, LogRecord, Malformed};

/// One column of `log_records`.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type, as PostgreSQL's `format_type` spells it.
    pub sql_type: &'static str,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Its content, for readers of the table.
    pub comment: &'static str,
}

/// The sources of a row.
#[derive(Debug)]
pub(super) struct Source<'a, 'b> {
    pub(super) record: &'b LogRecord<'a>,
    /// The record's time, else its observed time, else its arrival; nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) resource: Id,
    pub(super) scope: Id,
}

/// Makes the list of columns and the code that fills a row from one statement for each column, without calls through pointers.
macro_rules! columns {
    ($($presence:ident($name:literal, $sql_type:literal, $comment:literal, |$row:ident, $source:ident| $fill:expr);)*) => {
        /// The columns, in the order of the table.
        pub const COLUMNS: &[Column] = &[$($presence($name, $sql_type, $comment)),*];

        /// Fills a row, column by column.
        #[inline]
        pub(super) fn fill(row: &mut RowWriter<'_>, source: &Source<'_, '_>) -> Result<(), Malformed> {
            $({
                let ($row, $source) = (&mut *row, source);
                $fill;
            })*
            Ok(())
        }
    };
}

columns! {
    required("time", "timestamp with time zone", "When it happened, to the microsecond",
        |row, source| row.timestamptz(source.time));
    required("time_unix_nano", "bigint", "The same in nanoseconds since 1970",
        |row, source| nanoseconds(row, source.time));
    optional("observed_time_unix_nano", "bigint", "When it was collected",
        |row, source| match source.record.observed_time_unix_nano {
            0 => row.null(),
            observed => nanoseconds(row, observed),
        });
    required("resource_id", "uuid", "The sender, in resources", |row, source| row.uuid(source.resource));
    required("scope_id", "uuid", "The instrumentation scope, in scopes", |row, source| row.uuid(source.scope));
    optional("trace_flags", "integer", "OTLP's flags; NULL is 0",
        |row, source| match source.record.flags {
            0 => row.null(),
            // All 32 bits are stored; the highest is the sign.
            flags => row.int4(flags as i32),
        });
    optional("dropped_attributes_count", "integer", "Attributes the sender dropped; NULL is 0",
        |row, source| match source.record.dropped_attributes_count {
            0 => row.null(),
            count => {
                let value = clamp(row, i32::try_from(count).ok(), i32::MAX);
                row.int4(value);
            }
        });
    optional("severity_number", "smallint", "1 (TRACE) to 24 (FATAL4); NULL is unspecified",
        |row, source| match source.record.severity_number {
            0 => row.null(),
            number => {
                let nearest = if number > 0 { i16::MAX } else { i16::MIN };
                let value = clamp(row, i16::try_from(number).ok(), nearest);
                row.int2(value);
            }
        });
    optional("severity_text", "text", "The severity as the source names it",
        |row, source| text_or_null(row, source.record.severity_text));
    optional("trace_id", "bytea", "NULL where absent or all zero",
        |row, source| id_or_null(row, source.record.trace_id()));
    optional("span_id", "bytea", "NULL where absent or all zero",
        |row, source| id_or_null(row, source.record.span_id()));
    optional("event_name", "text", "The event's name; NULL where it is no event",
        |row, source| text_or_null(row, source.record.event_name));
    optional("body", "text", "A body that is a string",
        |row, source| match source.record.body {
            Some(AnyValue::String(text)) => row.text(text),
            _ => row.null(),
        });
    optional("body_json", "jsonb", "A body of any other kind",
        |row, source| match source.record.body {
            None | Some(AnyValue::String(_)) => row.null(),
            Some(value) => row.jsonb_value(value)?,
        });
    required("attributes", "jsonb", "The record's attributes",
        |row, source| row.jsonb_object(source.record.attributes.iter().copied())?);
}

const fn required(name: &'static str, sql_type: &'static str, comment: &'static str) -> Column {
    Column { name, sql_type, nullable: false, comment }
}

const fn optional(name: &'static str, sql_type: &'static str, comment: &'static str) -> Column {
    Column { name, sql_type, nullable: true, comment }
}

/// bigint ends in the year 2262, OTLP's fixed64 in 2554.
#[inline]
fn nanoseconds(row: &mut RowWriter<'_>, unix_nano: u64) {
    let value = i64::try_from(unix_nano).unwrap_or_else(|_| {
        row.replaced().count(ReplacedKind::Time);
        i64::MAX
    });
    row.int8(value);
}

fn clamp<T>(row: &mut RowWriter<'_>, value: Option<T>, nearest: T) -> T {
    value.unwrap_or_else(|| {
        row.replaced().count(ReplacedKind::Number);
        nearest
    })
}

/// In proto3, an empty string is absent.
#[inline]
fn text_or_null(row: &mut RowWriter<'_>, text: &[u8]) {
    if text.is_empty() { row.null() } else { row.text(text) }
}

/// An id of another length is not stored: indexes and joins rely on the length.
#[inline]
fn id_or_null(row: &mut RowWriter<'_>, id: Result<Option<&[u8]>, InvalidId>) {
    match id {
        Ok(Some(id)) => row.bytea(id),
        Ok(None) => row.null(),
        Err(InvalidId) => {
            row.replaced().count(ReplacedKind::Id);
            row.null();
        }
    }
}
