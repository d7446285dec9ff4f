//! Frames of one direction: a length, then so many bytes.

use super::bytes::{Read, Stop};
use super::look::MAX_FRAME;
use crate::decode::DecodeError;

/// What has come and is not read yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buf: Vec<u8>,
    pos: usize,
    /// Bytes of the frame in hand that are not read yet, whether or not they have come.
    left: usize,
}

impl Inbox {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buf.drain(..self.pos);
        self.pos = 0;
        self.buf.extend_from_slice(bytes);
        // One large item should not cost its memory for as long as the connection lives.
        if self.buf.len() < SMALL && self.buf.capacity() > 4 * SMALL {
            self.buf.shrink_to(SMALL);
        }
    }

    fn rest(&self) -> &[u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// Reads a frame's length.
    pub(super) fn begin(&mut self) -> Read<()> {
        let len = self.rest().first_chunk::<4>().ok_or(Stop::Short)?;
        let len = usize::try_from(i32::from_be_bytes(*len)).ok().filter(|n| *n <= MAX_FRAME);
        self.left = len.ok_or(Stop::Bad(DecodeError::FrameLength))?;
        self.pos += 4;
        Ok(())
    }

    /// What has come of the frame, and whether that is all.
    pub(super) fn frame(&self) -> (&[u8], bool) {
        let rest = self.rest();
        match rest.get(..self.left) {
            Some(all) => (all, true),
            None => (rest, false),
        }
    }

    /// Bytes of the frame that are not read yet.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// So many bytes of the frame are read.
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.left).min(self.buf.len() - self.pos);
        self.pos += n;
        self.left -= n;
    }

    /// Passes over what has come of the frame.
    pub(super) fn pass(&mut self) -> Read<()> {
        self.consume(self.left);
        if self.left == 0 { Ok(()) } else { Err(Stop::Short) }
    }

    /// `n` bytes will not come. Whether the frame's end is still known: what has come of it is then passed over.
    pub(super) fn miss(&mut self, n: u64, in_frame: bool) -> bool {
        let after = self.left.saturating_sub(self.rest().len());
        match usize::try_from(n) {
            Ok(n) if in_frame && n <= after => {
                self.left = after - n;
                self.pos = self.buf.len();
                true
            }
            _ => false,
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.buf.capacity()
    }
}

/// From this size on memory is given back.
const SMALL: usize = 64 << 10;
