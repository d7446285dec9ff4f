//! The fingerprint of a value that is stored: equal content, equal fingerprint, whoever wrote it and whoever reads it.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Bytes of a value that its fingerprint covers, besides its length.
const HEAD: u64 = 1 << 10;
/// The fingerprint of one value in pieces: its length and its beginning, so that nobody needs to see all of a long one.
#[derive(Clone, Debug)]
pub(super) struct Head {
    hasher: SipHasher13,
    pub(super) len: u64,
    known: bool,
}

impl Head {
    pub(super) fn new(salt: Salt) -> Self {
        Self { hasher: salt.hasher(), len: 0, known: true }
    }

    /// More of it.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        if self.len < HEAD {
            let room = usize::try_from(HEAD - self.len).unwrap_or(usize::MAX);
            self.hasher.write(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
        self.len += bytes.len() as u64;
    }

    /// `n` bytes of it are missing here.
    pub(super) fn missing(&mut self, n: u64) {
        self.known &= self.len >= HEAD;
        self.len = self.len.saturating_add(n);
    }

    /// It has ended.
    pub(super) fn print(&self) -> Option<Fingerprint> {
        let mut hasher = self.hasher;
        hasher.write_u64(self.len);
        self.known.then(|| Fingerprint(hasher.finish()))
    }
}
