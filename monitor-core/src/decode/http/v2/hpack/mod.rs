//! Header blocks (HPACK, RFC 7541), read also where a connection is joined late or something of it is missing.
//!
//! A block is read against the dynamic table that all blocks before it have left. Libraries for it demand to have seen every
//! one; here what is not known of the table stays unknown, field by field ([`window`]).
//!
//! Memory: [`window::MAX_KEPT`] for each direction, and one list of fields of at most [`list::MAX_TEXT`] bytes.

mod fields;
mod huffman;
mod list;
mod window;

pub(super) use list::Fields;

use crate::decode::DecodeError;
use crate::decode::wire::Reader;
use crate::model::Side;
use window::{Entry, Window};

/// Most bytes of a number behind its first.
const MAX_NUMBER: u32 = 5;

/// A reference to a field.
enum Referred<'a> {
    Static(&'static str, &'static str),
    Dynamic(&'a Entry),
    /// To one that is older than what is known.
    Unknown,
}

/// Header blocks of one direction.
#[derive(Debug)]
pub(super) struct Hpack {
    window: Window,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Hpack {
    /// Of a connection that is followed from its start, or of an older one.
    pub(super) fn new(whole: bool) -> Self {
        Self { window: Window::new(whole), name: Vec::new(), value: Vec::new() }
    }

    /// A block was missed, or could not be read.
    pub(super) fn forget(&mut self) {
        self.window.forget();
    }

    /// Reads a whole block; `fields` holds what it says.
    ///
    /// # Errors
    /// It is none. What was put into the table is not known then.
    pub(super) fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), DecodeError> {
        fields.clear();
        let mut r = Reader::new(block);
        let mut begun = false;
        while let Some(&first) = r.rest().first() {
            if first & 0xe0 == 0x20 {
                // A change of the table's size stands before the fields (RFC 7541 §4.2).
                if begun {
                    return Err(DecodeError::HeaderBlock);
                }
                self.window.resize(number(&mut r, 5)?);
                continue;
            }
            begun = true;
            if first & 0x80 != 0 {
                self.indexed(number(&mut r, 7)?, fields)?;
            } else {
                let keeps = first & 0x40 != 0;
                self.literal(&mut r, keeps, fields)?;
            }
        }
        Ok(())
    }

    fn refer(&self, index: u64) -> Result<Referred<'_>, DecodeError> {
        let before = index.checked_sub(1).ok_or(DecodeError::HeaderBlock)?;
        let of_table = || usize::try_from(before).ok().and_then(|i| fields::FIELDS.get(i));
        if let Some((name, value)) = of_table() {
            return Ok(Referred::Static(name, value));
        }
        let entry = self.window.get(before - fields::FIELDS.len() as u64);
        Ok(entry.map_or(Referred::Unknown, Referred::Dynamic))
    }

    fn indexed(&self, index: u64, out: &mut Fields) -> Result<(), DecodeError> {
        match self.refer(index)? {
            Referred::Static(name, value) => out.push(Some(name.as_bytes()), Some(value.as_bytes())),
            Referred::Dynamic(entry) => out.push(entry.name.as_deref(), entry.value.as_deref()),
            Referred::Unknown => out.push(None, None),
        }
        Ok(())
    }

    /// A field whose value stands there. `keeps`: it is put into the table.
    fn literal(&mut self, r: &mut Reader<'_>, keeps: bool, out: &mut Fields) -> Result<(), DecodeError> {
        let index = number(r, if keeps { 6 } else { 4 })?;
        let mut text = std::mem::take(&mut self.name);
        text.clear();
        let known = if index == 0 {
            string(r, &mut text)?;
            true
        } else {
            let name = match self.refer(index)? {
                Referred::Static(name, _) => Some(name.as_bytes()),
                Referred::Dynamic(entry) => entry.name.as_deref(),
                Referred::Unknown => None,
            };
            text.extend_from_slice(name.unwrap_or_default());
            name.is_some()
        };
        self.name = text;
        self.value.clear();
        string(r, &mut self.value)?;
        let name = known.then_some(self.name.as_slice());
        out.push(name, Some(&self.value));
        if keeps {
            self.window.insert(Entry { name: name.map(Into::into), value: Some(self.value.as_slice().into()) });
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.window.memory() + self.name.capacity() + self.value.capacity()
    }
}

/// A number whose first byte shares its place with something else, of which `bits` are left (RFC 7541 §5.1).
fn number(r: &mut Reader<'_>, bits: u32) -> Result<u64, DecodeError> {
    let most = (1u64 << bits) - 1;
    let first = u64::from(r.u8().ok_or(DecodeError::HeaderBlock)?) & most;
    if first < most {
        return Ok(first);
    }
    r.leb128(MAX_NUMBER).map(|more| most + more).map_err(|_| DecodeError::HeaderBlock)
}

/// A string (RFC 7541 §5.2), added to `out`.
fn string(r: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let coded = r.rest().first().is_some_and(|first| first & 0x80 != 0);
    let n = usize::try_from(number(r, 7)?).map_err(|_| DecodeError::HeaderBlock)?;
    let bytes = r.take(n).ok_or(DecodeError::HeaderBlock)?;
    if coded {
        return huffman::decode(bytes, out);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// Who says this block, if it is one of a request's or an answer's head: pseudo-header fields come first (RFC 9113 §8.3),
/// and their names are in the static table.
pub(super) fn side(block: &[u8]) -> Option<Side> {
    let mut r = Reader::new(block);
    loop {
        let first = *r.rest().first()?;
        let bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => {
                number(&mut r, 5).ok()?;
                continue;
            }
            _ => 4,
        };
        return match number(&mut r, bits).ok()? {
            index if fields::OF_REQUESTS.contains(&index) => Some(Side::Client),
            index if fields::OF_RESPONSES.contains(&index) => Some(Side::Server),
            _ => None,
        };
    }
}

/// Whether this is a whole header block, whatever it says.
pub(super) fn is_block(block: &[u8]) -> bool {
    Hpack::new(false).decode(block, &mut Fields::default()).is_ok()
}

#[cfg(test)]
mod tests;
