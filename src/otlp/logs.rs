//! The nesting of an `ExportLogsServiceRequest` and the fields of a `LogRecord`, borrowed from the wire.
//!
//! If the wire repeats a field that OTLP has once, the last one counts. Protobuf would merge repeated messages instead, but no
//! OTLP encoder produces them.

use super::limits::{Invalid, Limit, Limits, within};
use super::value::AnyValue;
use super::wire::{Fields, Malformed};

/// One `ResourceLogs`: a sender and what it sent.
#[derive(Clone, Copy, Debug)]
pub struct ResourceLogs<'a> {
    /// The `Resource` message; empty if absent.
    pub resource: &'a [u8],
    /// Its schema URL.
    pub schema_url: &'a [u8],
    pub(super) message: &'a [u8],
}

/// One `ScopeLogs`: an instrumentation scope and its records.
#[derive(Clone, Copy, Debug)]
pub struct ScopeLogs<'a> {
    /// The `InstrumentationScope` message; empty if absent.
    pub scope: &'a [u8],
    /// Its schema URL.
    pub schema_url: &'a [u8],
    pub(super) message: &'a [u8],
}

/// The fields of one `LogRecord`. Absent fields have protobuf's defaults.
#[derive(Clone, Debug, Default)]
pub struct LogRecord<'a> {
    /// Nanoseconds since 1970; 0 is unknown.
    pub time_unix_nano: u64,
    /// Nanoseconds since 1970; 0 is unknown.
    pub observed_time_unix_nano: u64,
    /// 1 (TRACE) to 24 (FATAL4); 0 is unspecified. Senders may send any number.
    pub severity_number: i32,
    /// The severity as the source names it.
    pub severity_text: &'a [u8],
    /// The body; `None` if absent, which differs from an empty one.
    pub body: Option<AnyValue<'a>>,
    /// The `KeyValue` messages of the attributes.
    pub attributes: Vec<&'a [u8]>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// W3C trace flags in the lowest eight bits.
    pub flags: u32,
    /// As it was sent; [`LogRecord::trace_id`] checks it.
    pub trace_id: &'a [u8],
    /// As it was sent; [`LogRecord::span_id`] checks it.
    pub span_id: &'a [u8],
    /// The event's name; empty if the record is no event.
    pub event_name: &'a [u8],
}

/// An id whose length is not OTLP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

/// The `ResourceLogs` of a request.
pub fn resource_logs(request: &[u8]) -> impl Iterator<Item = Result<ResourceLogs<'_>, Malformed>> {
    repeated(request, 1).map(|message| message.and_then(ResourceLogs::read))
}

/// How many records a request has.
///
/// This checks the nesting down to the records, but not their content. If it succeeds, the request can be read to its end,
/// record by record.
///
/// # Errors
///
/// The nesting is not OTLP's, or has more resources or scopes than `limits` allow.
pub fn count_records(request: &[u8], limits: &Limits) -> Result<usize, Invalid> {
    let (mut resources, mut scopes, mut records) = (0, 0, 0);
    for resource in resource_logs(request) {
        resources += 1;
        within(resources, limits.resources, Limit::Resources)?;
        for scope in resource?.scope_logs() {
            scopes += 1;
            within(scopes, limits.scopes, Limit::Scopes)?;
            for record in scope?.log_records() {
                record?;
                records += 1;
            }
        }
    }
    Ok(records)
}

impl<'a> ResourceLogs<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let (resource, schema_url) = origin(message)?;
        Ok(Self { resource, schema_url, message })
    }

    /// The scopes of this resource.
    pub fn scope_logs(&self) -> impl Iterator<Item = Result<ScopeLogs<'a>, Malformed>> + use<'a> {
        repeated(self.message, 2).map(|message| message.and_then(ScopeLogs::read))
    }
}

impl<'a> ScopeLogs<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let (scope, schema_url) = origin(message)?;
        Ok(Self { scope, schema_url, message })
    }

    /// Whether it has any record.
    pub fn has_records(&self) -> bool {
        self.log_records().next().is_some()
    }

    /// The `LogRecord` messages of this scope.
    pub fn log_records(&self) -> impl Iterator<Item = Result<&'a [u8], Malformed>> + use<'a> {
        repeated(self.message, 2)
    }
}

impl<'a> LogRecord<'a> {
    /// Reads `message` into this record, and reuses its memory for attributes.
    ///
    /// Always inlined: each kind of table has its own pass, and a call takes 8 ns more for six attributes.
    #[inline(always)]
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        *self = LogRecord { attributes, ..LogRecord::default() };
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next_field()? {
            match number {
                1 => self.time_unix_nano = field.fixed64()?,
                // An int32 travels sign-extended to 64 bits.
                2 => self.severity_number = field.varint()? as i32,
                3 => self.severity_text = field.bytes()?,
                5 => self.body = Some(AnyValue::read(field.bytes()?)?),
                6 => self.attributes.push(field.bytes()?),
                7 => self.dropped_attributes_count = field.varint()? as u32,
                8 => self.flags = field.fixed32()?,
                9 => self.trace_id = field.bytes()?,
                10 => self.span_id = field.bytes()?,
                11 => self.observed_time_unix_nano = field.fixed64()?,
                12 => self.event_name = field.bytes()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The id of its trace, 16 bytes; `None` if absent or all zero.
    #[inline]
    pub fn trace_id(&self) -> Result<Option<&'a [u8]>, InvalidId> {
        id_of(self.trace_id, 16)
    }

    /// The id of its span, 8 bytes; `None` if absent or all zero.
    #[inline]
    pub fn span_id(&self) -> Result<Option<&'a [u8]>, InvalidId> {
        id_of(self.span_id, 8)
    }

    /// The severity number alone, for a record that is not stored; 0 if it cannot be read.
    pub fn severity_of(message: &[u8]) -> i32 {
        let mut fields = Fields::new(message);
        let mut severity = 0;
        while let Ok(Some((number, field))) = fields.next_field() {
            if number == 2 {
                severity = field.varint().unwrap_or(0) as i32;
            }
        }
        severity
    }
}

/// The resource of a `ResourceLogs` or the scope of a `ScopeLogs`, and its schema URL, which follows the records on the wire.
#[inline]
fn origin(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut origin, mut schema_url): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next_field()? {
        match number {
            1 => origin = field.bytes()?,
            3 => schema_url = field.bytes()?,
            _ => {}
        }
    }
    Ok((origin, schema_url))
}

#[inline]
fn id_of(id: &[u8], length: usize) -> Result<Option<&[u8]>, InvalidId> {
    if id.iter().all(|&byte| byte == 0) {
        Ok(None)
    } else if id.len() == length {
        Ok(Some(id))
    } else {
        Err(InvalidId)
    }
}

/// The messages of the repeated field `number`.
fn repeated(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let mut fields = Fields::new(message);
    let mut ended = false;
    std::iter::from_fn(move || {
        while !ended {
            match fields.next_field() {
                Ok(Some((found, field))) if found == number => return Some(field.bytes()),
                Ok(Some(_)) => {}
                Ok(None) => ended = true,
                Err(malformed) => {
                    ended = true;
                    return Some(Err(malformed));
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::messages::{
        ExportLogsServiceRequest, LogRecord as LogRecordMessage, ResourceLogs as ResourceLogsMessage,
        ScopeLogs as ScopeLogsMessage,
    };
    use super::*;

    fn request(records: &[LogRecordMessage]) -> Vec<u8> {
        let scope = ScopeLogsMessage {
            log_records: records.to_vec(),
            schema_url: "https://scope".into(),
            ..Default::default()
        };
        let resource = ResourceLogsMessage {
            scope_logs: vec![scope.clone(), scope],
            schema_url: "https://resource".into(),
            ..Default::default()
        };
        ExportLogsServiceRequest { resource_logs: vec![resource.clone(), resource] }.encode_to_vec()
    }

    #[test]
    fn counts_records_over_resources_and_scopes() {
        assert_eq!(count_records(&[], &Limits::default()), Ok(0));
        assert_eq!(
            count_records(&request(&vec![LogRecordMessage::default(); 3]), &Limits::default()),
            Ok(12)
        );
    }

    #[test]
    fn reads_every_field_of_a_record() {
        let message = LogRecordMessage {
            time_unix_nano: 1,
            observed_time_unix_nano: u64::MAX,
            severity_number: -7,
            severity_text: "warning".into(),
            body: None,
            attributes: vec![Default::default(); 2],
            dropped_attributes_count: u32::MAX,
            flags: 0xffff_ff01,
            trace_id: vec![7; 16].into(),
            span_id: vec![8; 8].into(),
            event_name: "started".into(),
        };
        let bytes = message.encode_to_vec();
        let mut record = LogRecord::default();
        record.read(&bytes).unwrap();
        assert_eq!(record.time_unix_nano, 1);
        assert_eq!(record.observed_time_unix_nano, u64::MAX);
        assert_eq!(record.severity_number, -7);
        assert_eq!(record.severity_text, b"warning");
        assert_eq!(record.body, None);
        assert_eq!(record.attributes.len(), 2);
        assert_eq!(record.dropped_attributes_count, u32::MAX);
        assert_eq!(record.flags, 0xffff_ff01);
        assert_eq!(record.trace_id, [7; 16]);
        assert_eq!(record.span_id, [8; 8]);
        assert_eq!(record.event_name, b"started");
        assert_eq!(LogRecord::severity_of(&bytes), -7);

        record.read(&[]).unwrap();
        assert!(
            record.attributes.is_empty() && record.severity_text.is_empty(),
            "nothing is left of the one before"
        );
    }

    #[test]
    fn schema_urls_are_known_before_the_records() {
        let bytes = request(&[LogRecordMessage::default()]);
        let resource = resource_logs(&bytes).next().unwrap().unwrap();
        assert_eq!(resource.schema_url, b"https://resource");
        let scope = resource.scope_logs().next().unwrap().unwrap();
        assert_eq!(scope.schema_url, b"https://scope");
    }

    #[test]
    fn garbage_and_cuts_are_malformed_and_never_counted_in_part() {
        let bytes = request(&[LogRecordMessage { severity_text: "x".repeat(40), ..Default::default() }]);
        for length in 1..bytes.len() {
            // A cut between two resources is a shorter request; every other cut is an error.
            let counted = count_records(&bytes[..length], &Limits::default());
            assert!(counted.is_err() || counted == Ok(2), "cut at {length}: {counted:?}");
        }
        assert!(count_records(b"this is not protobuf", &Limits::default()).is_err());
    }
}
