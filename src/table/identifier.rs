//! Quotes SQL identifiers and strings.

use std::fmt;

/// The schema of forebay's tables. It displays quoted, ready for a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(String);

impl Schema {
    /// The schema called `name`, which may have any characters.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The bare name, for catalogue queries.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.0))
    }
}

/// `name` as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL string literal.
pub fn literal(text: &str) -> String {
    // E'' makes the backslash rule independent of standard_conforming_strings.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_cannot_end_the_identifier() {
        assert_eq!(Schema::new("otel").to_string(), r#""otel""#);
        assert_eq!(Schema::new(r#"a"; drop table x; --"#).to_string(), r#""a""; drop table x; --""#);
    }

    #[test]
    fn a_quote_cannot_end_the_literal() {
        assert_eq!(literal(r"it's \"), r"E'it''s \\'");
    }
}
