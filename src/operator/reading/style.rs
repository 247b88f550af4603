//! How records are shown.

use super::line::{Look, Record};
use crate::postgres::Row;
use crate::values::plain::plain_json;

/// How records are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line each for people, or several if the body has several.
    Lines(Look),
    /// One JSON object a line, with all columns of the view.
    Json,
}

impl Style {
    /// The columns to select from the view, whose alias is `l`.
    pub(super) fn columns(&self) -> &'static str {
        match self {
            Self::Lines(_) => Record::COLUMNS,
            Self::Json => "row_to_json(l)::text",
        }
    }

    /// The text of `rows` with these columns.
    pub(super) fn show(&self, rows: &[Row]) -> String {
        let mut text = String::new();
        for row in rows {
            match self {
                Self::Lines(look) => Record::from(row).write(look, &mut text),
                Self::Json => {
                    text += &plain_json(row.get(0));
                    text.push('\n');
                }
            }
        }
        text
    }
}
