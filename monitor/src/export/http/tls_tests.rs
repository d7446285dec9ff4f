//! TLS, over real connections.

use super::*;

/// A certificate authority with a server's and a client's certificate, as files.
struct Authority {
    dir: tempfile::TempDir,
    client: (rustls::pki_types::CertificateDer<'static>, Vec<u8>),
    root: rustls::pki_types::CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
            (certificate, key)
        };
        let dir = tempfile::tempdir().unwrap();
        let (server, server_key) = signed("localhost");
        std::fs::write(dir.path().join("tls.crt"), server.pem()).unwrap();
        std::fs::write(dir.path().join("tls.key"), server_key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        std::fs::write(dir.path().join("token"), "a-token-of-enough-bytes\n").unwrap();
        let (client, client_key) = signed("auditor");
        Self { dir, client: (client.der().clone(), client_key.serialize_der()), root: ca.der().clone() }
    }

    fn files(&self) -> TlsFiles {
        let file = |name| self.dir.path().join(name);
        TlsFiles { certificate: file("tls.crt"), key: file("tls.key"), client_ca: Some(file("ca.crt")) }
    }

    fn connect(&self, to: SocketAddr, certified: bool) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if certified {
            let key = rustls::pki_types::PrivateKeyDer::Pkcs8(self.client.1.clone().into());
            builder.with_client_auth_cert(vec![self.client.0.clone()], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let client = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        rustls::StreamOwned::new(client, TcpStream::connect(to).unwrap())
    }
}

#[test]
fn with_tls_a_token_or_a_certificate_opens() {
    let authority = Authority::new();
    let config = HttpConfig {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        tls: Some(authority.files()),
        token_file: Some(authority.dir.path().join("token")),
        ..HttpConfig::default()
    };
    let server = Running::start(config, shared());
    let here = server.at(Ipv4Addr::LOCALHOST.into());
    assert_eq!(ask_over(authority.connect(here, false), "/findings", "").0, 200, "loopback");
    let Some(ip) = elsewhere() else {
        eprintln!("NOT RUN: this host has no address but loopback");
        return;
    };
    let there = server.at(ip);
    let token = "Authorization: Bearer a-token-of-enough-bytes\r\n";
    let wrong = "Authorization: Bearer a-token-of-enough-bytez\r\n";
    assert_eq!(ask_over(authority.connect(there, false), "/metrics", "").0, 200);
    assert_eq!(ask_over(authority.connect(there, false), "/findings", "").0, 403);
    assert_eq!(ask_over(authority.connect(there, false), "/findings", wrong).0, 403);
    assert_eq!(ask_over(authority.connect(there, false), "/findings", token).0, 200);
    assert_eq!(ask_over(authority.connect(there, true), "/findings", "").0, 200);
    // A certificate of another authority: not even metrics.
    let stranger = Authority { root: authority.root.clone(), ..Authority::new() };
    let mut refused = stranger.connect(there, true);
    let _ = refused.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut nothing = Vec::new();
    assert!(refused.read_to_end(&mut nothing).is_err() && nothing.is_empty());
    // Plain HTTP is not spoken on this port.
    let mut plain = TcpStream::connect(there).unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
}

#[test]
fn renewed_certificates_are_used_and_broken_ones_are_not() {
    let authority = Authority::new();
    let config = HttpConfig { tls: Some(TlsFiles { client_ca: None, ..authority.files() }), ..on_loopback() };
    let server = Running::start(config, shared());
    let works = |authority: &Authority| {
        let mut stream = authority.connect(server.address, false);
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok() && {
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text);
            text.starts_with(b"HTTP/1.1 200")
        }
    };
    assert!(works(&authority));
    let renewed = Authority::new();
    for name in ["tls.crt", "tls.key"] {
        std::fs::copy(renewed.dir.path().join(name), authority.dir.path().join(name)).unwrap();
    }
    while !works(&renewed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::write(authority.dir.path().join("tls.key"), "broken").unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(works(&renewed));
}
