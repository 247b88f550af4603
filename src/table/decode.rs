//! Decodes rows of binary COPY, for readers of dead letters, and for the ids in a row.
//!
//! Reading never fails for a value. The lengths alone separate the fields, and each is read by the type that [`COLUMNS`] or the
//! caller has for its name; a value that cannot be read stays bytes.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::columns::COLUMNS;
use super::interned::Id;
use super::mapping::ColumnType;
use super::row::{EPOCH_2000, JSONB_VERSION};

/// A row with the names of its fields. It serializes as a map.
#[derive(Debug)]
pub struct Record<'a> {
    fields: Vec<(&'a str, Value<'a>)>,
}

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A timestamptz or timestamp.
    Time(Timestamp),
    /// A date.
    Date(Date),
    /// A smallint, integer or bigint.
    Integer(i64),
    /// A real or double precision.
    Double(f64),
    /// A boolean.
    Bool(bool),
    /// The address of an inet.
    Address(IpAddr),
    /// A uuid.
    Uuid(Uuid),
    /// A bytea.
    Bytes(&'a [u8]),
    /// A text.
    Text(&'a str),
    /// A json or jsonb, as the text that it was sent as.
    Json(&'a RawValue),
    /// Bytes that are no value of the column's type, or of an unknown column.
    Unreadable(&'a [u8]),
}

/// The fields of `row`, `None` for NULL; or `None` if the bytes are not exactly one row.
pub fn fields(row: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (count, mut rest) = row.split_first_chunk()?;
    let count = usize::try_from(i16::from_be_bytes(*count)).ok()?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, behind) = rest.split_first_chunk()?;
        let (field, behind) = match i32::from_be_bytes(*length) {
            -1 => (None, behind),
            length => {
                let (field, behind) = behind.split_at_checked(usize::try_from(length).ok()?)?;
                (Some(field), behind)
            }
        };
        fields.push(field);
        rest = behind;
    }
    rest.is_empty().then_some(fields)
}

/// The id of the resource that a row of [`COLUMNS`] names.
pub fn resource_id(row: &[u8]) -> Option<Id> {
    id_in(row, "resource_id")
}

/// The id of the scope that a row of [`COLUMNS`] names.
pub fn scope_id(row: &[u8]) -> Option<Id> {
    id_in(row, "scope_id")
}

fn id_in(row: &[u8], column: &str) -> Option<Id> {
    id_at(row, COLUMNS.iter().position(|known| known.name == column)?)
}

/// The id in the field `index` of a row.
pub fn id_at(row: &[u8], index: usize) -> Option<Id> {
    fields(row)?.get(index).copied()??.try_into().ok()
}

impl<'a> Record<'a> {
    /// Reads `row` of `log_records`, whose fields have these `names`; `None` if the bytes are not one row of so many fields.
    pub fn read(row: &'a [u8], names: &'a [String]) -> Option<Self> {
        Self::read_by(row, names, |name| {
            COLUMNS.iter().find(|column| column.name == name).and_then(|column| column.sql_type.parse().ok())
        })
    }

    /// The same for another table, whose columns have these types.
    pub fn read_by(
        row: &'a [u8],
        names: &'a [String],
        type_of: impl Fn(&str) -> Option<ColumnType>,
    ) -> Option<Self> {
        let fields = fields(row).filter(|fields| fields.len() == names.len())?;
        let named =
            names.iter().zip(fields).map(|(name, field)| (name.as_str(), Value::read(type_of(name), field)));
        Some(Self { fields: named.collect() })
    }

    /// The fields, each with its name.
    pub fn fields(&self) -> &[(&'a str, Value<'a>)] {
        &self.fields
    }

    /// The value of the field `name`; NULL if there is no such field.
    pub fn get(&self, name: &str) -> Value<'a> {
        self.fields.iter().find(|(known, _)| *known == name).map_or(Value::Null, |(_, value)| *value)
    }
}

impl<'a> Value<'a> {
    fn read(sql_type: Option<ColumnType>, field: Option<&'a [u8]>) -> Self {
        let Some(bytes) = field else { return Self::Null };
        let value = sql_type.and_then(|sql_type| match sql_type {
            ColumnType::Timestamptz | ColumnType::Timestamp => time(bytes).map(Self::Time),
            ColumnType::Date => date(bytes).map(Self::Date),
            ColumnType::BigInt => fixed(bytes).map(|bytes| Self::Integer(i64::from_be_bytes(bytes))),
            ColumnType::Integer => fixed(bytes).map(|bytes| Self::Integer(i32::from_be_bytes(bytes).into())),
            ColumnType::SmallInt => fixed(bytes).map(|bytes| Self::Integer(i16::from_be_bytes(bytes).into())),
            ColumnType::Double => fixed(bytes).map(|bytes| Self::Double(f64::from_be_bytes(bytes))),
            ColumnType::Real => fixed(bytes).map(|bytes| Self::Double(f32::from_be_bytes(bytes).into())),
            ColumnType::Boolean => fixed(bytes).map(|[byte]| Self::Bool(byte != 0)),
            ColumnType::Uuid => Uuid::from_slice(bytes).ok().map(Self::Uuid),
            ColumnType::Bytea => Some(Self::Bytes(bytes)),
            ColumnType::Text(_) => std::str::from_utf8(bytes).ok().map(Self::Text),
            ColumnType::Json => serde_json::from_slice(bytes).ok().map(Self::Json),
            ColumnType::Jsonb => json(bytes).map(Self::Json),
            ColumnType::Inet => address(bytes).map(Self::Address),
        });
        value.unwrap_or(Self::Unreadable(bytes))
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn date(bytes: &[u8]) -> Option<Date> {
    let since_2000 = i32::from_be_bytes(fixed(bytes)?);
    jiff::civil::date(2000, 1, 1).checked_add(jiff::Span::new().try_days(since_2000).ok()?).ok()
}

/// The address follows family, bits, a flag and a length.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let bytes = bytes.get(4..)?;
    fixed::<4>(bytes).map(IpAddr::from).or_else(|| fixed::<16>(bytes).map(IpAddr::from))
}

fn time(bytes: &[u8]) -> Option<Timestamp> {
    let since_2000 = i64::from_be_bytes(bytes.try_into().ok()?);
    Timestamp::from_microsecond(since_2000.checked_add(EPOCH_2000)?).ok()
}

fn json(bytes: &[u8]) -> Option<&RawValue> {
    let text = bytes.strip_prefix(&[JSONB_VERSION])?;
    serde_json::from_slice(text).ok()
}

/// `bytes` in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const_hex::encode(bytes)
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Time(time) => serializer.collect_str(time),
            Self::Date(date) => serializer.collect_str(date),
            Self::Integer(number) => serializer.serialize_i64(*number),
            // JSON has no NaN and no infinities; they are text.
            Self::Double(number) if !number.is_finite() => serializer.collect_str(number),
            Self::Double(number) => serializer.serialize_f64(*number),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Address(address) => serializer.collect_str(address),
            Self::Uuid(id) => serializer.collect_str(id),
            Self::Bytes(bytes) => serializer.serialize_str(&hex(bytes)),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Json(json) => json.serialize(serializer),
            Self::Unreadable(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &hex(bytes))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A row of these fields.
    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut row = (fields.len() as i16).to_be_bytes().to_vec();
        for field in fields {
            row.extend(field.map_or(-1, |field| field.len() as i32).to_be_bytes());
            row.extend(field.unwrap_or_default());
        }
        row
    }

    fn as_json(row: &[u8], names: &[&str]) -> Option<String> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        Record::read(row, &names).map(|record| serde_json::to_string(&record).unwrap())
    }

    #[test]
    fn each_type_is_read_by_the_name_of_its_column() {
        let id: Vec<u8> = (0..16).collect();
        let fields: [(&str, Option<&[u8]>, &str); 9] = [
            ("time", Some(&(-EPOCH_2000).to_be_bytes()), r#""1970-01-01T00:00:00Z""#),
            ("time_unix_nano", Some(&(-2i64).to_be_bytes()), "-2"),
            ("trace_flags", Some(&i32::MIN.to_be_bytes()), "-2147483648"),
            ("severity_number", Some(&17i16.to_be_bytes()), "17"),
            ("resource_id", Some(&id), r#""00010203-0405-0607-0809-0a0b0c0d0e0f""#),
            ("trace_id", Some(&id), r#""000102030405060708090a0b0c0d0e0f""#),
            ("body", Some("grüße\n".as_bytes()), r#""grüße\n""#),
            ("attributes", Some(b"\x01{\"a\": 1e300}"), r#"{"a": 1e300}"#),
            ("span_id", None, "null"),
        ];
        let names = fields.map(|(name, ..)| name);
        let pairs = fields.map(|(name, _, json)| format!("\"{name}\":{json}"));
        let read = as_json(&row(&fields.map(|(_, field, _)| field)), &names);
        assert_eq!(read, Some(format!("{{{}}}", pairs.join(","))));
    }

    #[test]
    fn what_cannot_be_read_as_its_type_is_shown_as_bytes() {
        for (name, field) in [
            ("time", &b"\x01"[..]),
            ("time", &i64::MAX.to_be_bytes()),
            ("time_unix_nano", b"123"),
            ("severity_number", b""),
            ("resource_id", b"short"),
            ("body", b"\xff"),
            ("attributes", b"{}"),
            ("attributes", b"\x01{"),
            ("attributes", b"\x02{}"),
            ("a column of later", b"x"),
        ] {
            let expected = format!("{{\"{name}\":{{\"hex\":\"{}\"}}}}", hex(field));
            assert_eq!(as_json(&row(&[Some(field)]), &[name]), Some(expected), "{name} {field:?}");
        }
    }

    #[test]
    fn what_is_not_one_row_of_these_columns_is_not_read() {
        let whole = row(&[Some(b"body"), None]);
        assert!(as_json(&whole, &["body", "event_name"]).is_some());
        assert!(as_json(&whole, &["body"]).is_none(), "more fields than names");
        assert!(as_json(&[&whole[..], &[0]].concat(), &["body", "event_name"]).is_none(), "bytes behind it");
        for end in 0..whole.len() {
            assert!(fields(&whole[..end]).is_none(), "cut at {end}");
        }
        assert!(fields(&[0xff, 0xff]).is_none(), "the trailer");
        assert!(fields(&[0, 1, 0xff, 0xff, 0xff, 0xfe]).is_none(), "a length below NULL's");
    }

    proptest! {
        #[test]
        fn any_fields_are_read_again_each_by_its_name(
            given in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)), 0..9),
            first in 0..COLUMNS.len(),
        ) {
            let given: Vec<_> = given.iter().map(Option::as_deref).collect();
            let made = row(&given);
            prop_assert_eq!(fields(&made), Some(given.clone()));
            let names = COLUMNS.iter().cycle().skip(first).take(given.len());
            let names: Vec<_> = names.map(|column| column.name.to_owned()).collect();
            let record = serde_json::to_string(&Record::read(&made, &names)).unwrap();
            let shown: BTreeMap<String, &RawValue> = serde_json::from_str(&record).unwrap();
            prop_assert_eq!(shown.len(), given.len());
            for (name, field) in names.iter().zip(given) {
                prop_assert!(field.is_some() || shown[name].get() == "null", "{} of {}", name, record);
            }
        }

        #[test]
        fn any_bytes_are_one_row_or_none(count in 0..4i16, bytes in proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..60)) {
            let bytes = [&count.to_be_bytes()[..], &bytes].concat();
            let found = fields(&bytes);
            prop_assert_eq!(found.as_ref().map_or(0, Vec::len), found.as_ref().map_or(0, |_| count as usize));
            prop_assert!(found.is_none_or(|found| row(&found) == bytes));
            prop_assert!(resource_id(&bytes).is_none(), "there are fewer columns than to that one");
        }
    }
}
