//! TLS with a certificate that is read again when its files change.

use crate::config::TlsFiles;
use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The interval at which the files are checked for changes.
const LOOK: Duration = Duration::from_secs(1);

/// Accepts TLS connections with the current certificate of the files.
#[derive(Clone)]
pub struct Tls(Arc<State>);

struct State {
    files: TlsFiles,
    current: RwLock<(Vec<u8>, Arc<ServerConfig>)>,
}

/// The error that the files hold no usable certificate.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTls(String);

impl Tls {
    /// Reads the certificate and its private key from the files.
    ///
    /// # Errors
    /// Returns an error that names the file and what is wrong with it.
    pub fn open(files: TlsFiles) -> Result<Self, InvalidTls> {
        let current = RwLock::new(load(&files)?);
        Ok(Self(Arc::new(State { files, current })))
    }

    /// Accepts a connection by a TLS handshake.
    ///
    /// # Errors
    /// Returns an error when the handshake fails.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.current.read().1);
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Reads the files again whenever they change, without end. Open connections are not affected.
    pub async fn watch(self) {
        let mut told = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let files = self.0.files.clone();
            let loaded = tokio::task::spawn_blocking(move || load(&files)).await;
            match loaded {
                Ok(Ok(fresh)) => {
                    told = None;
                    if self.0.current.read().0 != fresh.0 {
                        *self.0.current.write() = fresh;
                        tracing::info!("the TLS certificate was read again");
                    }
                }
                Ok(Err(error)) => {
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        tracing::error!(error, "the TLS files changed and cannot be used: the old certificate stays");
                    }
                    told = Some(error);
                }
                Err(_) => {}
            }
        }
    }
}

fn load(files: &TlsFiles) -> Result<(Vec<u8>, Arc<ServerConfig>), InvalidTls> {
    let mut hash = Sha256::new();
    let mut read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|error| wrong(path, error))?;
        hash.update(Sha256::digest(&bytes));
        Ok(bytes)
    };
    let cert = read(&files.cert)?;
    let key = read(&files.key)?;
    let client_ca = files.client_ca.as_deref().map(|path| Ok((path, read(path)?))).transpose()?;
    let fingerprint = hash.finalize().to_vec();

    let chain = certificates(&files.cert, &cert)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong(&files.key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidTls(error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some((path, pem)) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path, &pem)? {
                roots.add(authority).map_err(|error| wrong(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| wrong(&files.cert, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((fingerprint, Arc::new(config)))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(wrong(path, "there is no certificate in it")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(wrong(path, error)),
    }
}

fn wrong(path: &Path, error: impl std::fmt::Display) -> InvalidTls {
    InvalidTls(format!("`{}`: {error}", path.display()))
}
