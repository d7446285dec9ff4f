//! One entry of a stream: fields and values in pieces. Producer and consumer see the same fields in the same order, so
//! the content is told as a JSON object of them: what looks at content finds fields there by their names.
//!
//! Memory: one field's name and 8 KiB of its value.

use super::element::{Address, identify};
use crate::decode::Sink;
use crate::decode::message::Draft;
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Fingerprint, Nanos};

/// Longest field name that is looked at.
const MAX_NAME: usize = 256;
/// Longest value that is looked at as a header.
const MAX_VALUE: usize = 8 << 10;

/// An entry in pieces: names and values take turns.
#[derive(Debug)]
pub(super) struct Entry {
    draft: Draft,
    name: Vec<u8>,
    value: Vec<u8>,
    /// All of the value is kept.
    kept: bool,
    /// The value stands as it is, being JSON itself; `None` before its first byte.
    raw: Option<bool>,
    n_fields: u32,
}

impl Entry {
    pub(super) fn new(salt: Salt) -> Self {
        Self { draft: Draft::new(salt, 0), name: Vec::new(), value: Vec::new(), kept: true, raw: None, n_fields: 0 }
    }

    /// More of a field's name.
    pub(super) fn name_piece(&mut self, bytes: &[u8]) {
        let room = MAX_NAME.saturating_sub(self.name.len());
        self.name.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    /// The name has ended.
    pub(super) fn name_ends(&mut self) {
        self.draft.content(if self.n_fields == 0 { b"{\"" } else { b",\"" });
        self.n_fields += 1;
        let name = std::mem::take(&mut self.name);
        escaped(&mut self.draft, &name);
        self.draft.content(b"\":");
        self.name = name;
    }

    /// More of a value.
    pub(super) fn value_piece(&mut self, bytes: &[u8]) {
        let Some(first) = bytes.first() else { return };
        let raw = *self.raw.get_or_insert_with(|| {
            let raw = matches!(first, b'{' | b'[');
            if !raw {
                self.draft.content(b"\"");
            }
            raw
        });
        if raw {
            self.draft.content(bytes)
        } else {
            escaped(&mut self.draft, bytes)
        }
        self.kept &= self.value.len() + bytes.len() <= MAX_VALUE;
        if self.kept {
            self.value.extend_from_slice(bytes);
        }
    }

    /// The value has ended.
    pub(super) fn value_ends(&mut self, sink: &mut dyn Sink) {
        match self.raw {
            None => self.draft.content(b"\"\""),
            Some(false) => self.draft.content(b"\""),
            Some(true) => {}
        }
        if self.kept
            && let (Ok(name), Ok(value)) = (std::str::from_utf8(&self.name), std::str::from_utf8(&self.value))
        {
            self.draft.field(name, value, sink);
        }
        self.name.clear();
        self.value.clear();
        self.kept = true;
        self.raw = None;
    }

    /// `n` bytes of it are missing here.
    pub(super) fn missing(&mut self, n: u64) {
        self.kept = false;
        self.draft.missing(n);
    }

    /// It has ended; `id` if it is known already.
    pub(super) fn finish(
        mut self,
        address: Address<'_>,
        id: Option<Fingerprint>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Message {
        self.draft.content(b"}");
        address.tell(&mut self.draft, sink);
        let mut message = self.draft.finish(at, sink);
        if let Some(id) = id {
            message.ids.push(id);
        }
        message
    }
}

/// What identifies an entry of a stream.
pub(super) fn id(salt: Salt, db: u32, stream: &[u8], id: &[u8]) -> Fingerprint {
    Fingerprint(identify(salt, "stream", &[&db.to_be_bytes(), stream, id]))
}

/// Text inside quotes.
fn escaped(draft: &mut Draft, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)) {
        let (plain, rest) = text.split_at_checked(at).unwrap_or((text, &[]));
        draft.content(plain);
        match rest.first() {
            Some(b'"') => draft.content(b"\\\""),
            Some(b'\\') => draft.content(b"\\\\"),
            // Which one it was matters to nobody who looks for names.
            _ => draft.content(b" "),
        }
        text = rest.get(1..).unwrap_or_default();
    }
    draft.content(text);
}
