//! The table that rows are written to: `log_records`, or an existing table.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::columns::COLUMNS;
use super::ddl::{LOG_RECORDS, copy_statement, copy_statement_into};
use super::decode::fields;
use super::identifier::Schema;
use super::mapping::{ColumnType, Mapping};
use super::row::EPOCH_2000;
use super::row_format::RowFormat;

/// The table that rows are written to.
#[derive(Clone, Debug)]
pub struct Destination {
    schema: Schema,
    mapping: Option<Arc<Mapping>>,
}

impl Destination {
    /// The table of `mapping`, or `log_records` in `schema`.
    pub fn new(schema: Schema, mapping: Option<Arc<Mapping>>) -> Self {
        Self { schema, mapping }
    }

    /// The mapping of the existing table, if it is one.
    pub fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.as_ref()
    }

    /// Its bare name.
    pub fn table(&self) -> &str {
        self.names().1
    }

    /// The names of its schema and of itself.
    pub fn names(&self) -> (&str, &str) {
        self.mapping.as_ref().map_or((self.schema.name(), LOG_RECORDS), |mapping| mapping.names())
    }

    /// Its name in dead letters; `None` for `log_records`.
    pub fn mark(&self) -> Option<String> {
        self.mapping.as_ref().map(|mapping| mapping.identifier())
    }

    /// The names of a row's fields.
    pub fn columns(&self) -> Vec<&str> {
        match &self.mapping {
            None => COLUMNS.iter().map(|column| column.name).collect(),
            Some(mapping) => mapping.columns().iter().map(|column| column.name.as_str()).collect(),
        }
    }

    /// The format of the rows that are made for it now.
    pub fn row_format(&self) -> RowFormat {
        let columns = match &self.mapping {
            None => COLUMNS.iter().map(|c| (c.name.to_owned(), c.sql_type.to_owned())).collect(),
            Some(mapping) => {
                mapping.columns().iter().map(|c| (c.name.clone(), c.sql_type.to_string())).collect()
            }
        };
        RowFormat { destination: self.mark(), columns }
    }

    /// `row` with the current time in each column that the record's time fills, and new generated ids.
    pub fn of_now(&self, row: &[u8]) -> Bytes {
        let Some(fields) = fields(row) else { return Bytes::copy_from_slice(row) };
        let mut of_now = row[..2].to_vec();
        for (index, field) in fields.into_iter().enumerate() {
            match (field, self.new_value(index)) {
                (None, _) => of_now.extend_from_slice(&(-1_i32).to_be_bytes()),
                (Some(_), Some(new)) => push_field(&mut of_now, &new),
                (Some(field), None) => push_field(&mut of_now, field),
            }
        }
        of_now.into()
    }

    /// The new value of column `index`, if it is a time or a generated id.
    fn new_value(&self, index: usize) -> Option<Vec<u8>> {
        let now = Timestamp::now();
        let Some(mapping) = &self.mapping else {
            let is_time = COLUMNS.get(index)?.name == "time";
            return if is_time { encoded(now, ColumnType::Timestamptz) } else { None };
        };
        let column = mapping.columns().get(index)?;
        match column.sql_type {
            sql_type if column.is_of_time() => encoded(now, sql_type),
            ColumnType::Uuid if column.is_made_up() => Some(Uuid::new_v4().as_bytes().to_vec()),
            ColumnType::Text(_) if column.is_made_up() => Some(Uuid::new_v4().to_string().into_bytes()),
            _ => None,
        }
    }

    /// The COPY statement for rows of `format`, which are of this table.
    pub fn copy_statement_of(&self, format: &RowFormat) -> String {
        let table = self.mark().unwrap_or_else(|| format!("{}.{LOG_RECORDS}", self.schema));
        copy_statement_into(&table, &format.names())
    }

    /// The COPY statement for its rows.
    pub fn copy_statement(&self) -> String {
        match &self.mapping {
            None => copy_statement(&self.schema),
            Some(mapping) => copy_statement_into(&mapping.identifier(), &self.columns()),
        }
    }
}

/// `time` as a field of this type; `None` if the type holds no time.
fn encoded(time: Timestamp, sql_type: ColumnType) -> Option<Vec<u8>> {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    let micros = time.as_microsecond() - EPOCH_2000;
    match sql_type {
        ColumnType::Timestamptz | ColumnType::Timestamp => Some(micros.to_be_bytes().to_vec()),
        ColumnType::Date => {
            i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok().map(|days| days.to_be_bytes().to_vec())
        }
        ColumnType::BigInt => {
            i64::try_from(time.as_nanosecond()).ok().map(|nanos| nanos.to_be_bytes().to_vec())
        }
        _ => None,
    }
}

fn push_field(row: &mut Vec<u8>, field: &[u8]) {
    row.extend_from_slice(&(field.len() as i32).to_be_bytes());
    row.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_now_differs_in_its_time_alone() {
        let destination = Destination::new(Schema::new("otel".to_owned()), None);
        let mut row = 3_i16.to_be_bytes().to_vec();
        push_field(&mut row, &0_i64.to_be_bytes());
        push_field(&mut row, &7_i64.to_be_bytes());
        row.extend_from_slice(&(-1_i32).to_be_bytes());
        let before = Timestamp::now().as_microsecond() - EPOCH_2000;
        let of_now = destination.of_now(&row);
        let time = i64::from_be_bytes(of_now[6..14].try_into().unwrap());
        assert!(time >= before && time <= Timestamp::now().as_microsecond() - EPOCH_2000);
        assert_eq!((&of_now[..6], &of_now[14..]), (&row[..6], &row[14..]));
        assert_eq!(destination.of_now(b"no row"), b"no row"[..]);
    }

    #[test]
    fn a_time_is_written_as_its_column_has_it() {
        let time: Timestamp = "1999-12-31T23:00:00Z".parse().unwrap();
        let encoded = |sql_type| encoded(time, sql_type);
        assert_eq!(encoded(ColumnType::Timestamp), Some((-3_600_000_000_i64).to_be_bytes().to_vec()));
        assert_eq!(encoded(ColumnType::Date), Some((-1_i32).to_be_bytes().to_vec()), "the day before 2000");
        assert_eq!(encoded(ColumnType::BigInt), Some(946_681_200_000_000_000_i64.to_be_bytes().to_vec()));
        assert_eq!(encoded(ColumnType::Boolean), None);
    }
}
