//! Makes text from senders and servers safe for a terminal.

use std::fmt::Write as _;

/// `text` in one line, with control characters escaped.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `text` with its lines, each with control characters escaped.
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// `json` in one line with the same meaning, and with control characters escaped.
pub fn plain_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        match c {
            c if !is_obeyed(c) => out.push(c),
            // A line of JSON may end between its values.
            _ if !in_string => out.push(' '),
            c => drop(write!(out, "\\u{:04x}", u32::from(c))),
        }
        in_string ^= c == '"' && !escaped;
        escaped = c == '\\' && in_string && !escaped;
    }
    out
}

/// Whether a terminal would obey `c` instead of showing it: control characters, line ends, and marks of the text direction.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `number` in groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        let text = "two\nlines \u{1b}[2J \u{9b}1m \u{202e}back é 雪 👩\u{200d}🚒";
        let expected = "two\\nlines \\u{1b}[2J \\u{9b}1m \\u{202e}back é 雪 👩\u{200d}🚒";
        assert_eq!(plain(text), expected);
        assert_eq!(plain_lines(text), expected.replace("\\n", "\n"));
        assert_eq!(plain_lines("\u{1b}]52;c;aGk=\u{7}\r\n"), "\\u{1b}]52;c;aGk=\\u{7}\\r\n");
    }

    #[test]
    fn json_means_the_same() {
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (line, written) in [
            ("{\"a\":\"\u{7f}\u{9b}1m \u{2066}é\"}", "{\"a\":\"\\u007f\\u009b1m \\u2066é\"}"),
            (
                "{\n\t\"a\\\"\u{9b}\" :\r\n\"b\\\\\"\n,\"\u{9b}\":1}",
                "{  \"a\\\"\\u009b\" :  \"b\\\\\" ,\"\\u009b\":1}",
            ),
        ] {
            assert_eq!(plain_json(line), written);
            assert_eq!(read(written), read(line));
        }
    }

    #[test]
    fn numbers_are_grouped() {
        let groups = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(groups, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
