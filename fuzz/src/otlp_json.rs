//! Any bytes as OTLP/JSON: what is understood is JSON for others, too, takes no more memory than it was granted, and
//! becomes a request whose records can be counted and transcoded.

use forebay::otlp::json::{Memory, Unwritten, to_wire};
use forebay::otlp::{Invalid, Limits, count_records};
use serde::de::IgnoredAny;

use super::request;

/// Counts what is granted, which is all that is asked for.
struct Granted(usize);

impl Memory for Granted {
    fn take(&mut self, bytes: usize) -> bool {
        self.0 += bytes;
        true
    }

    fn give_back(&mut self, bytes: usize) {
        self.0 -= bytes;
    }
}

/// Checks `data`; gives the number of rows that it became.
pub fn check(data: &[u8]) -> usize {
    let mut granted = Granted(0);
    match to_wire(data, &mut granted) {
        Ok((wire, _)) => {
            assert!(data.is_empty() || serde_json::from_slice::<IgnoredAny>(data).is_ok());
            assert!(wire.capacity() <= granted.0);
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
