//! The number of a resource's sender, which the buffer finds once for each interned resource.

use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;

use super::Resource;

/// The number plus one; 0 until it is found. It is no part of the content: all are equal.
#[derive(Debug, Default)]
pub(super) struct SenderNumber(AtomicU16);

impl PartialEq for SenderNumber {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SenderNumber {}

impl Resource {
    /// The number of its sender, below 65,535; `find` is asked for it the first time. Threads that ask together find the same.
    #[inline]
    pub fn sender(&self, find: impl FnOnce(&Self) -> u16) -> u16 {
        match self.sender.0.load(Ordering::Relaxed) {
            0 => {
                let number = find(self);
                self.sender.0.store(number + 1, Ordering::Relaxed);
                number
            }
            found => found - 1,
        }
    }

    /// The attribute `key`: a string as it is, anything else as JSON; `None` without it.
    pub fn attribute(&self, key: &str) -> Option<String> {
        let attributes: Value = serde_json::from_str(&self.attributes).ok()?;
        attributes.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}
