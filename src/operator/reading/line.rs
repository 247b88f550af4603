//! A record in lines for people: time, severity, service, body, and then its attributes in logfmt.
//!
//! Values with several lines, such as stack traces, follow below, indented. Control characters of a sender are escaped.

use std::time::SystemTime;

use crate::postgres::Row;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::buffer::fold::COUNT;
use crate::values::plain::{grouped, plain};

/// The look of lines for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether they are coloured.
    pub colours: bool,
    /// The time zone of their times.
    pub zone: TimeZone,
}

/// The parts of a record that are shown.
pub(super) struct Record {
    time: SystemTime,
    severity: Option<String>,
    service: Option<String>,
    body: Option<String>,
    event: Option<String>,
    trace: Option<String>,
    attributes: Map<String, Value>,
}

const DIM: &str = "2";
const BOLD: &str = "1";
const INDENT: &str = "    ";

impl Record {
    pub(super) const COLUMNS: &str = "time, coalesce(severity, severity_text), service_name, body, event_name, \
                                      trace_id, attributes::text";

    /// Appends its lines to `text`.
    pub(super) fn write(&self, look: &Look, text: &mut String) {
        let severity = self.severity.as_deref().unwrap_or("-");
        let service = plain(self.service.as_deref().unwrap_or("-"));
        let body = self.body.as_deref().unwrap_or("-");
        let mut lines = body.trim_end().lines();
        let first = visible(lines.next().unwrap_or_default());
        *text += &format!(
            "{} {} {}  {first}",
            look.paint(DIM, &when(self.time, &look.zone)),
            look.paint(colour(severity), &format!("{:5}", plain(severity))),
            look.paint(BOLD, &service),
        );
        if let Some(records) = self.folded() {
            *text += &look.paint(BOLD, &format!(" x {}", grouped(records)));
        }
        let is_long = body.trim_end().contains('\n');
        lines.for_each(|line| *text += &format!("\n{INDENT}{}", visible(line)));
        let (pairs, blocks) = self.pairs();
        if !pairs.is_empty() {
            *text += &if is_long { format!("\n{INDENT}") } else { "  ".to_owned() };
            *text += &look.paint(DIM, &pairs);
        }
        for (key, value) in blocks {
            *text += &format!("\n{INDENT}{}", look.paint(DIM, &format!("{}:", quoted(key))));
            value.trim_end().lines().for_each(|line| {
                *text += &format!("\n{INDENT}{INDENT}{}", look.paint(DIM, &visible(line)));
            });
        }
        text.push('\n');
    }

    /// The number of records that it stands for, if it is a folded one.
    fn folded(&self) -> Option<u64> {
        self.attributes.get(COUNT).and_then(Value::as_u64)
    }

    /// The attributes in one line, and separately those with several lines.
    fn pairs(&self) -> (String, Vec<(&str, &str)>) {
        let (mut pairs, mut blocks) = (Vec::new(), Vec::new());
        pairs.extend(self.event.iter().map(|event| format!("event={}", quoted(event))));
        for (key, value) in &self.attributes {
            match value {
                _ if key == COUNT && self.folded().is_some() => {}
                Value::String(text) if text.trim_end().contains('\n') => blocks.push((&**key, &**text)),
                Value::String(text) => pairs.push(format!("{}={}", quoted(key), quoted(text))),
                value => pairs.push(format!("{}={}", quoted(key), plain(&value.to_string()))),
            }
        }
        pairs.extend(self.trace.iter().map(|trace| format!("trace_id={trace}")));
        (pairs.join(" "), blocks)
    }
}

impl From<&Row> for Record {
    fn from(row: &Row) -> Self {
        Self {
            time: row.get(0),
            severity: row.get(1),
            service: row.get(2),
            body: row.get(3),
            event: row.get(4),
            trace: row.get(5),
            // forebay writes an object there; anything else has no pairs.
            attributes: serde_json::from_str(row.get(6)).unwrap_or_default(),
        }
    }
}

impl Look {
    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours && !colour.is_empty() && !text.is_empty() {
            format!("\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn colour(severity: &str) -> &'static str {
    match severity {
        "TRACE" => DIM,
        "DEBUG" => "36",
        "INFO" => "32",
        "WARN" => "33",
        "ERROR" => "31",
        "FATAL" => "1;97;41",
        _ => "",
    }
}

/// The time in milliseconds, with a Z if it is in UTC.
fn when(time: SystemTime, zone: &TimeZone) -> String {
    let Ok(time) = Timestamp::try_from(time) else { return "out of time".to_owned() };
    let utc = if *zone == TimeZone::UTC { "Z" } else { "" };
    format!("{}{utc}", time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f"))
}

/// A line of text with its control characters escaped, except tabs.
fn visible(line: &str) -> String {
    line.split('\t').map(plain).collect::<Vec<_>>().join("\t")
}

/// A word of logfmt, in quotes if necessary.
fn quoted(text: &str) -> String {
    let is_word = |c: char| !c.is_whitespace() && c != '"' && c != '=';
    if !text.is_empty() && text.chars().all(is_word) {
        return plain(text);
    }
    format!("\"{}\"", plain(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(body: &str, attributes: &str, look: &Look) -> String {
        let record = Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_500),
            severity: Some("WARN".to_owned()),
            service: Some("shop".to_owned()),
            body: Some(body.to_owned()),
            event: None,
            trace: None,
            attributes: serde_json::from_str(attributes).unwrap(),
        };
        let mut text = String::new();
        record.write(look, &mut text);
        text
    }

    #[test]
    fn attributes_are_pairs_behind_the_body() {
        let look = Look { colours: false, zone: TimeZone::UTC };
        let attributes =
            r#"{"order": 17, "a.b": "two words", "q": "say \"x\"", "e": "", "list": [1, "b"], "no": null}"#;
        let expected = "1970-01-01 00:00:00.001Z WARN  shop  card declined  order=17 a.b=\"two words\" \
                        q=\"say \\\"x\\\"\" e=\"\" list=[1,\"b\"] no=null\n";
        assert_eq!(shown("card declined\n", attributes, &look), expected);
        let berlin = TimeZone::fixed(jiff::tz::offset(2));
        let line = shown("x", "{}", &Look { colours: false, zone: berlin });
        assert_eq!(line, "1970-01-01 02:00:00.001 WARN  shop  x\n");
    }

    #[test]
    fn a_folded_record_says_how_many_it_stands_for() {
        let look = Look { colours: false, zone: TimeZone::UTC };
        let expected = "1970-01-01 00:00:00.001Z WARN  shop  refused x 48,213  a=1\n";
        assert_eq!(shown("refused", r#"{"forebay.folded.count": 48213, "a": 1}"#, &look), expected);
        let expected = "1970-01-01 00:00:00.001Z WARN  shop  refused  forebay.folded.count=many\n";
        assert_eq!(shown("refused", r#"{"forebay.folded.count": "many"}"#, &look), expected);
    }

    #[test]
    fn what_has_lines_is_indented() {
        let look = Look { colours: false, zone: TimeZone::UTC };
        let expected = "1970-01-01 00:00:00.001Z WARN  shop  one\n    \ttwo\n    a=1\n    trace:\n        x\n          y\n";
        assert_eq!(shown("one\r\n\ttwo", r#"{"trace": "x\n  y\n", "a": 1}"#, &look), expected);
    }

    #[test]
    fn a_sender_cannot_write_to_the_terminal() {
        let look = Look { colours: false, zone: TimeZone::UTC };
        let text =
            shown("a\u{1b}[2J\nb\u{9b}1m", r#"{"k\u001b": "v\u001b]0;x\u0007", "l": ["\u009b"]}"#, &look);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(
            text.contains("a\\u{1b}[2J\n    b\\u{9b}1m\n    k\\u{1b}=v\\u{1b}]0;x\\u{7} l=[\"\\u{9b}\"]"),
            "{text}"
        );
    }

    #[test]
    fn colours_end_where_they_are_over() {
        let text = shown("x", r#"{"a": 1}"#, &Look { colours: true, zone: TimeZone::UTC });
        let expected = "\u{1b}[2m1970-01-01 00:00:00.001Z\u{1b}[0m \u{1b}[33mWARN \u{1b}[0m \u{1b}[1mshop\u{1b}[0m  x  \
                        \u{1b}[2ma=1\u{1b}[0m\n";
        assert_eq!(text, expected);
    }
}
