//! A certificate authority of the test's own, and a client that trusts it and nobody else.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use super::service::PATIENCE;

/// The client's end of a TLS connection.
pub type TlsConn = StreamOwned<ClientConnection, TcpStream>;

/// All in PEM.
pub struct Authority {
    pub root: String,
    /// For 127.0.0.1, signed by the root.
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Authority {
        let root_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Another name than the certificate's, which openssl would else take for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "the test's own authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(params, root_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Authority { root: root.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client of TLS 1.3.
    pub fn client(&self, to: SocketAddr) -> TlsConn {
        self.try_client(to, &version::TLS13, &[b"http/1.1"]).unwrap()
    }

    /// A client that has shaken hands with the server, if the server wanted to.
    pub fn try_client(
        &self,
        to: SocketAddr,
        version: &'static SupportedProtocolVersion,
        protocols: &[&[u8]],
    ) -> io::Result<TlsConn> {
        let mut socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut session = self.session(version, protocols);
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(session, socket))
    }

    /// The client's side of a handshake that has not begun.
    pub fn session(&self, version: &'static SupportedProtocolVersion, protocols: &[&[u8]]) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(PemObject::from_pem_slice(self.root.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap()
    }
}

/// The connection ends with TLS's own goodbye and without another byte. An end without it could be somebody's who cut
/// the connection, and rustls tells it as an error.
#[track_caller]
pub fn assert_said_goodbye(conn: &mut TlsConn) {
    let mut rest = Vec::new();
    conn.read_to_end(&mut rest).expect("no close_notify");
    assert_eq!(String::from_utf8_lossy(&rest), "");
}
