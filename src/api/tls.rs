//! TLS at the door, from a certificate and its key in files.
//!
//! Left out: certificates of clients, and reading the files again while the process runs.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};

/// Ends TLS for connections.
#[derive(Clone)]
pub struct Tls(pub(super) TlsAcceptor);

impl Tls {
    /// With the certificate chain and the key in these PEM files.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Tls> {
        let chain_of = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect);
        let certificates: Vec<_> = chain_of.map_err(|e| unusable(chain, &e))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, &e))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(chain, &e))?
            .with_no_client_auth()
            .with_single_cert(certificates, private)
            .map_err(|e| unusable(chain, &e))?;
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::invalid("TLS_FILES", format!("{} cannot be used: {why}", file.display()))
        .hint("tls.cert names the certificate chain and tls.key its private key, both in PEM")
}
