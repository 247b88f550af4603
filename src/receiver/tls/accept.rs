//! The handshake of one connection.

use std::io;
use std::sync::Arc;

use rustls::Error;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Tls;
use crate::net::TLS_HANDSHAKE;

/// A client's certificates: its own, and those of intermediate authorities.
#[derive(Debug)]
pub(in crate::receiver) struct Presented {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// The common name of its own.
    pub(in crate::receiver) name: Option<Arc<str>>,
}

/// Why a handshake failed.
pub(in crate::receiver) enum Refused {
    /// The client does not speak TLS. Nothing was read from the stream.
    PlainText(TcpStream),
    /// The client has no certificate, or not one by a trusted authority.
    ClientCertificate(Error),
    /// Any other failure, such as that the client does not trust this server's certificate.
    Handshake(Error),
    /// The client has disconnected.
    Gone,
}

impl Tls {
    /// Does the handshake, and returns the client's certificates if the port asks for them. There is no timeout.
    pub(in crate::receiver) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Option<Presented>), Refused> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] != TLS_HANDSHAKE => return Err(Refused::PlainText(stream)),
            Ok(1) => {}
            _ => return Err(Refused::Gone),
        }
        let acceptor = TlsAcceptor::from(self.in_force().config.clone());
        let stream = acceptor.accept(stream).await.map_err(|error| Refused::from(&error))?;
        let presented = stream.get_ref().1.peer_certificates().map(Presented::new);
        Ok((stream, presented))
    }
}

impl From<&io::Error> for Refused {
    fn from(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        match cause {
            Some(error @ (Error::NoCertificatesPresented | Error::InvalidCertificate(_))) => {
                Self::ClientCertificate(error.clone())
            }
            Some(error) => Self::Handshake(error.clone()),
            None => Self::Gone,
        }
    }
}
