//! Messages of one direction of a call: each behind five bytes, whether it is compressed and how long it is.
//!
//! Memory: one message, as far as [`MAX_MESSAGE`].

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

/// Longest message that is read, in bytes.
pub(super) const MAX_MESSAGE: usize = 64 << 10;
/// Most bytes that are unpacked of one message.
const MAX_UNPACKED: u64 = 256 << 10;

/// How messages are compressed (`grpc-encoding`), where they say that they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    None,
    Gzip,
    Deflate,
    /// In a way that is not read here.
    Other,
}

impl Encoding {
    pub(super) fn of(name: Option<&str>) -> Self {
        match name {
            None => Self::None,
            Some(name) if name.eq_ignore_ascii_case("identity") => Self::None,
            Some(name) if name.eq_ignore_ascii_case("gzip") => Self::Gzip,
            Some(name) if name.eq_ignore_ascii_case("deflate") => Self::Deflate,
            Some(_) => Self::Other,
        }
    }

    /// What a compressed message holds; `None` where it does not unpack, or to too much.
    pub(super) fn unpack(self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Gzip => all(GzDecoder::new(message)),
            // As for HTTP, some leave the wrapper out.
            Self::Deflate => all(ZlibDecoder::new(message)).or_else(|| all(DeflateDecoder::new(message))),
            Self::None | Self::Other => None,
        }
    }
}

fn all(packed: impl Read) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    packed.take(MAX_UNPACKED + 1).read_to_end(&mut out).ok()?;
    (out.len() as u64 <= MAX_UNPACKED).then_some(out)
}

/// Cuts one direction.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// What is there of the message and of the five bytes before it.
    held: Vec<u8>,
    /// Bytes of the message that are to come and are not kept.
    skipped: u64,
    /// Where messages begin is not known any more.
    lost: bool,
}

const PREFIX: usize = 5;

impl Messages {
    /// More bytes: whole messages go to `each`, with whether they are compressed. `room`: bytes that may be held.
    pub(super) fn feed(&mut self, mut bytes: &[u8], room: usize, each: &mut dyn FnMut(bool, &[u8])) {
        while !bytes.is_empty() && !self.lost {
            if self.skipped > 0 {
                let n = usize::try_from(self.skipped).unwrap_or(usize::MAX).min(bytes.len());
                self.skipped -= n as u64;
                bytes = bytes.get(n..).unwrap_or_default();
                continue;
            }
            if self.held.len() < PREFIX {
                bytes = self.take(bytes, PREFIX);
            }
            let Some([compressed @ 0..=1, a, b, c, d]) = self.held.first_chunk().copied() else {
                // No other flags are in use: these are no messages.
                self.lost = self.held.len() >= PREFIX;
                continue;
            };
            let len = u32::from_be_bytes([a, b, c, d]) as usize;
            if len > MAX_MESSAGE.min(room) {
                self.skipped = len as u64;
                self.held = Vec::new();
                continue;
            }
            bytes = self.take(bytes, PREFIX + len);
            if let Some(message) = self.held.get(PREFIX..).filter(|message| message.len() == len) {
                each(compressed == 1, message);
                self.held.clear();
            }
        }
    }

    /// Takes bytes until `most` are held. What is left.
    fn take<'b>(&mut self, bytes: &'b [u8], most: usize) -> &'b [u8] {
        let n = most.saturating_sub(self.held.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(taken);
        rest
    }

    /// `n` bytes are missing.
    pub(super) fn miss(&mut self, n: u64) {
        let left = match self.held.first_chunk::<PREFIX>() {
            Some([_, a, b, c, d]) => {
                let whole = PREFIX as u64 + u64::from(u32::from_be_bytes([*a, *b, *c, *d]));
                whole - self.held.len() as u64
            }
            None if self.held.is_empty() => self.skipped,
            None => 0,
        };
        self.held = Vec::new();
        self.lost |= n > left;
        self.skipped = left.saturating_sub(n);
    }

    /// Nothing more of it is read.
    pub(super) fn leave(&mut self) {
        *self = Self { lost: true, ..Self::default() };
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.held.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn message(compressed: u8, text: &[u8]) -> Vec<u8> {
        let mut out = vec![compressed];
        out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        out.extend(text);
        out
    }

    fn fed(m: &mut Messages, bytes: &[u8]) -> Vec<(bool, usize)> {
        let mut out = Vec::new();
        m.feed(bytes, 1 << 20, &mut |compressed, message| out.push((compressed, message.len())));
        out
    }

    #[test]
    fn however_they_are_cut_and_as_far_as_they_are_kept() {
        let all =
            [message(0, b"abc"), message(1, b""), message(0, &vec![0; MAX_MESSAGE + 1]), message(0, b"de")].concat();
        let want = [(false, 3), (true, 0), (false, 2)];
        assert_eq!(fed(&mut Messages::default(), &all), want);
        for cut in (0..20).chain(all.len() - 20..all.len()) {
            let mut m = Messages::default();
            let mut got = fed(&mut m, &all[..cut]);
            got.extend(fed(&mut m, &all[cut..]));
            assert_eq!(got, want, "{cut}");
        }
        let mut m = Messages::default();
        assert_eq!(fed(&mut m, &message(0, &vec![0; MAX_MESSAGE])), [(false, MAX_MESSAGE)]);
        let mut n = 0;
        m.feed(&message(0, b"abc"), 2, &mut |_, _| n += 1);
        m.feed(&message(0, b"ab"), 2, &mut |_, _| n += 1);
        assert_eq!(n, 1, "no more than there is room for");
        assert!(fed(&mut m, &message(2, b"abc")).is_empty() && fed(&mut m, &message(0, b"abc")).is_empty());
    }

    #[test]
    fn a_hole_costs_the_message_it_is_in_or_all_that_follow() {
        let (one, two) = (message(0, b"abcdef"), message(0, b"g"));
        for keep in 0..one.len() {
            for n in 1..=one.len() - keep {
                let mut m = Messages::default();
                fed(&mut m, &one[..keep]);
                m.miss(n as u64);
                fed(&mut m, &one[keep + n..]);
                let known = keep >= 5;
                assert_eq!(fed(&mut m, &two), if known { vec![(false, 1)] } else { vec![] }, "{keep} {n}");
            }
        }
    }

    #[test]
    fn packed_messages() {
        let text = b"tenant acme ".repeat(100);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        assert_eq!(Encoding::of(Some("gzip")).unpack(&gzip), Some(text.clone()));
        assert_eq!(Encoding::of(Some("deflate")).unpack(&zlib), Some(text.clone()));
        assert_eq!(Encoding::Deflate.unpack(&zlib[2..]), Some(text));
        assert_eq!((Encoding::Gzip.unpack(b"no"), Encoding::of(Some("snappy")).unpack(&gzip)), (None, None));
        for (n, fits) in [(MAX_UNPACKED, true), (MAX_UNPACKED + 1, false)] {
            let mut bomb = GzEncoder::new(Vec::new(), Compression::default());
            bomb.write_all(&vec![0; usize::try_from(n).unwrap()]).unwrap();
            assert_eq!(Encoding::Gzip.unpack(&bomb.finish().unwrap()).is_some(), fits);
        }
    }
}
