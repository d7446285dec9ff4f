//! Certificates to trust, from a file.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Certificates in a PEM text.
///
/// # Errors
/// There is none, or one is broken; in words.
pub fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| format!("it is no PEM: {e}"))?;
        roots.add(certificate).map_err(|e| format!("certificate {}: {e}", roots.len() + 1))?;
    }
    if roots.is_empty() { Err("there is no certificate (PEM) in it".to_owned()) } else { Ok(roots) }
}
