//! Packets of one direction: `length(3, lowest byte first) number(1) payload`, cut out of bytes however they arrive. A
//! payload of 16 MiB and more goes on in the next packet. Source: MySQL internals, "Protocol Basics"; MariaDB, "0-packet".
//!
//! A payload is kept as far as its care says; what is longer is counted, and hashed if asked for, as it passes. Bytes
//! missing inside a payload cost that payload only, as its length is known; bytes missing elsewhere cost the place.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::model::claim::Salt;

/// A payload of so many bytes in one packet goes on in the next.
const FULL: u32 = 0xff_ffff;
/// A buffer larger than this is given back when its payload is done.
const IDLE_BUFFER: usize = 4 << 10;

/// A payload that has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The number of its (first) packet.
    pub(super) number: u8,
    /// The payload, as far as it is kept.
    pub(super) body: &'a [u8],
    /// Its length.
    pub(super) len: u64,
    /// It goes on beyond what is kept.
    pub(super) cut: bool,
    /// Hash of all of it; `None` if not hashed or not seen whole.
    pub(super) print: Option<u64>,
}

/// What is done with a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Care {
    /// Most bytes of it that are kept.
    pub(super) keep: usize,
    /// Whether it is hashed.
    pub(super) hash: bool,
}

#[derive(Debug)]
struct Open {
    care: Care,
    /// Bytes of this packet still to come.
    left: u32,
    /// Another packet goes on with it.
    more: bool,
    /// Bytes of the payload so far.
    len: u64,
    /// Bytes are missing: nothing more is kept.
    holed: bool,
    hasher: SipHasher13,
}

/// The framing of one direction.
#[derive(Debug)]
pub(super) struct Framer {
    salt: Salt,
    header: [u8; 4],
    n_header: u8,
    number: u8,
    open: Option<Open>,
    body: Vec<u8>,
}

impl Framer {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, header: [0; 4], n_header: 0, number: 0, open: None, body: Vec::new() }
    }

    /// Drops what is half read and starts at a packet's first byte.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.salt);
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.body.capacity()
    }

    /// The next payload that ends in `input`, which is moved on past what was read. `care` is asked once for each.
    pub(super) fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], care: Care) -> Option<Packet<'a>> {
        loop {
            if self.open.as_ref().is_none_or(|open| open.left == 0 && open.more) {
                self.read_header(input, care)?;
            }
            let open = self.open.as_mut()?;
            let take = (open.left as usize).min(input.len());
            let (now, rest) = input.split_at_checked(take).unwrap_or((input, &[]));
            *input = rest;
            open.left -= u32::try_from(take).unwrap_or(open.left);
            if open.care.hash {
                open.hasher.write(now);
            }
            let ends = open.left == 0 && !open.more;
            let whole_here = ends && open.len == now.len() as u64;
            if !whole_here && !open.holed {
                let room = open.care.keep.saturating_sub(self.body.len());
                self.body.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
            }
            if open.left > 0 {
                return None;
            }
            if open.more {
                continue;
            }
            let Open { care, len, holed, hasher, .. } = self.open.take()?;
            let body = if whole_here { now.get(..care.keep.min(now.len())).unwrap_or_default() } else { &self.body };
            return Some(Packet {
                number: self.number,
                body,
                len,
                cut: holed || (body.len() as u64) < len,
                print: (care.hash && !holed).then(|| hasher.finish()),
            });
        }
    }

    /// Reads the header of a packet, or of one that goes on with a payload.
    fn read_header(&mut self, input: &mut &[u8], care: Care) -> Option<()> {
        if self.n_header == 0 && self.open.is_none() {
            self.body.clear();
            if self.body.capacity() > IDLE_BUFFER {
                self.body = Vec::new();
            }
        }
        while self.n_header < 4 {
            let (&b, rest) = input.split_first()?;
            *input = rest;
            if let Some(slot) = self.header.get_mut(usize::from(self.n_header)) {
                *slot = b;
            }
            self.n_header += 1;
        }
        self.n_header = 0;
        let [a, b, c, number] = self.header;
        let left = u32::from_le_bytes([a, b, c, 0]);
        let more = left == FULL;
        match &mut self.open {
            Some(open) => {
                open.len += u64::from(left);
                (open.left, open.more) = (left, more);
            }
            None => {
                self.number = number;
                let (len, hasher) = (u64::from(left), self.salt.hasher());
                self.open = Some(Open { care, left, more, len, holed: false, hasher });
            }
        }
        Some(())
    }

    /// `n` bytes are missing here. Gives whether the place in the stream is still known.
    pub(super) fn missing(&mut self, n: u64) -> bool {
        let (Some(open), Ok(n)) = (&mut self.open, u32::try_from(n)) else { return false };
        // When the hole reaches the payload's end, `next` gives it for an empty input.
        if n > open.left || self.n_header > 0 {
            return false;
        }
        open.left -= n;
        open.holed = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARE: Care = Care { keep: 8, hash: true };

    /// A packet's number, what is kept of it, its length, whether it is cut, and its hash.
    type Told = (u8, Vec<u8>, u64, bool, Option<u64>);

    fn frames(pieces: &[&[u8]]) -> Vec<Told> {
        let mut framer = Framer::new(Salt(1, 2));
        let mut out = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(p) = framer.next(&mut piece, CARE) {
                out.push((p.number, p.body.to_vec(), p.len, p.cut, p.print));
            }
        }
        out
    }

    #[test]
    fn packets_are_the_same_however_they_are_cut() {
        let bytes = b"\x03\0\0\x01abc\0\0\0\x02\x0a\0\0\x030123456789\x01\0\0\x04z";
        let whole = frames(&[bytes]);
        let seen: Vec<_> = whole.iter().map(|(n, body, len, cut, _)| (*n, body.as_slice(), *len, *cut)).collect();
        assert_eq!(
            seen,
            [(1, &b"abc"[..], 3, false), (2, b"", 0, false), (3, b"01234567", 10, true), (4, b"z", 1, false)]
        );
        for cut in 0..bytes.len() {
            assert_eq!(frames(&[&bytes[..cut], &bytes[cut..]]), whole, "{cut}");
        }
    }

    #[test]
    fn a_payload_of_16_mib_goes_on_in_the_next_packet() {
        let long = vec![b'x'; FULL as usize];
        for rest in [&b""[..], b"tail"] {
            let head = [rest.len() as u8, 0, 0, 2];
            let got = frames(&[b"\xff\xff\xff\x01", &long, &head, rest, b"\x01\0\0\x07y"]);
            let whole = (got[0].0, got[0].1.as_slice(), got[0].2, got[0].3);
            assert_eq!(whole, (1, &b"xxxxxxxx"[..], u64::from(FULL) + rest.len() as u64, true));
            assert_eq!((got[1].0, got[1].1.as_slice()), (7, &b"y"[..]));
        }
    }

    #[test]
    fn what_is_missing_inside_a_payload_costs_that_payload_only() {
        let mut framer = Framer::new(Salt(1, 2));
        assert!(!framer.missing(1), "between packets, the place is lost");
        assert!(framer.next(&mut &b"\x06\0\0\x01ab"[..], CARE).is_none());
        assert!(framer.missing(4) && !framer.missing(1));
        let packet = framer.next(&mut &b""[..], CARE).map(|p| (p.body.to_vec(), p.cut, p.print));
        assert_eq!(packet, Some((b"ab".to_vec(), true, None)));
        assert!(framer.next(&mut &b"\x06\0\0"[..], CARE).is_none());
        assert!(!framer.missing(1), "inside a header, too");
    }
}
