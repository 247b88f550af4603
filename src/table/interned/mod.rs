//! Resources and scopes, each stored once; rows refer to them by id.
//!
//! The id is a cryptographic hash of the content, so that every gateway gives the same content the same id without asking the
//! database: the first 128 bits of the SHA-256 over schema URL, scalar fields, and attributes sorted by key. (A collision takes
//! about 2^64 deliberate tries by one sender, and would only mix up that sender's own resources.)
//!
//! [`Interner`] caches recently stored ones by their bytes on the wire, which senders repeat in each request, so that hash and JSON
//! are made once. The resources and scopes of a refused request are not cached.

mod sender;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::sender::SenderNumber;
use super::json::{most_bytes, push_object};
use super::space::{NoSpace, Space};
use super::text::{Replaced, ReplacedKind, to_text};
use crate::otlp::value::{AnyValue, KeyValue};
use crate::otlp::wire::{Fields, Malformed};
use crate::otlp::{Invalid, Limits};

/// The id of a resource or a scope.
pub type Id = [u8; 16];

/// A stored resource.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// The hash of the rest.
    pub id: Id,
    /// The attributes as a JSON object.
    pub attributes: String,
    /// The attribute `service.name`.
    pub service_name: Option<String>,
    /// The schema URL of the resource.
    pub schema_url: Option<String>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: i32,
    #[serde(skip)]
    sender: SenderNumber,
}

/// A stored instrumentation scope.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// The hash of the rest.
    pub id: Id,
    /// The scope's name.
    pub name: Option<String>,
    /// The scope's version.
    pub version: Option<String>,
    /// The attributes as a JSON object.
    pub attributes: String,
    /// The schema URL of the scope.
    pub schema_url: Option<String>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: i32,
}

/// The recently stored resources and scopes.
#[derive(Debug, Default)]
pub struct Interner {
    limits: Limits,
    resources: Mutex<Recent<Resource>>,
    scopes: Mutex<Recent<Scope>>,
}

/// A cache that is emptied when it is full; entries still in use come back with the next request.
#[derive(Debug)]
struct Recent<T> {
    /// By the message.
    entries: HashMap<Box<[u8]>, Known<T>>,
    bytes: usize,
}

/// The content of a message, with its schema URL.
#[derive(Debug)]
struct Known<T> {
    schema_url: Box<[u8]>,
    content: Arc<T>,
    bytes: usize,
}

/// The memory of an entry beside content and key: the slot in the table, boxes, reference counts.
const ENTRY: usize = 256;
/// The most bytes in each cache.
const RECENT_BYTES: usize = 2 << 20;

/// Content that is stored once and has an id.
pub(super) trait Storable: Sized {
    /// The field that has its attributes.
    const ATTRIBUTES: u32;

    fn read(message: &[u8], schema_url: &[u8], replaced: &mut Replaced) -> Result<Self, Malformed>;

    fn memory(&self) -> usize;
}

impl Resource {
    /// The approximate memory, for the buffer's accounting.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.attributes.len() + length(&self.service_name) + length(&self.schema_url)
    }
}

impl Scope {
    /// The approximate memory, for the buffer's accounting.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.attributes.len()
            + length(&self.name)
            + length(&self.version)
            + length(&self.schema_url)
    }
}

fn length(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

/// Interned content, or why it cannot be stored.
type Read<T> = Result<Interned<T>, Invalid>;

/// A resource or a scope of a request.
#[derive(Debug)]
pub struct Interned<T> {
    /// Itself.
    pub content: Arc<T>,
    /// The values replaced in it, if it is not cached: then they are not counted yet.
    pub new: Option<Replaced>,
}

/// A resource or scope of a request that is not cached yet.
#[derive(Debug)]
pub(super) struct New<'a, T> {
    pub(super) message: &'a [u8],
    pub(super) schema_url: &'a [u8],
    pub(super) content: Arc<T>,
}

impl<T: Storable> New<'_, T> {
    /// The memory of its cache entry.
    pub(super) fn bytes(&self) -> usize {
        ENTRY + self.content.memory() + self.message.len() + self.schema_url.len()
    }
}

impl Interner {
    /// Interns content within `limits`.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The resource of a `Resource` message and its schema URL. A new one takes memory from `space`.
    ///
    /// # Errors
    ///
    /// There is no space for it. The inner error is for a resource that cannot be stored.
    pub fn resource(
        &self,
        message: &[u8],
        schema_url: &[u8],
        space: &mut Space<'_>,
    ) -> Result<Read<Resource>, NoSpace> {
        intern(&self.resources, &self.limits, message, schema_url, space)
    }

    /// The scope of an `InstrumentationScope` message and its schema URL. A new one takes memory from `space`.
    ///
    /// # Errors
    ///
    /// As for [`Interner::resource`].
    pub fn scope(
        &self,
        message: &[u8],
        schema_url: &[u8],
        space: &mut Space<'_>,
    ) -> Result<Read<Scope>, NoSpace> {
        intern(&self.scopes, &self.limits, message, schema_url, space)
    }

    /// Caches these for further requests: they are stored now.
    pub(super) fn remember(&self, resources: Vec<New<'_, Resource>>, scopes: Vec<New<'_, Scope>>) {
        remember(&self.resources, resources);
        remember(&self.scopes, scopes);
    }
}

impl Storable for Resource {
    const ATTRIBUTES: u32 = 1;

    fn memory(&self) -> usize {
        self.size()
    }

    fn read(message: &[u8], schema_url: &[u8], replaced: &mut Replaced) -> Result<Self, Malformed> {
        let mut attributes = Vec::new();
        let mut dropped = 0;
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next_field()? {
            match number {
                Self::ATTRIBUTES => attributes.push(keyed(field.bytes()?)?),
                2 => dropped = field.varint()? as u32,
                _ => {}
            }
        }
        Ok(Self {
            id: content_id("resource", &[schema_url], dropped, &mut attributes),
            service_name: service_name(&attributes)?,
            attributes: object(&attributes, replaced)?,
            schema_url: optional(schema_url, replaced),
            dropped_attributes_count: count_to_int4(dropped, replaced),
            sender: SenderNumber::default(),
        })
    }
}

impl Storable for Scope {
    const ATTRIBUTES: u32 = 3;

    fn memory(&self) -> usize {
        self.size()
    }

    fn read(message: &[u8], schema_url: &[u8], replaced: &mut Replaced) -> Result<Self, Malformed> {
        let (mut name, mut version): (&[u8], &[u8]) = (&[], &[]);
        let mut attributes = Vec::new();
        let mut dropped = 0;
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next_field()? {
            match number {
                1 => name = field.bytes()?,
                2 => version = field.bytes()?,
                Self::ATTRIBUTES => attributes.push(keyed(field.bytes()?)?),
                4 => dropped = field.varint()? as u32,
                _ => {}
            }
        }
        Ok(Self {
            id: content_id("scope", &[schema_url, name, version], dropped, &mut attributes),
            name: optional(name, replaced),
            version: optional(version, replaced),
            attributes: object(&attributes, replaced)?,
            schema_url: optional(schema_url, replaced),
            dropped_attributes_count: count_to_int4(dropped, replaced),
        })
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0 }
    }
}

impl<T> Recent<T> {
    fn get(&self, message: &[u8], schema_url: &[u8]) -> Option<Arc<T>> {
        let known = self.entries.get(message)?;
        (*known.schema_url == *schema_url).then(|| known.content.clone())
    }

    fn remember(&mut self, new: New<'_, T>)
    where
        T: Storable,
    {
        let bytes = new.bytes();
        let New { message, schema_url, content } = new;
        if self.bytes + bytes > RECENT_BYTES {
            *self = Self::default();
        }
        if bytes <= RECENT_BYTES {
            let known = Known { schema_url: schema_url.into(), content, bytes };
            let before = self.entries.insert(message.into(), known);
            self.bytes = self.bytes + bytes - before.map_or(0, |before| before.bytes);
        }
    }
}

fn remember<T: Storable>(recent: &Mutex<Recent<T>>, new: Vec<New<'_, T>>) {
    if !new.is_empty() {
        let mut cache = recent.lock().unwrap_or_else(PoisonError::into_inner);
        new.into_iter().for_each(|new| cache.remember(new));
    }
}

fn intern<T: Storable>(
    recent: &Mutex<Recent<T>>,
    limits: &Limits,
    message: &[u8],
    schema_url: &[u8],
    space: &mut Space<'_>,
) -> Result<Read<T>, NoSpace> {
    // A poisoned cache is still valid: no entry is half written.
    let cache = recent.lock().unwrap_or_else(PoisonError::into_inner);
    let known = cache.get(message, schema_url);
    drop(cache);
    if let Some(content) = known {
        return Ok(Ok(Interned { content, new: None }));
    }
    let found = match limits.check_origin(message, schema_url, T::ATTRIBUTES) {
        Ok(found) => found,
        Err(invalid) => return Ok(Err(invalid)),
    };
    let most = memory_to_read(most_bytes(message, found) + 3 * schema_url.len(), found.attributes);
    space.take(most)?;
    let mut replaced = Replaced::default();
    let read = T::read(message, schema_url, &mut replaced).map(Arc::new);
    space.give_back(most);
    let content = match read {
        Ok(content) => content,
        Err(malformed) => return Ok(Err(malformed.into())),
    };
    // This is part of `most`, which was granted.
    space.take(content.memory())?;
    Ok(Ok(Interned { content, new: Some(replaced) }))
}

/// The most memory for reading a message whose values become `values` bytes, the result included.
fn memory_to_read(values: usize, attributes: usize) -> usize {
    // A vector that doubles exists twice while it is copied. The service's name is in two texts.
    let texts = 2 * 3 * values;
    size_of::<Scope>().max(size_of::<Resource>()) + texts + 4 * attributes * size_of::<Keyed<'_>>()
}

/// An attribute with its key, by which it is sorted.
type Keyed<'a> = (&'a [u8], &'a [u8]);

fn keyed(message: &[u8]) -> Result<Keyed<'_>, Malformed> {
    Ok((KeyValue::read(message)?.key, message))
}

/// Sorts `attributes` by key, and hashes the content with the length of each part before it.
fn content_id(kind: &str, texts: &[&[u8]], dropped: u32, attributes: &mut [Keyed<'_>]) -> Id {
    // The sort is stable, so the last of equal keys, which jsonb keeps, stays the last.
    attributes.sort_by_key(|(key, _)| *key);
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(kind.as_bytes());
    texts.iter().for_each(|text| part(text));
    part(&dropped.to_le_bytes());
    attributes.iter().for_each(|(_, message)| part(message));
    *hash.finalize().first_chunk().expect("SHA-256 has 32 bytes")
}

fn object(attributes: &[Keyed<'_>], replaced: &mut Replaced) -> Result<String, Malformed> {
    let mut out = Vec::new();
    push_object(&mut out, attributes.iter().map(|(_, message)| *message), replaced)?;
    // It is kept as long as any row refers to it.
    out.shrink_to_fit();
    Ok(String::from_utf8(out).expect("JSON is written as UTF-8"))
}

fn service_name(attributes: &[Keyed<'_>]) -> Result<Option<String>, Malformed> {
    let Some((_, message)) = attributes.iter().rev().find(|(key, _)| *key == b"service.name") else {
        return Ok(None);
    };
    // Its replacements are counted with the attribute itself.
    let replaced = &mut Replaced::default();
    Ok(match KeyValue::read(message)?.value {
        AnyValue::String(name) => Some(to_text(name, replaced)),
        AnyValue::Empty => None,
        other => {
            let mut out = Vec::new();
            super::json::push_value(&mut out, other, replaced)?;
            out.shrink_to_fit();
            String::from_utf8(out).ok()
        }
    })
}

fn optional(text: &[u8], replaced: &mut Replaced) -> Option<String> {
    (!text.is_empty()).then(|| to_text(text, replaced))
}

fn count_to_int4(count: u32, replaced: &mut Replaced) -> i32 {
    i32::try_from(count).unwrap_or_else(|_| {
        replaced.count(ReplacedKind::Number);
        i32::MAX
    })
}

#[cfg(test)]
mod tests;
