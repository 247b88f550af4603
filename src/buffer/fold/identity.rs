//! The identity of a record: a hash of all that repeated records have in common.
//!
//! These are its resource, scope, severity, event name, body and attributes, to the byte; not its times, and not its trace and span.

use std::hash::{BuildHasher as _, Hasher};

use foldhash::quality::RandomState;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::config::FoldConfig;
use super::template;
use crate::otlp::value::{AnyValue, KeyValue};
use crate::table::Candidate;

/// Computes identities. The keys are drawn at random, so that no sender can make two records look the same.
#[derive(Debug)]
pub(super) struct Identity {
    marks: RandomState,
    key: [u8; 16],
    ignore: Vec<String>,
    template: bool,
    except: Vec<String>,
}

/// Most attributes are side by side on the wire, with no more than their tags and lengths between them.
const BETWEEN: usize = 4;

impl Identity {
    pub(super) fn new(config: &FoldConfig) -> Self {
        Self {
            marks: RandomState::default(),
            key: uuid::Uuid::new_v4().into_bytes(),
            ignore: config.ignore.clone(),
            template: config.template,
            except: config.except.clone(),
        }
    }

    /// Whether the record is never folded.
    pub(super) fn excepts(&self, Candidate { within, record, .. }: Candidate<'_, '_>) -> bool {
        self.except.iter().any(|name| {
            within.name.as_ref() == Some(name)
                || (!record.event_name.is_empty() && record.event_name == name.as_bytes())
        })
    }

    /// A fast hash, by which most records that are no repeats are known; it may be the same for records that differ.
    #[inline]
    pub(super) fn mark(&self, candidate: Candidate<'_, '_>) -> u64 {
        let mut hasher = self.marks.build_hasher();
        self.feed(candidate, &mut hasher);
        hasher.finish()
    }

    /// A keyed hash of 128 bits, by which records are the same.
    pub(super) fn key(&self, candidate: Candidate<'_, '_>) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        self.feed(candidate, &mut hasher);
        hasher.finish128().as_u128()
    }

    #[inline]
    fn feed(&self, candidate: Candidate<'_, '_>, hasher: &mut impl Hasher) {
        let Candidate { of, within, record, message } = candidate;
        let (kind, scalar, body): (u8, u64, &[u8]) = match record.body {
            None => (0, 0, &[]),
            Some(AnyValue::Empty) => (1, 0, &[]),
            Some(AnyValue::String(text)) => (2, text.len() as u64, text),
            Some(AnyValue::Bool(value)) => (3, value.into(), &[]),
            Some(AnyValue::Int(value)) => (4, value as u64, &[]),
            Some(AnyValue::Double(value)) => (5, value.to_bits(), &[]),
            Some(AnyValue::Array(value)) => (6, value.len() as u64, value),
            Some(AnyValue::Map(value)) => (7, value.len() as u64, value),
            Some(AnyValue::Bytes(value)) => (8, value.len() as u64, value),
        };
        let is_template = self.template && kind == 2;
        let side_by_side =
            if self.ignore.is_empty() { side_by_side(message, &record.attributes) } else { None };
        // All parts of fixed size in one piece, because each piece costs some nanoseconds.
        let mut head = [0; 64];
        head[..16].copy_from_slice(&of.id);
        head[16..32].copy_from_slice(&within.id);
        head[32..36].copy_from_slice(&record.severity_number.to_le_bytes());
        let (attributes, first) =
            side_by_side.map_or((0, 0), |_| (record.attributes.len(), record.attributes[0].len()));
        head[36..40].copy_from_slice(&(attributes as u32).to_le_bytes());
        head[40..48].copy_from_slice(&(if is_template { 0 } else { scalar }).to_le_bytes());
        head[48..52].copy_from_slice(&(record.event_name.len() as u32).to_le_bytes());
        head[52..56].copy_from_slice(&(record.severity_text.len() as u32).to_le_bytes());
        head[56..60].copy_from_slice(&(first as u32).to_le_bytes());
        head[60] = kind;
        head[61] = side_by_side.is_some().into();
        hasher.write(&head);
        if is_template {
            template::each_piece(body, |piece| hasher.write(piece));
            hasher.write(&[0xff]);
        } else {
            hasher.write(body);
        }
        if !record.event_name.is_empty() {
            hasher.write(record.event_name);
        }
        if !record.severity_text.is_empty() {
            hasher.write(record.severity_text);
        }
        match side_by_side {
            Some(attributes) => hasher.write(attributes),
            None => {
                record.attributes.iter().filter(|attribute| !self.ignores(attribute)).for_each(|attribute| {
                    hasher.write(&(attribute.len() as u32).to_le_bytes());
                    hasher.write(attribute);
                })
            }
        }
    }

    fn ignores(&self, attribute: &[u8]) -> bool {
        !self.ignore.is_empty()
            && KeyValue::read(attribute)
                .is_ok_and(|pair| self.ignore.iter().any(|name| name.as_bytes() == pair.key))
    }
}

/// The part of `message` that has all `attributes`, if it has little else.
#[inline]
fn side_by_side<'m>(message: &'m [u8], attributes: &[&[u8]]) -> Option<&'m [u8]> {
    let (first, last) = (attributes.first()?, attributes.last()?);
    let from = (first.as_ptr() as usize).checked_sub(message.as_ptr() as usize)?;
    let to = (last.as_ptr() as usize + last.len()).checked_sub(message.as_ptr() as usize)?;
    let bytes: usize = attributes.iter().map(|attribute| attribute.len()).sum();
    let most = bytes + BETWEEN * (attributes.len() - 1);
    message.get(from..to).filter(|part| part.len() <= most)
}
