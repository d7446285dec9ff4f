//! Recordings (`.lwr`): every event of a run, to be replayed. The format is described in `docs/recording-format.md`.
//!
//! Old versions stay readable: the decoder is told a file's version, and each version's fixture stays a test.

mod checksum;
mod codec;
mod header;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use self::header::{HeaderError, RecordingInfo, VERSION};
pub use self::reader::RecordingSource;
pub use self::writer::{Recorder, RecordingError};

/// Most bytes a block holds before compression. The reader allocates no more than this and a frame for a block.
const MAX_BLOCK: usize = 1 << 20;
/// Most bytes of a block's compressed frame: what cannot be compressed is stored, with a little around it.
const MAX_FRAME: usize = MAX_BLOCK + (64 << 10);
/// The writer begins a new block when this one holds so many bytes before compression.
const BLOCK_TARGET: usize = 256 << 10;
/// Longest payload recorded with one segment; the rest counts as truncated. Longer than any IP packet can be
/// without a jumbogram.
const MAX_PAYLOAD: usize = 512 << 10;
/// Longest cgroup path recorded, bytes: PATH_MAX.
const MAX_PATH: usize = 4096;
/// Longest reason of a loss, bytes.
const MAX_REASON: usize = 64;

/// What precedes each block.
const BLOCK_HEADER: usize = 16;
