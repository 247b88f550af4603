//! The resources and scopes of one request: each is made once, when its first record is met.

use std::collections::HashMap;
use std::sync::Arc;

use crate::otlp::Invalid;
use crate::table::space::{NoSpace, Space};

/// What a request has of resources, or of scopes.
#[derive(Debug)]
pub(super) struct Origins<'a, T> {
    met: Vec<Origin<T>>,
    by_message: HashMap<Key<'a>, usize>,
    last: Option<(Key<'a>, usize)>,
}

/// A resource or a scope.
#[derive(Debug)]
pub(super) struct Origin<T> {
    /// `Err` where it cannot be stored.
    pub(super) content: Result<Arc<T>, Invalid>,
    /// Its place among those that rows name, once there is such a row.
    pub(super) place: Option<usize>,
}

/// Its message and its schema URL.
type Key<'a> = (&'a [u8], &'a [u8]);

impl<T> Default for Origins<'_, T> {
    fn default() -> Self {
        Self { met: Vec::new(), by_message: HashMap::new(), last: None }
    }
}

impl<'a, T> Origins<'a, T> {
    /// The one of `key`, which `make` makes where it is new.
    pub(super) fn meet(
        &mut self,
        key: Key<'a>,
        space: &mut Space<'_>,
        make: impl FnOnce(&mut Space<'_>) -> Result<Result<Arc<T>, Invalid>, NoSpace>,
    ) -> Result<&mut Origin<T>, NoSpace> {
        let known = match self.last {
            // Most requests have one of them.
            Some((last, index)) if last == key => Some(index),
            _ => self.by_message.get(&key).copied(),
        };
        let index = match known {
            Some(index) => index,
            None => {
                // Both collections double as they grow.
                space.take(4 * (size_of::<Origin<T>>() + size_of::<(Key<'_>, usize)>()))?;
                self.met.push(Origin { content: make(space)?, place: None });
                self.by_message.insert(key, self.met.len() - 1);
                self.met.len() - 1
            }
        };
        self.last = Some((key, index));
        Ok(&mut self.met[index])
    }
}
