//! The resources and scopes of one request. Each is made once, at its first record.

use std::collections::HashMap;
use std::sync::Arc;

use crate::otlp::{Invalid, Limits};
use crate::table::interned::{Interned, New, Storable};
use crate::table::json::most_bytes;
use crate::table::space::{NoSpace, Space};
use crate::table::text::Replaced;

/// The resources of a request, or its scopes.
#[derive(Debug)]
pub(super) struct Origins<'a, T> {
    origins: Vec<Origin<T>>,
    /// In the order of `origins`.
    keys: Vec<Key<'a>>,
    /// Used if there are more than [`FEW`].
    by_message: HashMap<Key<'a>, usize>,
    last: Option<(Key<'a>, usize)>,
    /// The field of their attributes, if these are copied into rows.
    copied: Option<u32>,
    limits: Limits,
}

/// A resource or a scope.
#[derive(Debug)]
pub(super) struct Origin<T> {
    /// `Err` if it cannot be stored.
    pub(super) content: Result<Arc<T>, Invalid>,
    /// Its index among those of the rows, once there is a row.
    pub(super) place: Option<usize>,
    /// The most bytes that its values become, if they are copied into rows.
    pub(super) values: usize,
    /// The values replaced in it, if it is new.
    new: Option<Replaced>,
}

/// Up to so many are searched one by one, which is faster than hashing.
const FEW: usize = 8;

/// Its message and its schema URL.
type Key<'a> = (&'a [u8], &'a [u8]);

impl<'a, T> Origins<'a, T> {
    /// None yet.
    pub(super) fn none(limits: Limits, copied: Option<u32>) -> Self {
        Self { origins: Vec::new(), keys: Vec::new(), by_message: HashMap::new(), last: None, copied, limits }
    }

    /// The origin of `key`; `make` makes a new one.
    pub(super) fn meet(
        &mut self,
        key: Key<'a>,
        space: &mut Space<'_>,
        make: impl FnOnce(&mut Space<'_>) -> Result<Result<Interned<T>, Invalid>, NoSpace>,
    ) -> Result<&mut Origin<T>, NoSpace> {
        let known = match self.last {
            // Most requests have only one.
            Some((last, index)) if is_same(last, key) || last == key => Some(index),
            _ if self.origins.len() <= FEW => self.keys.iter().position(|known| *known == key),
            _ => self.by_message.get(&key).copied(),
        };
        let index = match known {
            Some(index) => index,
            None => {
                // All of these collections double as they grow.
                space.take(4 * (size_of::<Origin<T>>() + 2 * size_of::<(Key<'_>, usize)>()))?;
                let (content, new) = match make(space)? {
                    Ok(Interned { content, new }) => (Ok(content), new),
                    Err(invalid) => (Err(invalid), None),
                };
                let values = self.copied.map_or(0, |attributes| self.copied_bytes(key, attributes));
                self.origins.push(Origin { content, place: None, values, new });
                self.keys.push(key);
                self.index();
                self.origins.len() - 1
            }
        };
        self.last = Some((key, index));
        Ok(&mut self.origins[index])
    }

    /// Adds the last key to the map, and all before it when there are no longer few.
    fn index(&mut self) {
        let from = match self.keys.len() - 1 {
            ..FEW => return,
            FEW => 0,
            last => last,
        };
        self.by_message.extend((from..self.keys.len()).map(|index| (self.keys[index], index)));
    }

    /// The new ones, as far as there is space to cache them. Values replaced in those with rows are counted.
    pub(super) fn new_ones(&self, replaced: &mut Replaced, space: &mut Space<'_>) -> Vec<New<'a, T>>
    where
        T: Storable,
    {
        let mut all = Vec::new();
        for (origin, &(message, schema_url)) in self.origins.iter().zip(&self.keys) {
            let (Some(own), Ok(content)) = (origin.new, &origin.content) else { continue };
            if origin.place.is_some() {
                *replaced += own;
            }
            let new = New { message, schema_url, content: content.clone() };
            if space.take(new.bytes() + 2 * size_of::<New<'_, T>>()).is_ok() {
                all.push(new);
            }
        }
        all
    }

    /// The most bytes that the values become. A service's name that is no string is JSON, and may be escaped again.
    fn copied_bytes(&self, (message, schema_url): Key<'_>, attributes: u32) -> usize {
        // An origin beyond a limit is not copied.
        let origins = self.limits.check_origin(message, schema_url, attributes).unwrap_or_default();
        2 * (most_bytes(message, origins) + 3 * schema_url.len())
    }
}

/// Whether both are the same memory, which needs no look at the bytes.
fn is_same(one: Key<'_>, other: Key<'_>) -> bool {
    std::ptr::eq(one.0, other.0) && std::ptr::eq(one.1, other.1)
}
