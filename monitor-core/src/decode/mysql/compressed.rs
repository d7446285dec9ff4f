//! What carries packets where compression was agreed on: `length(3) number(1) length when unpacked(3)`, then packets, or
//! (the last length is 0) packets as they are. Source: MySQL internals, "Compression".

use crate::decode::DecodeError;

/// Longest packed body that is unpacked, in bytes; a longer one is missing.
const MAX_PACKED: usize = 1 << 20;
/// Most bytes that one unpacks to.
const MAX_PLAIN: usize = 4 << 20;

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// So many bytes, at the front of the scratch.
    Bytes,
    /// So many bytes that nobody can read.
    Missing(u64),
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Bytes still to come.
    left: usize,
    /// Bytes that they unpack to; 0: they are as they are.
    plain: usize,
    holed: bool,
}

/// Unpacks one direction.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    header: [u8; 7],
    n_header: usize,
    open: Option<Open>,
    body: Vec<u8>,
}

impl Unpacker {
    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.body.capacity()
    }

    /// The next bytes, in `scratch`.
    ///
    /// # Errors
    /// They are not packed as they should be.
    pub(super) fn next(&mut self, input: &mut &[u8], scratch: &mut Vec<u8>) -> Result<Option<Plain>, DecodeError> {
        loop {
            let Some(open) = &mut self.open else {
                let Some((&b, rest)) = input.split_first() else { return Ok(None) };
                *input = rest;
                if let Some(slot) = self.header.get_mut(self.n_header) {
                    *slot = b;
                }
                self.n_header += 1;
                if self.n_header == self.header.len() {
                    self.n_header = 0;
                    let [a, b, c, _, d, e, f] = self.header.map(usize::from);
                    self.open = Some(Open { left: a | b << 8 | c << 16, plain: d | e << 8 | f << 16, holed: false });
                }
                continue;
            };
            if open.left > 0 && input.is_empty() {
                return Ok(None);
            }
            let (now, rest) = input.split_at_checked(open.left.min(input.len())).unwrap_or((input, &[]));
            *input = rest;
            open.left -= now.len();
            scratch.clear();
            if open.plain == 0 {
                if open.left == 0 {
                    self.open = None;
                }
                if now.is_empty() {
                    continue;
                }
                scratch.extend_from_slice(now);
                return Ok(Some(Plain::Bytes));
            }
            open.holed |= self.body.len() + now.len() > MAX_PACKED || open.plain > MAX_PLAIN;
            if !open.holed {
                self.body.extend_from_slice(now);
            }
            if open.left > 0 {
                return Ok(None);
            }
            let Open { plain, holed, .. } = *open;
            self.open = None;
            let body = std::mem::take(&mut self.body);
            if holed {
                return Ok(Some(Plain::Missing(plain as u64)));
            }
            *scratch = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&body, plain)
                .ok()
                .filter(|out| out.len() == plain)
                .ok_or(DecodeError::ContentCoding)?;
            return Ok(Some(Plain::Bytes));
        }
    }

    /// `n` bytes are missing here: how many of what they unpack to are, if any yet. `None`: the place is lost.
    pub(super) fn missing(&mut self, n: u64) -> Option<u64> {
        let open = self.open.as_mut()?;
        let n = usize::try_from(n).ok().filter(|n| *n <= open.left)?;
        open.left -= n;
        if open.plain == 0 {
            if open.left == 0 {
                self.open = None;
            }
            return Some(n as u64);
        }
        open.holed = true;
        if open.left > 0 {
            return Some(0);
        }
        let plain = open.plain;
        self.open = None;
        self.body = Vec::new();
        Some(plain as u64)
    }
}

/// Most bytes that a client's first packed piece unpacks to, where a place is looked for.
const MAX_FIRST: usize = 64 << 10;

/// What a client says who begins with these bytes, if they are one whole packed piece.
pub(super) fn first(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = bytes.first_chunk::<7>()?.map(usize::from);
    let [a, b, c, 0, d, e, f] = header else { return None };
    if bytes.len() != 7 + (a | b << 8 | c << 16) || d | e << 8 | f << 16 > MAX_FIRST {
        return None;
    }
    let (mut unpacker, mut scratch, mut rest) = (Unpacker::default(), Vec::new(), bytes);
    let plain = unpacker.next(&mut rest, &mut scratch).ok()??;
    (plain == Plain::Bytes && rest.is_empty() && unpacker.open.is_none()).then_some(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec_zlib;

    fn piece(number: u8, body: &[u8], plain: usize) -> Vec<u8> {
        let (a, b) = ((body.len() as u32).to_le_bytes(), (plain as u32).to_le_bytes());
        [&a[..3], &[number], &b[..3], body].concat()
    }

    fn unpack(pieces: &[&[u8]]) -> Result<Vec<u8>, DecodeError> {
        let (mut u, mut scratch, mut out) = (Unpacker::default(), Vec::new(), Vec::new());
        for mut input in pieces.iter().copied() {
            while let Some(plain) = u.next(&mut input, &mut scratch)? {
                assert_eq!(plain, Plain::Bytes);
                out.extend(&scratch);
            }
        }
        Ok(out)
    }

    #[test]
    fn packed_and_plain_pieces_however_they_are_cut() {
        let text = b"\x15\0\0\0\x03SELECT 'aaaaaaaaaa'".repeat(3);
        let bytes = [piece(0, b"\x01\0\0\0\x0e", 0), piece(1, &compress_to_vec_zlib(&text, 6), text.len())].concat();
        let want = [&b"\x01\0\0\0\x0e"[..], &text].concat();
        for cut in 0..=bytes.len() {
            assert_eq!(unpack(&[&bytes[..cut], &bytes[cut..]]), Ok(want.clone()), "{cut}");
        }
        assert_eq!(first(&bytes), None, "two pieces");
        assert_eq!(first(&bytes[..12]), Some(b"\x01\0\0\0\x0e".to_vec()));
    }

    #[test]
    fn what_is_wrong_missing_or_too_long_is_not_unpacked() {
        let text = vec![b'x'; 1000];
        let packed = compress_to_vec_zlib(&text, 6);
        assert!(unpack(&[&piece(0, &packed, 999)]).is_err() && unpack(&[&piece(0, b"junk", 9)]).is_err());
        let mut u = Unpacker::default();
        let bytes = piece(0, &packed, 1000);
        assert_eq!((u.next(&mut &bytes[..9], &mut Vec::new()), u.missing(1 << 30)), (Ok(None), None));
        assert_eq!(u.missing(packed.len() as u64 - 2), Some(1000));
        assert_eq!(u.missing(1), None, "between pieces, the place is lost");
        for (plain, missing) in [(MAX_PLAIN, false), (MAX_PLAIN + 1, true)] {
            let bytes = piece(0, &compress_to_vec_zlib(&vec![0; plain], 1), plain);
            let got = Unpacker::default().next(&mut bytes.as_slice(), &mut Vec::new()).unwrap();
            assert_eq!(got == Some(Plain::Missing(plain as u64)), missing, "{plain}");
        }
    }
}
