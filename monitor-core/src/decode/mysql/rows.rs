//! Values in the rows of a reply: which turn up again in work done for whoever is answered. Only hashes are kept.

use smallvec::SmallVec;

use super::wire::{Binary, binary, bit, lenenc_bytes};
use crate::decode::values::values;
use crate::decode::wire::Reader;
use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Bytes of columns that are looked through per reply.
const BUDGET: usize = 16 << 10;
/// Most columns whose types are remembered; rows with more are not looked through in the binary protocol.
const MAX_COLUMNS: usize = 256;

/// The reader of one reply's rows.
#[derive(Debug)]
pub(super) struct Rows {
    salt: Salt,
    left: usize,
    types: SmallVec<[u16; 8]>,
}

impl Rows {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, left: BUDGET, types: SmallVec::new() }
    }

    /// Another reply begins.
    pub(super) fn restart(&mut self) {
        self.left = BUDGET;
        self.types.clear();
        self.types.shrink_to_fit();
    }

    /// Another result of the same reply begins.
    pub(super) fn columns(&mut self) {
        self.types.clear();
    }

    /// The definition of the next column: six strings, then twelve bytes, among them its type.
    pub(super) fn column(&mut self, body: &[u8]) {
        const UNSIGNED: u16 = 1 << 5;
        if self.types.len() >= MAX_COLUMNS {
            return;
        }
        // What MariaDB may say more of it stands before the twelve bytes; they are the last of the packet.
        let fixed = body.len().checked_sub(12).and_then(|at| body.get(at..));
        let mut r = Reader::new(fixed.unwrap_or_default());
        let kind = r.take(6).and_then(|_| Some((r.u8()?, r.u16_le()?)));
        let (kind, flags) = kind.unwrap_or_default();
        self.types.push(u16::from(kind) | if flags & UNSIGNED != 0 { 0x8000 } else { 0 });
    }

    /// A row; `each` is told its values.
    pub(super) fn row(&mut self, body: &[u8], as_binary: bool, each: &mut dyn FnMut(Fingerprint)) {
        if self.left == 0 {
            return;
        }
        let mut r = Reader::new(body);
        if as_binary {
            self.binary(&mut r, each);
            return;
        }
        while !r.is_empty() {
            if r.rest().first() == Some(&0xfb) {
                r.u8();
                continue;
            }
            let Some(column) = lenenc_bytes(&mut r) else { return };
            self.look(column, each);
        }
    }

    fn binary(&mut self, r: &mut Reader<'_>, each: &mut dyn FnMut(Fingerprint)) -> Option<()> {
        r.u8()?;
        let types = self.types.clone();
        let nulls = r.take((types.len() + 2).div_ceil(8))?;
        for (i, kind) in types.iter().enumerate() {
            if bit(nulls, i + 2) {
                continue;
            }
            match binary(r, *kind)? {
                Binary::Integer(n) => self.look(n.to_string().as_bytes(), each),
                Binary::Text(text) => self.look(text, each),
                Binary::Other => {}
            }
        }
        Some(())
    }

    fn look(&mut self, column: &[u8], each: &mut dyn FnMut(Fingerprint)) {
        // The value in which the budget ends is not known whole.
        if column.len() > self.left {
            self.left = 0;
            return;
        }
        self.left -= column.len();
        values(self.salt, column, each);
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        if self.types.spilled() { self.types.capacity() * 2 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &mut Rows, body: &[u8], as_binary: bool) -> Vec<Fingerprint> {
        let mut out = Vec::new();
        rows.row(body, as_binary, &mut |v| out.push(v));
        out
    }

    fn of(text: &str) -> Vec<Fingerprint> {
        let mut out = Vec::new();
        values(Salt(1, 2), text.as_bytes(), &mut |v| out.push(v));
        out
    }

    #[test]
    fn both_protocols_give_the_same_values() {
        let mut rows = Rows::new(Salt(1, 2));
        assert_eq!(found(&mut rows, b"\x044711\xfb\x06order7", false), of("4711 order7"));
        let column =
            |kind| [&b"\x03def\x01s\x01t\x01t\x01c\x01c\x0c\x3f\0\x0b\0\0\0"[..], &[kind, 0, 0, 0, 0, 0]].concat();
        for kind in [3, 3, 0xfd] {
            rows.column(&column(kind));
        }
        assert_eq!(found(&mut rows, b"\0\x08\x67\x12\0\0\x06order7", true), of("4711 order7"));
        rows.columns();
        assert_eq!(found(&mut rows, b"\0\x08\x67\x12\0\0\x06order7", true), []);
    }

    #[test]
    fn nothing_is_read_beyond_the_budget() {
        let mut rows = Rows::new(Salt(1, 2));
        let column = [&b"\xc8"[..], &[b'x'; 200]].concat();
        let n: usize = (0..1000).map(|_| found(&mut rows, &column, false).len()).sum();
        assert_eq!(n, BUDGET / 200);
        rows.restart();
        assert_eq!(found(&mut rows, &column, false).len(), 1);
    }
}
