//! What the files may be, and what is said where they cannot be used.

use std::path::PathBuf;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use super::config::{MinVersion, TlsConfig};
use super::*;
use crate::values::secret::Secret;

/// A self-signed certificate, as files.
struct Files {
    dir: TempDir,
    made: CertifiedKey<KeyPair>,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: TempDir::new().unwrap(), made: certificate() };
        files.write("cert.pem", &files.made.cert.pem());
        files.write("key.pem", &files.made.signing_key.serialize_pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn config(&self) -> TlsConfig {
        TlsConfig {
            cert_file: Some(self.path("cert.pem")),
            key_file: Some(self.path("key.pem")),
            ..TlsConfig::default()
        }
    }
}

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn open(config: &TlsConfig) -> Result<Tls, String> {
    Tls::open(config, "here.tls", &["h2"]).map_err(|error| error.to_string())
}

#[test]
fn files_and_texts_are_the_same() {
    let files = Files::new();
    let text = |text: String| Some(Secret::new(text));
    let texts = TlsConfig {
        cert_pem: text(files.made.cert.pem()),
        key_pem: text(files.made.signing_key.serialize_pem()),
        client_ca_pem: text(files.made.cert.pem()),
        min_version: MinVersion::Tls13,
        ..TlsConfig::default()
    };
    assert!(!open(&files.config()).unwrap().asks_for_certificates());
    let tls = open(&texts).unwrap();
    assert!(tls.asks_for_certificates() && tls.outdated().is_none());
    assert_eq!(tls.in_force().config.alpn_protocols, [b"h2"]);
    assert!(!format!("{texts:?}").contains("BEGIN"), "a key is shown");
}

#[test]
fn what_cannot_be_used_is_refused_by_the_key_the_file_and_the_cure() {
    let files = Files::new();
    let key = files.made.signing_key.serialize_pem();
    files.write("empty.pem", "");
    files.write("encrypted.pem", &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    files.write("other.pem", &certificate().signing_key.serialize_pem());
    files.write("cut.pem", &key[..key.len() / 2]);
    files.write("damaged.pem", &key.replace('M', "!"));
    files.write("chain.pem", &(certificate().cert.pem() + &files.made.cert.pem()));
    std::fs::write(files.path("cert.der"), files.made.cert.der()).unwrap();
    std::fs::write(files.path("key.der"), files.made.signing_key.serialize_der()).unwrap();
    files.write("noise.pem", "-----BEGIN PRIVATE KEY-----\nbm9pc2U=\n-----END PRIVATE KEY-----\n");
    let at = |name: &str| Some(files.path(name));
    type Change = fn(&mut TlsConfig, Option<PathBuf>);
    let cert: Change = |config, path| config.cert_file = path;
    let private: Change = |config, path| config.key_file = path;
    let ca: Change = |config, path| config.client_ca_file = path;
    for (change, path, key, parts) in [
        (cert, None, "cert_file", &["missing", "`cert_pem`"][..]),
        (private, Some("".into()), "key_file", &["missing", "`key_pem`"]),
        (cert, Some("/nowhere/cert.pem".into()), "cert_file", &["/nowhere/cert.pem", "No such file"]),
        (private, Some(files.dir.path().into()), "key_file", &["directory"]),
        (private, Some("/dev/zero".into()), "key_file", &["/dev/zero is larger than"]),
        (cert, at("empty.pem"), "cert_file", &["empty.pem holds no certificate", "BEGIN CERTIFICATE"]),
        (cert, at("key.pem"), "cert_file", &["key.pem holds no certificate"]),
        (private, at("cert.pem"), "key_file", &["cert.pem holds no private key", "BEGIN PRIVATE KEY"]),
        (private, at("encrypted.pem"), "key_file", &["encrypted.pem holds an encrypted key", "openssl pkey"]),
        (private, at("other.pem"), "key_file", &["other.pem is not the key of the certificate", "cert.pem"]),
        (private, at("cut.pem"), "key_file", &["cut.pem is not PEM", "END"]),
        (private, at("damaged.pem"), "key_file", &["damaged.pem is not PEM", "base64"]),
        (private, at("key.der"), "key_file", &["key.der is DER", "openssl pkey -inform DER"]),
        (cert, at("cert.der"), "cert_file", &["cert.der is DER", "openssl x509 -inform DER"]),
        (
            cert,
            at("chain.pem"),
            "key_file",
            &["is not the key of the certificate in", "own certificate comes first"],
        ),
        (private, at("noise.pem"), "key_file", &["noise.pem holds an unusable key", "ECDSA"]),
        (ca, at("empty.pem"), "client_ca_file", &["empty.pem holds no certificate"]),
    ] {
        let mut config = files.config();
        change(&mut config, path.clone());
        let said = open(&config).unwrap_err();
        assert!(said.starts_with(&format!("here.tls.{key}: ")), "{path:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{path:?}: {part} is not in {said}");
        }
        let secret = key.lines().nth(1).unwrap_or("never");
        assert!(!said.contains(secret) && !said.contains("noise="), "a key is shown: {said}");
    }
    let mut both = files.config();
    both.key_pem = Some(Secret::new(key));
    let said = open(&both).unwrap_err();
    assert!(said.starts_with("here.tls.key_file: key_pem is set as well"), "{said}");
}

/// As `openssl ecparam -name secp521r1 -genkey` writes one.
const P521: &str = "-----BEGIN EC PARAMETERS-----
BgUrgQQAIw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MIHcAgEBBEIBaeq9yjUGD+ibVRtS+YX76hskm5L4tr9UPWOHaLYR4U2rA6ClVEUD
ONZn/PoAthMs4rmX91n228Voy370ozqbmUSgBwYFK4EEACOhgYkDgYYABABSDmQp
XddS5VqqYGyS47jBS0oBFYEhngLxdbJlDGhbngP3Dys45Z4q1lzC/QJRLaUBghWF
G7yGHAR/h4uHHyu9KwDDG0Ydf0rxZRw44lsl5W6kqitc9gKJKGnuN0en6OuTXc8N
u7sak3yHxlJICWCpDlQnYolHL2PMv0D8bb7Yx9dFHg==
-----END EC PRIVATE KEY-----
";

/// Scenario: a key of each kind that authorities certify, and one on P-521 as OpenSSL writes it by default; each certificate vouches
/// for clients as well. Promise: each serves with its own certificate, and not with another one on its curve.
#[test]
fn keys_of_all_kinds_serve() {
    let generate = |algorithm| KeyPair::generate_for(algorithm).unwrap().serialize_pem();
    for (name, key) in [
        ("P-256", generate(&rcgen::PKCS_ECDSA_P256_SHA256)),
        ("P-384", generate(&rcgen::PKCS_ECDSA_P384_SHA384)),
        ("P-521", generate(&rcgen::PKCS_ECDSA_P521_SHA512)),
        ("P-521 by OpenSSL", P521.to_owned()),
        ("Ed25519", generate(&rcgen::PKCS_ED25519)),
        ("RSA", generate(&rcgen::PKCS_RSA_SHA256)),
    ] {
        let files = Files::new();
        let certify = |key: &KeyPair| {
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(key).unwrap().pem()
        };
        let pair = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
        files.write("key.pem", &key);
        files.write("cert.pem", &certify(&pair));
        let config = TlsConfig { client_ca_file: Some(files.path("cert.pem")), ..files.config() };
        assert_eq!(open(&config).map(|_| ()), Ok(()), "{name}");
        files.write("cert.pem", &certify(&KeyPair::generate_for(pair.algorithm()).unwrap()));
        let said = open(&files.config()).unwrap_err();
        assert!(said.contains("key.pem is not the key of the certificate in"), "{name}: {said}");
    }
}

/// Scenario: certificate and key as other systems' editors and tools save them: with a byte order mark, with their line ends, with the
/// curve's parameters before the key. Promise: they are the same.
#[test]
fn files_may_have_marks_line_ends_and_parameters() {
    let files = Files::new();
    let (certificate, key) = (files.made.cert.pem(), files.made.signing_key.serialize_pem());
    // The name of the curve P-256.
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for change in [
        |text: &str| format!("\u{feff}{text}"),
        |text: &str| text.replace('\n', "\r\n"),
        |text: &str| format!("Bag Attributes\n  localKeyID: 01\n{text}"),
    ] {
        files.write("cert.pem", &change(&certificate));
        files.write("key.pem", &change(&format!("{parameters}{key}")));
        let opened = open(&files.config()).map(|_| ());
        assert_eq!(opened, Ok(()), "{}", change(""));
    }
}

/// An authority's certificate, and one that it has signed for a client until this year.
fn authority_and_client(until: i32) -> (String, Presented) {
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer};
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let mut client = CertificateParams::new(["shop".to_owned()]).unwrap();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    client.not_after = date_time_ymd(until, 1, 1);
    client.distinguished_name.push(rcgen::DnType::CommonName, "the shop");
    let signed =
        client.signed_by(&KeyPair::generate().unwrap(), &Issuer::from_params(&params, &key)).unwrap();
    (authority.pem(), Presented::new(&[signed.der().clone()]))
}

#[tokio::test]
async fn clients_are_trusted_as_long_as_they_would_get_a_connection() {
    use futures_util::FutureExt;
    let files = Files::new();
    let (authority, client) = authority_and_client(3000);
    files.write("ca.pem", &authority);
    let config = TlsConfig { client_ca_file: Some(files.path("ca.pem")), ..files.config() };
    let tls = open(&config).unwrap();
    let mut distrusts = Box::pin(tls.distrusts(&client));
    assert_eq!(distrusts.as_mut().now_or_never(), None);
    let (other, stranger) = authority_and_client(3000);
    assert_eq!(tls.distrusts(&stranger).now_or_never(), Some(()), "another authority");

    let next = certificate();
    files.write("key.pem", &next.signing_key.serialize_pem());
    files.write("cert.pem", &next.cert.pem());
    files.write("ca.pem", &(authority + &other));
    tls.reload();
    assert_eq!(distrusts.as_mut().now_or_never(), None, "both authorities are asked for");
    std::fs::remove_file(files.path("ca.pem")).unwrap();
    tls.reload();
    assert_eq!(distrusts.as_mut().now_or_never(), None, "what was there before stays in force");
    files.write("ca.pem", &other);
    tls.reload();
    assert_eq!(distrusts.as_mut().now_or_never(), Some(()), "its authority is gone");
}

#[tokio::test(start_paused = true)]
async fn clients_whose_certificates_have_expired_are_not_trusted() {
    let files = Files::new();
    let (authority, expired) = authority_and_client(2020);
    let authorities = Some(Secret::new(authority));
    let tls = open(&TlsConfig { client_ca_pem: authorities, ..files.config() }).unwrap();
    tls.distrusts(&expired).await;
    assert_eq!(expired.remains(), None);
    let (_, client) = authority_and_client(3000);
    assert_eq!(client.name.as_deref(), Some("the shop"));
    assert!(client.remains().unwrap() > LONGEST, "the wait is for no longer than a day at a time");
}

#[test]
fn dates_that_are_not_now_are_told() {
    let files = Files::new();
    for (begin, end, says) in [(1999, 2020, "has expired on 2020-01-01"), (2999, 3001, "before 2999-01-01")] {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(begin, 1, 1), date_time_ymd(end, 1, 1));
        files.write("cert.pem", &params.self_signed(&files.made.signing_key).unwrap().pem());
        let said = open(&files.config()).unwrap().outdated().unwrap();
        assert!(said.starts_with("here.tls: the certificate ") && said.contains(says), "{said}");
    }
}

#[test]
fn what_has_changed_is_taken_over_and_what_is_broken_is_not() {
    let files = Files::new();
    let tls = open(&files.config()).unwrap();
    let first = tls.in_force();
    tls.reload();
    assert!(Arc::ptr_eq(&first, &tls.in_force()), "nothing has changed");

    let next = certificate();
    files.write("key.pem", &next.signing_key.serialize_pem());
    assert!(!tls.look() && Arc::ptr_eq(&first, &tls.in_force()), "the key does not fit");
    files.write("cert.pem", &next.cert.pem());
    assert!(tls.look(), "there is nothing to tell of");
    let second = tls.in_force();
    assert!(!Arc::ptr_eq(&first, &second), "now it does");

    std::fs::remove_file(files.path("cert.pem")).unwrap();
    assert!((tls.look(), tls.look(), tls.look()) == (false, true, true), "it is told once");
    assert!(Arc::ptr_eq(&second, &tls.in_force()));
    let mut old = CertificateParams::new(["localhost".to_owned()]).unwrap();
    old.not_after = date_time_ymd(2020, 1, 1);
    files.write("cert.pem", &old.self_signed(&next.signing_key).unwrap().pem());
    tls.reload();
    assert!(Arc::ptr_eq(&second, &tls.in_force()), "what has expired is no better than what is valid");
    files.write("cert.pem", &next.cert.pem());
    tls.reload();
    assert!(!Arc::ptr_eq(&second, &tls.in_force()), "the same again is good again");
}
