//! Compressed record batches, unpacked piece by piece: gzip, Snappy, LZ4 and Zstandard, all in safe Rust.
//!
//! Memory while one is read: its window (at most 8 MiB, what Zstandard's standard levels ask for), one block of Snappy
//! (at most 1 MiB) and the record in hand. Nothing stays.

use std::io::{self, Read};

/// Largest window of Zstandard that is followed.
const MAX_WINDOW: u64 = 8 << 20;
/// Largest block of Snappy, unpacked.
const MAX_BLOCK: usize = 1 << 20;

/// What snappy-java and everybody after it writes before blocks of Snappy: its name, version and oldest reader.
const XERIAL: &[u8] = b"\x82SNAPPY\0";

/// A reader of what `packed` holds; `None` if there is no such compression. `codec` is the batch's attribute (1 gzip,
/// 2 Snappy, 3 LZ4, 4 Zstandard).
pub(super) fn unpack(codec: i16, packed: &[u8]) -> Option<Box<dyn Read + '_>> {
    match codec {
        1 => Some(Box::new(flate2::read::MultiGzDecoder::new(packed))),
        2 => Some(Box::new(Snappy::new(packed))),
        3 => Some(Box::new(lz4_flex::frame::FrameDecoder::new(packed))),
        4 => Some(Box::new(ruzstd::decoding::StreamingDecoder::new_with_max_window_size(packed, MAX_WINDOW).ok()?)),
        _ => None,
    }
}

/// Blocks of Snappy in snappy-java's frame, or one block without any.
struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
}

impl<'a> Snappy<'a> {
    fn new(packed: &'a [u8]) -> Self {
        let framed = packed.starts_with(XERIAL);
        let rest = if framed { packed.get(16..).unwrap_or_default() } else { packed };
        Self { rest, framed, block: Vec::new(), at: 0 }
    }

    fn next(&mut self) -> io::Result<()> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let block = if self.framed {
            let (n, rest) = self.rest.split_first_chunk::<4>().ok_or_else(bad)?;
            let n = usize::try_from(u32::from_be_bytes(*n)).map_err(|_| bad())?;
            let (block, rest) = rest.split_at_checked(n).ok_or_else(bad)?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        if snap::raw::decompress_len(block).map_err(|_| bad())? > MAX_BLOCK {
            return Err(bad());
        }
        self.block = snap::raw::Decoder::new().decompress_vec(block).map_err(|_| bad())?;
        self.at = 0;
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next()?;
        }
        let mut rest = self.block.get(self.at..).unwrap_or_default();
        let n = rest.read(out)?;
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(codec: i16, packed: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        unpack(codec, packed)?.take(1 << 20).read_to_end(&mut out).ok()?;
        Some(out)
    }

    #[test]
    fn both_ways_to_write_snappy_are_read() {
        let block = snap::raw::Encoder::new().compress_vec(b"some text, some text").unwrap();
        assert_eq!(all(2, &block).unwrap(), b"some text, some text");
        let mut framed = XERIAL.to_vec();
        framed.extend(b"\0\0\0\x01\0\0\0\x01");
        for _ in 0..2 {
            framed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            framed.extend(&block);
        }
        assert_eq!(all(2, &framed).unwrap(), b"some text, some textsome text, some text");
        assert_eq!(all(2, &framed[..framed.len() - 1]), None);
    }

    #[test]
    fn what_claims_to_be_huge_is_not_believed() {
        // A block of 4 GiB, a window of 2 GiB, and a compression that does not exist.
        assert_eq!(all(2, b"\xff\xff\xff\xff\x0f"), None);
        assert_eq!(all(4, b"\x28\xb5\x2f\xfd\0\xa8\0\0\0"), None);
        assert_eq!(all(5, b"x"), None);
        assert_eq!(all(1, b"not gzip"), None);
        assert_eq!(all(3, b"not lz4 at all"), None);
    }
}
