//! Limits on the structure of a request. The size of a request alone does not bound its cost: two bytes of protobuf can be an
//! attribute, a resource or a record.
//!
//! The limits are far above the requests of OpenTelemetry's SDKs and Collectors. A record beyond a limit is refused alone; a
//! request with too many resources or scopes is refused as a whole.

use super::value::{AnyValue, Items, KeyValue};
use super::wire::{Fields, Malformed};

/// The limits on the structure of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `ResourceLogs` in a request.
    pub resources: usize,
    /// `ScopeLogs` in a request.
    pub scopes: usize,
    /// Bytes of a `Resource` or `InstrumentationScope` message and its schema URL.
    pub resource_bytes: usize,
    /// Attributes of a resource or a scope.
    pub resource_attributes: usize,
    /// Bytes of a `LogRecord` message.
    pub record_bytes: usize,
    /// Attributes of a record, and entries of any map in its values.
    pub attributes: usize,
    /// Elements of arrays and entries of maps in all values of a record, resource or scope together.
    pub elements: usize,
    /// Bytes of a key.
    pub key_bytes: usize,
}

/// The limit that a request or a part of it exceeds. It displays as its key below `receivers.otlp.admission`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case", prefix = "max_")]
pub enum Limit {
    /// [`Limits::resources`].
    Resources,
    /// [`Limits::scopes`].
    Scopes,
    /// [`Limits::resource_bytes`].
    ResourceBytes,
    /// [`Limits::resource_attributes`].
    ResourceAttributes,
    /// [`Limits::record_bytes`].
    RecordBytes,
    /// [`Limits::attributes`].
    Attributes,
    /// [`Limits::elements`].
    Elements,
    /// [`Limits::key_bytes`].
    KeyBytes,
}

/// Why a request, or a part of it, is refused permanently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is not OTLP.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It exceeds a limit on structure.
    #[error("more {} than `receivers.otlp.admission.{}` allows", .0.subject(), .0)]
    TooComplex(Limit),
}

/// The structure of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    /// Attributes of the message itself.
    pub attributes: usize,
    /// Elements of arrays and entries of maps in all of its values.
    pub elements: usize,
}

/// Deeper values are not counted: they are never stored, because storing stops at a smaller depth.
const DEEPEST: usize = 100;
/// A message of so few bytes takes little memory, whatever its structure.
const SMALL: usize = 4096;
/// The fewest bytes on the wire of an attribute, an element or an entry.
const SMALLEST: usize = 2;

impl Default for Limits {
    fn default() -> Self {
        Self {
            resources: 10_000,
            scopes: 10_000,
            resource_bytes: 512 << 10,
            resource_attributes: 1024,
            record_bytes: 4 << 20,
            attributes: 4096,
            elements: 65_536,
            key_bytes: 4096,
        }
    }
}

impl Limit {
    fn subject(self) -> &'static str {
        match self {
            Self::Resources => "resources in a request",
            Self::Scopes => "scopes in a request",
            Self::ResourceBytes => "bytes in a resource or scope",
            Self::ResourceAttributes => "attributes of a resource or scope",
            Self::RecordBytes => "bytes in a record",
            Self::Attributes => "attributes of a record or entries of a map",
            Self::Elements => "elements in the values of a record",
            Self::KeyBytes => "bytes in a key",
        }
    }
}

impl Limits {
    /// A record of at most so many bytes is within all limits, whatever its structure.
    pub(crate) fn harmless_bytes(&self) -> usize {
        let structure = SMALLEST * self.attributes.min(self.elements);
        structure.min(self.key_bytes).min(self.record_bytes).min(SMALL)
    }

    /// Checks a `LogRecord` message; returns its structure.
    ///
    /// # Errors
    ///
    /// The first limit that it exceeds, or the first part that is not OTLP.
    pub(crate) fn check_record(&self, message: &[u8]) -> Result<Structure, Invalid> {
        within(message.len(), self.record_bytes, Limit::RecordBytes)?;
        let mut count = Count { limits: self, found: Structure::default() };
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next_field()? {
            match number {
                5 => count.value(AnyValue::read(field.bytes()?)?, 0)?,
                6 => count.attribute(field.bytes()?, self.attributes, Limit::Attributes)?,
                _ => {}
            }
        }
        Ok(count.found)
    }

    /// Checks a `Resource` message, whose attributes are field 1, or an `InstrumentationScope`, whose attributes are field 3;
    /// returns its structure.
    ///
    /// # Errors
    ///
    /// As for [`Limits::check_record`].
    pub(crate) fn check_origin(
        &self,
        message: &[u8],
        schema_url: &[u8],
        attributes: u32,
    ) -> Result<Structure, Invalid> {
        within(message.len() + schema_url.len(), self.resource_bytes, Limit::ResourceBytes)?;
        let mut count = Count { limits: self, found: Structure::default() };
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next_field()? {
            if number == attributes {
                count.attribute(field.bytes()?, self.resource_attributes, Limit::ResourceAttributes)?;
            }
        }
        Ok(count.found)
    }
}

/// The structure of a message so far.
struct Count<'a> {
    limits: &'a Limits,
    found: Structure,
}

impl Count<'_> {
    fn attribute(&mut self, message: &[u8], most: usize, limit: Limit) -> Result<(), Invalid> {
        self.found.attributes += 1;
        within(self.found.attributes, most, limit)?;
        self.pair(message, 0)
    }

    fn pair(&mut self, message: &[u8], depth: usize) -> Result<(), Invalid> {
        let pair = KeyValue::read(message)?;
        within(pair.key.len(), self.limits.key_bytes, Limit::KeyBytes)?;
        self.value(pair.value, depth)
    }

    /// `depth` is the number of arrays and maps around `value`, and the bound of the recursion.
    fn value(&mut self, value: AnyValue<'_>, depth: usize) -> Result<(), Invalid> {
        let (message, is_map) = match value {
            AnyValue::Array(message) => (message, false),
            AnyValue::Map(message) => (message, true),
            _ => return Ok(()),
        };
        if depth == DEEPEST {
            return Ok(());
        }
        let mut items = Items::of(message);
        let mut entries = 0;
        while let Some(item) = items.next_item()? {
            entries += 1;
            self.found.elements += 1;
            within(self.found.elements, self.limits.elements, Limit::Elements)?;
            if is_map {
                within(entries, self.limits.attributes, Limit::Attributes)?;
                self.pair(item, depth + 1)?;
            } else {
                self.value(AnyValue::read(item)?, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Checks `found` against `most`.
pub(super) fn within(found: usize, most: usize, limit: Limit) -> Result<(), Invalid> {
    if found > most { Err(Invalid::TooComplex(limit)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::messages::any_value::Value;
    use super::super::messages::{
        AnyValue as ValueMessage, ArrayValue, InstrumentationScope, KeyValue as PairMessage, KeyValueList,
        LogRecord, Resource,
    };
    use super::*;

    const LIMITS: Limits = Limits {
        resources: 2,
        scopes: 3,
        resource_bytes: 60,
        resource_attributes: 4,
        record_bytes: 100,
        attributes: 5,
        elements: 6,
        key_bytes: 7,
    };

    fn pair(key: &str, value: Option<Value>) -> PairMessage {
        PairMessage { key: key.into(), value: Some(ValueMessage { value }) }
    }

    fn array(values: Vec<Value>) -> Value {
        let values = values.into_iter().map(|value| ValueMessage { value: Some(value) }).collect();
        Value::ArrayValue(ArrayValue { values })
    }

    fn record(body: Option<Value>, attributes: Vec<PairMessage>) -> Vec<u8> {
        let body = Some(ValueMessage { value: body });
        LogRecord { body, attributes, ..Default::default() }.encode_to_vec()
    }

    /// The number of attributes, or the limit that was exceeded.
    fn found(checked: Result<Structure, Invalid>) -> Result<usize, Limit> {
        checked.map(|found| found.attributes).map_err(|invalid| match invalid {
            Invalid::TooComplex(limit) => limit,
            Invalid::Malformed(malformed) => panic!("{malformed}"),
        })
    }

    #[test]
    fn each_limit_of_a_record_is_met_at_the_limit_and_refused_beyond() {
        let ints = |count| vec![Value::IntValue(1); count];
        let map = |count| Value::KvlistValue(KeyValueList { values: vec![pair("", None); count] });
        let nested = |one, other| array(vec![array(ints(one)), array(ints(other))]);
        let text = |bytes: usize| Some(Value::StringValue("x".repeat(bytes)));
        let attributes = |count| vec![pair("a", None); count];
        for (record, expected) in [
            (record(None, attributes(5)), Ok(5)),
            (record(None, attributes(6)), Err(Limit::Attributes)),
            (record(Some(map(5)), vec![]), Ok(0)),
            (record(Some(map(6)), vec![]), Err(Limit::Attributes)),
            (record(Some(array(ints(6))), vec![]), Ok(0)),
            (record(Some(array(ints(7))), vec![]), Err(Limit::Elements)),
            (record(Some(nested(2, 2)), vec![]), Ok(0)),
            (record(Some(nested(2, 3)), vec![]), Err(Limit::Elements)),
            (record(Some(array(ints(3))), vec![pair("a", Some(array(ints(3))))]), Ok(1)),
            (record(Some(array(ints(3))), vec![pair("a", Some(array(ints(4))))]), Err(Limit::Elements)),
            (record(None, vec![pair("1234567", None)]), Ok(1)),
            (record(None, vec![pair("12345678", None)]), Err(Limit::KeyBytes)),
            (record(text(96), vec![]), Ok(0)),
            (record(text(97), vec![]), Err(Limit::RecordBytes)),
        ] {
            assert_eq!(found(LIMITS.check_record(&record)), expected, "{record:?}");
        }
    }

    #[test]
    fn each_limit_of_a_resource_and_a_scope_is_met_at_the_limit_and_refused_beyond() {
        let attributes = |count| vec![pair("a", None); count];
        let resource =
            |count| Resource { attributes: attributes(count), ..Default::default() }.encode_to_vec();
        let scope = |count| {
            InstrumentationScope { attributes: attributes(count), ..Default::default() }.encode_to_vec()
        };
        for (message, field) in [(&resource as &dyn Fn(usize) -> Vec<u8>, 1), (&scope, 3)] {
            assert_eq!(found(LIMITS.check_origin(&message(4), &[], field)), Ok(4));
            let beyond = LIMITS.check_origin(&message(5), &[], field);
            assert_eq!(found(beyond), Err(Limit::ResourceAttributes));
            let url = vec![b'u'; 60 - message(4).len()];
            assert_eq!(found(LIMITS.check_origin(&message(4), &url, field)), Ok(4));
            let beyond = LIMITS.check_origin(&message(4), &[&url[..], b"u"].concat(), field);
            assert_eq!(found(beyond), Err(Limit::ResourceBytes));
        }
    }

    #[test]
    fn what_is_harmless_is_within_all_limits() {
        let harmless = LIMITS.harmless_bytes();
        assert_eq!(harmless, 7, "by the shortest of them");
        let least = record(None, vec![])[..].to_vec();
        assert!(least.len() <= harmless && LIMITS.check_record(&least).is_ok());
        // An empty attribute has two bytes, so that these are as many as fit.
        let attributes = [0x32, 0].repeat(Limits::default().harmless_bytes() / 2);
        assert_eq!(found(Limits::default().check_record(&attributes)), Ok(2048));
    }

    #[test]
    fn nesting_without_end_is_walked_to_a_depth() {
        let mut value = Value::IntValue(1);
        for _ in 0..1000 {
            value = array(vec![value]);
        }
        assert_eq!(found(Limits::default().check_record(&record(Some(value), vec![]))), Ok(0));
    }
}
