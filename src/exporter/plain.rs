//! Text of records, whose senders chose it, as a terminal may be given it.

use std::fmt::Write as _;

/// `text` in one line, and without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A line of JSON that means the same, and has nothing in its strings that a terminal would obey.
pub(super) fn plain_json(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if is_obeyed(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, those that end a line, and those that turn the direction of what follows.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        let text = "two\nlines \u{1b}[2J \u{9b}1m \u{202e}back é 雪 👩\u{200d}🚒";
        let expected = "two\\nlines \\u{1b}[2J \\u{9b}1m \\u{202e}back é 雪 👩\u{200d}🚒";
        assert_eq!(plain(text), expected);
    }

    #[test]
    fn json_means_the_same() {
        let line = "{\"a\":\"\u{7f}\u{9b}1m \u{2066}é\"}";
        let written = plain_json(line);
        assert_eq!(written, "{\"a\":\"\\u007f\\u009b1m \\u2066é\"}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&written), read(line));
    }
}
