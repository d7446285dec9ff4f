//! Encodings of a body (`Content-Encoding`, RFC 9110 §8.4), taken back piece by piece: gzip, deflate, br, zstd.
//!
//! What is unpacked costs no more than what it came in: each direction of a connection has a credit of bytes that may come
//! out, which grows with those that go in ([`Credit`]). A body that asks for more is not read any further.
//!
//! Memory: what [`Memory`] states for all connections of an engine together. Of one encoding: 96 KiB (gzip, deflate), its
//! window and 256 KiB (br), its window and 640 KiB (zstd); the window is what the sender says, at most 8 MiB, which RFC 9659
//! allows for zstd and no common setting exceeds.

use crate::decode::DecodeError;

mod zstd;

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use httparse::Header;
use smallvec::SmallVec;

use zstd::Zstd;

/// Most encodings on top of each other.
const MAX_CODINGS: usize = 3;
/// Largest window that is kept.
const MAX_WINDOW: usize = 8 << 20;
/// Most bytes that all connections of an engine hold together.
const MAX_MEMORY: usize = 64 << 20;
/// Most members of gzip, or frames of zstd, one after the other: each begins with tables of its own.
const MAX_MEMBERS: u32 = 256;
/// So much goes in at once.
const SLICE: usize = 512;
/// Bytes that may come out, for nothing.
const FREE: u64 = 1 << 20;
/// And for each byte that goes in. JSON is seldom packed to less than a twentieth.
const PER_BYTE: u64 = 64;
/// Most that is saved up.
const MAX_CREDIT: u64 = 4 << 20;

/// What the connections of one engine hold for encodings.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Rc<Cell<usize>>);

/// A part of it.
#[derive(Debug)]
struct Lease {
    of: Memory,
    n: usize,
}

impl Memory {
    fn lease(&self, n: usize) -> Result<Lease, DecodeError> {
        let used = self.0.get() + n;
        if used > MAX_MEMORY {
            return Err(DecodeError::ContentCodingMemory);
        }
        self.0.set(used);
        Ok(Lease { of: self.clone(), n })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.of.0.set(self.of.0.get().saturating_sub(self.n));
    }
}

/// How many bytes may come out in one direction of a connection.
#[derive(Debug)]
pub(super) struct Credit(u64);

impl Default for Credit {
    fn default() -> Self {
        Self(FREE)
    }
}

impl Credit {
    fn earn(&mut self, n: usize) {
        self.0 = self.0.saturating_add((n as u64).saturating_mul(PER_BYTE)).min(MAX_CREDIT);
    }

    fn spend(&mut self, n: usize) -> Result<(), DecodeError> {
        self.0 = self.0.checked_sub(n as u64).ok_or(DecodeError::ContentCodingTooLarge)?;
        Ok(())
    }
}

/// Where what comes out goes.
type Out<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), DecodeError>;

/// The encodings of one body.
#[derive(Debug, Default)]
pub(super) enum Coding {
    /// None.
    #[default]
    Plain,
    /// These, the outermost first.
    Encoded(Vec<Step>),
    /// It cannot be read: why, as it is counted. Not told yet.
    Refused(DecodeError),
    /// What is left of it is not read.
    Over,
}

impl Coding {
    /// Of a body with this head.
    pub(super) fn of(headers: &[Header<'_>], memory: &Memory) -> Self {
        let mut steps = SmallVec::<[Step; MAX_CODINGS]>::new();
        for h in headers.iter().filter(|h| h.name.eq_ignore_ascii_case("content-encoding")) {
            for name in h.value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|n| !n.is_empty()) {
                let is = |all: &[&str]| all.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
                let step = if is(&["identity"]) {
                    continue;
                } else if steps.len() >= MAX_CODINGS {
                    return Self::Refused(DecodeError::ContentCodingList);
                } else if is(&["gzip", "x-gzip"]) {
                    Step::begin(Kind::Gzip, memory)
                } else if is(&["deflate"]) {
                    Step::begin(Kind::Deflate, memory)
                } else if is(&["br"]) {
                    Step::begin(Kind::Brotli, memory)
                } else if is(&["zstd"]) {
                    Step::begin(Kind::Zstd, memory)
                } else {
                    return Self::Refused(DecodeError::ContentCodingUnknown);
                };
                steps.push(step);
            }
        }
        if steps.is_empty() { Self::Plain } else { Self::Encoded(steps.into_iter().rev().collect()) }
    }

    /// A piece of the body comes in; what it holds goes to `out`.
    ///
    /// # Errors
    /// What is left of the body cannot be read: why. Told once.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        credit: &mut Credit,
        out: &mut dyn FnMut(&[u8]),
    ) -> Result<(), DecodeError> {
        let undone = match self {
            Self::Plain => {
                out(bytes);
                Ok(())
            }
            Self::Encoded(steps) => {
                credit.earn(bytes.len());
                undo(steps, bytes, credit, out)
            }
            Self::Refused(why) => Err(*why),
            Self::Over => Ok(()),
        };
        if undone.is_err() {
            *self = Self::Over;
        }
        undone
    }

    /// Something of the body is missing here, or nobody needs the rest: without what was before, nothing encoded can be read.
    pub(super) fn leave(&mut self) {
        if !matches!(self, Self::Plain) {
            *self = Self::Over;
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// What was packed goes on behind the body's end.
    pub(super) fn end(self) -> Result<(), DecodeError> {
        match self {
            Self::Plain | Self::Over => Ok(()),
            // There was no body.
            Self::Refused(_) => Ok(()),
            Self::Encoded(steps) => {
                let whole = steps.iter().all(Step::is_empty) || steps.into_iter().all(Step::has_ended);
                if whole { Ok(()) } else { Err(DecodeError::ContentCodingCut) }
            }
        }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Encoded(steps) => steps.iter().map(Step::memory).sum(),
            _ => 0,
        }
    }
}

/// Takes back `steps`, the first one first.
fn undo(steps: &mut [Step], bytes: &[u8], credit: &mut Credit, out: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
    let Some((first, rest)) = steps.split_first_mut() else {
        out(bytes);
        return Ok(());
    };
    first.feed(bytes, &mut |plain| {
        credit.spend(plain.len())?;
        undo(rest, plain, credit, out)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gzip,
    /// With zlib's frame, as the standard has it, or without, as some servers do.
    Deflate,
    Brotli,
    Zstd,
}

/// One encoding.
#[derive(Debug)]
pub(super) struct Step {
    kind: Kind,
    memory: Memory,
    leased: Option<Lease>,
    state: State,
    n_members: u32,
}

enum State {
    /// What came before enough was there to begin with.
    Begin(SmallVec<[u8; 2]>),
    Gzip(GzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Raw(DeflateDecoder<Vec<u8>>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Box<Zstd>),
    /// All of it was read.
    End,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin(_) => "Begin",
            Self::Gzip(_) => "Gzip",
            Self::Zlib(_) => "Zlib",
            Self::Raw(_) => "Raw",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
            Self::End => "End",
        })
    }
}

const MALFORMED: DecodeError = DecodeError::ContentCoding;

impl Step {
    fn begin(kind: Kind, memory: &Memory) -> Self {
        Self { kind, memory: memory.clone(), leased: None, state: State::Begin(SmallVec::new()), n_members: 0 }
    }

    fn memory(&self) -> usize {
        let frame = if let State::Zstd(d) = &self.state { d.memory() } else { 0 };
        size_of::<Self>() + self.leased.as_ref().map_or(0, |l| l.n) + frame
    }

    /// Nothing has come in.
    fn is_empty(&self) -> bool {
        matches!(&self.state, State::Begin(held) if held.is_empty())
    }

    /// What was packed was there to its end, as far as that shows.
    fn has_ended(self) -> bool {
        match self.state {
            State::Begin(_) | State::Brotli(_) => false,
            State::Gzip(mut d) => d.try_finish().is_ok(),
            State::Zstd(d) => d.has_ended(),
            State::Zlib(_) | State::Raw(_) | State::End => true,
        }
    }

    fn feed(&mut self, mut bytes: &[u8], out: Out<'_>) -> Result<(), DecodeError> {
        if let State::Begin(held) = &mut self.state {
            let n = if self.kind == Kind::Deflate { 2 } else { 1 };
            let missing = n - held.len().min(n);
            let (some, rest) = bytes.split_at_checked(missing.min(bytes.len())).unwrap_or_default();
            held.extend_from_slice(some);
            bytes = rest;
            if held.len() < n {
                return Ok(());
            }
            let held = std::mem::take(held);
            self.open(&held)?;
            self.write(&held, out)?;
        }
        self.write(bytes, out)
    }

    /// By its first bytes.
    fn open(&mut self, first: &[u8]) -> Result<(), DecodeError> {
        let (need, state) = match (self.kind, first) {
            (Kind::Gzip, _) => (96 << 10, State::Gzip(GzDecoder::new(Vec::new()))),
            // RFC 1950 §2.2.
            (Kind::Deflate, [a, b]) if a & 0xf == 8 && (u16::from(*a) << 8 | u16::from(*b)).is_multiple_of(31) => {
                (96 << 10, State::Zlib(ZlibDecoder::new(Vec::new())))
            }
            (Kind::Deflate, _) => (96 << 10, State::Raw(DeflateDecoder::new(Vec::new()))),
            (Kind::Brotli, first) => {
                let window = brotli_window(first.first().copied().unwrap_or_default());
                let alloc = StandardAlloc::default;
                let state = BrotliState::new_strict(alloc(), alloc(), alloc());
                (window + (256 << 10), State::Brotli(Box::new(state)))
            }
            // It leases for each of its frames.
            (Kind::Zstd, _) => (0, State::Zstd(Box::new(Zstd::new(&self.memory)))),
        };
        if need > MAX_WINDOW + (256 << 10) {
            return Err(DecodeError::ContentCodingMemory);
        }
        self.leased = Some(self.memory.lease(need)?);
        self.state = state;
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], out: Out<'_>) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            let (slice, _) = bytes.split_at_checked(SLICE.min(bytes.len())).unwrap_or((bytes, &[]));
            let n = match &mut self.state {
                State::Begin(_) | State::End => return Ok(()),
                State::Gzip(d) => {
                    let n = written(d, slice, GzDecoder::get_mut, out)?;
                    // Another member, or what some servers leave behind.
                    if n == 0 {
                        self.n_members += 1;
                        let more = slice.first() == Some(&0x1f) && self.n_members < MAX_MEMBERS;
                        self.state = if more { State::Gzip(GzDecoder::new(Vec::new())) } else { State::End };
                        continue;
                    }
                    n
                }
                State::Zlib(d) => written(d, slice, ZlibDecoder::get_mut, out)?,
                State::Raw(d) => written(d, slice, DeflateDecoder::get_mut, out)?,
                State::Brotli(state) => {
                    if brotli(state, slice, out)? {
                        self.state = State::End;
                        return Ok(());
                    }
                    slice.len()
                }
                State::Zstd(d) => {
                    d.feed(slice, out)?;
                    slice.len()
                }
            };
            if n == 0 {
                self.state = State::End;
            }
            bytes = bytes.get(n..).unwrap_or_default();
        }
        // What was held back is of use now: an event of a stream, the end of a message.
        match &mut self.state {
            State::Gzip(d) => flushed(d, GzDecoder::get_mut, out),
            State::Zlib(d) => flushed(d, ZlibDecoder::get_mut, out),
            State::Raw(d) => flushed(d, DeflateDecoder::get_mut, out),
            _ => Ok(()),
        }
    }
}

/// Writes some of a slice to a decoder, whose results are taken from the buffer that it writes to: at most 32 KiB a time.
/// How much; nothing: it has ended.
fn written<W: Write>(
    decoder: &mut W,
    slice: &[u8],
    buffer: fn(&mut W) -> &mut Vec<u8>,
    out: Out<'_>,
) -> Result<usize, DecodeError> {
    let n = decoder.write(slice).map_err(|_| MALFORMED)?;
    given(buffer(decoder), out)?;
    Ok(n)
}

fn flushed<W: Write>(decoder: &mut W, buffer: fn(&mut W) -> &mut Vec<u8>, out: Out<'_>) -> Result<(), DecodeError> {
    decoder.flush().map_err(|_| MALFORMED)?;
    given(buffer(decoder), out)
}

fn given(buffer: &mut Vec<u8>, out: Out<'_>) -> Result<(), DecodeError> {
    if !buffer.is_empty() {
        out(buffer)?;
        buffer.clear();
    }
    Ok(())
}

/// The window that the first byte of a stream asks for, in bytes (RFC 7932 §9.1).
fn brotli_window(first: u8) -> usize {
    let bits = match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, n) => 8 + n,
        (_, n, _) => 17 + n,
    };
    1 << bits
}

/// Whether the stream has ended.
fn brotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    slice: &[u8],
    out: Out<'_>,
) -> Result<bool, DecodeError> {
    let mut buffer = [0; 4096];
    let (mut left, mut at, mut total) = (slice.len(), 0, 0);
    loop {
        let (mut room, mut filled) = (buffer.len(), 0);
        let result =
            BrotliDecompressStream(&mut left, &mut at, slice, &mut room, &mut filled, &mut buffer, &mut total, state);
        let plain = buffer.get(..filled).unwrap_or_default();
        if !plain.is_empty() {
            out(plain)?;
        }
        match result {
            BrotliResult::ResultSuccess => return Ok(true),
            BrotliResult::NeedsMoreInput => return Ok(false),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(MALFORMED),
        }
    }
}

/// What the fuzz target checks: pieces give the same as the whole, and no more than was earned comes out.
pub(super) fn fuzz(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let names = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "br, deflate, zstd", "x"];
    let name = names.get(usize::from(first & 7)).copied().unwrap_or_default();
    let headers = [Header { name: "content-encoding", value: name.as_bytes() }];
    let read = |pieces: &[&[u8]]| {
        let memory = Memory::default();
        let (mut coding, mut credit, mut all) = (Coding::of(&headers, &memory), Credit::default(), Vec::new());
        let end =
            pieces.iter().find_map(|piece| coding.feed(piece, &mut credit, &mut |b| all.extend_from_slice(b)).err());
        assert!(all.len() as u64 <= FREE + PER_BYTE * rest.len() as u64, "a bomb stops at its bound");
        assert!(coding.memory() <= 3 * (MAX_WINDOW + (1 << 20)) && memory.0.get() <= MAX_MEMORY);
        drop(coding);
        assert_eq!(memory.0.get(), 0, "all is given back");
        (all, end)
    };
    let cut = usize::from(first >> 3) * rest.len() / 32;
    let (a, b) = rest.split_at_checked(cut).unwrap_or((rest, &[]));
    let (whole, pieces) = (read(&[rest]), read(&[a, b]));
    // Where it breaks off, more or less of what was before may have come out.
    if whole.1.is_none() && pieces.1.is_none() {
        assert_eq!(whole, pieces, "however it is cut");
    }
}

#[cfg(test)]
mod tests;
