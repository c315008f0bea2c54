//! TLS by rustls: the identity that the service shows, and the handshake of one connection.
//!
//! The handshake happens on the connection's own task, within the limit of connections and a time of its own, so the
//! accept loop never waits for a client. What follows is the same as without TLS: hyper sees a stream of bytes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::answer;
use super::connection::{linger, send};
use super::shared::{Phase, Shared};
use super::socket::Socket;

/// The only protocol that is spoken here.
const ALPN: &[u8] = b"http/1.1";
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// The first byte of every TLS connection: a record with a handshake in it.
const HANDSHAKE_RECORD: u8 = 0x16;
/// How a PEM block with a passphrase says so, in the old form and in the new one.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// A certificate chain with its private key, checked to belong together. With one in
/// [`HttpConfig::tls`](super::HttpConfig::tls) the service speaks TLS 1.2 and 1.3 and nothing else.
///
/// Clones are one identity: they share the key, and [`TlsIdentity::replace`] is for all of them. `Debug` does not show it.
#[derive(Clone)]
pub struct TlsIdentity {
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity(..)")
    }
}

/// Why there is no [`TlsIdentity`]. Nothing was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read. Correct its path or its mode.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates are not usable. Give PEM: the service's own certificate first, then those between it and a root.
    #[error("the certificate is not usable: {0}")]
    Certificate(String),
    /// The private key is not usable. Give PEM without a passphrase: PKCS#8, PKCS#1 or SEC1.
    #[error("the private key is not usable: {0}")]
    Key(String),
    /// Each is fine, but the key is not that of the first certificate.
    #[error("certificate and private key do not belong together")]
    Mismatch,
}

impl TlsIdentity {
    /// An identity from two PEM files. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`], whatever is wrong with either file.
    pub fn from_files(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::from_pem(&read(certificates)?, &read(key)?)
    }

    /// An identity from the bytes of PEM.
    ///
    /// # Errors
    /// [`TlsError`], but not [`TlsError::Read`].
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = chain_of(certificates)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| no_key(key, &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(VERSIONS)
            .map_err(|error| TlsError::Certificate(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(refused)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsIdentity { config: Arc::new(RwLock::new(Arc::new(config))) })
    }

    /// Shows what `by` shows, from the next handshake on, also in a service that runs with this identity or a clone of it.
    /// Connections that are open go on.
    pub fn replace(&self, by: &TlsIdentity) {
        let config = by.config();
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a client needs that trusts whoever the certificates of this PEM file have signed. Blocks on the disk.
///
/// # Errors
/// [`TlsError`], but not about a key.
pub(super) fn trusting(authorities: &Path) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain_of(&read(authorities)?)? {
        roots.add(certificate).map_err(|error| TlsError::Certificate(error.to_string()))?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(VERSIONS)
        .map_err(|error| TlsError::Certificate(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Certificate(pem_trouble(&error)))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("there is no PEM block CERTIFICATE in it".into()));
    }
    Ok(chain)
}

fn no_key(pem: &[u8], error: &pem::Error) -> TlsError {
    if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return TlsError::Key("it has a passphrase; take that off (openssl pkey -in KEY -out PLAIN)".into());
    }
    match error {
        pem::Error::NoItemsFound => TlsError::Key("there is no PEM block PRIVATE KEY in it".into()),
        error => TlsError::Key(pem_trouble(error)),
    }
}

/// What is wrong with a PEM file. Never what is in it: the file may be a key.
fn pem_trouble(error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a BEGIN line has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "what is between BEGIN and END is not base64",
        pem::Error::SectionTooLarge => "a block is too large",
        pem::Error::NoItemsFound => "it has no such block",
        _ => "it cannot be read",
    };
    format!("{what}; PEM has lines, and each BEGIN and END is one")
}

fn refused(error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
        rustls::Error::InvalidCertificate(error) => TlsError::Certificate(format!("{error:?}")),
        error => TlsError::Key(error.to_string()),
    }
}

/// Shakes hands with a client. `None` when there is nobody to serve: the handshake failed or took too long, the client
/// does not speak TLS, or the service ends.
pub(super) async fn accept(stream: Socket, identity: &TlsIdentity, shared: &Shared) -> Option<TlsStream<Socket>> {
    let deadline = Instant::now() + shared.config.tls_handshake_timeout;
    let mut first = [0];
    // Who has not said a word when the drain begins has no request on its way.
    let peeked = tokio::select! {
        biased;
        peeked = timeout_at(deadline, stream.peek(&mut first)) => peeked.ok()?.ok()?,
        () = shared.gate.reached(Phase::Draining) => return None,
    };
    if peeked == 0 {
        return None;
    }
    if first[0] != HANDSHAKE_RECORD {
        refuse_plain_text(stream, shared).await;
        return None;
    }
    let handshake = TlsAcceptor::from(identity.config()).accept(stream).into_fallible();
    let shaken = tokio::select! {
        biased;
        () = shared.gate.reached(Phase::Cut) => return None,
        shaken = timeout_at(deadline, handshake) => shaken.ok()?,
    };
    match shaken {
        Ok(stream) => Some(stream),
        Err((error, stream)) => {
            debug!(%error, "a TLS handshake failed");
            linger(stream).await;
            None
        }
    }
}

/// A client that speaks HTTP to a TLS port learns what is wrong, instead of a connection that breaks.
async fn refuse_plain_text(mut stream: Socket, shared: &Shared) {
    shared.metrics.record_unrouted(400);
    send(&mut stream, &answer::raw(400, "Bad Request", "this port speaks TLS only: use https")).await;
    linger(stream).await;
}
