//! Messages that are kept in a hash while their id goes through a queue (RQ: `HSET rq:job:ID …`, `RPUSH rq:queue:default
//! ID`): what was lately said of an id, so that the queue's message says it, too.
//!
//! Memory: 64 of them on a connection, and 16 KiB of one value.

use std::collections::VecDeque;

use crate::decode::Sink;
use crate::decode::message::{Draft, MAX_LOOKED_INTO};
use crate::model::Nanos;
use crate::model::claim::Salt;
use crate::model::queue::Message;

/// Most that are remembered.
const MAX_BODIES: usize = 64;
/// Shortest id.
const MIN_ID: usize = 6;
/// Longest name of a field that is kept.
const MAX_NAME: usize = 128;

/// Hashes that may be messages.
#[derive(Debug)]
pub(super) struct Bodies {
    salt: Salt,
    /// By the fingerprints of their ids, the oldest first.
    all: VecDeque<(u64, Message)>,
    /// The one that is being read: its id, and what its fields have said.
    open: Option<(u64, Draft)>,
    name: Vec<u8>,
    value: Vec<u8>,
    /// All of the value is there.
    whole: bool,
}

impl Bodies {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, all: VecDeque::new(), open: None, name: Vec::new(), value: Vec::new(), whole: true }
    }

    /// Forgets the one that is being read.
    pub(super) fn reset(&mut self) {
        self.open = None;
        self.name.clear();
        self.value.clear();
        self.whole = true;
    }

    /// The hash at this key is written. Only one that is called by an id can be a message's.
    pub(super) fn begins(&mut self, key: &[u8]) {
        self.reset();
        let Some(at) = memchr::memrchr(b':', key) else { return };
        let id = key.get(at + 1..).unwrap_or_default();
        if id.len() >= MIN_ID && id.iter().any(u8::is_ascii_digit) {
            self.open = Some((print(self.salt, id), Draft::new(self.salt, 0)));
        }
    }

    /// More of a field's name, or of its value.
    pub(super) fn piece(&mut self, is_name: bool, bytes: &[u8]) {
        if self.open.is_none() {
            return;
        }
        let (to, most) = if is_name { (&mut self.name, MAX_NAME) } else { (&mut self.value, MAX_LOOKED_INTO) };
        let room = most.saturating_sub(to.len());
        to.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        self.whole &= bytes.len() <= room;
    }

    /// Something is missing.
    pub(super) fn missing(&mut self) {
        self.whole = false;
    }

    /// A value has ended.
    pub(super) fn value_ends(&mut self, sink: &mut dyn Sink) {
        if let Some((_, draft)) = &mut self.open {
            let name = std::str::from_utf8(&self.name).unwrap_or_default();
            draft.part(name, self.whole.then_some(self.value.as_slice()), sink);
        }
        self.name.clear();
        self.value.clear();
        self.whole = true;
    }

    /// The command is complete.
    pub(super) fn ends(&mut self, at: Nanos) {
        let Some((id, draft)) = self.open.take() else { return };
        if self.all.len() >= MAX_BODIES {
            self.all.pop_front();
        }
        self.all.push_back((id, draft.finish_parts(at)));
    }

    /// What was lately said of this id, by its fingerprint.
    pub(super) fn get(&self, id: u64) -> Option<&Message> {
        self.all.iter().rev().find(|(known, _)| *known == id).map(|(_, body)| body)
    }

    pub(super) fn memory(&self) -> usize {
        self.all.capacity() * size_of::<(u64, Message)>() + self.name.capacity() + self.value.capacity()
    }
}

/// Fingerprint of an id, as of an element that is just that.
fn print(salt: Salt, id: &[u8]) -> u64 {
    use std::hash::Hasher as _;
    let mut h = salt.hasher();
    h.write(id);
    h.finish()
}
