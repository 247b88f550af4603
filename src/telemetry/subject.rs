//! The subject of a message, which tells it apart from others of the same place in the code.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use tracing::Event;
use tracing::field::{Field, Visit};

use super::fold::Subject;

/// The fields that make up the subject: messages that differ in one of them are not folded. None has a value that changes with each
/// message.
const SUBJECTS: [&str; 11] = [
    "partition",
    "step",
    "lane",
    "table",
    "sqlstate",
    "reason",
    "transport",
    "endpoint",
    "key",
    "file",
    "sender",
];

/// The hash of an event's subject; 0 if it has none.
pub(super) fn subject(event: &Event<'_>) -> Subject {
    struct Values(DefaultHasher, bool);
    impl Visit for Values {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if SUBJECTS.contains(&field.name()) {
                format!("{value:?}").hash(&mut self.0);
                self.1 = true;
            }
        }
    }
    let mut values = Values(DefaultHasher::new(), false);
    event.record(&mut values);
    if values.1 { values.0.finish() } else { 0 }
}
