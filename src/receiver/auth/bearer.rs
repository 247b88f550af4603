//! Bearer tokens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use http::header::{HeaderMap, HeaderName};
use tracing::{info, warn};

use super::Denied;
use super::config::BearerConfig;
use super::keyed::{Digest, Key, sha256};
use crate::receiver::file::{Look, Unusable, Watch, fingerprint, read, read_senders};
use crate::values::secret::Secret;

/// Authenticates by token.
#[derive(Debug)]
pub(in crate::receiver) struct Bearer {
    config: BearerConfig,
    header: HeaderName,
    /// Its key in the configuration.
    at: String,
    key: Key,
    /// The name of each token.
    tokens: RwLock<HashMap<Digest, Arc<str>>>,
    /// Watches the file.
    watch: Watch,
}

impl Bearer {
    pub(super) fn open(config: &BearerConfig, at: &str) -> Result<Self, Unusable> {
        let header = HeaderName::from_bytes(config.header.as_bytes()).map_err(|_| {
            let problem =
                format!("found {:?}, expected the name of a header, such as authorization", config.header);
            Unusable::new(format!("{at}.header"), problem)
        })?;
        let key = Key::new();
        let (tokens, watch) = match (&config.token, &config.tokens[..], &config.filename) {
            (Some(token), [], None) => {
                (vec![usable(token.expose(), &format!("{at}.token"), "")?], Watch::default())
            }
            (None, tokens @ [_, ..], None) => {
                let usable = |(index, token): (usize, &Secret)| {
                    usable(token.expose(), &format!("{at}.tokens.[{index}]"), "")
                };
                (tokens.iter().enumerate().map(usable).collect::<Result<_, _>>()?, Watch::default())
            }
            (None, [], Some(path)) => {
                let key = format!("{at}.filename");
                let bytes = read(&key, path)?;
                let tokens = of_file(&bytes, &key, config)?;
                if tokens.is_empty() {
                    return Err(no_token(&key, path));
                }
                (tokens, Watch::new(fingerprint([&bytes])))
            }
            _ => {
                let problem = "expected exactly one of token, tokens (a list) and filename (a file with one token per line)";
                return Err(Unusable::new(at, problem));
            }
        };
        let tokens = by_digest(&key, &tokens);
        let (config, at) = (config.clone(), at.to_owned());
        Ok(Self { config, header, at, key, tokens: RwLock::new(tokens), watch })
    }

    /// The name of the token in these headers.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Arc<str>, Denied> {
        let value = headers.get(&self.header).ok_or(Denied::Missing)?;
        let token = behind_scheme(&self.config.scheme, value.as_bytes()).ok_or(Denied::Wrong)?;
        let digest = self.key.digest(token);
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&digest).cloned().ok_or(Denied::Wrong)
    }

    /// Reads the file if it has changed; see [`Watch::look`].
    pub(super) fn look(&self) -> bool {
        let Some(path) = &self.config.filename else { return true };
        let key = format!("{}.filename", self.at);
        let bytes = read_senders(&key, path).map(|bytes| (fingerprint([&bytes]), bytes));
        self.watch.look(bytes, |bytes, look| {
            let tokens = of_file(&bytes, &key, &self.config)?;
            let file = path.display();
            match (tokens.len(), look) {
                (0, Look::First) => return Err(no_token(&key, path)),
                (0, Look::Second) => {
                    warn!(key, %file, "the token file is empty or missing; none of its tokens can send any more");
                }
                (tokens, _) => info!(key, %file, tokens, "the token file has changed and is in force"),
            }
            let tokens = by_digest(&self.key, &tokens);
            *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
            Ok(())
        })
    }

    pub(super) fn has_file(&self) -> bool {
        self.config.filename.is_some()
    }

    /// The header that sends a token, for messages.
    pub(super) fn form(&self) -> String {
        let space = if self.config.scheme.is_empty() { "" } else { " " };
        format!("{}: {}{space}TOKEN", self.header, self.config.scheme)
    }

    pub(super) fn scheme(&self) -> &str {
        if self.config.scheme.is_empty() { "Bearer" } else { &self.config.scheme }
    }
}

/// The part of a header's value behind `scheme`, whose case does not matter (RFC 9110).
pub(super) fn behind_scheme<'a>(scheme: &str, value: &'a [u8]) -> Option<&'a [u8]> {
    if scheme.is_empty() {
        return Some(value);
    }
    let (begin, rest) = value.split_at_checked(scheme.len())?;
    begin.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.strip_prefix(b" ")).flatten()
}

/// The tokens by their digests.
fn by_digest(key: &Key, tokens: &[String]) -> HashMap<Digest, Arc<str>> {
    tokens.iter().map(|token| (key.digest(token.as_bytes()), called(token))).collect()
}

/// The name of a token: the beginning of its SHA-256, which tells tokens apart and does not reveal them.
fn called(token: &str) -> Arc<str> {
    let [a, b, c, d, ..] = sha256(token.as_bytes());
    format!("token:{a:02x}{b:02x}{c:02x}{d:02x}").into()
}

/// Checks that a token can be sent in a header. `place` is its position within the value of `key`, for the error.
fn usable(token: &str, key: &str, place: &str) -> Result<String, Unusable> {
    let problem =
        "a token consists of one or more visible ASCII characters; others cannot be sent in a header";
    let sendable = !token.is_empty() && token.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    sendable.then(|| token.to_owned()).ok_or_else(|| Unusable::new(key, format!("{place}{problem}")))
}

/// The tokens of a file, one per line; empty lines are skipped.
fn of_file(bytes: &[u8], key: &str, config: &BearerConfig) -> Result<Vec<String>, Unusable> {
    let path = config.filename.as_deref().unwrap_or("".as_ref()).display();
    let text = str::from_utf8(bytes).map_err(|_| Unusable::new(key, format!("{path} is not text")))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let token = |(index, line)| {
        let place = format!("{path}, line {}: ", index + 1);
        let token = usable(line, key, &place)?;
        // A comment or a copy of the whole header is a mistake, not a token.
        let of_token = |c: char| c != ' ' && c != '"' && c != '\'';
        if token.starts_with('#') || !token.chars().all(of_token) {
            let problem =
                "a line is a token and nothing else: no comment, no quotes, no spaces, no Bearer in front";
            return Err(Unusable::new(key, format!("{place}{problem}")));
        }
        Ok(token)
    };
    lines.map(token).collect()
}

fn no_token(key: &str, path: &Path) -> Unusable {
    Unusable::new(key, format!("{} holds no token; write one per line", path.display()))
}
