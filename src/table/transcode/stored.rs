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
