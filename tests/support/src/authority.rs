//! Certificates for the tests, and clients that have them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P521_SHA512, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::sender::Sender;

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// That of its key, and of those that it certifies.
    algorithm: &'static SignatureAlgorithm,
    /// Its own certificate.
    pub pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The chain, of one.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Default for Authority {
    /// One whose keys are on the curve P-256.
    fn default() -> Self {
        Self::of(&PKCS_ECDSA_P256_SHA256)
    }
}

impl Authority {
    /// One whose keys are on the curve P-521.
    pub fn p521() -> Self {
        Self::of(&PKCS_ECDSA_P521_SHA512)
    }

    fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        // Each has a name of its own, by which clients tell authorities apart.
        params.distinguished_name = named(&format!("authority {}", uuid::Uuid::new_v4()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), algorithm, pem }
    }

    /// A certificate for the server at `localhost`.
    pub fn server(&self) -> Identity {
        self.signs(
            ["localhost".to_owned(), "127.0.0.1".to_owned()],
            ExtendedKeyUsagePurpose::ServerAuth,
            false,
        )
    }

    /// The same, and it was valid once.
    pub fn expired_server(&self) -> Identity {
        self.signs(["localhost".to_owned()], ExtendedKeyUsagePurpose::ServerAuth, true)
    }

    /// A certificate for a client.
    pub fn client(&self) -> Identity {
        self.signs(["a client".to_owned()], ExtendedKeyUsagePurpose::ClientAuth, false)
    }

    /// The same, and it was valid once.
    pub fn expired_client(&self) -> Identity {
        self.signs(["a client".to_owned()], ExtendedKeyUsagePurpose::ClientAuth, true)
    }

    fn signs(
        &self,
        names: impl Into<Vec<String>>,
        purpose: ExtendedKeyUsagePurpose,
        expired: bool,
    ) -> Identity {
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![purpose];
        params.distinguished_name = named("somebody");
        if expired {
            params.not_after = date_time_ymd(2020, 2, 2);
        }
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// Files that forebay reads, in a directory of their own.
pub struct Files(TempDir);

impl Default for Files {
    /// An empty directory.
    fn default() -> Self {
        Self(TempDir::new().unwrap())
    }
}

impl Files {
    /// The path of the file `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts `text` in the place of what `name` was, at once.
    pub fn write(&self, name: &str, text: &str) -> String {
        let (path, draft) = (self.path(name), self.path("draft"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &path).unwrap();
        path.display().to_string()
    }

    /// Certificate and key as the files `name.pem` and `name.key`.
    pub fn write_identity(&self, name: &str, identity: &Identity) {
        self.write(&format!("{name}.key"), &identity.key);
        self.write(&format!("{name}.pem"), &identity.certificate);
    }
}

/// What a client does in a handshake.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    /// One that trusts `authority` and shows `identity`.
    pub fn new(authority: &Authority, identity: Option<&Identity>) -> Self {
        Self::of_versions(authority, identity, &[&TLS12, &TLS13])
    }

    /// The same, and TLS 1.2 is the newest that it knows.
    pub fn old(authority: &Authority, identity: Option<&Identity>) -> Self {
        Self::of_versions(authority, identity, &[&TLS12])
    }

    /// The same, and it speaks `protocol` inside.
    pub fn speaking(mut self, protocol: &str) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = vec![protocol.as_bytes().to_vec()];
        self
    }

    fn of_versions(
        authority: &Authority,
        identity: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(identity) => {
                let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { config: Arc::new(config) }
    }

    /// Connects and shakes hands. With TLS 1.3 the server's refusal of a certificate comes later.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }

    /// One that sends by gRPC, on a connection that it makes when it first sends.
    pub fn sender(&self, address: SocketAddr) -> Sender {
        Sender::over(self.channel(address))
    }

    fn channel(&self, address: SocketAddr) -> Channel {
        let connector = Connector { client: self.clone(), address };
        Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
    }

    /// The server's certificate, as `connect` was shown it.
    pub fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }
}

struct Connector {
    client: Client,
    address: SocketAddr,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (client, address) = (self.client.clone(), self.address);
        Box::pin(async move { client.connect(address).await.map(TokioIo::new) })
    }
}
