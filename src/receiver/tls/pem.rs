//! Makes rustls configurations of PEM files, with an explanation for everything that can be wrong with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, RootCertStore, ServerConfig, SupportedProtocolVersion};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;

use super::accept::Presented;
use super::config::{MinVersion, TlsConfig};
use crate::receiver::file::{Fingerprint, Unusable, fingerprint, read};
use crate::values::secret::Secret;

/// `commonName` (RFC 4519).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The bytes of certificate, key and authorities, with their sources.
pub(super) struct Pem {
    certificate: Part,
    key: Part,
    client_ca: Option<Part>,
}

struct Part {
    /// Its key in the configuration.
    key: String,
    /// Its file, if it is from one.
    path: Option<PathBuf>,
    bytes: Vec<u8>,
}

/// A server configuration.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) config: Arc<ServerConfig>,
    /// The first and last moment of the certificate's validity; `None` if they cannot be read.
    pub(super) valid: Option<(Timestamp, Timestamp)>,
    /// Verifies clients, and the fingerprint of its authorities.
    clients: Option<(Arc<dyn ClientCertVerifier>, Fingerprint)>,
}

impl Pem {
    /// Reads the files and texts of `config`, the value of `key`.
    pub(super) fn read(config: &TlsConfig, key: &str) -> Result<Self, Unusable> {
        let part = |name, file, text| Part::read(&format!("{key}.{name}"), file, text);
        let needed = |name: &str, part: Option<Part>| {
            let problem =
                || format!("missing; TLS needs `{name}_file`, a file in PEM, or `{name}_pem`, its text");
            part.ok_or_else(|| Unusable::new(format!("{key}.{name}_file"), problem()))
        };
        Ok(Self {
            certificate: needed("cert", part("cert", &config.cert_file, &config.cert_pem)?)?,
            key: needed("key", part("key", &config.key_file, &config.key_pem)?)?,
            client_ca: part("client_ca", &config.client_ca_file, &config.client_ca_pem)?,
        })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let parts = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        fingerprint(parts.into_iter().flatten().map(|part| &part.bytes))
    }

    /// The server configuration with them.
    pub(super) fn serve(&self, least: MinVersion, alpn: &[&str]) -> Result<Served, Unusable> {
        let chain = self.certificate.certificates()?;
        let valid = validity(&chain[0]);
        let versions: &[&SupportedProtocolVersion] = match least {
            MinVersion::Tls12 => &[&TLS12, &TLS13],
            MinVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("aws-lc-rs has the cipher suites of TLS 1.2 and 1.3");
        let verifier = |part: &Part| Ok((part.verifier()?, fingerprint([&part.bytes])));
        let clients = self.client_ca.as_ref().map(verifier).transpose()?;
        let builder = match &clients {
            Some((verifier, _)) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let made = builder.with_single_cert(chain, self.key.private_key()?);
        let mut config = made.map_err(|error| self.mismatch(error))?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Served { config: Arc::new(config), valid, clients })
    }

    fn mismatch(&self, error: Error) -> Unusable {
        match error {
            Error::InconsistentKeys(_) => {
                let certificate = self.certificate.name();
                let several = self.certificate.certificates().is_ok_and(|chain| chain.len() > 1);
                let cure = if several { "the server's own certificate comes first there, then its authority's" } else { "they are made together" };
                self.key.unusable(format!("is not the key of the certificate in {certificate}; {cure}"))
            }
            Error::InvalidCertificate(cause) => {
                self.certificate.unusable(format!("holds an unusable certificate: {cause}"))
            }
            other => self.key.unusable(format!(
                "holds an unusable key: {other}; RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 and P-521, and Ed25519 are known"
            )),
        }
    }
}

impl Part {
    /// `None` if neither is given.
    fn read(name: &str, file: &Option<PathBuf>, text: &Option<Secret>) -> Result<Option<Self>, Unusable> {
        let file = file.as_ref().filter(|path| !path.as_os_str().is_empty());
        let text = text.as_ref().filter(|text| !text.expose().is_empty());
        let (key, bytes) = match (file, text) {
            (None, None) => return Ok(None),
            (Some(path), None) => {
                let key = format!("{name}_file");
                let bytes = read(&key, path)?;
                (key, bytes)
            }
            (None, Some(text)) => (format!("{name}_pem"), text.expose().as_bytes().to_vec()),
            (Some(_), Some(_)) => {
                let last = name.rsplit('.').next().unwrap_or(name);
                let problem = format!("{last}_pem is set as well; remove one of them");
                return Err(Unusable::new(format!("{name}_file"), problem));
            }
        };
        Ok(Some(Self { key, path: file.cloned(), bytes }))
    }

    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| self.key.clone(), |path| path.display().to_string())
    }

    fn unusable(&self, problem: impl AsRef<str>) -> Unusable {
        let problem = problem.as_ref();
        match &self.path {
            Some(path) => Unusable::new(&self.key, format!("{} {problem}", path.display())),
            None => Unusable::new(&self.key, format!("it {problem}")),
        }
    }

    /// At least one certificate.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Unusable> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match all {
            Ok(all) if !all.is_empty() => Ok(all),
            _ if self.is_der() => {
                Err(self.unusable("is DER; write it as PEM: openssl x509 -inform DER -in IN -out OUT.pem"))
            }
            Ok(_) => {
                Err(self.unusable("holds no certificate; it must have a line -----BEGIN CERTIFICATE-----"))
            }
            Err(error) => Err(self.unusable(format!("is not PEM: {}", presentable(&error)))),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Unusable> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| {
            if self.bytes.windows(9).any(|part| part == b"ENCRYPTED") {
                let plain = "openssl pkey -in ENCRYPTED.pem -out PLAIN.pem";
                return self.unusable(format!(
                    "holds an encrypted key, whose password cannot be entered; decrypt it: {plain}"
                ));
            }
            match error {
                _ if self.is_der() => {
                    self.unusable("is DER; write it as PEM: openssl pkey -inform DER -in IN -out OUT.pem")
                }
                pem::Error::NoItemsFound => {
                    self.unusable("holds no private key; it must have a line -----BEGIN PRIVATE KEY-----")
                }
                error => self.unusable(format!("is not PEM: {}", presentable(&error))),
            }
        })
    }

    /// Whether it begins as certificates and keys in DER do.
    fn is_der(&self) -> bool {
        matches!(self.bytes[..], [0x30, 0x81..=0x83, ..])
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            let added = roots.add(certificate);
            added.map_err(|error| self.unusable(format!("holds an unusable certificate: {error}")))?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()))
            .build()
            .map_err(|error| self.unusable(format!("cannot be used: {error}")))
    }
}

/// The text of an error, without any line of the file, which may be a key.
fn presentable(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "the line -----END ...----- is missing",
        pem::Error::IllegalSectionStart { .. } => "a line -----BEGIN ...----- is damaged",
        pem::Error::Base64Decode(_) => "what is between BEGIN and END is not base64",
        _ => "it cannot be read",
    }
}

/// The last common name of the certificate's subject.
fn common_name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let subject = Certificate::from_der(certificate).ok()?.tbs_certificate.subject;
    let mut parts = subject.0.iter().flat_map(|part| part.0.iter());
    let name = parts.rfind(|part| part.oid == COMMON_NAME)?;
    str::from_utf8(name.value.value()).ok().map(Arc::from)
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let validity = Certificate::from_der(certificate).ok()?.tbs_certificate.validity;
    let stamp = |since: Duration| Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok();
    Some((stamp(validity.not_before.to_unix_duration())?, stamp(validity.not_after.to_unix_duration())?))
}

impl Presented {
    pub(super) fn new(certificates: &[CertificateDer<'_>]) -> Self {
        let certificates: Vec<_> = certificates.iter().map(|one| one.clone().into_owned()).collect();
        let name = certificates.first().and_then(common_name);
        Self { certificates, name }
    }

    /// How long all of them are still valid; `None` if that cannot be read, or has passed.
    pub(super) fn remains(&self) -> Option<Duration> {
        let ends = self.certificates.iter().map(|certificate| Some(validity(certificate)?.1));
        let end = ends.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        end.duration_since(Timestamp::now()).try_into().ok()
    }
}

impl Served {
    /// The problem with the certificate's dates now, if any.
    pub(super) fn outdated(&self) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_second(i64::try_from(now.as_secs()).ok()?).ok()?;
        match self.valid? {
            (_, end) if end < now => Some(format!("has expired on {end}; clients will refuse it")),
            (begin, _) if begin > now => Some(format!("is not valid before {begin}; clients will refuse it")),
            _ => None,
        }
    }

    /// Whether it trusts the same authorities for clients.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        let asks = |served: &Self| served.clients.as_ref().map(|(_, authorities)| *authorities);
        asks(self) == asks(other)
    }

    /// Whether a client with these certificates would be accepted now.
    pub(super) fn trusts(&self, Presented { certificates, .. }: &Presented) -> bool {
        let Some((verifier, _)) = &self.clients else { return true };
        let [own, between @ ..] = &certificates[..] else { return false };
        verifier.verify_client_cert(own, between, UnixTime::now()).is_ok()
    }

    /// The end of its validity, for messages.
    pub(super) fn valid_until(&self) -> String {
        self.valid.map_or_else(|| "unknown".to_owned(), |(_, end)| end.to_string())
    }
}
