//! TLS to PostgreSQL by rustls, with libpq's keys and meanings.

mod stream;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_postgres::config::SslMode;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::values::text::unmarked;
pub(crate) use stream::Encrypting;
use verifier::Verifier;

/// The TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    pub(crate) verify: Verify,
    /// The file of trusted authorities; `None` is the system's.
    pub(crate) root: Option<PathBuf>,
    /// The file of revoked certificates.
    pub(crate) revoked: Option<PathBuf>,
    /// The files of the client's certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// The version that is not offered.
    pub(crate) without: Option<Version>,
    /// Whether no server name (SNI) is sent.
    pub(crate) hides_name: bool,
}

/// How much of the server's certificate is checked (PostgreSQL manual, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Nothing, as libpq does for `prefer` and for `require` without a root certificate.
    #[default]
    Nothing,
    /// It was issued by a trusted authority.
    Authority,
    /// It was issued by a trusted authority, and for the host connected to.
    Host,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// libpq's keys for TLS.
pub(crate) struct TlsOptions<'a> {
    /// The value of a key.
    pub(crate) get: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The path of a file in the user's home.
    pub(crate) at_home: &'a dyn Fn(&str) -> Option<PathBuf>,
}

/// TLS settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no such mode.
    #[error("sslmode={0} is not allowed; allowed are disable, prefer, require, verify-ca, verify-full")]
    Mode(String),
    /// Every public authority is trusted for every host.
    #[error(
        "sslmode={mode} with {root} would take any public certificate for the server's; set sslmode=verify-full, or sslrootcert to \
         the file of the authority that issued the server's certificate"
    )]
    Weak {
        /// The mode.
        mode: String,
        /// The authorities.
        root: &'static str,
    },
    /// A file cannot be used.
    #[error("{key} {path}: {problem}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A key has a value that does not exist, or that forebay does not support.
    #[error("{0}")]
    Value(String),
}

impl TlsOptions<'_> {
    /// The file that `key` names, or libpq's default `usual` in `~/.postgresql` if that exists.
    fn file(&self, key: &str, usual: &str) -> Option<PathBuf> {
        let usual = || (self.at_home)(&format!(".postgresql/{usual}")).filter(|path| path.exists());
        (self.get)(key).map(PathBuf::from).or_else(usual)
    }

    /// The settings that the keys mean. As in libpq, the system's authorities require verify-full, since anybody can get a
    /// certificate of theirs for some host. Unlike in libpq, the system's are used if there is no default file.
    pub(crate) fn meaning(&self) -> Result<(SslMode, TlsConfig), TlsError> {
        let is_system = (self.get)("sslrootcert") == Some("system");
        let root = if is_system { None } else { self.file("sslrootcert", "root.crt") };
        let mode = (self.get)("sslmode").unwrap_or(if is_system { "verify-full" } else { "prefer" });
        let (ssl_mode, verify) = match mode {
            "disable" => (SslMode::Disable, Verify::Nothing),
            "prefer" | "allow" => (SslMode::Prefer, Verify::Nothing),
            // With a root certificate, require checks the authority.
            "require" if root.is_some() => (SslMode::Require, Verify::Authority),
            "require" => (SslMode::Require, Verify::Nothing),
            "verify-ca" => (SslMode::Require, Verify::Authority),
            "verify-full" => (SslMode::Require, Verify::Host),
            other => return Err(TlsError::Mode(other.to_owned())),
        };
        let weak = |root| Err(TlsError::Weak { mode: mode.to_owned(), root });
        match verify {
            Verify::Nothing | Verify::Authority if is_system => weak("sslrootcert=system"),
            Verify::Authority if root.is_none() => {
                weak("the system's authorities, as no sslrootcert is set,")
            }
            _ => {
                let (identity, without) = (self.identity()?, self.without()?);
                let revoked = self.file("sslcrl", "root.crl").filter(|_| verify != Verify::Nothing);
                let hides_name = (self.get)("sslsni") == Some("0");
                Ok((ssl_mode, TlsConfig { verify, root, revoked, identity, without, hides_name }))
            }
        }
    }

    fn identity(&self) -> Result<Option<(PathBuf, PathBuf)>, TlsError> {
        let value = |text: &str| Err(TlsError::Value(text.to_owned()));
        let certificate = self.file("sslcert", "postgresql.crt");
        let key = self.file("sslkey", "postgresql.key");
        match ((self.get)("sslcertmode"), certificate, key) {
            (Some("disable"), ..) => Ok(None),
            (None | Some("allow" | "require"), Some(_), _) if (self.get)("sslpassword").is_some() => value(
                "sslpassword: forebay reads no encrypted key; write it without its password (openssl pkey -in ENCRYPTED -out \
                 PLAIN, chmod 600 PLAIN) and remove this key",
            ),
            (None | Some("allow" | "require"), Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None | Some("allow" | "require"), Some(_), None) => {
                value("sslcert: the certificate has no key; set sslkey to the file of its private key")
            }
            (Some("require"), None, _) => {
                value("sslcertmode=require takes a certificate; set sslcert and sslkey")
            }
            (None | Some("allow"), None, _) => Ok(None),
            (Some(_), ..) => value("sslcertmode: allowed are disable, allow, require"),
        }
    }

    /// The one of rustls' two versions that is not between the oldest and the newest allowed.
    fn without(&self) -> Result<Option<Version>, TlsError> {
        let number = |key: &str, default| match (self.get)(key) {
            None => Ok(default),
            Some("TLSv1") => Ok(0),
            Some("TLSv1.1") => Ok(1),
            Some("TLSv1.2") => Ok(2),
            Some("TLSv1.3") => Ok(3),
            Some(_) => Err(TlsError::Value(format!("{key}: allowed are TLSv1, TLSv1.1, TLSv1.2, TLSv1.3"))),
        };
        let least = number("ssl_min_protocol_version", 2)?;
        let most = number("ssl_max_protocol_version", 3)?;
        match (least <= 2 && 2 <= most, least <= 3 && 3 <= most) {
            (true, true) => Ok(None),
            (true, false) => Ok(Some(Version::Tls13)),
            (false, true) => Ok(Some(Version::Tls12)),
            (false, false) => Err(TlsError::Value(
                "ssl_max_protocol_version: forebay speaks TLSv1.2 and TLSv1.3; older versions are not safe"
                    .to_owned(),
            )),
        }
    }
}

/// A connector for `tls`.
pub(crate) fn connector(tls: &TlsConfig) -> Result<Encrypting, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[&SupportedProtocolVersion] = match tls.without {
        None => &[&TLS12, &TLS13],
        Some(Version::Tls12) => &[&TLS13],
        Some(Version::Tls13) => &[&TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("aws-lc-rs has the cipher suites of TLS 1.2 and 1.3");
    let mut verifier =
        Verifier { provider, chains: None, roots: Vec::new(), checks_name: tls.verify == Verify::Host };
    if tls.verify != Verify::Nothing {
        let (store, certificates) = roots(tls.root.as_deref())?;
        let mut chains =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), verifier.provider.clone());
        match &tls.revoked {
            None => verifier.roots = certificates,
            Some(path) => {
                let lists: Result<Vec<_>, _> =
                    CertificateRevocationListDer::pem_slice_iter(&read("sslcrl", path)?).collect();
                let lists = lists.map_err(|error| unusable("sslcrl", Some(path), error))?;
                chains = chains.with_crls(lists);
            }
        }
        let chains = chains.build().map_err(|error| unusable("sslrootcert", tls.root.as_deref(), error))?;
        verifier.chains = Some(chains);
    }
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, private) = identity(certificate, key)?;
            let signing = builder.crypto_provider().key_provider.load_private_key(private);
            let signing = signing.map_err(|error| unusable("sslkey", Some(key), error))?;
            if !is_key_of(&*signing, &chain[0]) {
                let problem = format!("it is not the key of the certificate in {}", certificate.display());
                return Err(unusable("sslkey", Some(key), problem));
            }
            let certified = CertifiedKey::new(chain, signing);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.enable_sni = !tls.hides_name;
    // Servers since version 17 check it, and require it for sslnegotiation=direct.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Encrypting(Arc::new(config)))
}

/// A client's certificate and its key.
fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let bytes = read("sslcert", certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| unusable("sslcert", Some(certificate), error))?;
    if chain.is_empty() {
        return Err(unusable("sslcert", Some(certificate), "it holds no certificate"));
    }
    let bytes = read("sslkey", key)?;
    let is_encrypted = bytes.windows(9).any(|part| part == b"ENCRYPTED");
    let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let problem = match is_encrypted {
            true => "it holds an encrypted key; write it without its password: openssl pkey -in ENCRYPTED -out PLAIN",
            false => "it holds no private key in PEM",
        };
        unusable("sslkey", Some(key), problem)
    })?;
    Ok((chain, private))
}

/// Whether both have the same public key. The certificate may be of X.509 version 1, as in PostgreSQL's manual, which rustls
/// does not read.
fn is_key_of(key: &dyn SigningKey, certificate: &CertificateDer<'_>) -> bool {
    let certificate = Certificate::from_der(certificate);
    let expected =
        certificate.and_then(|certificate| certificate.tbs_certificate.subject_public_key_info.to_der());
    key.public_key().is_some_and(|own| expected.is_ok_and(|expected| own.as_ref() == expected))
}

/// The trusted certificates of the file, or the system's, and the file's certificates one by one.
fn roots(file: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut store = RootCertStore::empty();
    let mut certificates = Vec::new();
    match file {
        Some(path) => {
            let failed = |error: &dyn std::fmt::Display| unusable("sslrootcert", file, error);
            for certificate in CertificateDer::pem_slice_iter(&read("sslrootcert", path)?) {
                let certificate = certificate.map_err(|error| failed(&error))?;
                store.add(certificate.clone()).map_err(|error| failed(&error))?;
                certificates.push(certificate);
            }
        }
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if store.is_empty() {
        return Err(unusable("sslrootcert", file, "it holds no certificate"));
    }
    Ok((store, certificates))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = std::fs::read(path).map_err(|error| unusable(key, Some(path), error))?;
    unmarked(bytes).map_err(|problem| unusable(key, Some(path), problem))
}

fn unusable(key: &'static str, file: Option<&Path>, problem: impl std::fmt::Display) -> TlsError {
    let path = file.map_or("system".to_owned(), |path| path.display().to_string());
    TlsError::File { key, path, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_mean_what_they_mean_for_libpq() {
        use SslMode::{Disable, Prefer, Require};
        use Verify::{Authority, Host, Nothing};
        let all = [
            // The mode, and what it means without a root, with a file, and with the system's authorities.
            (None, [Some((Prefer, Nothing)), Some((Prefer, Nothing)), Some((Require, Host))]),
            (Some("disable"), [Some((Disable, Nothing)), Some((Disable, Nothing)), None]),
            (Some("allow"), [Some((Prefer, Nothing)), Some((Prefer, Nothing)), None]),
            (Some("prefer"), [Some((Prefer, Nothing)), Some((Prefer, Nothing)), None]),
            (Some("require"), [Some((Require, Nothing)), Some((Require, Authority)), None]),
            (Some("verify-ca"), [None, Some((Require, Authority)), None]),
            (Some("verify-full"), [Some((Require, Host)); 3]),
            (Some("verify-none"), [None; 3]),
            (Some("VERIFY-FULL"), [None; 3]),
            (Some(""), [None; 3]),
        ];
        for (mode, meanings) in all {
            for (root, meaning) in [None, Some("/ca.pem"), Some("system")].into_iter().zip(meanings) {
                let get = |key: &str| match key {
                    "sslmode" => mode,
                    "sslrootcert" => root,
                    _ => None,
                };
                let found = TlsOptions { get: &get, at_home: &|_| None }.meaning();
                let file = root.filter(|root| *root != "system").map(PathBuf::from);
                let expected = meaning
                    .map(|(mode, verify)| (mode, TlsConfig { verify, root: file, ..TlsConfig::default() }));
                assert_eq!(found.as_ref().ok(), expected.as_ref(), "{mode:?} {root:?}");
                let Err(refusal) = found else { continue };
                let refusal = refusal.to_string();
                assert!(refusal.contains("verify-full"), "{mode:?} {root:?}: {refusal}");
            }
        }
    }
}
