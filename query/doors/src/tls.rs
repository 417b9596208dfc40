//! TLS of the front doors: a certificate and its key from PEM.
//!
//! Invariant: what cannot be served with is refused at the start. Deliberately reads no files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or nothing in it.
    #[error("the {what} is not PEM: {source}")]
    Pem {
        /// `certificate` or `key`.
        what: &'static str,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate.
    #[error("the certificate's file holds none")]
    Empty,
    /// The two do not go together.
    #[error("the certificate and its key cannot be served with: {0}")]
    Refused(#[from] rustls::Error),
}

/// What a door's connections are encrypted with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    certificate: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Tls {
    /// A chain of certificates and the key of its first, as PEM.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let certificate = chain.map_err(|source| TlsError::Pem { what: "certificate", source })?;
        if certificate.is_empty() {
            return Err(TlsError::Empty);
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| TlsError::Pem { what: "certificate's key", source })?;
        let tls = Self { certificate, key: Arc::new(key) };
        tls.config(&[])?;
        Ok(tls)
    }

    /// For connections that speak one of these protocols; any, where none is named.
    pub(crate) fn config(&self, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.certificate.clone(), self.key.clone_key())?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}
