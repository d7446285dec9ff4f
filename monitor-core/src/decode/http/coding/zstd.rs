//! Zstandard (RFC 8878), block by block: `ruzstd` wants a block whole, and gives it back whole, so that what one step may
//! unpack is bounded by a block's 128 KiB. What a frame holds is handed out as far as its window lets go of it, and at its
//! end.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Lease, MALFORMED, MAX_MEMBERS, MAX_WINDOW, Memory, Out};
use crate::decode::DecodeError;

/// Longest head of a frame: magic, descriptor, window, dictionary, size.
const MAX_HEAD: usize = 18;
/// Beyond its window: a block packed, a block unpacked, tables, and what the buffer grows by.
const BESIDES: usize = 640 << 10;
/// Skippable frames, of any of sixteen numbers.
const SKIPPABLE: u32 = 0x184D_2A50;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    /// A block; whether a checksum comes after the last one.
    Block(bool),
    /// So many bytes are of no use.
    Skip(usize),
}

/// Decompression of one body.
pub(super) struct Zstd {
    memory: Memory,
    decoder: FrameDecoder,
    leased: Option<Lease>,
    held: Vec<u8>,
    at: At,
    n_frames: u32,
}

impl Zstd {
    pub(super) fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            decoder: FrameDecoder::new(),
            leased: None,
            held: Vec::new(),
            at: At::Head,
            n_frames: 0,
        }
    }

    /// It stands between two frames.
    pub(super) fn has_ended(&self) -> bool {
        self.at == At::Head && self.held.is_empty()
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.leased.as_ref().map_or(0, |l| l.n)
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], out: Out<'_>) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            if let At::Skip(left) = self.at {
                let n = left.min(bytes.len());
                bytes = bytes.get(n..).unwrap_or_default();
                self.at = if n == left { At::Head } else { At::Skip(left - n) };
                continue;
            }
            let need = match self.at {
                At::Head => head_len(&self.held),
                At::Block(checksum) => block_len(&self.held, checksum)?,
                At::Skip(_) => 0,
            };
            let missing = need.saturating_sub(self.held.len());
            let (some, rest) = bytes.split_at_checked(missing.min(bytes.len())).unwrap_or_default();
            self.held.extend_from_slice(some);
            bytes = rest;
            // Something is whole when no more of it is asked for.
            let again = match self.at {
                At::Head => head_len(&self.held),
                At::Block(checksum) => block_len(&self.held, checksum)?,
                At::Skip(_) => 0,
            };
            if self.held.len() >= again {
                let held = std::mem::take(&mut self.held);
                self.whole(&held, out)?;
                self.held = held;
                self.held.clear();
            }
        }
        Ok(())
    }

    /// The head of a frame, or a block, is there.
    fn whole(&mut self, held: &[u8], out: Out<'_>) -> Result<(), DecodeError> {
        if self.at == At::Head {
            if let Some(n) = skippable(held) {
                self.at = At::Skip(n);
                if n == 0 {
                    self.at = At::Head;
                }
                return Ok(());
            }
            self.n_frames += 1;
            if self.n_frames > MAX_MEMBERS {
                return Err(DecodeError::ContentCodingTooLarge);
            }
            // A new one each time: another frame's window would stay, however large.
            self.decoder = FrameDecoder::new();
            self.leased = None;
            self.decoder.set_max_window_size(MAX_WINDOW as u64);
            self.leased = Some(self.memory.lease(window(held).min(MAX_WINDOW) + BESIDES)?);
            self.decoder.init(held).map_err(|_| MALFORMED)?;
            self.at = At::Block(held.get(4).is_some_and(|descriptor| descriptor & 4 != 0));
            return Ok(());
        }
        let mut rest = held;
        self.decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1)).map_err(|_| MALFORMED)?;
        let mut buffer = [0; 4096];
        loop {
            let n = std::io::Read::read(&mut self.decoder, &mut buffer).map_err(|_| MALFORMED)?;
            if n == 0 {
                break;
            }
            out(buffer.get(..n).unwrap_or_default())?;
        }
        if self.decoder.is_finished() {
            self.at = At::Head;
            self.decoder = FrameDecoder::new();
            self.leased = None;
        }
        Ok(())
    }
}

fn magic(held: &[u8]) -> Option<u32> {
    held.first_chunk::<4>().map(|m| u32::from_le_bytes(*m))
}

/// How long a skippable frame's content is.
fn skippable(head: &[u8]) -> Option<usize> {
    let size = head.get(4..)?.first_chunk::<4>()?;
    (magic(head)? & !0xf == SKIPPABLE).then(|| usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX))
}

/// How long a frame's head is, as far as that is known (RFC 8878 §3.1.1.1).
fn head_len(held: &[u8]) -> usize {
    let Some(magic) = magic(held) else { return 5 };
    if magic & !0xf == SKIPPABLE {
        return 8;
    }
    let Some(descriptor) = held.get(4) else { return 5 };
    let single = descriptor >> 5 & 1;
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or_default();
    let size = match descriptor >> 6 {
        0 => usize::from(single),
        n => 1 << n,
    };
    (5 + usize::from(1 - single) + dictionary + size).min(MAX_HEAD)
}

/// How large a window a frame's head asks for; what it cannot tell is told by the decoder, which refuses it.
fn window(head: &[u8]) -> usize {
    let (Some(descriptor), Some(next)) = (head.get(4), head.get(5)) else { return MAX_WINDOW };
    if descriptor >> 5 & 1 == 1 {
        return MAX_WINDOW.min(content_size(head));
    }
    let base = 1u64.checked_shl(10 + u32::from(next >> 3)).unwrap_or(u64::MAX);
    usize::try_from(base + base / 8 * u64::from(next & 7)).unwrap_or(usize::MAX)
}

/// The size that a frame in one segment says it has.
fn content_size(head: &[u8]) -> usize {
    let dictionary = [0, 1, 2, 4].get(usize::from(head.get(4).map_or(0, |d| d & 3))).copied().unwrap_or_default();
    let bytes = head.get(5 + dictionary..).unwrap_or_default();
    let size = bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    usize::try_from(size).unwrap_or(usize::MAX).saturating_add(256)
}

/// How long a block is, with its head and what follows the last one, as far as that is known (RFC 8878 §3.1.1.2).
fn block_len(held: &[u8], checksum: bool) -> Result<usize, DecodeError> {
    let Some([a, b, c]) = held.first_chunk::<3>() else { return Ok(3) };
    let head = u32::from_le_bytes([*a, *b, *c, 0]);
    let size = usize::try_from(head >> 3).map_err(|_| MALFORMED)?;
    let content = match head >> 1 & 3 {
        0 | 2 => size,
        1 => 1,
        _ => return Err(MALFORMED),
    };
    if size > 128 << 10 {
        return Err(MALFORMED);
    }
    Ok(3 + content + if head & 1 == 1 && checksum { 4 } else { 0 })
}
