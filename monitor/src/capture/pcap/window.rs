//! A bounded window over a file: what has been read and not yet used.

use std::io::{self, ErrorKind, Read};

/// First size of the window: large enough that a read call costs little per packet.
const INITIAL: usize = 1 << 20;

/// Bytes read from `R` and not yet consumed, with the offset at which they stand in the file.
pub(super) struct Window<R> {
    reader: R,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    eof: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buf: vec![0; INITIAL], start: 0, end: 0, offset: 0, eof: false }
    }

    /// What is there to be parsed.
    pub(super) fn data(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// Offset in the file of the first byte of [`data`](Self::data).
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// True when nothing follows [`data`](Self::data).
    pub(super) fn at_eof(&self) -> bool {
        self.eof
    }

    /// Drops the first `n` bytes; never more than are there.
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        self.start += n;
        self.offset += n as u64;
    }

    /// Reads until at least `want` bytes are there or the file ends. The caller bounds `want`: the window grows to it.
    ///
    /// # Errors
    /// What the reader returns; what was read before stays usable.
    pub(super) fn fill(&mut self, want: usize) -> io::Result<()> {
        if self.buf.len() < want {
            self.buf.resize(want, 0);
        }
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end < want && !self.eof {
            let Some(space) = self.buf.get_mut(self.end..) else { break };
            match self.reader.read(space) {
                Ok(0) => self.eof = true,
                Ok(n) => self.end = (self.end + n).min(self.buf.len()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
