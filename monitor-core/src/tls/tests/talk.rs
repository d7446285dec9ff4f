//! Conversations of rustls with itself, and what the layer makes of them.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rcgen::KeyPair;
use rustls::crypto::ring as provider;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, KeyLog, RootCertStore, ServerConfig, ServerConnection,
};

use crate::model::{HandshakeSecret, Nanos, Secret, SecretLabel, Side};
use crate::tls::{Plain, Sealed, Spent, Tls};

/// One thing that happens on the wire, or beside it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bytes(Side, Vec<u8>, bool),
    Hole(Side, u64),
    Told(HandshakeSecret),
}

/// Plaintext as one side says it, or what it does.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Bytes(Side, Vec<u8>),
    /// Changes its keys, and the other one's with it.
    Update(Side),
}

pub(crate) fn client(text: &[u8]) -> Say {
    Say::Bytes(Side::Client, text.to_vec())
}

pub(crate) fn server(text: &[u8]) -> Say {
    Say::Bytes(Side::Server, text.to_vec())
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<HandshakeSecret>>);

impl KeyLog for Log {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let Some(label) = SecretLabel::parse(label.as_bytes()) else { return };
        self.0.lock().unwrap().push(HandshakeSecret {
            at: Nanos(0),
            cgroup: None,
            process: None,
            label,
            client_random: client_random.try_into().ok(),
            secret: Secret::new(secret).unwrap(),
        });
    }
}

/// Two ends that may meet again.
pub(crate) struct Pair {
    client: ClientConfig,
    server: ServerConfig,
    log: Arc<Log>,
}

impl Pair {
    /// Which speak with this cipher suite alone.
    pub(crate) fn new(suite: CipherSuite) -> Self {
        Self::with_groups(suite, &[provider::kx_group::X25519], &[provider::kx_group::X25519])
    }

    pub(crate) fn with_groups(
        suite: CipherSuite,
        client_groups: &[&'static dyn SupportedKxGroup],
        server_groups: &[&'static dyn SupportedKxGroup],
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["db.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let of = |groups: &[&'static dyn SupportedKxGroup]| {
            let mut provider: CryptoProvider = provider::default_provider();
            provider.cipher_suites.retain(|s| s.suite() == suite);
            provider.kx_groups = groups.to_vec();
            Arc::new(provider)
        };
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(of(client_groups))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = ServerConfig::builder_with_provider(of(server_groups))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let log = Arc::new(Log::default());
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        client.enable_early_data = true;
        client.key_log = log.clone();
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        server.key_log = log.clone();
        Self { client, server, log }
    }

    pub(crate) fn with_short_records(mut self) -> Self {
        (self.client.max_fragment_size, self.server.max_fragment_size) = (Some(64), Some(64));
        self
    }

    pub(crate) fn with_early_data(mut self) -> Self {
        self.server.max_early_data_size = 4_096;
        self
    }

    /// A connection from its first byte on, each secret where the process knew it.
    pub(crate) fn talk(&self, early: &[u8], script: &[Say]) -> Vec<Step> {
        self.talk_by_turns(early, script).concat()
    }

    /// The same: the handshake, what each line of the script comes to, and the end.
    pub(crate) fn talk_by_turns(&self, early: &[u8], script: &[Say]) -> Vec<Vec<Step>> {
        let name = ServerName::try_from("db.example").unwrap();
        let mut client = ClientConnection::new(Arc::new(self.client.clone()), name).unwrap();
        if let (Some(mut data), false) = (client.early_data(), early.is_empty()) {
            data.write_all(early).unwrap();
        }
        let server = ServerConnection::new(Arc::new(self.server.clone())).unwrap();
        let mut ends = [Connection::Client(client), Connection::Server(server)];
        ends.iter_mut().for_each(|end| end.set_buffer_limit(None));
        let mut turns = vec![self.settle(&mut ends)];
        for say in script {
            let (from, text) = match say {
                Say::Bytes(from, text) => (*from, Some(text)),
                Say::Update(from) => (*from, None),
            };
            let end = &mut ends[usize::from(from == Side::Server)];
            match text {
                Some(text) => end.writer().write_all(text).unwrap(),
                None => end.refresh_traffic_keys().unwrap(),
            }
            turns.push(self.settle(&mut ends));
        }
        for end in &mut ends {
            end.send_close_notify();
        }
        turns.push(self.settle(&mut ends));
        turns
    }

    /// Each says what it has to say until nobody has.
    fn settle(&self, ends: &mut [Connection; 2]) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let mut quiet = true;
            for (from, to, side) in [(0, 1, Side::Client), (1, 0, Side::Server)] {
                let mut bytes = Vec::new();
                while ends[from].wants_write() {
                    ends[from].write_tls(&mut bytes).unwrap();
                }
                steps.extend(self.log.0.lock().unwrap().drain(..).map(Step::Told));
                if bytes.is_empty() {
                    continue;
                }
                quiet = false;
                steps.push(Step::Bytes(side, bytes.clone(), true));
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    ends[to].read_tls(&mut rest).unwrap();
                    ends[to].process_new_packets().unwrap();
                    let mut plain = vec![0; 1 << 16];
                    while ends[to].reader().read(&mut plain).is_ok_and(|n| n > 0) {}
                    if let Connection::Server(server) = &mut ends[to]
                        && let Some(mut early) = server.early_data()
                    {
                        early.read_to_end(&mut Vec::new()).unwrap();
                    }
                }
                steps.extend(self.log.0.lock().unwrap().drain(..).map(Step::Told));
            }
            if quiet {
                return steps;
            }
        }
    }
}

/// What came out, in order: bytes that follow each other put together.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Bytes(Side, Vec<u8>),
    Missing(Side, Option<u64>),
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(side, bytes) => {
                let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]);
                write!(f, "{side:?} {} bytes {beginning:?}", bytes.len())
            }
            Self::Missing(side, n) => write!(f, "{side:?} missing {n:?}"),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ear {
    pub(crate) heard: Vec<Heard>,
    pub(crate) waits: u64,
    /// Bytes: heard, around, lost, passed over.
    pub(crate) spent: [u64; 4],
}

impl Plain for Ear {
    fn bytes(&mut self, from: Side, _: Nanos, bytes: &[u8], _: bool) {
        self.spent[0] += bytes.len() as u64;
        match self.heard.last_mut() {
            Some(Heard::Bytes(side, all)) if *side == from => all.extend_from_slice(bytes),
            _ => self.heard.push(Heard::Bytes(from, bytes.to_vec())),
        }
    }
    fn missing(&mut self, from: Side, _: Nanos, n: Option<u64>) {
        self.heard.push(Heard::Missing(from, n));
    }
    fn spent(&mut self, what: Spent, n: u64) {
        let place = match what {
            Spent::Around => 1,
            Spent::Lost => 2,
            Spent::Unread(_) => 3,
        };
        self.spent[place] += n;
    }
}

/// The layer with every secret that it was told.
pub(crate) struct Listener {
    pub(crate) tls: Tls,
    pub(crate) ear: Ear,
    secrets: Vec<HandshakeSecret>,
    scratch: Vec<u8>,
    came: u64,
}

impl Listener {
    pub(crate) fn new() -> Self {
        Self { tls: Tls::new(Side::Client), ear: Ear::default(), secrets: Vec::new(), scratch: Vec::new(), came: 0 }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        let at = Nanos(0);
        match step {
            Step::Bytes(from, bytes, ends) => {
                self.came += bytes.len() as u64;
                let sealed = Sealed { at, bytes, ends_segment: *ends };
                self.tls.bytes(*from, sealed, &mut self.scratch, &mut self.ear);
            }
            Step::Hole(from, n) => self.tls.missing(*from, at, *n, &mut self.scratch, &mut self.ear),
            Step::Told(secret) => {
                if self.tls.offer(secret.label, &secret.secret, true) {
                    self.tls.advance(at, &mut self.scratch, &mut self.ear);
                }
                self.secrets.push(secret.clone());
            }
        }
        while let Some(label) = SecretLabel::ALL.into_iter().find(|label| self.tls.wants(*label)) {
            let mut of_label = self.secrets.iter().filter(|s| s.label == label);
            if of_label.any(|s| self.tls.offer(label, &s.secret, false)) {
                self.tls.advance(at, &mut self.scratch, &mut self.ear);
            } else {
                self.tls.none_fits(label);
            }
        }
        self.ear.waits += u64::from(self.tls.hides_requests());
        assert!(self.tls.memory() < 600 << 10);
        if self.tls.unread().is_none() {
            let spent: u64 = self.ear.spent.iter().sum();
            assert_eq!(spent + self.tls.unresolved(), self.came, "every byte becomes one thing");
        }
    }

    pub(crate) fn hear(steps: &[Step]) -> Self {
        let mut this = Self::new();
        for step in steps {
            this.step(step);
        }
        this
    }
}

/// What a script says, as it is heard when nothing is wrong.
pub(crate) fn whole(script: &[Say]) -> Vec<Heard> {
    let mut ear = Ear::default();
    for say in script {
        if let Say::Bytes(from, text) = say {
            ear.bytes(*from, Nanos(0), text, true);
        }
    }
    ear.heard
}

/// Whether what was heard is what was said, but for what is told as missing.
pub(crate) fn is_true(heard: &[Heard], script: &[Say]) -> bool {
    [Side::Client, Side::Server].into_iter().all(|side| {
        let said: Vec<u8> = script
            .iter()
            .flat_map(|say| match say {
                Say::Bytes(from, text) if *from == side => text.clone(),
                _ => Vec::new(),
            })
            .collect();
        let (mut at, mut sure) = (0, true);
        heard.iter().all(|h| match h {
            Heard::Bytes(from, bytes) if *from == side => {
                let found = if sure {
                    said.get(at..).is_some_and(|rest| rest.starts_with(bytes)).then_some(at)
                } else {
                    said.get(at..).unwrap_or_default().windows(bytes.len()).position(|w| w == bytes).map(|n| at + n)
                };
                at = found.map_or(at, |n| n + bytes.len());
                sure = true;
                found.is_some()
            }
            Heard::Missing(from, n) if *from == side => {
                match n {
                    Some(n) => at += usize::try_from(*n).unwrap(),
                    None => sure = false,
                }
                true
            }
            _ => true,
        })
    })
}

/// Everything but what was told.
pub(crate) fn wire(steps: &[Step]) -> Vec<Step> {
    steps.iter().filter(|s| !matches!(s, Step::Told(_))).cloned().collect()
}

pub(crate) fn told(steps: &[Step]) -> Vec<Step> {
    steps.iter().filter(|s| matches!(s, Step::Told(_))).cloned().collect()
}

/// In pieces of these sizes.
pub(crate) fn in_pieces(steps: &[Step], sizes: &[usize]) -> Vec<Step> {
    let mut sizes = sizes.iter().copied().cycle();
    let mut out = Vec::new();
    for step in steps {
        let Step::Bytes(from, bytes, ends) = step else {
            out.push(step.clone());
            continue;
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (a, b) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
            out.push(Step::Bytes(*from, a.to_vec(), *ends && b.is_empty()));
            rest = b;
        }
    }
    out
}
