//! Checks whether a string is plain ASCII that can be copied unchanged, as most strings in logs can.
//!
//! Long strings are scanned without an early exit, which the compiler turns into vector instructions. For short ones, above all
//! keys, that would be a byte at a time, so they are scanned in words of eight bytes.

/// From this length on, vectors are faster.
const LONG: usize = 64;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// Whether `bytes` are ASCII without NUL, which PostgreSQL holds unchanged as text.
#[inline]
pub(super) fn is_plain_text(bytes: &[u8]) -> bool {
    is_plain(bytes, |byte| byte == 0 || byte >= 0x80, |word| word & HIGHS | zeros(word))
}

/// Whether `bytes` are ASCII without control characters, quotes and backslashes, which a JSON string holds unchanged (RFC 8259,
/// section 7).
#[inline]
pub(super) fn is_plain_json(bytes: &[u8]) -> bool {
    is_plain(
        bytes,
        |byte| !(0x20..0x80).contains(&byte) || byte == b'"' || byte == b'\\',
        |word| {
            let below_space = word.wrapping_sub(ONES * 0x20) & !word;
            (word | below_space) & HIGHS | zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c))
        },
    )
}

/// The most bytes that `bytes` gain in a JSON string, or in text: five for a control character, one for a short escape, two for a
/// byte that may not be UTF-8.
pub(super) fn most_added(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |added, &byte| {
        let is_control = usize::from(byte < 0x20);
        let is_blank = usize::from(byte == b'\n' || byte == b'\r' || byte == b'\t');
        let is_escaped = usize::from(byte == b'"' || byte == b'\\');
        added + 5 * is_control - 4 * is_blank + is_escaped + 2 * usize::from(byte >= 0x80)
    })
}

/// `in_word` is not 0 exactly if `special` is true for one of the word's bytes.
#[inline(always)]
fn is_plain(bytes: &[u8], special: impl Fn(u8) -> bool, in_word: impl Fn(u64) -> u64) -> bool {
    match bytes.last_chunk::<8>() {
        Some(last) if bytes.len() < LONG => {
            let words = bytes.as_chunks::<8>().0.iter();
            // The last word may overlap the one before.
            let found = words.fold(in_word(u64::from_le_bytes(*last)), |found, word| {
                found | in_word(u64::from_le_bytes(*word))
            });
            found == 0
        }
        _ => !bytes.iter().fold(false, |found, &byte| found | special(byte)),
    }
}

/// Not 0 exactly if one of the bytes is 0: the highest bit of the lowest such byte is set, perhaps with some above.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_at_every_place_in_strings_of_every_length() {
        for length in (1..40).chain([LONG - 1, LONG, LONG + 1, 200]) {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'x'; length];
                    bytes[place] = byte;
                    let text = byte != 0 && byte < 0x80;
                    assert_eq!(is_plain_text(&bytes), text, "{byte:#x} at {place} of {length}");
                    let json = (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain_json(&bytes), json, "{byte:#x} at {place} of {length}");
                }
            }
        }
        assert!(is_plain_text(b"") && is_plain_json(b""));
    }
}
