//! What the agent is told of TLS: the secrets of a handshake, as a library logs them for a key-log file.

use std::fmt;

use zeroize::Zeroize;

use super::{CgroupId, Nanos, ProcessId};

/// Longest secret that is kept, in bytes: a SHA-512 output. TLS 1.2 master secrets have 48 (RFC 5246 §8.1), traffic
/// secrets of TLS 1.3 the 32 or 48 of their hash (RFC 8446 §7.1).
pub const MAX_SECRET: usize = 64;

/// Which secret of a handshake it is, as the labels of the key-log format tell (RFC 9850 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretLabel {
    /// `CLIENT_RANDOM`: the master secret of TLS 1.2 and before.
    Master,
    /// `CLIENT_HANDSHAKE_TRAFFIC_SECRET`: what the client sends during the handshake of TLS 1.3.
    ClientHandshake,
    /// `SERVER_HANDSHAKE_TRAFFIC_SECRET`: what the server sends during the handshake.
    ServerHandshake,
    /// `CLIENT_TRAFFIC_SECRET_0`: what the client sends after it.
    ClientTraffic,
    /// `SERVER_TRAFFIC_SECRET_0`: what the server sends after it.
    ServerTraffic,
}

impl SecretLabel {
    /// Every label that is of use here.
    pub const ALL: [Self; 5] =
        [Self::Master, Self::ClientHandshake, Self::ServerHandshake, Self::ClientTraffic, Self::ServerTraffic];

    /// The label as key-log files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "CLIENT_RANDOM",
            Self::ClientHandshake => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            Self::ServerHandshake => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            Self::ClientTraffic => "CLIENT_TRAFFIC_SECRET_0",
            Self::ServerTraffic => "SERVER_TRAFFIC_SECRET_0",
        }
    }

    /// The label with this text. `None`: it is another secret's (`EXPORTER_SECRET`, `CLIENT_EARLY_TRAFFIC_SECRET` …),
    /// with which nothing is done.
    pub fn parse(label: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name().as_bytes() == label)
    }
}

/// A secret: at most [`MAX_SECRET`] bytes, wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    len: u8,
    bytes: [u8; MAX_SECRET],
}

impl Secret {
    /// Keeps a copy of `bytes`. `None`: there are none, or more than a secret has.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let len = u8::try_from(bytes.len()).ok().filter(|len| *len > 0)?;
        let mut secret = Self { len, bytes: [0; MAX_SECRET] };
        secret.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(secret)
    }

    /// The bytes. Whoever copies them wipes the copy.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len)
    }
}

/// One secret of one handshake, as the process told it to its own key log.
///
/// Each secret is an event of its own, in no order that can be relied upon; it may come late, twice, or (where both
/// ends are watched) from both processes. Which connection it is of, decides what it opens, and nothing else.
#[derive(Clone, Debug)]
pub struct HandshakeSecret {
    /// When.
    pub at: Nanos,
    /// The process' cgroup. `None`: not known (a key-log file names none).
    pub cgroup: Option<CgroupId>,
    /// The process. `None`: not known.
    pub process: Option<ProcessId>,
    /// Which secret.
    pub label: SecretLabel,
    /// The random bytes of the `ClientHello`, where the probe could read them.
    pub client_random: Option<[u8; 32]>,
    /// The secret.
    pub secret: Secret,
}

/// Application protocols with a name of their own (IANA's registry of ALPN protocol ids, and what is in common use beside
/// it): what else a server names is not shown.
const ALPN: &[&str] = &[
    "acme-tls/1",
    "amqp",
    "coap",
    "dot",
    "ftp",
    "grpc-exp",
    "h2",
    "http/1.0",
    "http/1.1",
    "imap",
    "irc",
    "istio",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-peer-exchange",
    "managesieve",
    "mqtt",
    "nntp",
    "ntske/1",
    "pop3",
    "postgresql",
    "radius/1.0",
    "redis",
    "sip/2",
    "smb",
    "spdy/3",
    "stun.turn",
    "tds/8.0",
    "webrtc",
    "x-amzn-http-ca",
    "xmpp-client",
    "xmpp-server",
];

/// The word for an application protocol: its own, or `_other`.
pub fn alpn_word(name: &str) -> &'static str {
    ALPN.iter().find(|known| **known == name).copied().unwrap_or("_other")
}

/// Why something that is sealed with TLS is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unread {
    /// Nobody has switched the reading of TLS on.
    Off,
    /// The handshake was before the agent looked.
    OlderThanAgent,
    /// The handshake's secrets were not told in time.
    NoSecret,
    /// Something is missing, and with it the place in what follows.
    Lost,
    /// A record fits no key, although nothing is missing.
    NotAuthentic,
    /// A version, a cipher suite or a renegotiation that is not read.
    Unsupported,
    /// It is no TLS after all, or breaks its rules.
    Malformed,
    /// Sent before the handshake was over (0-RTT).
    EarlyData,
    /// The process' executable or library has no function that surely tells secrets.
    AmbiguousBinary,
    /// The process speaks Java's own TLS.
    Java,
}

impl Unread {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Off,
        Self::OlderThanAgent,
        Self::NoSecret,
        Self::Lost,
        Self::NotAuthentic,
        Self::Unsupported,
        Self::Malformed,
        Self::EarlyData,
        Self::AmbiguousBinary,
        Self::Java,
    ];

    /// Whether it is the connection that is too old, or has lost its place: another one would be read.
    pub fn ends_with_its_connection(self) -> bool {
        matches!(self, Self::OlderThanAgent | Self::Lost)
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OlderThanAgent => "older_than_agent",
            Self::NoSecret => "no_secret",
            Self::Lost => "lost",
            Self::NotAuthentic => "not_authentic",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::EarlyData => "early_data",
            Self::AmbiguousBinary => "ambiguous_binary",
            Self::Java => "java",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_written() {
        for label in SecretLabel::ALL {
            assert_eq!(SecretLabel::parse(label.name().as_bytes()), Some(label));
        }
        for other in ["", "CLIENT", "CLIENT_RANDOM ", "EXPORTER_SECRET", "CLIENT_TRAFFIC_SECRET_1"] {
            assert_eq!(SecretLabel::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_secret_is_bounded_and_never_shown() {
        assert_eq!(Secret::new(&[7; 48]).map(|s| s.bytes().to_vec()), Some(vec![7; 48]));
        assert!(Secret::new(&[7; MAX_SECRET]).is_some());
        assert!(Secret::new(&[]).is_none() && Secret::new(&[7; MAX_SECRET + 1]).is_none());
        let shown = format!("{:?}", Secret::new(b"hunter2 hunter2"));
        assert_eq!(shown, "Some(Secret(15 bytes))");
    }
}
