//! Renders a message as one line for people, or as one flat JSON object.
//!
//! Control characters from the database or a sender are escaped, so that nobody can forge a second line, and values are cut at
//! [`LONGEST`] bytes. A rendered line has no end yet, because the fold adds the number of repeats later, by [`Style::close`].

use std::fmt::{self, Debug, Write};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::values::plain::{is_obeyed, plain, plain_json};

/// The most bytes of a value that are printed.
const LONGEST: usize = 2048;

/// The format of messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    /// Time, level, message and fields, for people.
    Console {
        /// Whether the level is coloured.
        colours: bool,
    },
    /// The keys `time`, `level`, `target`, `message`, then the fields; a field cannot replace one of these keys.
    Json,
}

impl Style {
    /// Renders `event` as a line without its end.
    pub(super) fn render(self, event: &Event<'_>, at: Timestamp) -> String {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        match self {
            Self::Console { colours } => console(*metadata.level(), metadata.target(), fields, at, colours),
            Self::Json => json(*metadata.level(), metadata.target(), fields, at),
        }
    }

    /// Adds the number of repeats, if there are any, and the end of the line.
    pub(super) fn close(self, mut line: String, repeats: u64) -> String {
        // Writing to a String cannot fail.
        let _ = match (self, repeats) {
            (Self::Console { .. }, 0) => writeln!(line),
            (Self::Console { .. }, _) => writeln!(line, " repeats={repeats}"),
            (Self::Json, 0) => writeln!(line, "}}"),
            (Self::Json, _) => writeln!(line, ",\"repeats\":{repeats}}}"),
        };
        line
    }
}

fn console(level: Level, target: &str, fields: Fields, at: Timestamp, colours: bool) -> String {
    let mut line = match colour(level).filter(|_| colours) {
        Some(colour) => format!("{at:.3} \x1b[{colour}m{level:<5}\x1b[0m "),
        None => format!("{at:.3} {level:<5} "),
    };
    // A message of another crate needs its name to be understood.
    if target.split("::").next() != Some(env!("CARGO_CRATE_NAME")) {
        line += target;
        line += ": ";
    }
    line += &plain(&fields.message);
    for (name, value) in fields.others {
        let _ = match value {
            Value::String(text) if needs_quotes(&text) => write!(line, " {name}={text:?}"),
            Value::String(text) => write!(line, " {name}={text}"),
            value => write!(line, " {name}={value}"),
        };
    }
    line
}

fn json(level: Level, target: &str, fields: Fields, at: Timestamp) -> String {
    let mut object = Map::new();
    object.insert("time".to_owned(), format!("{at:.6}").into());
    object.insert("level".to_owned(), level.as_str().to_ascii_lowercase().into());
    object.insert("target".to_owned(), target.into());
    object.insert("message".to_owned(), fields.message.into());
    for (name, value) in fields.others {
        object.entry(name).or_insert(value);
    }
    let mut line = plain_json(&Value::Object(object).to_string());
    line.pop();
    line
}

fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.contains(|c: char| c.is_whitespace() || is_obeyed(c) || c == '"' || c == '=')
}

/// A message's fields, each of bounded size.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = Cut::default();
        // The error after the cut stops the value's formatting.
        let _ = write!(text, "{value:?}");
        match field.name() {
            "message" => self.message = text.0,
            name => self.others.push((name, text.0.into())),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.others.push((field.name(), value.into()));
    }
}

/// Text that ends with `…` once it is too long.
#[derive(Default)]
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0 += text;
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0 += &text[..end];
        self.0.push('…');
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        for text in ["", "two words", "line\nbreak", "say \"hi\"", "a=b", "\u{202e}evil"] {
            assert!(needs_quotes(text), "{text:?}");
        }
        assert!(!needs_quotes("127.0.0.1:5432"));
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let mut text = Cut::default();
        assert!(write!(text, "x{}", "ü".repeat(LONGEST)).is_err());
        assert!(text.0.len() <= LONGEST + '…'.len_utf8());
        assert!(text.0.ends_with("ü…"));
    }

    #[test]
    fn closing_adds_the_repeats_only_if_there_are_any() {
        let console = Style::Console { colours: false };
        assert_eq!(console.close("a".to_owned(), 0), "a\n");
        assert_eq!(console.close("a".to_owned(), 3), "a repeats=3\n");
        assert_eq!(Style::Json.close("{\"a\":1".to_owned(), 0), "{\"a\":1}\n");
        assert_eq!(Style::Json.close("{\"a\":1".to_owned(), 3), "{\"a\":1,\"repeats\":3}\n");
    }
}
