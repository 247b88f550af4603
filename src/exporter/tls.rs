//! TLS to PostgreSQL by rustls, with the meanings that libpq gives `sslmode`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What TLS is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsConfig {
    pub(super) verify: Verify,
    /// The file of trusted authorities; `None` is the system's.
    pub(super) root: Option<PathBuf>,
}

/// How much of the server's certificate is checked (PostgreSQL manual, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    /// Nothing, as libpq does for `prefer` and for `require` without a root certificate.
    Nothing,
    /// That it was issued by a trusted authority.
    Authority,
    /// That as well, and that it was issued for the host connected to.
    Host,
}

/// libpq's keys for TLS that tokio-postgres does not know all values of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    mode: Option<String>,
    root: Option<String>,
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
    /// The root certificate cannot be used.
    #[error("sslrootcert {path}: {cause}")]
    Root {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl TlsOptions {
    /// Keeps the value of `key`, the last of several; whether it is one of these.
    pub(super) fn set(&mut self, key: &str, value: String) -> bool {
        match key {
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root = Some(value).filter(|root| !root.is_empty()),
            _ => return false,
        }
        true
    }

    /// What they mean. As for libpq, the system's authorities go with verify-full alone, since anybody has a certificate of
    /// theirs for some host. It has a file where nothing is said, and here that is the system's.
    pub(super) fn meaning(self) -> Result<(SslMode, TlsConfig), TlsError> {
        let is_system = self.root.as_deref() == Some("system");
        let root = self.root.filter(|_| !is_system).map(PathBuf::from);
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
            _ => Ok((ssl_mode, TlsConfig { verify, root })),
        }
    }
}

/// A connector for `tls`.
pub(super) fn connector(tls: &TlsConfig) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let config = match tls.verify {
        Verify::Nothing => {
            let verifier = Arc::new(Unverified { provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Verify::Host => builder.with_root_certificates(roots(tls.root.as_deref())?).with_no_client_auth(),
        Verify::Authority => {
            let roots = Arc::new(roots(tls.root.as_deref())?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|error| unusable(tls.root.as_deref(), error))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyHost { verifier }))
                .with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// The certificates of the file, or the system's.
fn roots(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match file {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(file, error))? {
                let certificate = certificate.map_err(|error| unusable(file, error))?;
                store.add(certificate).map_err(|error| unusable(file, error))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(unusable(file, "it holds no certificate"));
    }
    Ok(store)
}

fn unusable(file: Option<&Path>, cause: impl std::fmt::Display) -> TlsError {
    let path = file.map_or("system".to_owned(), |path| path.display().to_string());
    TlsError::Root { path, cause: cause.to_string() }
}

/// Encrypts without knowing to whom: `sslmode=prefer` and `require`.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

/// Checks the authority but not the name: `sslmode=verify-ca`.
#[derive(Debug)]
struct AnyHost {
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verifier.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The chain has been checked before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
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
                let found = TlsOptions { mode: owned(mode), root: owned(root) }.meaning();
                let file = root.filter(|root| *root != "system").map(PathBuf::from);
                let expected = meaning.map(|(mode, verify)| (mode, TlsConfig { verify, root: file }));
                assert_eq!(found.as_ref().ok(), expected.as_ref(), "{mode:?} {root:?}");
                let Err(refusal) = found else { continue };
                let refusal = refusal.to_string();
                assert!(refusal.contains("verify-full"), "{mode:?} {root:?}: {refusal}");
            }
        }
        let mut empty = TlsOptions::default();
        assert!(empty.set("sslrootcert", String::new()) && empty.set("sslmode", "verify-ca".to_owned()));
        assert!(matches!(empty.meaning(), Err(TlsError::Weak { .. })), "an empty file is none");
    }
}
