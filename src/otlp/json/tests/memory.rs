//! The memory of the protobuf while it is written.

use super::*;

/// Grants no more than `left` bytes, and notes the most that were taken at a time.
pub(super) struct Granting {
    left: usize,
    taken: usize,
    most: usize,
}

impl Memory for Granting {
    fn take(&mut self, bytes: usize) -> bool {
        let granted = bytes <= self.left;
        if granted {
            self.left -= bytes;
            self.taken += bytes;
            self.most = self.most.max(self.taken);
        }
        granted
    }

    fn give_back(&mut self, bytes: usize) {
        self.left += bytes;
        self.taken -= bytes;
    }
}

pub(super) fn granting(left: usize) -> Granting {
    Granting { left, taken: 0, most: 0 }
}

#[test]
fn memory_is_asked_for_before_it_is_taken() {
    let json = in_request(&[r#"{"body":{"stringValue":"some text of a record"}}"#; 1000].join(","));
    let mut memory = granting(usize::MAX);
    let (wire, _) = to_wire(json.as_bytes(), &mut memory).unwrap();
    assert_eq!(wire.capacity(), memory.taken, "what is left is what was made");
    assert!(memory.taken <= json.len(), "{} of {}", memory.taken, json.len());
    assert_eq!(to_wire(json.as_bytes(), &mut granting(10_000)).unwrap_err(), Unwritten::NoRoom);
}

/// Half of the expected length is too little here, so the bytes are copied into more memory.
#[test]
fn both_memories_are_charged_while_one_is_copied_into_the_other() {
    let json = in_request(&format!(r#"{{"body":{{"stringValue":"{}"}}}}"#, "x".repeat(1 << 20)));
    let mut memory = granting(usize::MAX);
    let (wire, _) = to_wire(json.as_bytes(), &mut memory).unwrap();
    assert_eq!(memory.most, json.len() / 2 + wire.capacity());
    assert_eq!(memory.taken, wire.capacity(), "the first one is given back");
    let refused = to_wire(json.as_bytes(), &mut granting(memory.most - json.len() / 4));
    assert_eq!(refused.unwrap_err(), Unwritten::NoRoom);
}
