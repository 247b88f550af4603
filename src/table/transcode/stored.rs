//! Rows outside of memory: what has to be kept beside their bytes.
//!
//! All numbers are little-endian and have 32 bits unless said otherwise: the width of the rows' partitions (1 byte); the number of
//! rows, and for each its end and origin; the number of resources, each with its length and JSON; the same for scopes; the number
//! of periods, and the begin of each in seconds since 1970 (8 bytes) and its width (1 byte).

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rows::Rows;
use crate::table::partition::{Period, Width};
use crate::table::row_end::RowEnd;

impl Rows {
    /// Appends to `out` what [`Rows::restore`] needs beside [`Rows::bytes`].
    pub fn describe(&self, out: &mut Vec<u8>) {
        out.reserve(32 + size_of::<RowEnd>() * self.len());
        out.push(self.width as u8);
        push(out, self.rows.len());
        for row in &self.rows {
            let [end, origin] = row.to_words();
            out.extend_from_slice(&end.to_le_bytes());
            out.extend_from_slice(&origin.to_le_bytes());
        }
        push_all(out, &self.resources);
        push_all(out, &self.scopes);
        push(out, self.periods.len());
        for period in &self.periods {
            out.extend_from_slice(&period.start().to_le_bytes());
            out.push(period.width() as u8);
        }
    }

    /// The rows that [`Rows::describe`] has `described`, and that have these `bytes`; `None` for anything else.
    pub fn restore(mut described: &[u8], bytes: Vec<u8>) -> Option<Self> {
        let from = &mut described;
        let width = width(byte(from)?)?;
        let len = word(from)? as usize;
        let mut rows = Vec::with_capacity(len.min(from.len() / size_of::<RowEnd>()));
        let mut before = 0;
        for _ in 0..len {
            let row = RowEnd::from_words([word(from)?, word(from)?])?;
            if row.end() < before || row.end() > bytes.len() {
                return None;
            }
            before = row.end();
            rows.push(row);
        }
        let (resources, scopes) = (all(from)?, all(from)?);
        let mut periods = Vec::new();
        for _ in 0..word(from)? {
            let start = i64::from_le_bytes(take(from)?);
            // Rows have no other times.
            u64::try_from(start).ok().filter(|start| *start <= u64::MAX / 1_000_000_000)?;
            periods.push(Period::at(start, self::width(byte(from)?)?));
        }
        let is_whole = before == bytes.len() && rows.iter().all(|row| row.resource() < resources.len());
        is_whole.then(|| Self::restored(bytes, rows, resources, scopes, periods, width))
    }
}

fn push(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u32).to_le_bytes());
}

fn push_all<T: Serialize>(out: &mut Vec<u8>, all: &[Arc<T>]) {
    push(out, all.len());
    for one in all {
        let at = out.len();
        push(out, 0);
        serde_json::to_writer(&mut *out, &**one).expect("it has only texts and numbers");
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
}

fn word(from: &mut &[u8]) -> Option<u32> {
    take(from).map(u32::from_le_bytes)
}

fn byte(from: &mut &[u8]) -> Option<u8> {
    take(from).map(|[byte]| byte)
}

fn all<T: DeserializeOwned>(from: &mut &[u8]) -> Option<Vec<Arc<T>>> {
    let mut all = Vec::new();
    for _ in 0..word(from)? {
        let length = word(from)? as usize;
        let (json, rest) = from.split_at_checked(length)?;
        *from = rest;
        all.push(Arc::new(serde_json::from_slice(json).ok()?));
    }
    Some(all)
}

fn width(code: u8) -> Option<Width> {
    [Width::Day, Width::Hour].into_iter().find(|width| *width as u8 == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::Limits;
    use crate::otlp::messages::{
        AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, ResourceLogs,
        ScopeLogs, any_value::Value,
    };
    use crate::table::{Space, Transcoder};
    use prost::Message as _;

    /// Rows of random requests, some of which were cut.
    fn rows(random: &mut fastrand::Rng) -> Rows {
        let text = |text: String| Some(AnyValue { value: Some(Value::StringValue(text)) });
        let letters = |random: &mut fastrand::Rng| -> String {
            let length = random.usize(0..30);
            (0..length).map(|_| random.char('\u{1}'..'\u{3000}')).collect()
        };
        let mut request = ExportLogsServiceRequest::default();
        for _ in 0..random.u8(0..4) {
            let mut of = ResourceLogs { schema_url: letters(random), ..ResourceLogs::default() };
            let attribute = KeyValue { key: "service.name".into(), value: text(letters(random)) };
            of.resource = random.bool().then(|| crate::otlp::messages::Resource {
                attributes: vec![attribute],
                dropped_attributes_count: random.u32(0..3),
            });
            for _ in 0..random.u8(0..3) {
                let scope = InstrumentationScope {
                    name: letters(random),
                    version: letters(random),
                    ..Default::default()
                };
                let records = (0..random.u8(0..6)).map(|_| LogRecord {
                    time_unix_nano: random.u64(..) >> random.u8(0..64),
                    severity_number: random.i32(0..25),
                    body: text(letters(random)),
                    ..LogRecord::default()
                });
                let log_records = records.collect();
                of.scope_logs.push(ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() });
            }
            request.resource_logs.push(of);
        }
        let width = if random.bool() { Width::Day } else { Width::Hour };
        let bytes = request.encode_to_vec();
        let transcoder = Transcoder::new(width, None, Limits::default());
        let mut rows = transcoder.transcode(&bytes, usize::MAX, 1, &mut Space::unlimited()).unwrap().rows;
        if random.bool() {
            rows.truncate(random.usize(0..=rows.len()));
        }
        rows
    }

    #[test]
    fn rows_are_restored_as_they_were() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut all = 0;
        for at in 0..300 {
            let rows = rows(&mut random);
            let mut described = Vec::new();
            rows.describe(&mut described);
            let restored = Rows::restore(&described, rows.bytes().to_vec()).unwrap();
            let words = |rows: &Rows| rows.rows.iter().map(|row| row.to_words()).collect::<Vec<_>>();
            assert_eq!(restored.bytes(), rows.bytes(), "{at}");
            assert_eq!(words(&restored), words(&rows), "{at}");
            assert_eq!((&restored.resources, &restored.scopes), (&rows.resources, &rows.scopes), "{at}");
            assert_eq!((&restored.periods, restored.width), (&rows.periods, rows.width), "{at}");
            all += rows.len();
        }
        assert!(all > 500, "{all}");
    }

    #[test]
    fn anything_else_is_refused_and_panics_nobody() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..300 {
            let rows = rows(&mut random);
            let mut described = Vec::new();
            rows.describe(&mut described);
            for length in 0..described.len() {
                assert!(Rows::restore(&described[..length], rows.bytes().to_vec()).is_none());
            }
            let more = [rows.bytes(), b"x"].concat();
            assert!(Rows::restore(&described, more).is_none());
            let at = random.usize(0..described.len());
            described[at] = random.u8(..);
            if let Some(other) = Rows::restore(&described, rows.bytes().to_vec()) {
                other.tally(0..other.len());
                (0..other.len()).for_each(|row| assert!(other.range(row, row + 1).end <= rows.bytes().len()));
            }
        }
    }
}
