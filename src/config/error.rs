//! The reasons to refuse a configuration. Each message names the key or the file, the value found there and the allowed ones;
//! none shows a password.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::{Error, Expected, Unexpected};

use super::absent;
use crate::values::text::NotText;

/// Why forebay does not start with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A `--config` file could not be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A `--config` file is not text.
    #[error("{}: {source}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Its encoding, or its first invalid byte.
        source: NotText,
    },
    /// `--config env:NAME` names a variable that is not set.
    #[error("--config env:{0}: the environment variable {0} is not set")]
    Unset(String),
    /// `--config` names a URL.
    #[error(
        "--config {0}:…: forebay loads no configuration from the network, so that it starts without the network; \
         download it to a file first"
    )]
    Remote(String),
    /// A document is not YAML, or is not a map. The message begins with the place.
    #[error("{0}")]
    Yaml(String),
    /// A `--set` is not `path=value`.
    #[error("--set {0}: expected path=value, such as exporters.postgres.pool_size=4")]
    Set(String),
    /// The value of a key is refused.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A key and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyError {
    /// The keys from the top down; an element of a list is `[0]`.
    path: Vec<String>,
    problem: String,
    /// For an unknown key: the known one that it resembles.
    unknown: Option<Nearest>,
    /// The environment variables that the value was taken from.
    variables: Vec<String>,
}

/// The known key that an unknown one resembles, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nearest(Option<&'static str>);

impl KeyError {
    /// `path` is dotted: `exporters.postgres.pool_size`.
    pub(super) fn new(path: &str, problem: impl Into<String>) -> Self {
        let path = path.split('.').map(str::to_owned).collect();
        Self { path, ..Self::here(problem.into()) }
    }

    /// The same with the steps of a path, which may contain dots.
    pub(super) fn at(path: impl IntoIterator<Item = String>, problem: impl Into<String>) -> Self {
        Self { path: path.into_iter().collect(), ..Self::here(problem.into()) }
    }

    /// The same, seen from one level further up.
    pub(super) fn under(mut self, key: String) -> Self {
        self.path.insert(0, key);
        self
    }

    /// The same, naming the variables that the refused value was taken from.
    pub(super) fn taken_from(mut self, variables: Vec<String>) -> Self {
        self.variables = variables;
        self
    }

    /// The same, with what to do instead if the key is one of the Collector's. The path must be complete.
    pub(super) fn explained(mut self) -> Self {
        let instead = match self.unknown {
            None => None,
            Some(Nearest(Some(_))) => absent::instead(&self.path),
            Some(Nearest(None)) => absent::instead(&self.path).or_else(|| absent::instead_of_any(&self.path)),
        };
        if let Some(instead) = instead {
            self.problem = format!("not in forebay: {instead}");
        }
        self
    }

    pub(super) fn path(&self) -> &[String] {
        &self.path
    }

    fn here(problem: String) -> Self {
        Self { path: Vec::new(), problem, unknown: None, variables: Vec::new() }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, key) in self.path.iter().enumerate() {
            let dot = if depth == 0 || key.starts_with('[') { "" } else { "." };
            let key = presentable(key);
            // YAML needs quotes for these as well.
            let unclear = key.is_empty() || key.contains(": ");
            if unclear { write!(f, "{dot}\"{key}\"")? } else { write!(f, "{dot}{key}")? }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&presentable(&self.problem))?;
        match self.variables.as_slice() {
            [] => Ok(()),
            variables => write!(f, " (the value is from the environment: {})", variables.join(", ")),
        }
    }
}

impl std::error::Error for KeyError {}

impl Error for KeyError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::here(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::here(format!("found {}, expected {}", Found(found), plain(&expected.to_string(), found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, allowed: &'static [&'static str]) -> Self {
        Self::here(format!("found {found:?}, expected one of {}", allowed.join(", ")))
    }

    fn unknown_field(key: &str, allowed: &'static [&'static str]) -> Self {
        let near = nearest(key, allowed);
        let problem = match near {
            Some(near) => format!("unknown key; did you mean {near}?"),
            None => format!("unknown key; known here: {}", allowed.join(", ")),
        };
        Self { unknown: Some(Nearest(near)), ..Self::here(problem) }.under(key.to_owned())
    }
}

/// `text` for a message: on one line, and without the password of a connection string, which may be in the wrong place.
pub(super) fn presentable(text: &str) -> String {
    let line = without(&crate::values::plain::plain(text), "://", |rest| {
        let url = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        let at = url.rfind('@')?;
        Some(url[..at].find(':')? + 1..at)
    });
    without(&line, "password=", |rest| {
        let end = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.find('\'').map(|end| end + 2),
            None => rest.find(char::is_whitespace),
        };
        Some(0..end.unwrap_or(rest.len()))
    })
}

/// `text` without the range that `secret` finds in the text after each `mark`.
fn without(text: &str, mark: &str, secret: impl Fn(&str) -> Option<Range<usize>>) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(mark) {
        let (before, behind) = rest.split_at(at + mark.len());
        shown.push_str(before);
        rest = behind;
        if let Some(hidden) = secret(behind) {
            shown.push_str(&behind[..hidden.start]);
            shown.push('…');
            rest = &behind[hidden.end..];
        }
    }
    shown + rest
}

/// The value found, in the words of YAML.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(found) => write!(f, "{found}"),
            Unexpected::Unsigned(found) => write!(f, "{found}"),
            Unexpected::Signed(found) => write!(f, "{found}"),
            Unexpected::Float(found) => write!(f, "{found}"),
            Unexpected::Str(found) => write!(f, "{found:?}"),
            Unexpected::Unit => f.write_str("nothing"),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map => f.write_str("a map"),
            other => write!(f, "{other}"),
        }
    }
}

/// Serde's expectation, in the words of YAML.
fn plain(expected: &str, found: Unexpected<'_>) -> String {
    let is_whole = matches!(expected, "u16" | "u32" | "u64" | "usize");
    let text = match expected {
        _ if is_whole && matches!(found, Unexpected::Float(number) if number >= u64::MAX as f64) => {
            "a whole number of at most 18446744073709551615"
        }
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" if matches!(found, Unexpected::Seq | Unexpected::Map) => "text",
        "a string" => "text; put it in quotes",
        "a sequence" => "a list",
        structure if structure.starts_with("struct ") => "a map",
        other => other,
    };
    match found {
        // People separate thousands in many ways.
        Unexpected::Str(found) if is_whole => {
            let number = found.replace([',', '.', '_', '\'', ' '], "");
            let is_number =
                number != found && !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
            if is_number { format!("{text}, such as {number}") } else { text.to_owned() }
        }
        _ => text.to_owned(),
    }
}

/// The allowed key of which `key` is most likely a misspelling.
fn nearest(key: &str, allowed: &[&'static str]) -> Option<&'static str> {
    let distance = |known: &str| strsim::damerau_levenshtein(key, known);
    let near = allowed.iter().copied().min_by_key(|known| distance(known))?;
    (distance(near) <= near.len() / 3 + 1 && distance(near) < near.len()).then_some(near)
}
