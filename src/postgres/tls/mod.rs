//! TLS to PostgreSQL by rustls, with the meanings that libpq gives its keys.

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

/// What TLS is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    pub(crate) verify: Verify,
    /// The file of trusted authorities; `None` is the system's.
    pub(crate) root: Option<PathBuf>,
    /// The file of certificates that are trusted no more.
    pub(crate) revoked: Option<PathBuf>,
    /// By which the server knows us: a certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// The versions that are not spoken.
    pub(crate) without: Option<Version>,
    /// Whether the server is not told by which name it is asked for.
    pub(crate) hides_name: bool,
}

/// How much of the server's certificate is checked (PostgreSQL manual, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Nothing, as libpq does for `prefer` and for `require` without a root certificate.
    #[default]
    Nothing,
    /// That it was issued by a trusted authority.
    Authority,
    /// That as well, and that it was issued for the host connected to.
    Host,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// libpq's keys for TLS, by their values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    mode: Option<String>,
    root: Option<String>,
    revoked: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    has_key_password: bool,
    certificate_mode: Option<String>,
    sni: Option<String>,
    least: Option<String>,
    most: Option<String>,
    /// What libpq takes where nothing is said, of what is there.
    usual: Usual,
}

/// The files in `~/.postgresql` that are there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usual {
    root: Option<PathBuf>,
    revoked: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// Why TLS cannot be as it is asked for.
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
    /// A key has a value that there is not, or that forebay cannot have.
    #[error("{0}")]
    Value(String),
}

impl TlsOptions {
    /// By the values that the keys have, and the files in the user's home.
    pub(crate) fn of<'a>(
        get: impl Fn(&str) -> Option<&'a str>,
        at_home: impl Fn(&str) -> Option<PathBuf>,
    ) -> Self {
        let owned = |key| get(key).map(str::to_owned);
        let there = |name: &str| at_home(&format!(".postgresql/{name}")).filter(|path| path.exists());
        Self {
            mode: owned("sslmode"),
            root: owned("sslrootcert"),
            revoked: owned("sslcrl"),
            certificate: owned("sslcert"),
            key: owned("sslkey"),
            has_key_password: get("sslpassword").is_some(),
            certificate_mode: owned("sslcertmode"),
            sni: owned("sslsni"),
            least: owned("ssl_min_protocol_version"),
            most: owned("ssl_max_protocol_version"),
            usual: Usual {
                root: there("root.crt"),
                revoked: there("root.crl"),
                certificate: there("postgresql.crt"),
                key: there("postgresql.key"),
            },
        }
    }

    /// What they mean. As for libpq, the system's authorities go with verify-full alone, since anybody has a certificate of
    /// theirs for some host. It has a file where nothing is said; where that is not there, it is the system's here.
    pub(crate) fn meaning(self) -> Result<(SslMode, TlsConfig), TlsError> {
        let is_system = self.root.as_deref() == Some("system");
        let file = self.root.as_ref().filter(|_| !is_system).map(PathBuf::from);
        let root = file.or_else(|| self.usual.root.clone().filter(|_| !is_system));
        let mode = self.mode.as_deref().unwrap_or(if is_system { "verify-full" } else { "prefer" });
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
                let revoked = self.revoked.map(PathBuf::from).or(self.usual.revoked);
                let revoked = revoked.filter(|_| verify != Verify::Nothing);
                let hides_name = self.sni.as_deref() == Some("0");
                Ok((ssl_mode, TlsConfig { verify, root, revoked, identity, without, hides_name }))
            }
        }
    }

    fn identity(&self) -> Result<Option<(PathBuf, PathBuf)>, TlsError> {
        let value = |text: &str| Err(TlsError::Value(text.to_owned()));
        let certificate = self.certificate.as_ref().map(PathBuf::from).or(self.usual.certificate.clone());
        let key = self.key.as_ref().map(PathBuf::from).or(self.usual.key.clone());
        match (self.certificate_mode.as_deref(), certificate, key) {
            (Some("disable"), ..) => Ok(None),
            (None | Some("allow" | "require"), Some(_), _) if self.has_key_password => value(
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

    /// Of what is between the oldest and the newest version that may be spoken, rustls has two.
    fn without(&self) -> Result<Option<Version>, TlsError> {
        let number = |key: &str, text: Option<&str>, default| match text {
            None => Ok(default),
            Some("TLSv1") => Ok(0),
            Some("TLSv1.1") => Ok(1),
            Some("TLSv1.2") => Ok(2),
            Some("TLSv1.3") => Ok(3),
            Some(_) => Err(TlsError::Value(format!("{key}: allowed are TLSv1, TLSv1.1, TLSv1.2, TLSv1.3"))),
        };
        let least = number("ssl_min_protocol_version", self.least.as_deref(), 2)?;
        let most = number("ssl_max_protocol_version", self.most.as_deref(), 3)?;
        match (least <= 2 && 2 <= most, least <= 3 && 3 <= most) {
            (true, true) => Ok(None),
            (true, false) => Ok(Some(Version::Tls13)),
            (false, true) => Ok(Some(Version::Tls12)),
            (false, false) => Err(TlsError::Value(
                "ssl_max_protocol_version: forebay speaks TLSv1.2 and TLSv1.3; what is older is not safe"
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
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
                chain, signing,
            ))))
        }
    };
    config.enable_sni = !tls.hides_name;
    // Servers since version 17 look for it, and take sslnegotiation=direct with it alone.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Encrypting::new(config))
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

/// Whether both have the same public key. The certificate may be of version 1, as PostgreSQL's manual makes them, which rustls does
/// not read.
fn is_key_of(key: &dyn SigningKey, certificate: &CertificateDer<'_>) -> bool {
    let certificate = Certificate::from_der(certificate);
    let expected =
        certificate.and_then(|certificate| certificate.tbs_certificate.subject_public_key_info.to_der());
    key.public_key().is_some_and(|own| expected.is_ok_and(|expected| own.as_ref() == expected))
}

/// The certificates of the file, or the system's; of the file also one by one.
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
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
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
                let owned = |text: Option<&str>| text.map(str::to_owned);
                let found =
                    TlsOptions { mode: owned(mode), root: owned(root), ..TlsOptions::default() }.meaning();
                let file = root.filter(|root| *root != "system").map(PathBuf::from);
                let expected = meaning
                    .map(|(mode, verify)| (mode, TlsConfig { verify, root: file, ..TlsConfig::default() }));
                assert_eq!(found.as_ref().ok(), expected.as_ref(), "{mode:?} {root:?}");
                let Err(refusal) = found else { continue };
                let refusal = refusal.to_string();
                assert!(refusal.contains("verify-full"), "{mode:?} {root:?}: {refusal}");
            }
        }
        let get = |key: &str| (key == "sslmode").then_some("verify-ca");
        assert!(
            matches!(TlsOptions::of(get, |_| None).meaning(), Err(TlsError::Weak { .. })),
            "an empty file is none"
        );
    }
}
