//! `extensions.bearertokenauth` and `extensions.basicauth`, with the Collector's keys and meanings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::values::secret::Secret;

/// `auth` of a protocol.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The extension that authenticates senders, such as `bearertokenauth` or `basicauth/senders`.
    pub authenticator: String,
}

/// An extension that authenticates senders.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AuthenticatorConfig {
    /// `bearertokenauth`
    Bearer(BearerConfig),
    /// `basicauth`
    Basic(BasicConfig),
}

/// `extensions.bearertokenauth`: exactly one of `token`, `tokens` and `filename`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BearerConfig {
    /// The word before the token; may be empty.
    pub scheme: String,
    /// The header with the token.
    pub header: String,
    /// The only token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// All accepted tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Secret>,
    /// A file with one token per line, which is read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<PathBuf>,
}

/// `extensions.basicauth`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicConfig {
    /// Names and passwords.
    pub htpasswd: Htpasswd,
}

/// `extensions.basicauth.htpasswd`: lines of `name:password`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Htpasswd {
    /// A file as `htpasswd -B` makes it, which is read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The same lines as text, which take precedence over the file. Passwords may be in plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<Secret>,
}

impl Default for BearerConfig {
    fn default() -> Self {
        Self {
            scheme: "Bearer".to_owned(),
            header: "Authorization".to_owned(),
            token: None,
            tokens: Vec::new(),
            filename: None,
        }
    }
}
