//! The values of a reply as they come, each by its fingerprint: what a reader of keys is handed.
//!
//! Memory: 512 values of one reply, 24 bytes of each.

use std::hash::Hasher;

use smallvec::SmallVec;

use super::reply::Kind;
use crate::decode::head::Head;
use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Most values of one reply.
const MAX_LEAVES: usize = 512;
/// Bytes of a value that are kept as they are.
const MAX_TEXT: usize = 24;

/// A field of a hash with its value.
pub(super) fn pair(salt: Salt, field: Fingerprint, value: Fingerprint) -> Fingerprint {
    let mut h = salt.hasher();
    h.write(b"field");
    h.write_u64(field.0);
    h.write_u64(value.0);
    Fingerprint(h.finish())
}

/// A text that was put together from pieces, of this length in bytes.
pub(super) fn grown(salt: Salt, len: u64) -> Fingerprint {
    let mut h = salt.hasher();
    h.write(b"grown");
    h.write_u64(len);
    Fingerprint(h.finish())
}

/// One value of a reply.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// How many arrays and maps it stands in.
    pub(super) depth: usize,
    /// Covers it; `None` if it is null, an error, or was not seen.
    pub(super) print: Option<Fingerprint>,
    /// Its length, in bytes.
    pub(super) len: u64,
    pub(super) null: bool,
    /// Its beginning.
    pub(super) text: SmallVec<[u8; MAX_TEXT]>,
}

impl Leaf {
    /// The number that it is.
    pub(super) fn number(&self) -> Option<i64> {
        std::str::from_utf8(&self.text).ok()?.parse().ok()
    }
}

/// Collects the values of one reply after another.
#[derive(Debug)]
pub(super) struct Given {
    salt: Salt,
    open: Option<(Head, SmallVec<[u8; MAX_TEXT]>)>,
    /// Which command of a transaction each belongs to, and the value.
    leaves: Vec<(usize, Leaf)>,
}

impl Given {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, open: None, leaves: Vec::new() }
    }

    pub(super) fn reset(&mut self) {
        self.open = None;
        self.leaves.clear();
    }

    /// A value begins.
    pub(super) fn starts(&mut self) {
        self.open = (self.leaves.len() < MAX_LEAVES).then(|| (Head::new(self.salt), SmallVec::new()));
    }

    /// More of it.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        let Some((head, text)) = &mut self.open else { return };
        head.piece(bytes);
        text.extend(bytes.iter().copied().take(MAX_TEXT - text.len().min(MAX_TEXT)));
    }

    /// `n` bytes of it are missing here.
    pub(super) fn missing(&mut self, n: u64) {
        if let Some((head, text)) = &mut self.open {
            head.missing(n);
            // What begins later is not its beginning.
            text.clear();
        }
    }

    /// It has ended, in the reply to command `no` of a transaction.
    pub(super) fn value(&mut self, no: usize, depth: usize, kind: Kind) {
        let Some((head, text)) = self.open.take() else { return };
        let null = kind == Kind::Null;
        let print = head.print().filter(|_| !matches!(kind, Kind::Null | Kind::Error));
        self.leaves.push((no, Leaf { depth, print, len: head.len, null, text }));
    }

    /// The reply is one line that is no value.
    pub(super) fn line(&mut self) {
        self.starts();
        self.value(0, 0, Kind::Simple);
    }

    /// What came in the reply to command `no`.
    pub(super) fn of(&self, no: usize) -> Vec<&Leaf> {
        self.leaves.iter().filter(|(n, _)| *n == no).map(|(_, leaf)| leaf).collect()
    }

    pub(super) fn memory(&self) -> usize {
        self.leaves.capacity() * size_of::<(usize, Leaf)>()
    }
}
