//! A text without its numbers: each run of digits, or of hexadecimal digits, is one sign.

/// Calls `take` with the pieces of `text` in their order, `#` in place of each number. A number is a run of hexadecimal digits, with
/// hyphens between them, that has a decimal digit: `42`, `0042`, `7f3a`, `2026-11-28`, a UUID.
pub(super) fn each_piece(text: &[u8], mut take: impl FnMut(&[u8])) {
    let mut rest = text;
    // The words before a number are one piece.
    let mut words = 0;
    while words < rest.len() {
        let run = run(&rest[words..]);
        if rest[words..words + run].iter().any(u8::is_ascii_digit) {
            take(&rest[..words]);
            take(b"#");
            rest = &rest[words + run..];
            words = 0;
        } else {
            words += run.max(1);
        }
    }
    take(rest);
}

/// The length of the run of hexadecimal digits at the beginning of `text`.
fn run(text: &[u8]) -> usize {
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_hexdigit);
    let goes_on = |at: &usize| {
        is_digit(*at) || (*at > 0 && text[*at] == b'-' && is_digit(*at - 1) && is_digit(*at + 1))
    };
    (0..text.len()).find(|at| !goes_on(at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_sign_and_words_stay() {
        for (text, expected) in [
            ("", ""),
            ("no number", "no number"),
            ("order 4711 of user 8", "order # of user #"),
            ("took 12.5ms", "took #.#ms"),
            ("at 0x7fffDEAD01", "at #x#"),
            ("id 550e8400-e29b-41d4-abcd-446655440000!", "id #!"),
            ("2026-11-28T10:00:00Z", "#T#:#:#Z"),
            ("a dead-beef cafe", "a dead-beef cafe"),
            ("-5 - 5-", "-# - #-"),
            ("7", "#"),
        ] {
            let mut pieces = Vec::new();
            each_piece(text.as_bytes(), |piece| pieces.extend_from_slice(piece));
            assert_eq!(String::from_utf8(pieces).unwrap(), expected, "{text}");
        }
    }
}
