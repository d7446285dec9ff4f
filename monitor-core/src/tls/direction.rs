//! One direction of a connection: its place in the bytes, its keys, and which record comes next.

use std::ops::{Range, RangeInclusive};

use super::hunt::Hunt;
use super::keys::{Key, Suite};
use super::messages::Messages;
use super::record::{Framer, Header};
use crate::model::Secret;

/// Most records that holes are believed to have held: so many numbers are tried on what comes behind them.
const MAX_SLACK: u64 = 64;
/// Least bytes of a protected record (header, one byte, tag).
const LEAST_RECORD: u64 = 22;

/// How far a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Epoch {
    /// Nothing is sealed yet.
    Clear,
    /// TLS 1.3: sealed with the handshake's keys.
    Handshake,
    /// Sealed with the session's keys.
    Data,
}

/// One direction.
#[derive(Debug)]
pub(super) struct OneWay {
    pub(super) framer: Framer,
    pub(super) messages: Messages,
    pub(super) epoch: Epoch,
    pub(super) key: Option<Key>,
    /// TLS 1.3: what the key is derived from, and the next one.
    pub(super) secret: Option<Secret>,
    /// Number of the next record.
    pub(super) seq: u64,
    /// So many more records may be missing before the next one …
    slack: u64,
    /// … and so many are counted that were since the last one that was opened.
    counted: u64,
    /// Behind a hole: the place is lost.
    pub(super) hunt: Option<Hunt>,
}

impl OneWay {
    pub(super) fn new() -> Self {
        Self {
            framer: Framer::default(),
            messages: Messages::default(),
            epoch: Epoch::Clear,
            key: None,
            secret: None,
            seq: 0,
            slack: 0,
            counted: 0,
            hunt: None,
        }
    }

    /// The next record is the first one of an epoch, or of other keys.
    pub(super) fn turn(&mut self, epoch: Epoch, key: Option<Key>, secret: Option<Secret>) {
        (self.epoch, self.key, self.secret, self.seq) = (epoch, key, secret, 0);
        self.messages = Messages::default();
    }

    /// A sealed record is damaged: it has a number all the same.
    pub(super) fn count_off(&mut self) {
        self.seq += 1;
        self.counted += 1;
        self.messages.lose();
    }

    /// The record of this number has come; `over`: and was opened.
    pub(super) fn found(&mut self, seq: u64, over: bool) {
        self.seq = if over { seq + 1 } else { seq };
        (self.slack, self.counted) = (0, 0);
    }

    /// Most records that may have been lost since the last one that was opened.
    pub(super) fn most_lost(&self) -> u64 {
        self.slack + self.counted
    }

    /// A hole of `n` bytes may have held whole records.
    pub(super) fn doubt(&mut self, n: u64) {
        self.slack = self.slack.saturating_add(n / LEAST_RECORD + 1).min(MAX_SLACK);
        self.messages.lose();
    }

    /// Whether something may be missing that has changed keys or numbers.
    pub(super) fn is_unsure(&self) -> bool {
        self.slack > 0 || self.messages.is_astray()
    }

    /// Opens a record in place. Where something may be missing the next numbers are tried, too, and the next keys.
    pub(super) fn open(&mut self, suite: Suite, header: &Header, body: &mut [u8]) -> Option<Range<usize>> {
        let key = self.key.as_ref()?;
        if !self.is_unsure() {
            let plain = key.open(self.seq, header, body)?;
            self.seq += 1;
            return Some(plain);
        }
        let sealed = body.to_vec();
        let last = self.seq.saturating_add(self.slack);
        if let Some((seq, plain)) = first(key, self.seq..=last, header, &sealed, body) {
            self.found(seq, true);
            return Some(plain);
        }
        // Perhaps what was lost has changed the keys (RFC 8446 §4.6.3).
        let next = suite.update(self.secret.as_ref().filter(|_| self.epoch == Epoch::Data)?)?;
        let key = suite.traffic(&next)?;
        let (seq, plain) = first(&key, 0..=self.most_lost(), header, &sealed, body)?;
        self.turn(Epoch::Data, Some(key), Some(next));
        self.found(seq, true);
        Some(plain)
    }

    /// Whether the next record may be one of keys that are not known.
    pub(super) fn may_turn(&self) -> bool {
        self.key.is_none() || self.epoch == Epoch::Handshake
    }

    pub(super) fn memory(&self) -> usize {
        self.framer.memory() + self.messages.memory() + self.hunt.as_ref().map_or(0, Hunt::len)
    }
}

/// The first of these numbers under which `key` opens a record, and where in `body` that stands in clear.
pub(super) fn first(
    key: &Key,
    mut numbers: RangeInclusive<u64>,
    header: &Header,
    sealed: &[u8],
    body: &mut [u8],
) -> Option<(u64, Range<usize>)> {
    numbers.find_map(|seq| {
        body.copy_from_slice(sealed);
        key.open(seq, header, body).map(|plain| (seq, plain))
    })
}
