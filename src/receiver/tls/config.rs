//! `tls` of a protocol, with the Collector's keys and meanings.

use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::values::duration::GoDuration;
use crate::values::scalar::{self, Scalar, Words};
use crate::values::secret::Secret;

/// `receivers.otlp.protocols.*.tls`.
#[derive(Clone, Debug, Default, serde::Deserialize, PartialEq, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// A PEM file with the certificate, followed by those of intermediate authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The same as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_pem: Option<Secret>,
    /// A PEM file with the certificate's private key, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The same as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_pem: Option<Secret>,
    /// A PEM file with certificates of authorities. Clients must have a certificate by one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// The same as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_pem: Option<Secret>,
    /// The oldest version that is accepted.
    pub min_version: MinVersion,
    /// How often the files are checked for changes; 0 is never.
    pub reload_interval: GoDuration,
}

/// `tls.min_version`. Versions before TLS 1.2 are not safe and not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl Serialize for MinVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

impl Scalar for MinVersion {
    fn expected() -> Words {
        "1.2 or 1.3; what is older is not safe".into()
    }

    fn parse(text: &str) -> Result<Self, Words> {
        match text.trim() {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(Self::expected()),
        }
    }
}

impl<'de> Deserialize<'de> for MinVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::read(deserializer, None)
    }
}
