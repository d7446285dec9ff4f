//! The record layer (RFC 8446 §5.1, RFC 5246 §6.2.1): records cut out of the bytes of one direction.

/// Bytes of a record's header.
pub(super) const HEADER: usize = 5;
/// Longest body of a record: 2^14 bytes and what protection may add, which is most in TLS 1.2 (RFC 5246 §6.2.3).
pub(super) const MAX_BODY: usize = (1 << 14) + 2048;
/// More than this is not kept for the next record.
const KEPT: usize = 2 << 10;

/// What a record carries, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    ChangeCipherSpec,
    Alert,
    Handshake,
    Data,
}

impl ContentType {
    pub(super) fn of(byte: u8) -> Option<Self> {
        match byte {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::Data),
            _ => None,
        }
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) content: ContentType,
    /// As it stands on the wire: authenticated with the record.
    pub(super) bytes: [u8; HEADER],
}

impl Header {
    /// Reads a header. `None`: this begins no record.
    pub(super) fn read(bytes: [u8; HEADER]) -> Option<Self> {
        let [content, major, ..] = bytes;
        let header = Self { content: ContentType::of(content)?, bytes };
        (major == 3 && header.len() <= MAX_BODY).then_some(header)
    }

    /// Bytes of the body.
    pub(super) fn len(&self) -> usize {
        let [.., a, b] = self.bytes;
        usize::from(u16::from_be_bytes([a, b]))
    }

    /// Bytes of the whole record.
    pub(super) fn total(&self) -> usize {
        HEADER + self.len()
    }
}

/// What stands next in a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes are needed.
    NeedMore,
    /// A record, whose body was given.
    Whole(Header),
    /// A record of which so many bytes are missing.
    Damaged(Header, usize),
    /// No record begins here.
    Malformed,
}

/// Cuts the records out of one direction. Holds at most one of them.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// The current record as far as it is there, its header first.
    partial: Vec<u8>,
    /// Bytes of the current record that have come or are missing.
    at: usize,
    /// Those of them that are missing.
    missing: usize,
}

impl Framer {
    /// Takes the next record off `input`; its body is put into `body`.
    pub(super) fn next(&mut self, input: &mut &[u8], body: &mut Vec<u8>) -> Next {
        if self.at < HEADER {
            let n = (HEADER - self.at).min(input.len());
            self.keep(input, n);
            if self.at < HEADER {
                return Next::NeedMore;
            }
        }
        let Some(header) = self.header() else { return Next::Malformed };
        let left = header.total().saturating_sub(self.at);
        if self.missing > 0 {
            let n = left.min(input.len());
            *input = input.get(n..).unwrap_or_default();
            self.at += n;
        } else if self.at == HEADER && left <= input.len() {
            let (whole, rest) = input.split_at_checked(left).unwrap_or((input, &[]));
            *input = rest;
            body.clear();
            body.extend_from_slice(whole);
            self.restart();
            return Next::Whole(header);
        } else {
            self.keep(input, left.min(input.len()));
        }
        if self.at < header.total() {
            return Next::NeedMore;
        }
        let missing = self.missing;
        if missing == 0 {
            body.clear();
            body.extend_from_slice(self.partial.get(HEADER..).unwrap_or_default());
        }
        self.restart();
        if missing == 0 { Next::Whole(header) } else { Next::Damaged(header, missing) }
    }

    /// `n` bytes are missing here. `false`: more than the rest of the current record, so the place is lost; gives the
    /// bytes that were kept of it.
    pub(super) fn missing(&mut self, n: u64) -> bool {
        let Some(header) = self.header() else { return false };
        let left = header.total().saturating_sub(self.at);
        match usize::try_from(n) {
            Ok(n) if n <= left => {
                self.at += n;
                self.missing += n;
                self.partial.truncate(HEADER);
                true
            }
            _ => false,
        }
    }

    /// The place was lost and is found: the next byte begins a record. Gives how many bytes had come of the last one.
    pub(super) fn restart(&mut self) -> usize {
        let came = self.at.saturating_sub(self.missing);
        (self.at, self.missing) = (0, 0);
        if self.partial.capacity() > KEPT {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
        }
        came
    }

    pub(super) fn memory(&self) -> usize {
        self.partial.capacity()
    }

    fn header(&self) -> Option<Header> {
        self.partial.first_chunk::<HEADER>().and_then(|bytes| Header::read(*bytes))
    }

    fn keep(&mut self, input: &mut &[u8], n: usize) {
        let (head, rest) = input.split_at_checked(n).unwrap_or((input, &[]));
        self.partial.extend_from_slice(head);
        self.at += head.len();
        *input = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\x16\x03\x01\0\x03abc\x17\x03\x03\0\x02de";

    fn all(framer: &mut Framer, mut input: &[u8], found: &mut Vec<(Next, Vec<u8>)>) {
        let mut body = Vec::new();
        loop {
            match framer.next(&mut input, &mut body) {
                Next::NeedMore => return,
                Next::Malformed => {
                    found.push((Next::Malformed, Vec::new()));
                    return;
                }
                next => found.push((next, if matches!(next, Next::Whole(_)) { body.clone() } else { Vec::new() })),
            }
        }
    }

    #[test]
    fn records_are_the_same_however_they_are_cut() {
        let mut whole = Vec::new();
        all(&mut Framer::default(), TWO, &mut whole);
        assert_eq!(whole.iter().map(|(_, b)| b.as_slice()).collect::<Vec<_>>(), [&b"abc"[..], b"de"]);
        for a in 0..TWO.len() {
            for b in a..TWO.len() {
                let (mut framer, mut found) = (Framer::default(), Vec::new());
                for piece in [&TWO[..a], &TWO[a..b], &TWO[b..]] {
                    all(&mut framer, piece, &mut found);
                }
                assert_eq!(found, whole, "cut at {a} and {b}");
                assert_eq!(framer.restart(), 0);
            }
        }
    }

    #[test]
    fn a_hole_inside_a_record_loses_that_record_alone() {
        for (from, to) in [(5, 6), (5, 8), (6, 7), (7, 8)] {
            let (mut framer, mut found) = (Framer::default(), Vec::new());
            all(&mut framer, &TWO[..from], &mut found);
            assert!(framer.missing((to - from) as u64), "{from} to {to}");
            all(&mut framer, &TWO[to..], &mut found);
            let [(Next::Damaged(header, n), _), (Next::Whole(_), body)] = found.as_slice() else {
                panic!("{from} to {to}: {found:?}");
            };
            assert_eq!((header.len(), *n, body.as_slice()), (3, to - from, &b"de"[..]));
        }
        for (from, to) in [(0, 1), (3, 5), (4, 6), (5, 9), (8, 9)] {
            let mut framer = Framer::default();
            all(&mut framer, &TWO[..from], &mut Vec::new());
            assert!(!framer.missing((to - from) as u64), "{from} to {to}: the next header is part of it");
        }
    }

    #[test]
    fn what_is_no_record_is_told_and_nothing_long_is_kept() {
        for bad in [&b"\x18\x03\x03\0\x01x"[..], b"\x17\x02\x03\0\x01x", b"\x17\x03\x03\xff\xffx", b"GET / HTTP/1.1"] {
            let mut found = Vec::new();
            all(&mut Framer::default(), bad, &mut found);
            assert_eq!(found.first().map(|(n, _)| *n), Some(Next::Malformed));
        }
        let mut framer = Framer::default();
        let mut record = b"\x17\x03\x03\x40\0".to_vec();
        record.extend([7; 16_384]);
        let mut found = Vec::new();
        all(&mut framer, &record[..9_000], &mut found);
        assert!(framer.memory() <= 32 << 10);
        all(&mut framer, &record[9_000..], &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(framer.memory(), 0, "given back");
    }
}
