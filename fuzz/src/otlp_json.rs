//! Any bytes as OTLP/JSON: what is understood is JSON for others, too, takes no more memory than it was granted, and
//! becomes a request whose records can be counted and transcoded.

use forebay::otlp::json::{Unwritten, to_wire};
use forebay::otlp::{Invalid, Limits, count_records};
use serde::de::IgnoredAny;

use super::request;

/// Checks `data`; gives the number of rows that it became.
pub fn check(data: &[u8]) -> usize {
    let mut granted = 0;
    let mut grow = |more| {
        granted += more;
        true
    };
    match to_wire(data, &mut grow) {
        Ok(wire) => {
            assert!(data.is_empty() || serde_json::from_slice::<IgnoredAny>(data).is_ok());
            assert!(wire.capacity() <= granted);
            match count_records(&wire, &Limits::default()) {
                Ok(_) | Err(Invalid::TooComplex(_)) => {}
                Err(Invalid::Malformed(malformed)) => {
                    panic!("what is wrong in a record is in the record: {malformed}")
                }
            }
            request::check(&wire)
        }
        Err(Unwritten::Malformed(malformed)) => {
            assert!(malformed.at <= data.len(), "{malformed}");
            0
        }
        Err(Unwritten::NoRoom) => panic!("all that was asked for was granted"),
    }
}
