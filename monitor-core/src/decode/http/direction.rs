//! One direction of a connection: heads and bodies, however their bytes are cut.

use super::framing::{Framing, chunk_size};
use crate::decode::DecodeError;

/// Longest head, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// Longest line of trailers, in bytes.
const MAX_TRAILER: usize = 8 << 10;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The head of a message.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// The size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailers, up to an empty line.
    Trailers,
    /// A body until the connection closes.
    ToClose,
    /// Another protocol (after an upgrade), read by somebody else.
    Raw,
}

/// A step of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes are the piece of a body that comes next.
    Body(usize),
    /// So many bytes are framing.
    Skip(usize),
    /// The body ends here, after so many more bytes of framing.
    End(usize),
    /// More bytes are needed.
    NeedMore,
    /// This is no HTTP.
    Malformed(DecodeError),
}

impl Read {
    /// What follows a head with this framing; `None`: no body.
    pub(super) fn after_head(framing: Framing, to_close: bool) -> Option<Self> {
        match framing {
            Framing::Length(0) => None,
            Framing::Length(n) => Some(Self::Body(n)),
            Framing::Chunked => Some(Self::ChunkSize),
            Framing::None | Framing::Unending => to_close.then_some(Self::ToClose),
        }
    }

    /// Reads on inside a body.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Step {
        let have = bytes.len() as u64;
        match *self {
            Self::Body(left) => {
                let n = left.min(have);
                *self = Self::Body(left - n);
                if left == 0 { Step::End(0) } else { body(n) }
            }
            Self::ToClose | Self::Raw => body(have),
            Self::ChunkSize => match chunk_size(bytes) {
                Ok(Some((0, line))) => {
                    *self = Self::Trailers;
                    Step::Skip(line)
                }
                Ok(Some((n, line))) => {
                    *self = Self::Chunk(n);
                    Step::Skip(line)
                }
                Ok(None) => Step::NeedMore,
                Err(kind) => Step::Malformed(kind),
            },
            Self::Chunk(left) => {
                let n = left.min(have);
                *self = if n == left { Self::ChunkEnd } else { Self::Chunk(left - n) };
                body(n)
            }
            Self::ChunkEnd => match bytes {
                [b'\n', ..] => {
                    *self = Self::ChunkSize;
                    Step::Skip(1)
                }
                [b'\r', b'\n', ..] => {
                    *self = Self::ChunkSize;
                    Step::Skip(2)
                }
                [] | [b'\r'] => Step::NeedMore,
                _ => Step::Malformed(DecodeError::ChunkEnd),
            },
            Self::Trailers => match memchr::memchr(b'\n', bytes) {
                Some(0) => Step::End(1),
                Some(1) if bytes.first() == Some(&b'\r') => Step::End(2),
                Some(at) => Step::Skip(at + 1),
                None if bytes.len() > MAX_TRAILER => Step::Malformed(DecodeError::Trailers),
                None => Step::NeedMore,
            },
            Self::Head => Step::NeedMore,
        }
    }

    /// `n` bytes are missing here. Whether reading can go on.
    pub(super) fn miss(&mut self, n: u64) -> bool {
        match *self {
            Self::Body(left) if n <= left => *self = Self::Body(left - n),
            Self::Chunk(left) if n < left => *self = Self::Chunk(left - n),
            Self::Chunk(left) if n == left => *self = Self::ChunkEnd,
            Self::ToClose | Self::Raw => {}
            _ => return false,
        }
        true
    }
}

fn body(n: u64) -> Step {
    match usize::try_from(n) {
        Ok(0) | Err(_) => Step::NeedMore,
        Ok(n) => Step::Body(n),
    }
}
