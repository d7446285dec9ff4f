//! TLS: records of one connection in, what was sealed in them out, wherever a handshake's secrets are told.
//!
//! The layer stands between `stream` and `decode`. It reads both hellos, keeps what cannot be opened yet (bounded), and
//! passes on plaintext in the order of the wire, so that decoders see the same as in clear traffic. A secret is believed
//! only when a record's authentication tag fits the keys derived from it: 2⁻¹²⁸ against, so a connection is never read
//! with another one's secret, whoever names it.
//!
//! What is not read: data sent before the handshake is over (0-RTT; passed over, told as missing), sessions whose cipher
//! is none of the three AEADs, renegotiations of TLS 1.2, versions before that, and what follows upon a record whose tag
//! fits nothing although nothing was lost: somebody has changed it. A record that was cut at capture is a hole, too: it
//! could be read up to the cut, but nothing would prove what was read.
//!
//! Memory of one connection: two records that are not whole ([`record::MAX_BODY`]), what waits ([`MAX_WAITING`]), behind
//! a hole what is looked through ([`hunt`]), and a hello ([`messages`]); about 500 KiB at the very most, and little but
//! the keys while whole records come.

mod direction;
pub mod fuzz;
mod hello;
mod hunt;
pub mod join;
mod keys;
mod messages;
mod offer;
mod opening;
mod reader;
mod record;

use std::collections::VecDeque;

use direction::{Epoch, OneWay};
use hello::ClientHello;
pub use hello::Version;
use hunt::Hunt;
use keys::Suite;
use record::{ContentType, Header, Next};

use crate::model::tls::Unread;
use crate::model::{Nanos, Side};

/// Most bytes of a connection that wait for a secret.
pub const MAX_WAITING: usize = 256 << 10;

/// What became of bytes of the wire that are no plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// They were read: headers, tags, handshakes.
    Around,
    /// They belong to a record of which something is missing.
    Lost,
    /// They were passed over.
    Unread(Unread),
}

/// Receives what was sealed.
pub trait Plain {
    /// The next bytes that `from` had sealed. `ends_segment`: their record ended where a segment ended.
    fn bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool);

    /// Here `n` bytes are missing. `None`: nobody can say how many.
    fn missing(&mut self, from: Side, at: Nanos, n: Option<u64>);

    /// What became of `n` bytes of the wire. What is given to [`Self::bytes`] is not counted here.
    fn spent(&mut self, what: Spent, n: u64);
}

/// Bytes of one direction as they come, before they are opened.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// When they came.
    pub at: Nanos,
    /// What came.
    pub bytes: &'a [u8],
    /// They end a segment, as far as the sender's segments are known.
    pub ends_segment: bool,
}

/// How a record came.
#[derive(Clone, Copy, Debug)]
struct Came {
    /// 0: the client sent it.
    role: usize,
    at: Nanos,
    /// It ends a segment.
    ends: bool,
}

/// Something that waits for its turn.
#[derive(Debug)]
struct Waiting {
    came: Came,
    header: Header,
    what: What,
}

#[derive(Debug)]
enum What {
    Record(Box<[u8]>),
    /// So many bytes of it are missing.
    Damaged(usize),
    /// The same, and its number is not known.
    Lost(usize),
    /// Nothing opens it: it stands before what the secrets that were told open.
    Passed,
}

/// The TLS of one connection that was seen from its first record.
#[derive(Debug)]
pub struct Tls {
    /// Who sent the `ClientHello`.
    client: Side,
    hello: Option<ClientHello>,
    server_random: [u8; 32],
    suite: Option<(Suite, Version)>,
    alpn: Option<Box<str>>,
    resumed: bool,
    /// The client's, the server's.
    directions: [OneWay; 2],
    /// In the order of the wire, whoever sent it.
    waiting: VecDeque<Waiting>,
    n_waiting: usize,
    /// On how many of the records that wait every secret of a label was tried that was told, by label.
    tried: [usize; 5],
    /// Bytes that came and of which nothing has become yet.
    unresolved: u64,
    unread: Option<Unread>,
}

impl Tls {
    /// For a connection on which `client` begins a handshake with its next byte.
    pub fn new(client: Side) -> Self {
        Self {
            client,
            hello: None,
            server_random: [0; 32],
            suite: None,
            alpn: None,
            resumed: false,
            directions: [OneWay::new(), OneWay::new()],
            waiting: VecDeque::new(),
            n_waiting: 0,
            tried: [0; 5],
            unresolved: 0,
            unread: None,
        }
    }

    /// The random bytes of the `ClientHello`, once it has come.
    pub fn random(&self) -> Option<&[u8; 32]> {
        self.hello.as_ref().map(|h| &h.random)
    }

    /// The hello that counts may be another, whose random bytes nobody sees.
    pub fn hides_random(&self) -> bool {
        self.hello.as_ref().is_some_and(|h| h.encrypted)
    }

    /// The host that the client wants to speak to, as it says.
    pub fn server_name(&self) -> Option<&str> {
        self.hello.as_ref()?.server_name.as_deref()
    }

    /// The application protocol that the server has chosen, as IANA names it (`h2`, `http/1.1`, `postgresql` …).
    pub fn alpn(&self) -> Option<&str> {
        self.alpn.as_deref()
    }

    /// The version that the server has chosen.
    pub fn version(&self) -> Option<Version> {
        self.suite.map(|(_, version)| version)
    }

    /// TLS 1.3: whether the session goes on from an earlier one.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Why the rest is not read. Once told, nothing more comes of it.
    pub fn unread(&self) -> Option<Unread> {
        self.unread
    }

    /// Bytes that came and of which nothing has become yet.
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    /// Since when something has been waiting for a secret.
    pub fn waits_since(&self) -> Option<Nanos> {
        self.waiting.front().map(|w| w.came.at)
    }

    /// Whether something that the client has sent waits: it may be requests.
    pub fn hides_requests(&self) -> bool {
        self.waiting.iter().any(|w| w.came.role == 0 && w.header.content == ContentType::Data)
    }

    /// Whether the keys of both directions are known, so that no more secrets are of use.
    pub fn is_keyed(&self) -> bool {
        self.directions.iter().all(|d| d.epoch == Epoch::Data && d.key.is_some())
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.n_waiting
            + self.waiting.capacity() * size_of::<Waiting>()
            + self.directions.iter().map(OneWay::memory).sum::<usize>()
    }

    /// Reads no further.
    pub fn give_up(&mut self, why: Unread) {
        self.unread.get_or_insert(why);
        self.waiting = VecDeque::new();
        self.n_waiting = 0;
        self.directions = [OneWay::new(), OneWay::new()];
    }

    fn role(&self, from: Side) -> usize {
        usize::from(from != self.client)
    }

    fn side(&self, role: usize) -> Side {
        if role == 0 { self.client } else { self.client.other() }
    }

    fn direction(&mut self, role: usize) -> &mut OneWay {
        let [client, server] = &mut self.directions;
        if role == 0 { client } else { server }
    }

    fn spend(&mut self, what: Spent, n: u64, out: &mut dyn Plain) {
        self.unresolved = self.unresolved.saturating_sub(n);
        if n > 0 {
            out.spent(what, n);
        }
    }

    /// More bytes of one direction. `scratch` is used for the moment only.
    pub fn bytes(&mut self, from: Side, sealed: Sealed<'_>, scratch: &mut Vec<u8>, out: &mut dyn Plain) {
        let Sealed { at, bytes, ends_segment } = sealed;
        self.unresolved += bytes.len() as u64;
        self.read(Came { role: self.role(from), at, ends: ends_segment }, bytes, scratch, out);
    }

    fn read(&mut self, came: Came, bytes: &[u8], scratch: &mut Vec<u8>, out: &mut dyn Plain) {
        let Came { role, at, ends } = came;
        let mut found: Vec<u8>;
        let mut input = bytes;
        loop {
            if self.direction(role).hunt.is_some() {
                let Some(rest) = self.hunt(came, input, scratch, out) else { return };
                found = rest;
                input = &found;
            }
            while self.unread.is_none() && self.direction(role).hunt.is_none() {
                match self.direction(role).framer.next(&mut input, scratch) {
                    Next::NeedMore => return,
                    Next::Malformed => self.give_up(Unread::Malformed),
                    Next::Whole(header) => {
                        let ends = ends && input.is_empty();
                        self.record(Came { ends, ..came }, header, scratch, out);
                    }
                    Next::Damaged(header, n) => self.damaged(role, at, header, n, out),
                }
            }
            if self.unread.is_some() {
                return;
            }
        }
    }

    /// Looks for the next record behind a hole, and gives what comes after that.
    fn hunt(&mut self, came: Came, bytes: &[u8], scratch: &mut Vec<u8>, out: &mut dyn Plain) -> Option<Vec<u8>> {
        let (suite, _) = self.suite?;
        let direction = self.direction(came.role);
        direction.hunt.as_mut()?.push(bytes);
        loop {
            let hunt = direction.hunt.as_mut()?;
            let Some((place, header)) = hunt.candidate() else {
                if hunt.is_over() {
                    self.give_up(Unread::Lost);
                }
                return None;
            };
            scratch.clear();
            scratch.extend_from_slice(hunt.body(place, &header)?);
            let Some(plain) = direction.open(suite, &header, scratch) else {
                if direction.may_turn() {
                    // A secret that was not asked for yet may open it.
                    return None;
                }
                direction.hunt.as_mut()?.pass();
                continue;
            };
            let rest = direction.hunt.take()?.behind(place, &header);
            self.spend(Spent::Lost, place as u64, out);
            let ends = came.ends && rest.is_empty();
            self.opened(Came { ends, ..came }, &header, scratch.get(plain)?, out);
            return Some(rest);
        }
    }

    /// `n` bytes of one direction are missing.
    pub fn missing(&mut self, from: Side, at: Nanos, n: u64, scratch: &mut Vec<u8>, out: &mut dyn Plain) {
        if self.unread.is_some() {
            return;
        }
        let role = self.role(from);
        let nothing_waits = self.waiting.is_empty();
        let direction = self.direction(role);
        let lost = match &mut direction.hunt {
            // One more hole: what was between them is lost.
            Some(hunt) => std::mem::take(hunt).len(),
            None if direction.framer.missing(n) => {
                // It may have been the rest of the record.
                self.read(Came { role, at, ends: false }, &[], scratch, out);
                return;
            }
            None if nothing_waits && direction.epoch != Epoch::Clear => {
                direction.hunt = Some(Hunt::default());
                direction.framer.restart()
            }
            None => return self.give_up(Unread::Lost),
        };
        direction.doubt(n);
        self.spend(Spent::Lost, lost as u64, out);
        out.missing(from, at, None);
    }
}

#[cfg(test)]
pub(crate) mod tests;
