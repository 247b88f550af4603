//! The types of mapped columns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::values::scalar::{self, Scalar, Words};

/// The type of a mapped column, as far as it affects the bytes of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `text`, or with a width in characters `varchar(n)` and `char(n)`, whose bytes are the same.
    Text(Option<u32>),
    /// `smallint`.
    SmallInt,
    /// `integer`.
    Integer,
    /// `bigint`.
    BigInt,
    /// `real`.
    Real,
    /// `double precision`.
    Double,
    /// `boolean`.
    Boolean,
    /// `timestamptz`.
    Timestamptz,
    /// `timestamp`, in UTC.
    Timestamp,
    /// `date`, in UTC.
    Date,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `uuid`.
    Uuid,
    /// `bytea`.
    Bytea,
    /// `inet`.
    Inet,
}

/// The names of the types without a width: the displayed one first, then PostgreSQL's others.
const NAMES: &[(ColumnType, &[&str])] = &[
    (ColumnType::Text(None), &["text", "varchar", "character varying", "citext"]),
    (ColumnType::SmallInt, &["smallint", "int2"]),
    (ColumnType::Integer, &["integer", "int", "int4"]),
    (ColumnType::BigInt, &["bigint", "int8"]),
    (ColumnType::Real, &["real", "float4"]),
    (ColumnType::Double, &["double precision", "float8", "float"]),
    (ColumnType::Boolean, &["boolean", "bool"]),
    (ColumnType::Timestamptz, &["timestamptz", "timestamp with time zone"]),
    (ColumnType::Timestamp, &["timestamp", "timestamp without time zone"]),
    (ColumnType::Date, &["date"]),
    (ColumnType::Json, &["json"]),
    (ColumnType::Jsonb, &["jsonb"]),
    (ColumnType::Uuid, &["uuid"]),
    (ColumnType::Bytea, &["bytea"]),
    (ColumnType::Inet, &["inet"]),
];

/// The text is no such type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {0:?}, expected varchar(n) or one of {names}", names = names())]
pub struct UnknownType(String);

impl ColumnType {
    /// Whether a column of this type holds every value of `stated`, from the same bytes.
    pub fn holds(self, stated: ColumnType) -> bool {
        match (self, stated) {
            (Self::Text(None), Self::Text(_) | Self::Json) => true,
            (Self::Text(Some(live)), Self::Text(Some(stated))) => stated <= live,
            (live, stated) => live == stated,
        }
    }

    /// Whether a JSON object can stand in it.
    pub(super) fn holds_objects(self) -> bool {
        matches!(self, Self::Json | Self::Jsonb | Self::Text(_))
    }
}

impl FromStr for ColumnType {
    type Err = UnknownType;

    /// Reads a type in PostgreSQL's spelling or its usual names. PostgreSQL handles the precision of times.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(text.to_owned());
        let name = text.trim().to_lowercase();
        let (name, width) = match name.split_once('(') {
            None => (name, None),
            Some((before, rest)) => {
                let (width, behind) = rest.split_once(')').ok_or_else(unknown)?;
                let name = format!("{} {}", before.trim_end(), behind.trim()).trim_end().to_owned();
                (name, Some(width.trim().parse::<u32>().map_err(|_| unknown())?))
            }
        };
        let known = NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(known, _)| *known);
        match (name.as_str(), known, width) {
            ("varchar" | "character varying", _, Some(width)) if width > 0 => Ok(Self::Text(Some(width))),
            ("char" | "character", _, width @ (None | Some(1..))) => Ok(Self::Text(width.or(Some(1)))),
            (_, Some(known), None) => Ok(known),
            (_, Some(known @ (Self::Timestamptz | Self::Timestamp)), Some(_)) => Ok(known),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMES.iter().find(|(known, _)| known == self)) {
            (Self::Text(Some(width)), _) => write!(f, "varchar({width})"),
            (_, Some((_, names))) => f.write_str(names[0]),
            (_, None) => unreachable!("each type without a width has names"),
        }
    }
}

fn names() -> String {
    NAMES.iter().map(|(_, names)| names[0]).collect::<Vec<_>>().join(", ")
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for ColumnType {
    fn expected() -> Words {
        format!("varchar(n) or one of {}", names()).into()
    }

    fn parse(text: &str) -> Result<Self, Words> {
        text.parse().map_err(|UnknownType(_)| Self::expected())
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::read_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written_and_as_postgresql_shows_them() {
        for (text, shown) in [
            ("varchar(64)", "varchar(64)"),
            ("character varying(64)", "varchar(64)"),
            ("Character Varying", "text"),
            ("character(8)", "varchar(8)"),
            ("char", "varchar(1)"),
            ("timestamp(3) with time zone", "timestamptz"),
            ("timestamp without time zone", "timestamp"),
            ("double precision", "double precision"),
            (" INT ", "integer"),
        ] {
            assert_eq!(text.parse::<ColumnType>().map(|found| found.to_string()), Ok(shown.to_owned()));
            assert_eq!(shown.parse::<ColumnType>(), text.parse::<ColumnType>());
        }
        for text in
            ["", "numeric", "text(3)", "integer(4)", "varchar(0)", "varchar(x)", "varchar(3", "text[]"]
        {
            assert_eq!(text.parse::<ColumnType>(), Err(UnknownType(text.to_owned())));
        }
    }

    #[test]
    fn a_wider_column_holds_what_is_stated_and_a_narrower_one_does_not() {
        let read = |text: &str| text.parse::<ColumnType>().unwrap();
        for (live, stated, holds) in [
            ("text", "varchar(9)", true),
            ("text", "json", true),
            ("varchar(10)", "varchar(9)", true),
            ("varchar(8)", "varchar(9)", false),
            ("varchar(8)", "text", false),
            ("bigint", "integer", false),
            ("jsonb", "json", false),
            ("uuid", "uuid", true),
        ] {
            assert_eq!(read(live).holds(read(stated)), holds, "{stated} into {live}");
        }
    }
}
