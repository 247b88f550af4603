//! Fills rows of a mapped table from records. Fields that all records of a scope share are written once and copied.

use std::sync::Arc;

use uuid::Uuid;

use super::config::Field;
use super::keys::{Found, Pair};
use super::types::ColumnType;
use super::value::{Value, cut_to, write};
use super::{Column, Mapping, Source};
use crate::otlp::value::AnyValue;
use crate::otlp::wire::Fields;
use crate::otlp::{InvalidId, LogRecord, Malformed};
use crate::table::interned::{Resource, Scope};
use crate::table::json;
use crate::table::layout::{Layout, Place};
use crate::table::row::RowWriter;
use crate::table::severity::Severity;
use crate::table::text::{Replaced, ReplacedKind};

/// Fills the rows of one request.
#[derive(Debug)]
pub(in crate::table) struct Filler<'m, 'a> {
    mapping: &'m Mapping,
    origin: Origin<'a>,
    found: Found<'a>,
    /// The fields that all records of the scope share, one after the other.
    shared: Vec<u8>,
    /// The end of each of them.
    ends: Vec<usize>,
    /// The values replaced in them, which count for each row.
    shared_replaced: Replaced,
    ids: Ids,
}

/// The resource and scope of records.
#[derive(Debug)]
struct Origin<'a> {
    resource: Found<'a>,
    scope: Found<'a>,
    /// The most bytes that the values of both become.
    values: usize,
    interned: Option<(Arc<Resource>, Arc<Scope>)>,
}

/// The sources of a row.
struct Given<'g, 'a> {
    origin: &'g Origin<'a>,
    found: &'g Found<'a>,
    record: &'g LogRecord<'a>,
    time: u64,
}

/// UUIDs of version 7: the time of arrival, then 74 random bits that are counted up within a request (RFC 9562, 6.2, method 2).
#[derive(Debug)]
struct Ids {
    millis: u64,
    next: u128,
}

/// The bytes of an empty key and an empty value.
const SMALLEST_ATTRIBUTE: usize = 2;

impl Mapping {
    /// The filler for the rows of a request that arrived at `arrival`.
    pub(in crate::table) fn filler<'a>(&self, arrival: u64) -> Filler<'_, 'a> {
        Filler {
            mapping: self,
            origin: Origin {
                resource: Found::none_of(&self.resource_keys),
                scope: Found::none_of(&self.scope_keys),
                values: 0,
                interned: None,
            },
            found: Found::none_of(&self.record_keys),
            shared: Vec::new(),
            ends: Vec::with_capacity(self.columns.len()),
            shared_replaced: Replaced::default(),
            ids: Ids { millis: arrival / 1_000_000, next: Uuid::new_v4().as_u128() },
        }
    }
}

impl<'a> Layout<'a> for Filler<'_, 'a> {
    const IS_OWN: bool = false;

    fn to_enter(&self, place: &Place<'a, '_>, attributes: usize) -> usize {
        let messages = place.resource_message.len() + place.scope_message.len();
        let attributes = (messages / SMALLEST_ATTRIBUTE).min(2 * attributes);
        // A vector that doubles exists twice while it is copied.
        3 * (attributes * size_of::<Pair<'_>>() + self.mapping.bounds.of_shared(place.values))
    }

    fn enter(&mut self, place: &Place<'a, '_>) -> Result<(), Malformed> {
        // A request may return to the same scope thousands of times.
        let is_last = |(resource, scope): &(Arc<Resource>, Arc<Scope>)| {
            Arc::ptr_eq(resource, place.resource) && Arc::ptr_eq(scope, place.scope)
        };
        if self.origin.interned.as_ref().is_some_and(is_last) {
            return Ok(());
        }
        let before = self.origin.interned.take();
        let Self { mapping, origin, found, shared, ends, shared_replaced, ids } = self;
        // A resource may have thousands of scopes.
        if !before.is_some_and(|(resource, _)| Arc::ptr_eq(&resource, place.resource)) {
            origin.resource.read(&mapping.resource_keys, messages(place.resource_message, 1)?)?;
        }
        origin.scope.read(&mapping.scope_keys, messages(place.scope_message, 3)?)?;
        origin.values = place.values;
        origin.interned = Some((place.resource.clone(), place.scope.clone()));
        found.read(&mapping.record_keys, [])?;
        shared.clear();
        ends.clear();
        *shared_replaced = Replaced::default();
        let none = LogRecord::default();
        let given = Given { origin, found, record: &none, time: 0 };
        for column in mapping.columns.iter().filter(|column| column.is_of_scope) {
            let mut row = RowWriter::at(shared, shared_replaced);
            given.fill(&mut row, mapping, column, ids)?;
            ends.push(shared.len());
        }
        Ok(())
    }

    fn fields(&self) -> usize {
        self.mapping.columns.len()
    }

    fn most(&self, values: usize) -> usize {
        2 + self.shared.len() + self.mapping.bounds.of_own(values, self.origin.values)
    }

    fn fill(&mut self, row: &mut RowWriter<'_>, record: &LogRecord<'a>, time: u64) -> Result<(), Malformed> {
        let Self { mapping, origin, found, shared, ends, shared_replaced, ids } = self;
        found.read(&mapping.record_keys, record.attributes.iter().copied())?;
        let given = Given { origin, found, record, time };
        let (mut start, mut ends) = (0, ends.iter());
        for column in &mapping.columns {
            if column.is_of_scope {
                let end = *ends.next().unwrap_or(&start);
                row.field(&shared[start..end]);
                start = end;
            } else {
                given.fill(row, mapping, column, ids)?;
            }
        }
        if !shared_replaced.is_empty() {
            *row.replaced() += *shared_replaced;
        }
        Ok(())
    }
}

impl<'a> Given<'_, 'a> {
    /// Writes the field of `column`.
    fn fill(
        &self,
        row: &mut RowWriter<'_>,
        mapping: &Mapping,
        column: &Column,
        ids: &mut Ids,
    ) -> Result<(), Malformed> {
        for source in &column.sources {
            let into = column.sql_type;
            let written = match source {
                Source::Group { .. } | Source::Rest => object(row, into, self.members(mapping, source))?,
                Source::All => Some(write_object(row, into, self.record.attributes.iter().copied())?),
                Source::Uuid => Some(write(row, into, Value::Uuid(ids.next()))?),
                source => match self.value(source) {
                    Some(value) if column.replace(row, value) => Some(true),
                    Some(value) => Some(write(row, into, value)?),
                    None => None,
                },
            };
            if let Source::Field(field) = source
                && field.is_invalid_id(self.record)
            {
                row.replaced().count(ReplacedKind::Id);
            }
            match written {
                Some(true) => return Ok(()),
                Some(false) => row.replaced().count(ReplacedKind::Type),
                None => {}
            }
        }
        match &column.default {
            Some(default) => row.field(default),
            None => row.null(),
        }
        Ok(())
    }

    /// The value of `source`, if there is one.
    fn value(&self, source: &Source) -> Option<Value<'_>> {
        match source {
            Source::Field(field) => self.field(*field),
            Source::Attribute(place) => self.found.value(*place).map(Value::Any),
            Source::Resource(place) => self.origin.resource.value(*place).map(Value::Any),
            Source::Scope(place) => self.origin.scope.value(*place).map(Value::Any),
            Source::Group { .. } | Source::Rest | Source::All | Source::Constant | Source::Uuid => None,
        }
    }

    fn field(&self, field: Field) -> Option<Value<'_>> {
        let record = self.record;
        let int = |number: i64| Some(Value::Any(AnyValue::Int(number)));
        let bytes = |text: &'a [u8]| (!text.is_empty()).then_some(Value::Any(AnyValue::String(text)));
        let text =
            |text: Option<&'static str>| text.map(|text| Value::Any(AnyValue::String(text.as_bytes())));
        let time = |nanos: u64| (nanos != 0).then_some(Value::Time(nanos));
        let id = |id: Result<Option<&'a [u8]>, InvalidId>| id.ok().flatten().map(Value::Id);
        let (resource, scope) = self.origin.interned.as_ref().map(|(r, s)| (&**r, &**s))?;
        fn own(text: &Option<String>) -> Option<Value<'_>> {
            text.as_deref().map(|text| Value::Any(AnyValue::String(text.as_bytes())))
        }
        match field {
            Field::Time | Field::TimeUnixNano => Some(Value::Time(self.time)),
            Field::ObservedTime | Field::ObservedTimeUnixNano => time(record.observed_time_unix_nano),
            Field::SeverityNumber => {
                Some(record.severity_number).filter(|&n| n != 0).and_then(|n| int(n.into()))
            }
            Field::SeverityText => bytes(record.severity_text),
            Field::Severity => text(Severity::from_number(record.severity_number).name()),
            Field::ServiceName => own(&resource.service_name),
            Field::Body => record.body.filter(|body| *body != AnyValue::Empty).map(Value::Any),
            Field::EventName => bytes(record.event_name),
            Field::TraceId => id(record.trace_id()),
            Field::SpanId => id(record.span_id()),
            // As in log_records, the highest of the 32 bits is the sign.
            Field::TraceFlags => int((record.flags as i32).into()),
            Field::DroppedAttributesCount => int(record.dropped_attributes_count.into()),
            // It is `Source::All`.
            Field::Attributes => None,
            Field::Resource => Some(Value::Json(&resource.attributes)),
            Field::ScopeAttributes => Some(Value::Json(&scope.attributes)),
            Field::ScopeName => own(&scope.name),
            Field::ScopeVersion => own(&scope.version),
            Field::ResourceSchemaUrl => own(&resource.schema_url),
            Field::ScopeSchemaUrl => own(&scope.schema_url),
        }
    }

    /// The attributes in the object of `source`.
    fn members(&self, mapping: &Mapping, source: &Source) -> impl Iterator<Item = &'a [u8]> {
        let (keys, patterns, is_rest) = match source {
            Source::Group { keys, patterns } => (&keys[..], &patterns[..], false),
            _ => (&[][..], &[][..], true),
        };
        let known = &mapping.record_keys;
        let is_member = move |pair: &Pair<'a>| {
            let key = pair.read.key;
            let is_in_group = || patterns.iter().any(|&place| known.pattern(place).matches(key));
            if is_rest { !known.has_pattern_for(key) } else { is_in_group() }
        };
        let named = keys.iter().filter_map(|&place| self.found.at(place));
        named.chain(self.found.others().filter(is_member)).map(|pair| pair.message)
    }
}

impl Field {
    fn is_invalid_id(self, record: &LogRecord<'_>) -> bool {
        match self {
            Self::TraceId => record.trace_id().is_err(),
            Self::SpanId => record.span_id().is_err(),
            _ => false,
        }
    }
}

impl Column {
    /// Writes the configuration's replacement for `value`, if it has one.
    fn replace(&self, row: &mut RowWriter<'_>, value: Value<'_>) -> bool {
        if self.map.is_empty() {
            return false;
        }
        let mut digits = itoa::Buffer::new();
        let text = match value {
            Value::Any(AnyValue::String(text)) => text,
            Value::Any(AnyValue::Int(number)) => digits.format(number).as_bytes(),
            Value::Any(AnyValue::Bool(true)) => b"true",
            Value::Any(AnyValue::Bool(false)) => b"false",
            _ => return false,
        };
        let Some((_, field)) = self.map.iter().find(|(from, _)| from == text) else { return false };
        row.field(field);
        true
    }
}

impl Ids {
    fn next(&mut self) -> Uuid {
        const LOWER: u128 = (1 << 62) - 1;
        let (upper, lower) = (self.next >> 62 & 0xfff, self.next & LOWER);
        self.next = self.next.wrapping_add(1);
        Uuid::from_u128(u128::from(self.millis) << 80 | 7 << 76 | upper << 64 | 2 << 62 | lower)
    }
}

/// Writes the object of `members`; `None` if there are none.
fn object<'a>(
    row: &mut RowWriter<'_>,
    into: ColumnType,
    members: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<bool>, Malformed> {
    let mut members = members.peekable();
    if members.peek().is_none() {
        return Ok(None);
    }
    write_object(row, into, members).map(Some)
}

fn write_object<'a>(
    row: &mut RowWriter<'_>,
    into: ColumnType,
    members: impl Iterator<Item = &'a [u8]>,
) -> Result<bool, Malformed> {
    match into {
        ColumnType::Jsonb => row.jsonb_object(members)?,
        ColumnType::Json => row.sized_by(|out, replaced| json::push_object(out, members, replaced))?,
        ColumnType::Text(width) => {
            cut_to(row, width, |out, replaced| json::push_object(out, members, replaced))?
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The messages of the repeated field `number`.
fn messages(message: &[u8], number: u32) -> Result<Vec<&[u8]>, Malformed> {
    let (mut fields, mut found) = (Fields::new(message), Vec::new());
    while let Some((at, field)) = fields.next_field()? {
        if at == number {
            found.push(field.bytes()?);
        }
    }
    Ok(found)
}
