//! In place of TLS, in a build without the feature `tls`: a configuration that asks for it is refused.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use tokio::net::TcpStream;

use super::TlsFiles;

/// What would make TLS connections.
#[derive(Debug)]
pub(super) struct Acceptor(Infallible);

impl Acceptor {
    pub(super) fn new(files: TlsFiles) -> Result<Self, (PathBuf, String)> {
        Err(refused(&files))
    }

    pub(super) fn accept(&self, _: TcpStream) -> std::future::Pending<Option<(TcpStream, bool)>> {
        match self.0 {}
    }
}

/// There is none.
///
/// # Errors
/// Always.
pub fn check(files: &TlsFiles, _: &dyn Fn(&Path) -> Result<Vec<u8>, String>) -> Result<(), (PathBuf, String)> {
    Err(refused(files))
}

fn refused(files: &TlsFiles) -> (PathBuf, String) {
    (files.certificate.clone(), "this build cannot speak TLS (the feature `tls` is off)".to_owned())
}
