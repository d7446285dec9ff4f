//! TLS of the address: a certificate, its key, and the authority whose clients may read everything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::TlsFiles;
use super::watched::Watched;
use crate::export::roots::roots;

/// Largest file of certificates or keys, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A file, and why it cannot be used.
type Trouble = (PathBuf, String);

/// Makes TLS connections of TCP ones, with the certificates that are there then.
#[derive(Debug)]
pub(super) struct Acceptor {
    files: TlsFiles,
    config: Watched<Arc<ServerConfig>>,
}

impl Acceptor {
    pub(super) fn new(files: TlsFiles) -> Result<Self, Trouble> {
        let read = |path: &Path| crate::config::read_file(path, MAX_FILE).map_err(|e| e.to_string());
        let config = check(&files, &read)?;
        let watched = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
        let watched = watched.into_iter().flatten().cloned().collect();
        Ok(Self { config: Watched::new(watched, config), files })
    }

    /// The handshake, which ends when the client does; and whether he has shown a certificate that is trusted.
    pub(super) fn accept(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = Option<(TlsStream<TcpStream>, bool)>> + Send + use<> {
        let config = self.config.get(|| {
            let read = |path: &Path| crate::config::read_file(path, MAX_FILE).map_err(|e| e.to_string());
            match check(&self.files, &read) {
                Ok(config) => Some(config),
                Err((file, why)) => {
                    tracing::error!("{}: {why}; the certificates of before stay in use", file.display());
                    None
                }
            }
        });
        let handshake = TlsAcceptor::from(config).accept(stream);
        async {
            let stream = handshake.await.ok()?;
            let certified = stream.get_ref().1.peer_certificates().is_some_and(|c| !c.is_empty());
            Some((stream, certified))
        }
    }
}

/// What the files come to. `read` gives a file's content.
///
/// # Errors
/// The first file that cannot be used, and why. No message repeats a key.
pub fn check(
    files: &TlsFiles,
    read: &dyn Fn(&Path) -> Result<Vec<u8>, String>,
) -> Result<Arc<ServerConfig>, (PathBuf, String)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |why: String| (path, why)
    };
    let chain = read(&files.certificate).and_then(|pem| {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err("there is no certificate (PEM) in it".to_owned()),
            Err(e) => Err(format!("it is no PEM: {e}")),
        }
    });
    let chain = chain.map_err(at(&files.certificate))?;
    let key = read(&files.key)
        .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).map_err(|e| format!("it holds no private key (PEM): {e}")))
        .map_err(at(&files.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| at(&files.certificate)(e.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let trusted: Result<RootCertStore, String> = read(path)
                .and_then(|pem| String::from_utf8(pem).map_err(|_| "it is no text".to_owned()))
                .and_then(|pem| roots(&pem));
            let verifier = trusted.and_then(|trusted| {
                // Not everybody has one: metrics and health are for all.
                WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|e| e.to_string())
            });
            builder.with_client_cert_verifier(verifier.map_err(at(path))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| at(&files.key)(format!("it does not go with the certificate: {e}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
