//! References to the environment: `${env:NAME}`, `${env:NAME:-default}` and the short `${NAME}`.
//!
//! As in the Collector, `$$` is a literal `$`, a `$` before anything but `{` stays, and an unset variable without a default
//! is an error. As in a shell, an empty variable takes its default: Compose files pass unset variables on as empty ones.
//! References in the value of a variable are not expanded.

use super::error::KeyError;

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text after expansion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The text.
    pub(super) text: String,
    /// The length of the value, if the text was one reference, perhaps with letters after it: the value may be a number, and
    /// the letters its unit.
    pub(super) value: Option<usize>,
}

/// Expands the references in `text`; `None` if it has no `$`.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<Option<Expanded>, KeyError> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut expanded = Expanded { text: String::with_capacity(text.len()), value: None };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.text.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(after) = tail.strip_prefix("${") {
            let end = closing_brace(after).ok_or_else(unclosed)?;
            expanded.text.push_str(&resolve(&after[..end], env)?);
            rest = &after[end + 1..];
            let is_alone = tail.len() == text.len() && rest.chars().all(|c| c.is_ascii_alphabetic());
            expanded.value = is_alone.then_some(expanded.text.len());
        } else {
            expanded.text.push('$');
            rest = tail.strip_prefix("$$").unwrap_or(&tail[1..]);
        }
    }
    expanded.text.push_str(rest);
    Ok(Some(expanded))
}

/// The variables in `text`, each with its value.
pub(super) fn variables(text: &str, env: Env<'_>) -> Vec<(String, Option<String>)> {
    let variables = std::cell::RefCell::new(Vec::new());
    let noted = |name: &str| {
        let value = env(name);
        variables.borrow_mut().push((name.to_owned(), value.clone()));
        value
    };
    // A reference that cannot be resolved is already reported by name.
    let _ = expand(text, &noted);
    variables.into_inner()
}

/// The value of the reference whose inside is `body`.
fn resolve(body: &str, env: Env<'_>) -> Result<String, KeyError> {
    let reference = body.strip_prefix("env:").unwrap_or(body);
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_variable_name(name) {
        return Err(refused(format!(
            "`${{{name}}}` is not a reference; expected ${{env:NAME}} or ${{env:NAME:-default}}, \
             and $$ for a literal $"
        )));
    }
    // A secret from a file often ends with the file's line end.
    let value = env(name).map(|value| value.trim_end_matches(['\r', '\n']).to_owned());
    match (value, default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => {
            Ok(expand(default, env)?.map_or_else(|| default.to_owned(), |default| default.text))
        }
        (None, None) => Err(refused(format!(
            "the environment variable {name} is not set; set it, or write ${{env:{name}:-default}}"
        ))),
    }
}

/// The index of the brace that closes the one before `text`; a default may contain references.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut last = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if last == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        last = c;
    }
    None
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unclosed() -> KeyError {
    refused("`${` is not closed; expected ${env:NAME} or ${env:NAME:-default}, and $$ for a literal $".into())
}

fn refused(problem: String) -> KeyError {
    serde::de::Error::custom(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("4317".to_owned()),
            "EMPTY" => Some(String::new()),
            "OF_A_FILE" => Some("hunter2\r\n".to_owned()),
            "TWO_LINES" => Some("a\nb\n\n".to_owned()),
            "LINE_END" => Some("\n".to_owned()),
            "DOLLARS" => Some("a$$b${env:PORT}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_reference_becomes_the_value() {
        for (reference, expected) in [
            ("${env:PORT}", "4317"),
            ("${PORT}", "4317"),
            ("127.0.0.1:${env:PORT}/${env:PORT}", "127.0.0.1:4317/4317"),
            ("${env:PORT:-1}", "4317"),
            ("${env:NONE:-1.0}s", "1.0s"),
            ("${env:NONE:-postgres://u:p@h:5432/db?a=b}", "postgres://u:p@h:5432/db?a=b"),
            ("${env:NONE:-${env:NEITHER:-${env:PORT}}}!", "4317!"),
            ("${env:NONE:-}", ""),
            // An empty variable takes the default.
            ("${env:EMPTY:-x}", "x"),
            ("${env:EMPTY}", ""),
            // The end of the line is no part of a value.
            ("postgres://u:${env:OF_A_FILE}@h/db", "postgres://u:hunter2@h/db"),
            ("${env:TWO_LINES}", "a\nb"),
            ("${env:LINE_END:-x}", "x"),
            // A dollar can be literal.
            ("pa$$word", "pa$word"),
            ("pa$word$", "pa$word$"),
            ("$${env:PORT}", "${env:PORT}"),
            ("$$${env:PORT}", "$4317"),
            // A value is not expanded again.
            ("${env:DOLLARS}", "a$$b${env:PORT}"),
        ] {
            assert_eq!(expand(reference, &env).unwrap().unwrap().text, expected, "{reference}");
        }
        assert_eq!(expand("plain", &env).unwrap(), None);
    }

    #[test]
    fn a_reference_by_itself_or_with_a_unit_has_a_value() {
        let value = |text| expand(text, &env).unwrap().unwrap().value;
        for text in ["${env:PORT}", "${env:NONE:-${env:PORT}}", "${env:PORT}MiB"] {
            assert_eq!(value(text), Some(4), "{text}");
        }
        for text in ["${env:PORT}/s", "x${env:PORT}", "${env:PORT}${env:PORT}", "$$", "${env:PORT}$$"] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn the_variables_behind_a_value_are_named() {
        let expected = [("PORT".to_owned(), Some("4317".to_owned())), ("NONE".to_owned(), None)];
        assert_eq!(variables("${env:PORT}-${env:NONE:-x}-$$", &env), expected);
        assert!(variables("plain", &env).is_empty());
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        let refusal = |text| expand(text, &env).unwrap_err().to_string();
        assert_eq!(
            refusal("${env:NONE}"),
            "the environment variable NONE is not set; set it, or write ${env:NONE:-default}"
        );
        assert_eq!(
            refusal("x${env:PORT"),
            "`${` is not closed; expected ${env:NAME} or ${env:NAME:-default}, and $$ for a literal $"
        );
        for (text, named) in [
            ("${file:/etc/passwd}", "`${file:/etc/passwd}`"),
            ("${}", "`${}`"),
            ("${env:}", "`${}`"),
            ("${env:1A}", "`${1A}`"),
            ("${env:A-B}", "`${A-B}`"),
            ("${env:A:?gone}", "`${A:?gone}`"),
        ] {
            let expected = format!(
                "{named} is not a reference; expected ${{env:NAME}} or ${{env:NAME:-default}}, \
                 and $$ for a literal $"
            );
            assert_eq!(refusal(text), expected, "{text}");
        }
    }
}
