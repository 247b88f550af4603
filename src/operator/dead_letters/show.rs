//! Dead letters as people and programs read them.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::SystemTime;

use crate::postgres::Row;
use jiff::Timestamp;
use serde::Serialize;

use super::origins::Named;
use crate::table::decode::{Record, Value, hex};
use crate::table::{Destination, Severity};
use crate::values::plain::{plain, plain_json};

/// How dead letters are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A few lines for people, with long values shortened.
    Lines,
    /// One JSON object a line, with everything.
    Json,
}

/// A row of `dead_letters`.
#[derive(Debug)]
pub(super) struct Letter {
    id: i64,
    at: SystemTime,
    sqlstate: String,
    message: String,
    service: Option<String>,
    attempts: i32,
    columns: Vec<String>,
    row: Vec<u8>,
    /// The existing table that refused it.
    destination: Option<String>,
    keeps_origin: bool,
    /// Which of its resource and scope is kept nowhere.
    pub(super) lacks: Vec<&'static str>,
}

/// A letter as a JSON object. It has the row itself only if that cannot be read.
#[derive(Serialize)]
struct Shown<'a> {
    id: i64,
    at: String,
    sqlstate: &'a str,
    message: &'a str,
    service: Option<&'a str>,
    attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    lacks: &'a [&'static str],
    record: Option<Record<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row_hex: Option<String>,
}

/// The most characters of a body, or of the attributes, in a line for people.
const SHORT: usize = 160;

impl From<&Row> for Letter {
    fn from(row: &Row) -> Self {
        Self {
            id: row.get(0),
            at: row.get(1),
            sqlstate: row.get(2),
            message: row.get(3),
            service: row.get(4),
            attempts: row.get(5),
            columns: row.get(6),
            row: row.get(7),
            destination: row.get(8),
            keeps_origin: row.get(9),
            lacks: Vec::new(),
        }
    }
}

impl Letter {
    /// Whether it does not keep its resource, as letters from before schema version 9.
    pub(super) fn keeps_no_origin(&self) -> bool {
        !self.keeps_origin && self.destination.is_none()
    }

    /// The resource and the scope of its row.
    pub(super) fn named(&self) -> Named {
        Named::by(&self.row, &self.columns)
    }
}

/// Writes `letter` to `out`. The types of an existing table's columns are known if it is the `destination`.
pub(super) fn show(
    letter: &Letter,
    destination: &Destination,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let record = match &letter.destination {
        None => Record::read(&letter.row, &letter.columns),
        mark => Record::read_by(&letter.row, &letter.columns, |name| {
            let mapping = destination.mapping().filter(|_| destination.mark() == *mark)?;
            Some(mapping.columns().iter().find(|column| column.name == name)?.sql_type)
        }),
    };
    match style {
        Style::Lines => out.write_all(lines(letter, record.as_ref()).as_bytes()),
        Style::Json => {
            let unread = record.is_none();
            let shown = Shown {
                id: letter.id,
                at: when(letter.at),
                sqlstate: &letter.sqlstate,
                message: &letter.message,
                service: letter.service.as_deref(),
                attempts: letter.attempts,
                destination: letter.destination.as_deref(),
                lacks: &letter.lacks,
                record,
                columns: unread.then_some(&letter.columns),
                row_hex: unread.then(|| hex(&letter.row)),
            };
            writeln!(out, "{}", plain_json(&serde_json::to_string(&shown)?))
        }
    }
}

fn lines(letter: &Letter, record: Option<&Record<'_>>) -> String {
    let Letter { id, attempts, .. } = letter;
    let (at, sqlstate, message) = (when(letter.at), plain(&letter.sqlstate), plain(&letter.message));
    let mut text = format!("#{id}  {at}  {sqlstate}  {message}");
    if *attempts > 1 {
        let _ = write!(text, " (refused {attempts} times)");
    }
    if !letter.lacks.is_empty() {
        let verb = if letter.lacks.len() == 1 { "is" } else { "are" };
        let _ = write!(text, "; its {} {verb} not stored", letter.lacks.join(" and "));
    }
    let service = letter.service.as_deref().map_or("(no service)".to_owned(), plain);
    let Some(record) = record else {
        return format!("{text}\n    {service}  not a row that can be read: {}\n", short(&hex(&letter.row)));
    };
    if let Some(destination) = &letter.destination {
        let _ = writeln!(text, "\n    {service}  for {}", plain(destination));
        for (name, value) in record.fields().iter().filter(|(_, value)| !matches!(value, Value::Null)) {
            let _ = writeln!(text, "    {}: {}", plain(name), short(&display(*value)));
        }
        return text;
    }
    let body = match record.get("body") {
        Value::Null => record.get("body_json"),
        body => body,
    };
    let (time, severity) = (display(record.get("time")), severity(record));
    let _ = write!(text, "\n    {service}  {severity}  {time}  {}", short(&display(body)));
    text + &format!("\n    {}\n", short(&display(record.get("attributes"))))
}

fn severity(record: &Record<'_>) -> String {
    match record.get("severity_number") {
        Value::Integer(number) => {
            <&str>::from(Severity::from_number(number.try_into().unwrap_or_default())).to_uppercase()
        }
        _ => "UNSPECIFIED".to_owned(),
    }
}

fn display(value: Value<'_>) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Time(time) => time.to_string(),
        Value::Date(date) => date.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Address(address) => address.to_string(),
        Value::Uuid(id) => id.to_string(),
        Value::Text(text) => plain(text),
        Value::Json(json) => plain(json.get()),
        Value::Bytes(bytes) | Value::Unreadable(bytes) => format!("\\x{}", hex(bytes)),
    }
}

fn when(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| "out of time".to_owned(), |at| at.to_string())
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::identifier::Schema;

    fn letter(columns: &[&str], row: &[u8]) -> Letter {
        Letter {
            id: 7,
            at: SystemTime::UNIX_EPOCH,
            sqlstate: "23514".to_owned(),
            message: "new row violates \"check\"".to_owned(),
            service: Some("shop".to_owned()),
            attempts: 2,
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            row: row.to_vec(),
            destination: None,
            keeps_origin: true,
            lacks: Vec::new(),
        }
    }

    fn shown(letter: &Letter, style: Style) -> String {
        let mut out = Vec::new();
        let destination = Destination::new(Schema::new("otel"), None);
        show(letter, &destination, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A row of a severity and a body.
    fn row(body: &str) -> Vec<u8> {
        let length = (body.len() as i32).to_be_bytes();
        [&[0, 2, 0, 0, 0, 2, 0, 17][..], &length, body.as_bytes()].concat()
    }

    #[test]
    fn a_sender_cannot_write_to_the_terminal() {
        let body = format!("two\nlines \u{1b}[2J \u{9b}1m{}", "x".repeat(SHORT));
        let lines = shown(&letter(&["severity_number", "body"], &row(&body)), Style::Lines);
        let expected = "#7  1970-01-01T00:00:00Z  23514  new row violates \"check\" (refused 2 times)\n    \
                        shop  ERROR  -  two\\nlines \\u{1b}[2J \\u{9b}1mx";
        assert!(lines.starts_with(expected), "{lines}");
        assert!(lines.ends_with("x…\n    -\n"), "{lines}");
    }

    #[test]
    fn json_has_everything_in_one_line() {
        let json = shown(&letter(&["severity_number", "body"], &row("two\nlines")), Style::Json);
        let expected = "{\"id\":7,\"at\":\"1970-01-01T00:00:00Z\",\"sqlstate\":\"23514\",\
                        \"message\":\"new row violates \\\"check\\\"\",\"service\":\"shop\",\"attempts\":2,\
                        \"record\":{\"severity_number\":17,\"body\":\"two\\nlines\"}}\n";
        assert_eq!(json, expected);
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_it_is() {
        let odd = letter(&["body"], b"\x00\x07odd");
        assert!(
            shown(&odd, Style::Json)
                .ends_with(",\"record\":null,\"columns\":[\"body\"],\"row_hex\":\"00076f6464\"}\n")
        );
        assert!(shown(&odd, Style::Lines).contains("not a row that can be read: 00076f6464\n"));
    }
}
