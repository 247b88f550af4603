//! Verifies a server's identity as libpq does (PostgreSQL manual, "SSL Support").
//!
//! rustls verifies by webpki, which accepts only certificates as public authorities issue them. The certificates made by
//! PostgreSQL's manual are different: one is its own authority, the other is of X.509 version 1 and has its name only in the
//! subject. OpenSSL, and so libpq, accepts both if they are in the file of roots or signed by one in it. So does this verifier
//! when webpki refuses: the file of roots must vouch for them, and dates and names are checked as for all others.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

/// `commonName` (RFC 4519).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Verifies servers, as strictly as configured.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) provider: Arc<CryptoProvider>,
    /// `None` encrypts without verifying the server.
    pub(super) chains: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates in the file of roots; empty for the system's, or if there is a list of revoked ones.
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) checks_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chains) = &self.chains else { return Ok(ServerCertVerified::assertion()) };
        match chains.verify_server_cert(shown, between, name, ocsp, now) {
            Ok(verified) => Ok(verified),
            // The chain has been checked before the name.
            Err(error) if is_of_name(&error) || self.is_vouched_for(shown, now) => {
                if !self.checks_name || is_for(shown, name) {
                    return Ok(ServerCertVerified::assertion());
                }
                let (expected, presented) = (name.to_owned(), presented(shown));
                Err(CertificateError::NotValidForNameContext { expected, presented }.into())
            }
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signature, usize::MAX)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // RFC 8446, 4.2.3: these schemes of TLS 1.2 must not sign handshakes.
        let name = signature.scheme.as_str().unwrap_or_default();
        if name.starts_with("RSA_PKCS1") || name.ends_with("SHA1") {
            return Err(CertificateError::BadSignature.into());
        }
        self.verify_signature(message, certificate, signature, 1)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Verifier {
    /// Checks that the server has the key of its certificate, whatever its version. The first `count` algorithms of the scheme
    /// are tried.
    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
        count: usize,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let key = key.tbs_certificate.subject_public_key_info;
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let (_, algorithms) = mapping
            .iter()
            .find(|(scheme, _)| *scheme == signature.scheme)
            .ok_or(CertificateError::BadSignature)?;
        let mut algorithms = algorithms.iter().take(count);
        match algorithms.any(|algorithm| is_signed(*algorithm, &key, message, signature.signature())) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    /// Whether the certificate is in the file of roots, or is of version 1 and signed by one in it, and all of them are valid now.
    fn is_vouched_for(&self, shown: &CertificateDer<'_>, now: UnixTime) -> bool {
        let Ok(certificate) = Certificate::from_der(shown) else { return false };
        let is_root = self.roots.iter().any(|root| root.as_ref() == shown.as_ref());
        let is_old = certificate.tbs_certificate.version == Version::V1;
        let mut authorities = self.roots.iter().filter_map(|root| Certificate::from_der(root).ok());
        let is_signed = |authority: Certificate| {
            may_sign(&authority) && is_valid(&authority, now) && self.has_signed(&authority, &certificate)
        };
        is_valid(&certificate, now) && (is_root || (is_old && authorities.any(is_signed)))
    }

    fn has_signed(&self, authority: &Certificate, certificate: &Certificate) -> bool {
        let tbs = &certificate.tbs_certificate;
        let (Ok(message), Ok(scheme)) = (tbs.to_der(), contents(&certificate.signature_algorithm)) else {
            return false;
        };
        let key = &authority.tbs_certificate.subject_public_key_info;
        let mut algorithms = self.provider.signature_verification_algorithms.all.iter();
        tbs.issuer == authority.tbs_certificate.subject
            && tbs.signature == certificate.signature_algorithm
            && algorithms.any(|algorithm| {
                algorithm.signature_alg_id().as_ref() == scheme
                    && is_signed(*algorithm, key, &message, certificate.signature.raw_bytes())
            })
    }
}

/// Whether `signature` of `message` was made with the private key of `key`.
fn is_signed(
    algorithm: &dyn SignatureVerificationAlgorithm,
    key: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    contents(&key.algorithm).is_ok_and(|id| algorithm.public_key_alg_id().as_ref() == id)
        && algorithm.verify_signature(key.subject_public_key.raw_bytes(), message, signature).is_ok()
}

/// The DER of a sequence's contents.
fn contents(sequence: &impl Encode) -> x509_cert::der::Result<Vec<u8>> {
    let all = sequence.to_der()?;
    // An algorithm identifier is shorter than 128 bytes, so tag and length are one byte each.
    Ok(all.get(2..).unwrap_or_default().to_vec())
}

fn is_of_name(error: &Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}

/// Whether it is an authority's certificate: it says so, or is of version 1, which cannot say it.
fn may_sign(certificate: &Certificate) -> bool {
    let constraints = certificate.tbs_certificate.get::<BasicConstraints>();
    match constraints {
        Ok(Some((_, constraints))) => constraints.ca,
        Ok(None) => certificate.tbs_certificate.version == Version::V1,
        Err(_) => false,
    }
}

fn is_valid(certificate: &Certificate, now: UnixTime) -> bool {
    let validity = certificate.tbs_certificate.validity;
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    (seconds(validity.not_before)..=seconds(validity.not_after)).contains(&now.as_secs())
}

/// The last common name of the subject.
fn common_name(certificate: &Certificate) -> Option<&str> {
    let mut parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let name = parts.rfind(|part| part.oid == COMMON_NAME)?;
    str::from_utf8(name.value.value()).ok()
}

fn alternative_names(certificate: &Certificate) -> Option<Vec<GeneralName>> {
    Some(certificate.tbs_certificate.get::<SubjectAltName>().ok()?.map_or(Vec::new(), |(_, names)| names.0))
}

/// The names in a certificate, for messages.
fn presented(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(certificate) else { return Vec::new() };
    let alternative = alternative_names(&certificate).unwrap_or_default();
    let dns = alternative.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(format!("DNS:{name}")),
        _ => None,
    });
    dns.chain(common_name(&certificate).map(|name| format!("CN={name}"))).collect()
}

/// Whether it was issued for the host `name`: by an alternative name, or if it has none of that kind, by its common name.
fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let Some(names) = alternative_names(&certificate) else { return false };
    let host = name.to_str();
    let (mut has_kind, mut fits) = (false, false);
    for one in &names {
        match (one, name) {
            (GeneralName::DnsName(pattern), ServerName::DnsName(_)) => {
                has_kind = true;
                fits |= matches(pattern.as_str(), &host);
            }
            (GeneralName::IpAddress(bytes), ServerName::IpAddress(address)) => {
                has_kind = true;
                fits |= match std::net::IpAddr::from(*address) {
                    std::net::IpAddr::V4(address) => bytes.as_bytes() == address.octets(),
                    std::net::IpAddr::V6(address) => bytes.as_bytes() == address.octets(),
                };
            }
            _ => {}
        }
    }
    if has_kind {
        return fits;
    }
    common_name(&certificate).is_some_and(|pattern| matches(pattern, &host))
}

/// Whether `host` matches the name in a certificate. A star stands for the whole first label.
fn matches(pattern: &str, host: &str) -> bool {
    let behind_first = |name: &str| name.split_once('.').map(|(_, rest)| rest.to_ascii_lowercase());
    match pattern.strip_prefix("*.") {
        Some(rest) => {
            rest.contains('.') && behind_first(host).is_some_and(|host| host == rest.to_ascii_lowercase())
        }
        None => pattern.eq_ignore_ascii_case(host.trim_end_matches('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_label() {
        for (pattern, host, fits) in [
            ("db.example", "DB.example", true),
            ("*.db.example", "one.db.example", true),
            ("*.db.example", "a.one.db.example", false),
            ("*.db.example", "db.example", false),
            ("*.example", "db.example", false),
            ("*", "db", false),
            ("d*.db.example", "dx.db.example", false),
            ("db", "db.example", false),
        ] {
            assert_eq!(matches(pattern, host), fits, "{pattern} {host}");
        }
    }
}
