//! Reads Rust source as tokens and finds the paths in it, without a parser.
//!
//! Comments, texts and `#[cfg(test)]` items are left out. What this reads has passed rustfmt.

/// A token and its line.
pub(crate) type Token<'a> = (usize, &'a str);

/// The code in `text`: no comments, nothing inside literals, no tests. Lines stay where they are.
pub(crate) fn code(text: &str) -> String {
    without_tests(&without_texts(text))
}

/// Words and punctuation with their lines; `::` is one token.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(c) = rest.chars().next() {
            let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let length = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                c.len_utf8()
            };
            tokens.push((index + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Every path with at least one `::`, and every path of a `use`, whose groups are written out.
pub(crate) fn paths<'a>(tokens: &[Token<'a>]) -> Vec<(usize, Vec<&'a str>)> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // What follows `use<` is what a type captures.
        if tokens[at].1 == "use" && tokens.get(at + 1).is_some_and(|next| next.1 != "<") {
            at = use_tree(tokens, at + 1, &[], &mut paths);
            continue;
        }
        let start = at;
        let mut path = Vec::new();
        while at < tokens.len() && tokens[at].1.starts_with(is_word) {
            path.push(tokens[at].1);
            at += 1;
            if tokens.get(at).is_none_or(|next| next.1 != "::") {
                break;
            }
            at += 1;
        }
        if at > start + 1 {
            paths.push((tokens[start].0, path));
        }
        at = at.max(start + 1);
    }
    paths
}

/// The text with comments and the insides of string and character literals left out; lines stay.
fn without_texts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if !out.ends_with(is_word) => raw_string_length(rest),
            '"' => string_length(rest),
            '\'' => char_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(c);
        } else {
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        }
        rest = &rest[skipped.max(c.len_utf8() * usize::from(skipped == 0))..];
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the raw string that `text` begins with; 0 where it begins with none.
fn raw_string_length(text: &str) -> usize {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    text[start..].find(&close).map_or(text.len(), |end| start + end + close.len())
}

/// The length of the string that `text` begins with.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character literal that `text` begins with; 0 for a lifetime.
fn char_length(text: &str) -> usize {
    let body = &text[1..];
    let Some(first) = body.chars().next() else { return 0 };
    let content = if first == '\\' { 2 } else { first.len_utf8() };
    match body.get(content..).and_then(|tail| tail.find('\'')) {
        Some(0) => content + 2,
        // An escape such as \u{fffd} is longer.
        Some(more) if first == '\\' => content + more + 2,
        _ => 0,
    }
}

/// The text without the items marked `#[cfg(test)]`; lines stay. rustfmt ends an item at its own indentation.
fn without_tests(text: &str) -> String {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let ends =
                |item: &&str| indentation(item) == indentation(line) && item.trim_end().ends_with([';', '}']);
            let skipped = lines.by_ref().position(|item| ends(&item)).map_or(0, |at| at + 1);
            out.push_str(&"\n".repeat(skipped + 1));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Reads one tree of a `use` from `at`; gives where it ends.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.0);
    while let Some((_, token)) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.1 != "}") {
                    at = use_tree(tokens, at, &path, paths);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.1 == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => at += 1,
            "::" => {}
            step => path.push(step),
        }
        at += 1;
    }
    paths.push((line, path));
    at
}
