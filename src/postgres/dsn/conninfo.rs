//! A connection string as its keys and values, in libpq's two forms (PostgreSQL manual, "Connection Strings"): `key=value` pairs,
//! and URLs, which SQLAlchemy and JDBC write with a prefix of their own.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;

use super::DsnError;

/// Keys and values in the order of the text; if a key is repeated, the last one counts.
pub(super) type Written = Vec<(String, String)>;

/// A key, and the range of its value in the text.
pub(crate) type Place = (String, Range<usize>);

/// A pair of a connection string.
struct Pair {
    key: String,
    value: String,
    place: Range<usize>,
}

/// Reads all of `text`.
pub(super) fn read(text: &str) -> Result<Written, DsnError> {
    Ok(pairs(text)?.into_iter().map(|pair| (pair.key, pair.value)).collect())
}

/// The places of the values in `text`.
pub(crate) fn places(text: &str) -> Result<Vec<Place>, DsnError> {
    Ok(pairs(text)?.into_iter().map(|pair| (pair.key, pair.place)).collect())
}

fn pairs(text: &str) -> Result<Vec<Pair>, DsnError> {
    match authority(text) {
        Some(start) => Url { text, at: start, pairs: Vec::new() }.read(),
        None => key_values(text),
    }
}

fn broken<T>(problem: &str) -> Result<T, DsnError> {
    Err(DsnError::Parse(problem.to_owned()))
}

/// The start of a URL's authority; `None` if it is not a PostgreSQL URL.
fn authority(text: &str) -> Option<usize> {
    let (scheme, _) = text.split_once("://")?;
    let scheme = scheme.trim_start().to_ascii_lowercase();
    let scheme = scheme.strip_prefix("jdbc:").unwrap_or(&scheme);
    // SQLAlchemy names the driver: postgresql+psycopg.
    let (name, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
    let is_ours = matches!(name, "postgres" | "postgresql")
        && driver.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_ours.then(|| text.find("://").map(|at| at + 3))?
}

/// A URL while it is read.
struct Url<'a> {
    text: &'a str,
    at: usize,
    pairs: Vec<Pair>,
}

impl Url<'_> {
    /// Reads in libpq's order: user and password (up to an @ before any slash), hosts with ports, database, parameters.
    fn read(mut self) -> Result<Vec<Pair>, DsnError> {
        let end = self.text.trim_end().len().max(self.at);
        let ahead = &self.text[self.at..end];
        if let Some(at) = ahead.find(['@', '/']).filter(|at| ahead[*at..].starts_with('@')) {
            let (user, password) = ahead[..at]
                .split_once(':')
                .map_or((at, None), |(user, _)| (user.len(), Some(user.len() + 1)));
            self.put("user", self.at..self.at + user)?;
            if let Some(password) = password {
                self.put("password", self.at + password..self.at + at)?;
            }
            self.at += at + 1;
        }
        let rest = &self.text[self.at..end];
        let hosts = rest.find(['/', '?']).unwrap_or(rest.len());
        self.hosts(self.at..self.at + hosts)?;
        let query = rest.find('?').map_or(end, |at| self.at + at);
        if rest[hosts..].starts_with('/') {
            let name = self.at + hosts + 1..query;
            if self.text[name.clone()].contains('@') {
                return broken(
                    "there is an @ behind a slash; in a password, a slash is written %2F and an @ %40",
                );
            }
            self.put("dbname", name)?;
        }
        if query < end {
            self.parameters(query + 1..end)?;
        }
        Ok(self.pairs)
    }

    fn hosts(&mut self, place: Range<usize>) -> Result<(), DsnError> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for one in self.text[place.clone()].split(',') {
            let (host, port) = match one.strip_prefix('[') {
                Some(rest) => match rest.split_once(']') {
                    Some(("", _)) => return broken("an IPv6 address in [ ] is empty"),
                    Some((host, "")) => (host, ""),
                    Some((host, port)) if port.starts_with(':') => (host, &port[1..]),
                    _ => {
                        return broken(
                            "an IPv6 address in [ ] is not closed, or not followed by : and a port",
                        );
                    }
                },
                None => one.split_once(':').unwrap_or((one, "")),
            };
            hosts.push(host);
            ports.push(port);
        }
        // As in libpq, a list of empty elements sets nothing, so that other sources can.
        for (key, list) in [("host", hosts), ("port", ports)] {
            let list = list.join(",");
            if !list.is_empty() && (list.contains(|c| c != ',') || key == "host") {
                let value = decode(&list)?.into_owned();
                self.pairs.push(Pair { key: key.to_owned(), value, place: place.clone() });
            }
        }
        Ok(())
    }

    fn parameters(&mut self, place: Range<usize>) -> Result<(), DsnError> {
        let mut start = place.start;
        for pair in self.text[place].split('&') {
            let place = start..start + pair.len();
            start = place.end + 1;
            if pair.trim().is_empty() {
                continue;
            }
            let Some((key, value)) = pair.split_once('=') else {
                return broken("a parameter behind the ? has no value; write key=value, with & between them");
            };
            let (key, value) = translated(decode(key)?.trim(), decode(value)?.trim());
            let place = place.start + pair.find('=').unwrap_or_default() + 1..place.end;
            self.pairs.push(Pair { key, value, place });
        }
        Ok(())
    }

    fn put(&mut self, key: &str, place: Range<usize>) -> Result<(), DsnError> {
        let value = decode(self.text[place.clone()].trim())?.into_owned();
        if !value.is_empty() {
            self.pairs.push(Pair { key: key.to_owned(), value, place });
        }
        Ok(())
    }
}

/// Translates parameters of JDBC and asyncpg into libpq's.
fn translated(key: &str, value: &str) -> (String, String) {
    let (key, value) = match (key, value) {
        ("ssl", "true") => ("sslmode", "require"),
        ("ssl", "false") => ("sslmode", "disable"),
        ("ssl", mode) => ("sslmode", mode),
        ("ApplicationName", name) => ("application_name", name),
        ("connectTimeout", seconds) => ("connect_timeout", seconds),
        ("targetServerType", "primary" | "master") => ("target_session_attrs", "primary"),
        ("targetServerType", other) => ("target_session_attrs", other),
        same => same,
    };
    (key.to_owned(), value.to_owned())
}

/// `text` percent-decoded. Like libpq, and unlike a browser, it refuses a % that is not followed by two digits.
fn decode(text: &str) -> Result<Cow<'_, str>, DsnError> {
    let is_code = |rest: &str| {
        rest.len() >= 2
            && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
            && !rest.starts_with("00")
    };
    if !text.split('%').skip(1).all(is_code) {
        return broken("a % is not followed by two hexadecimal digits; a % itself is written %25");
    }
    percent_decode_str(text).decode_utf8().or_else(|_| broken("what the %.. stand for is not UTF-8"))
}

fn key_values(text: &str) -> Result<Vec<Pair>, DsnError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    let position = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    while !rest.is_empty() {
        let Some((key, behind)) = rest.split_once('=') else {
            return broken(if text.contains("://") {
                "its scheme is not postgresql://"
            } else {
                "a key has no value"
            });
        };
        let behind = behind.trim_start();
        let (value, length) = value(behind)?;
        let start = position(behind);
        pairs.push(Pair { key: key.trim().to_owned(), value, place: start..start + length });
        rest = behind[length..].trim_start();
    }
    Ok(pairs)
}

/// The value that `text` begins with, and its length in the text.
fn value(text: &str) -> Result<(String, usize), DsnError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, at + 1)),
            c if c.is_whitespace() && !quoted => return Ok((value, at)),
            c => value.push(c),
        }
    }
    if quoted { broken("a quote is not closed") } else { Ok((value, text.len())) }
}
