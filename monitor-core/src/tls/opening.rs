//! What becomes of a record: a hello that is read, something sealed that waits or is opened, handshake messages that
//! change keys.

use super::direction::Epoch;
use super::hello::{ClientHello, ServerHello, Version, encrypted_alpn};
use super::keys::Suite;
use super::messages::{Kind, Messages};
use super::record::{ContentType, Header};
use super::{Came, MAX_WAITING, Plain, Spent, Tls, Waiting, What};
use crate::model::Nanos;
use crate::model::tls::Unread;

/// How a record is protected.
enum Protection {
    None,
    /// It says nothing: TLS 1.3 sends such ones for the sake of boxes on the way (RFC 8446 §D.4).
    Void,
    Sealed,
}

impl Tls {
    /// A whole record.
    pub(super) fn record(&mut self, came: Came, header: Header, body: &mut Vec<u8>, out: &mut dyn Plain) {
        let role = came.role;
        match self.protection(role, header.content) {
            None => self.give_up(Unread::Malformed),
            Some(Protection::Void) => self.spend(Spent::Around, header.total() as u64, out),
            Some(Protection::None) => {
                self.spend(Spent::Around, header.total() as u64, out);
                if header.content == ContentType::Handshake {
                    self.clear(role, body);
                }
            }
            Some(Protection::Sealed) if self.waiting.is_empty() && self.direction(role).key.is_some() => {
                self.open(Waiting { came, header, what: What::Passed }, body, out);
            }
            Some(Protection::Sealed) => {
                self.wait(Waiting { came, header, what: What::Record(body.as_slice().into()) });
            }
        }
    }

    /// `None`: no such record may come now.
    fn protection(&mut self, role: usize, content: ContentType) -> Option<Protection> {
        let version = self.version();
        let direction = self.direction(role);
        match (version, direction.epoch, content) {
            (Some(Version::Tls12), Epoch::Clear, ContentType::ChangeCipherSpec) => {
                // The keys may be known already, from what the other end has sealed.
                (direction.epoch, direction.messages) = (Epoch::Data, Messages::default());
                Some(Protection::Void)
            }
            (Some(Version::Tls12), Epoch::Clear, ContentType::Data) => None,
            (Some(Version::Tls12), Epoch::Clear, _) => Some(Protection::None),
            (Some(Version::Tls12), ..) => Some(Protection::Sealed),
            (_, _, ContentType::ChangeCipherSpec) => Some(Protection::Void),
            // Before the server has answered, only a client may: with early data.
            (None, _, ContentType::Data) if role == 1 => None,
            (_, epoch, ContentType::Data) => {
                if epoch == Epoch::Clear {
                    direction.turn(Epoch::Handshake, None, None);
                }
                Some(Protection::Sealed)
            }
            (_, _, ContentType::Handshake) if direction.key.is_some() || direction.epoch == Epoch::Data => None,
            (_, _, ContentType::Handshake | ContentType::Alert) => Some(Protection::None),
        }
    }

    /// A record of which `missing` bytes are missing.
    pub(super) fn damaged(&mut self, role: usize, at: Nanos, header: Header, missing: usize, out: &mut dyn Plain) {
        match self.protection(role, header.content) {
            Some(Protection::Sealed) => {
                let w = Waiting { came: Came { role, at, ends: false }, header, what: What::Damaged(missing) };
                if self.waiting.is_empty() && self.direction(role).key.is_some() {
                    self.open(w, &mut [], out);
                } else {
                    self.wait(w);
                }
            }
            // Certificates and the like. The hellos are needed.
            Some(_) if self.suite.is_some() => {
                self.direction(role).messages.lose();
                self.spend(Spent::Lost, header.total().saturating_sub(missing) as u64, out);
            }
            _ => self.give_up(Unread::Lost),
        }
    }

    fn wait(&mut self, w: Waiting) {
        if let What::Record(body) = &w.what {
            self.n_waiting += body.len();
        }
        self.n_waiting += size_of::<Waiting>();
        self.waiting.push_back(w);
        if self.n_waiting > MAX_WAITING {
            self.give_up(Unread::NoSecret);
        }
    }

    /// Opens what waits, as far as there are keys for it. It became readable no earlier than `now`.
    pub fn advance(&mut self, now: Nanos, scratch: &mut Vec<u8>, out: &mut dyn Plain) {
        while let Some(first) = self.waiting.front() {
            let role = first.came.role;
            if matches!(first.what, What::Record(_) | What::Damaged(_)) && self.direction(role).key.is_none() {
                break;
            }
            let Some(mut w) = self.waiting.pop_front() else { return };
            self.n_waiting = self.n_waiting.saturating_sub(size_of::<Waiting>());
            w.came.at = w.came.at.max(now);
            match std::mem::replace(&mut w.what, What::Passed) {
                What::Record(body) => {
                    self.n_waiting = self.n_waiting.saturating_sub(body.len());
                    scratch.clear();
                    scratch.extend_from_slice(&body);
                    self.open(w, scratch, out);
                }
                damaged @ What::Damaged(_) => {
                    w.what = damaged;
                    self.open(w, scratch, out);
                }
                What::Lost(missing) => {
                    self.spend(Spent::Lost, w.header.total().saturating_sub(missing) as u64, out);
                    out.missing(self.side(role), w.came.at, None);
                }
                What::Passed if role == 0 && self.hello.as_ref().is_some_and(|h| h.early_data) => {
                    self.spend(Spent::Unread(Unread::EarlyData), w.header.total() as u64, out);
                    out.missing(self.client, w.came.at, None);
                }
                What::Passed => self.spend(Spent::Around, w.header.total() as u64, out),
            }
        }
        for role in 0..2 {
            if self.direction(role).hunt.is_some() {
                self.read(Came { role, at: now, ends: false }, &[], scratch, out);
            }
        }
    }

    /// Opens a sealed record whose body is in `body`, or counts one off that is damaged.
    fn open(&mut self, w: Waiting, body: &mut [u8], out: &mut dyn Plain) {
        let Waiting { came, header, what } = w;
        let Came { role, at, .. } = came;
        let Some((suite, version)) = self.suite else { return };
        let side = self.side(role);
        let direction = self.direction(role);
        if let What::Damaged(missing) = what {
            let n = direction.key.as_ref().and_then(|key| key.plain_len(&header));
            direction.count_off();
            let data = direction.epoch == Epoch::Data && header.content == ContentType::Data;
            self.spend(Spent::Lost, header.total().saturating_sub(missing) as u64, out);
            if data {
                out.missing(side, at, n);
            }
            return;
        }
        let sealed = (direction.epoch == Epoch::Handshake && direction.is_unsure()).then(|| body.to_vec());
        if let Some(plain) = direction.open(suite, &header, body) {
            self.opened(came, &header, body.get(plain).unwrap_or_default(), out);
            return;
        }
        match sealed {
            // What was lost may have ended the handshake.
            Some(sealed) if version == Version::Tls13 => {
                direction.turn(Epoch::Data, None, None);
                let what = What::Record(sealed.into_boxed_slice());
                self.wait(Waiting { came, header, what });
                // It is the first.
                self.waiting.rotate_right(1);
            }
            _ => {
                let why = if direction.is_unsure() { Unread::Lost } else { Unread::NotAuthentic };
                self.give_up(why);
            }
        }
    }

    /// What was sealed in a record.
    pub(super) fn opened(&mut self, came: Came, header: &Header, plain: &[u8], out: &mut dyn Plain) {
        let Came { role, at, ends } = came;
        let total = header.total();
        let inner = match self.version() {
            // The last byte that is not zero says what it is (RFC 8446 §5.4).
            Some(Version::Tls13) => {
                plain.iter().rposition(|b| *b != 0).and_then(|at| plain.split_at_checked(at)).and_then(
                    |(text, tail)| tail.first().and_then(|kind| ContentType::of(*kind)).map(|content| (content, text)),
                )
            }
            _ => Some((header.content, plain)),
        };
        match inner {
            Some((ContentType::Data, text)) if self.direction(role).epoch == Epoch::Data => {
                self.unresolved = self.unresolved.saturating_sub(text.len() as u64);
                self.spend(Spent::Around, total.saturating_sub(text.len()) as u64, out);
                if !text.is_empty() {
                    out.bytes(self.side(role), at, text, ends);
                }
            }
            Some((ContentType::Handshake, text)) => {
                self.spend(Spent::Around, total as u64, out);
                self.sealed_messages(role, text);
            }
            Some((ContentType::Alert, _)) => self.spend(Spent::Around, total as u64, out),
            Some((ContentType::ChangeCipherSpec, _)) => self.give_up(Unread::Unsupported),
            Some((ContentType::Data, _)) | None => self.give_up(Unread::Malformed),
        }
    }

    /// Handshake messages in clear: the hellos.
    fn clear(&mut self, role: usize, mut input: &[u8]) {
        while let Some((kind, body)) = self.direction(role).messages.next(&mut input) {
            match (kind, role) {
                // A second one, after the server asked for it, is as the first one in all that matters.
                (Kind::ClientHello, 0) if self.hello.is_some() => {}
                (Kind::ClientHello, 0) => self.hello = ClientHello::read(&body),
                (Kind::ServerHello, 1) => self.chosen(&body),
                _ => {}
            }
            if self.hello.is_none() {
                self.give_up(Unread::Malformed);
            }
            if self.unread.is_some() {
                return;
            }
        }
    }

    fn chosen(&mut self, body: &[u8]) {
        let Some(hello) = ServerHello::read(body) else { return self.give_up(Unread::Malformed) };
        if hello.retry || self.suite.is_some() {
            return;
        }
        let version = hello.version;
        self.suite = version.and_then(|v| Suite::of(hello.suite, v).map(|suite| (suite, v)));
        (self.server_random, self.alpn, self.resumed) = (hello.random, hello.alpn, hello.resumed);
        if self.suite.is_none() {
            self.give_up(Unread::Unsupported);
        }
    }

    /// Handshake messages that were sealed.
    fn sealed_messages(&mut self, role: usize, mut input: &[u8]) {
        let Some((suite, version)) = self.suite else { return };
        while let Some((kind, body)) = self.direction(role).messages.next(&mut input) {
            let direction = self.direction(role);
            match (version, kind) {
                (Version::Tls13, Kind::Finished) if direction.epoch == Epoch::Handshake => {
                    direction.turn(Epoch::Data, None, None);
                }
                (Version::Tls13, Kind::KeyUpdate) if direction.epoch == Epoch::Data => {
                    let next = direction.secret.as_ref().and_then(|secret| suite.update(secret));
                    let key = next.as_ref().and_then(|secret| suite.traffic(secret));
                    direction.turn(Epoch::Data, key, next);
                }
                (Version::Tls13, Kind::EncryptedExtensions) => self.alpn = encrypted_alpn(&body),
                // A new handshake inside of this one.
                (Version::Tls12, Kind::ClientHello | Kind::ServerHello) => self.give_up(Unread::Unsupported),
                _ => {}
            }
        }
    }
}
