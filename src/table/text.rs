//! Text as PostgreSQL holds it: valid UTF-8 without the character NUL.

use super::scan;
pub use crate::otlp::replaced::{Replaced, ReplacedKind};

/// Replaces a byte sequence or character that PostgreSQL cannot hold.
pub(super) const REPLACEMENT: &str = "\u{fffd}";

/// Appends `bytes` as text. Each NUL and each broken sequence counts as one replacement.
#[inline]
pub(super) fn push_text(out: &mut Vec<u8>, bytes: &[u8], replaced: &mut Replaced) {
    if scan::is_plain_text(bytes) || (!bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()) {
        out.extend_from_slice(bytes);
    } else {
        push_repaired(out, bytes, replaced);
    }
}

#[cold]
fn push_repaired(out: &mut Vec<u8>, bytes: &[u8], replaced: &mut Replaced) {
    for chunk in bytes.utf8_chunks() {
        for (index, part) in chunk.valid().split('\0').enumerate() {
            if index > 0 {
                out.extend_from_slice(REPLACEMENT.as_bytes());
                replaced.count(ReplacedKind::Nul);
            }
            out.extend_from_slice(part.as_bytes());
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
            replaced.count(ReplacedKind::Utf8);
        }
    }
}

/// `bytes` as a string that PostgreSQL can hold.
pub(super) fn to_text(bytes: &[u8], replaced: &mut Replaced) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    push_text(&mut out, bytes, replaced);
    String::from_utf8(out).expect("push_text writes UTF-8 only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(bytes: &[u8]) -> (String, u64, u64) {
        let mut replaced = Replaced::default();
        let text = to_text(bytes, &mut replaced);
        let count = |kind| replaced.iter().find(|(k, _)| *k == kind).unwrap().1;
        (text, count(ReplacedKind::Nul), count(ReplacedKind::Utf8))
    }

    #[test]
    fn good_text_stays() {
        for text in ["", "plain", "grüße 🦀", "\u{fffd}", "\u{1}\u{7f}"] {
            assert_eq!(repaired(text.as_bytes()), (text.to_owned(), 0, 0));
        }
    }

    #[test]
    fn nul_and_broken_sequences_are_replaced_one_by_one() {
        assert_eq!(repaired(b"\0a\0"), ("\u{fffd}a\u{fffd}".to_owned(), 2, 0));
        assert_eq!(repaired(b"a\xffb\xfe"), ("a\u{fffd}b\u{fffd}".to_owned(), 0, 2));
        assert_eq!(repaired(b"\xf0\x9f\xa6"), ("\u{fffd}".to_owned(), 0, 1), "a cut sequence");
        assert_eq!(repaired(b"\xed\xa0\x80"), ("\u{fffd}\u{fffd}\u{fffd}".to_owned(), 0, 3), "a surrogate");
        assert_eq!(repaired(b"\xff\0"), ("\u{fffd}\u{fffd}".to_owned(), 1, 1));
    }
}
