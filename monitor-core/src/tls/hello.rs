//! The two hellos (RFC 8446 §4.1.2 and §4.1.3, RFC 5246 §7.4.1): what is needed to derive keys, and what they tell of the
//! service.

use super::reader::Reader;

/// `server_name` (RFC 6066 §3).
const SERVER_NAME: u16 = 0;
/// `application_layer_protocol_negotiation` (RFC 7301 §3.1).
const ALPN: u16 = 16;
/// `pre_shared_key` (RFC 8446 §4.2.11).
const PRE_SHARED_KEY: u16 = 41;
/// `early_data` (RFC 8446 §4.2.10).
const EARLY_DATA: u16 = 42;
/// `supported_versions` (RFC 8446 §4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;
/// `encrypted_client_hello` (RFC 9849 §5).
const ENCRYPTED_HELLO: u16 = 0xfe0d;
/// Random bytes by which a `ServerHello` asks for another `ClientHello` (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2, 0xA2, 0x11,
    0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientHello {
    pub(super) random: [u8; 32],
    /// The host it wants to speak to.
    pub(super) server_name: Option<Box<str>>,
    /// It may send data before the handshake is over.
    pub(super) early_data: bool,
    /// The hello that counts may be another, which is encrypted in this one: its random bytes are not these.
    pub(super) encrypted: bool,
}

/// The versions that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) random: [u8; 32],
    /// `None`: one that is not read here.
    pub(super) version: Option<Version>,
    /// As IANA numbers them.
    pub(super) suite: u16,
    /// Its choice of an application protocol; TLS 1.3 tells it later, encrypted.
    pub(super) alpn: Option<Box<str>>,
    /// TLS 1.3: the session goes on from an earlier one.
    pub(super) resumed: bool,
    /// It wants another hello first.
    pub(super) retry: bool,
}

/// Names come from the wire: only what a host name or a registered protocol id can be is taken for one.
fn name(bytes: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    (!text.is_empty() && text.len() <= 255 && text.bytes().all(fits)).then(|| text.into())
}

impl ClientHello {
    /// Reads a `ClientHello`'s body.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut r = Reader(body);
        let _version = r.u16()?;
        let random = r.array()?;
        let _session = r.short()?;
        let _suites = r.long()?;
        let _compression = r.short()?;
        let mut hello = Self { random, server_name: None, early_data: false, encrypted: false };
        // TLS 1.2 may go without extensions.
        let Some(mut extensions) = r.long() else { return Some(hello) };
        while let Some(kind) = extensions.u16() {
            let mut content = extensions.long()?;
            match kind {
                SERVER_NAME => hello.server_name = host(&mut content),
                EARLY_DATA => hello.early_data = true,
                ENCRYPTED_HELLO => hello.encrypted = true,
                _ => {}
            }
        }
        Some(hello)
    }
}

/// The host name of a `server_name` extension.
fn host(content: &mut Reader<'_>) -> Option<Box<str>> {
    let mut list = content.long()?;
    while let Some(kind) = list.u8() {
        let value = list.long()?;
        if kind == 0 {
            return name(value.0);
        }
    }
    None
}

/// The one protocol that a server names in an `application_layer_protocol_negotiation` extension.
fn protocol(content: &mut Reader<'_>) -> Option<Box<str>> {
    content.long()?.short().and_then(|p| name(p.0))
}

impl ServerHello {
    /// Reads a `ServerHello`'s body.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut r = Reader(body);
        let legacy = r.u16()?;
        let random = r.array()?;
        let _session = r.short()?;
        let suite = r.u16()?;
        let _compression = r.u8()?;
        let version = (legacy == 0x0303).then_some(Version::Tls12);
        let mut hello = Self { random, version, suite, alpn: None, resumed: false, retry: random == RETRY };
        let Some(mut extensions) = r.long() else { return Some(hello) };
        while let Some(kind) = extensions.u16() {
            let mut content = extensions.long()?;
            match kind {
                SUPPORTED_VERSIONS => hello.version = (content.u16()? == 0x0304).then_some(Version::Tls13),
                ALPN => hello.alpn = protocol(&mut content),
                PRE_SHARED_KEY => hello.resumed = true,
                _ => {}
            }
        }
        Some(hello)
    }
}

/// The application protocol that an `EncryptedExtensions` message names (RFC 8446 §4.3.1).
pub(super) fn encrypted_alpn(body: &[u8]) -> Option<Box<str>> {
    let mut extensions = Reader(body).long()?;
    while let Some(kind) = extensions.u16() {
        let mut content = extensions.long()?;
        if kind == ALPN {
            return protocol(&mut content);
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap();
        [&kind.to_be_bytes()[..], &len.to_be_bytes(), content].concat()
    }

    fn with_length(all: &[u8]) -> Vec<u8> {
        [&u16::try_from(all.len()).unwrap().to_be_bytes()[..], all].concat()
    }

    fn client(extensions: &[u8]) -> Vec<u8> {
        let mut body = b"\x03\x03".to_vec();
        body.extend([9; 32]);
        body.extend(b"\x02id\0\x02\x13\x01\x01\0");
        body.extend(with_length(extensions));
        body
    }

    fn server(extensions: &[u8]) -> Vec<u8> {
        let mut body = b"\x03\x03".to_vec();
        body.extend([8; 32]);
        body.extend(b"\x02id\xc0\x2f\0");
        body.extend(with_length(extensions));
        body
    }

    #[test]
    fn a_client_tells_its_random_its_host_and_what_it_may_do() {
        let host = extension(SERVER_NAME, &with_length(b"\0\0\x0adb.example"));
        let hello = ClientHello::read(&client(&[host, extension(EARLY_DATA, &[])].concat())).unwrap();
        assert_eq!((hello.random, hello.server_name.as_deref()), ([9; 32], Some("db.example")));
        assert!(hello.early_data && !hello.encrypted);
        let odd = extension(SERVER_NAME, &with_length(b"\0\0\x03a\nb"));
        assert_eq!(ClientHello::read(&client(&odd)).unwrap().server_name, None, "no host name");
        assert!(ClientHello::read(&client(&extension(ENCRYPTED_HELLO, b"x"))).unwrap().encrypted);
        // TLS 1.2 without extensions.
        let bare = client(&[]);
        assert!(ClientHello::read(&bare[..bare.len() - 2]).is_some());
        for n in 0..bare.len() - 2 {
            assert_eq!(ClientHello::read(&bare[..n]), None, "{n}");
        }
    }

    #[test]
    fn a_server_tells_what_was_chosen() {
        let old = ServerHello::read(&server(&extension(ALPN, &with_length(b"\x0apostgresql")))).unwrap();
        assert_eq!((old.version, old.suite, old.alpn.as_deref()), (Some(Version::Tls12), 0xc02f, Some("postgresql")));
        let new = server(&[extension(SUPPORTED_VERSIONS, &[3, 4]), extension(PRE_SHARED_KEY, &[0, 0])].concat());
        let new = ServerHello::read(&new).unwrap();
        assert_eq!((new.version, new.resumed, new.retry), (Some(Version::Tls13), true, false));
        let draft = ServerHello::read(&server(&extension(SUPPORTED_VERSIONS, &[0x7f, 0x1c]))).unwrap();
        assert_eq!(draft.version, None);
        let mut again = server(&[]);
        again[2..34].copy_from_slice(&RETRY);
        assert!(ServerHello::read(&again).unwrap().retry);
        let encrypted = with_length(&extension(ALPN, &with_length(b"\x08http/1.1")));
        assert_eq!(encrypted_alpn(&encrypted).as_deref(), Some("http/1.1"));
        assert_eq!(encrypted_alpn(&encrypted[..7]), None);
    }
}
