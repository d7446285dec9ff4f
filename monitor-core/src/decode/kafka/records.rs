//! Records, as Produce requests and Fetch responses carry them (Apache Kafka, "Message Format"): batches of format 2,
//! and the message sets before them. Read piece by piece.
//!
//! Memory: nothing is held here. The caller collects what one step needs: at most [`MAX_ITEM`].

use std::io::Read as _;

use smallvec::SmallVec;

use super::bytes::{Cursor, Read, Stop};
use super::codec;
use crate::decode::DecodeError;

/// Largest record, and largest compressed batch, that is collected to be read. Kafka's own limit to a batch is 1 MiB
/// (`message.max.bytes`).
pub(super) const MAX_ITEM: usize = (1 << 20) + (4 << 10);
/// Most bytes that one compressed batch is unpacked to.
const MAX_UNPACKED: u64 = 16 << 20;
/// Most records of one batch that are told of without having been read.
const MAX_UNREAD: i64 = 4096;
/// Length of a batch's head.
const BATCH: usize = 61;
/// Bytes from a batch's or message's start to those that its length counts.
const LENGTH_AT: usize = 12;
/// Bytes that tell formats apart.
const MAGIC: usize = 17;
/// Bytes unpacked at a time.
const PIECE: usize = 16 << 10;
/// Most producers whose aborted transactions are followed in one response.
const MAX_ABORTED: usize = 256;

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Its number in the partition; what a producer says is a number in the batch.
    pub(super) offset: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    headers: &'a [u8],
    n_headers: usize,
}

impl<'a> Record<'a> {
    /// Its headers: names and values.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut c = Cursor::new(self.headers);
        (0..self.n_headers).map_while(move |_| {
            let name = c.record_bytes().ok()??;
            Some((name, c.record_bytes().ok()?.unwrap_or_default()))
        })
    }
}

/// What is found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// A record.
    Record(Record<'a>),
    /// There is a record with this offset; it was not read. At least so many bytes.
    Unread(i64, u64),
    /// This cannot be read, and how many records there are is not known.
    Lost(DecodeError),
}

/// A batch's head.
#[derive(Clone, Copy, Debug)]
struct Batch {
    base: i64,
    last: i64,
    codec: i16,
    count: i64,
    /// Records of it that have been found so far.
    found: i64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A batch or message begins.
    Between,
    /// Records follow; so many bytes of their batch are left.
    Plain(Batch, usize),
    /// A compressed batch's records follow.
    Packed(Batch, usize),
    /// So many bytes say nothing more; then that batch goes on, with so many bytes.
    Skip(usize, Option<(Batch, usize)>),
}

/// The records of one partition, in one request or response.
#[derive(Debug)]
pub(super) struct Records {
    left: usize,
    state: State,
    /// Aborted transactions that a consumer of committed records does not see: producer and first offset.
    aborted: SmallVec<[(i64, i64); 2]>,
    /// Those of them that have begun.
    aborting: SmallVec<[i64; 2]>,
}

impl Records {
    /// So many bytes of records.
    pub(super) fn new(len: usize, aborted: SmallVec<[(i64, i64); 2]>) -> Self {
        Self { left: len, state: State::Between, aborted, aborting: SmallVec::new() }
    }

    /// Whether all are read.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Reads one thing from `bytes`, which are cut at nothing but what has come so far. How many bytes that took.
    pub(super) fn step(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Item<'_>)) -> Read<usize> {
        let cut = bytes.len().min(self.left);
        let bytes = bytes.get(..cut).unwrap_or_default();
        let n = match self.state {
            State::Skip(0, then) => {
                self.go_on(then);
                0
            }
            State::Skip(..) if bytes.is_empty() => return Err(Stop::Short),
            State::Skip(n, then) => {
                let some = n.min(bytes.len());
                self.state = State::Skip(n - some, then);
                some
            }
            State::Between => self.begin(bytes, tell)?,
            State::Plain(batch, left) => self.record(batch, left, bytes, tell)?,
            State::Packed(mut batch, left) => {
                unpack(&mut batch, bytes.get(..left).ok_or(Stop::Short)?, tell);
                self.state = State::Between;
                left
            }
        };
        self.left -= n.min(self.left);
        Ok(n)
    }

    fn go_on(&mut self, then: Option<(Batch, usize)>) {
        self.state = match then {
            Some((batch, left)) if left > 0 => State::Plain(batch, left),
            _ => State::Between,
        };
    }

    /// The rest will not come, or not whole.
    pub(super) fn abandon(&mut self, tell: &mut dyn FnMut(Item<'_>)) {
        match self.state {
            State::Plain(batch, left) | State::Packed(batch, left) => batch.unread(left, tell),
            State::Skip(_, Some((batch, left))) => batch.unread(left, tell),
            State::Between | State::Skip(..) => {}
        }
        self.state = State::Skip(self.left, None);
    }

    fn begin(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Item<'_>)) -> Read<usize> {
        // A broker cuts what it sends at the limit it was given: what is too short is the start of the next batch.
        let rest = |this: &mut Self| {
            this.state = State::Skip(this.left, None);
            Ok(0)
        };
        if self.left < MAGIC {
            return rest(self);
        }
        let mut c = Cursor::new(bytes.get(..MAGIC).ok_or(Stop::Short)?);
        let (base, len) = (c.i64()?, c.i32()?);
        c.i32()?;
        let magic = c.i8()?;
        let len = usize::try_from(len).map_err(|_| Stop::Bad(DecodeError::BatchLength))?;
        let whole = len.checked_add(LENGTH_AT).ok_or(Stop::Bad(DecodeError::BatchLength))?;
        if whole > self.left {
            return rest(self);
        }
        match magic {
            2 if whole < BATCH => Err(Stop::Bad(DecodeError::BatchLength)),
            2 => {
                self.batch(base, whole, bytes.get(MAGIC..BATCH).ok_or(Stop::Short)?, tell)?;
                Ok(BATCH)
            }
            0 | 1 => {
                if whole > MAX_ITEM {
                    tell(Item::Unread(base, whole as u64));
                    self.state = State::Skip(whole, None);
                    return Ok(0);
                }
                let body = bytes.get(MAGIC..whole).ok_or(Stop::Short)?;
                message(base, magic, body, tell)?;
                Ok(whole)
            }
            _ => Err(Stop::Bad(DecodeError::Magic)),
        }
    }

    /// A batch of format 2 begins; `head` is what comes after the magic byte.
    fn batch(&mut self, base: i64, whole: usize, head: &[u8], tell: &mut dyn FnMut(Item<'_>)) -> Read<()> {
        let mut c = Cursor::new(head);
        c.i32()?;
        let attributes = c.i16()?;
        let last = i64::from(c.i32()?);
        c.take(16)?;
        let producer = c.i64()?;
        c.take(6)?;
        let count = i64::from(c.i32()?);
        if count < 0 || last < 0 {
            return Err(Stop::Bad(DecodeError::BatchCount));
        }
        let (transactional, control) = (attributes & 0x10 != 0, attributes & 0x20 != 0);
        let hidden = self.hides(base.saturating_add(last), producer, transactional, control);
        let batch = Batch { base, last, codec: attributes & 7, count, found: 0 };
        let left = whole - BATCH;
        self.state = match batch.codec {
            _ if left == 0 => State::Between,
            _ if hidden => State::Skip(left, None),
            0 => State::Plain(batch, left),
            _ if left > MAX_ITEM => {
                batch.unread(left, tell);
                State::Skip(left, None)
            }
            _ => State::Packed(batch, left),
        };
        Ok(())
    }

    /// Whether no consumer sees a batch: marks, and what belongs to a transaction that was aborted, from its first
    /// offset to the mark that ends it.
    fn hides(&mut self, last: i64, producer: i64, transactional: bool, control: bool) -> bool {
        let aborting = &mut self.aborting;
        self.aborted.retain(|(who, first)| {
            let begun = *first <= last;
            if begun && !aborting.contains(who) && aborting.len() < MAX_ABORTED {
                aborting.push(*who);
            }
            !begun
        });
        if control {
            // The mark says whether it commits or aborts; a producer with an aborted transaction ends that first.
            aborting.retain(|who| *who != producer);
        }
        control || transactional && aborting.contains(&producer)
    }

    fn record(&mut self, mut batch: Batch, left: usize, bytes: &[u8], tell: &mut dyn FnMut(Item<'_>)) -> Read<usize> {
        let cut = bytes.len().min(left);
        let bytes = bytes.get(..cut).unwrap_or_default();
        // What is missing within the batch's own end will not come.
        let more = |stop| if stop == Stop::Short && cut == left { Stop::Bad(DecodeError::RecordLength) } else { stop };
        let mut c = Cursor::new(bytes);
        let len = c.signed().map_err(more)?;
        let len = usize::try_from(len).map_err(|_| Stop::Bad(DecodeError::RecordLength))?;
        let whole = c.read().checked_add(len).filter(|n| *n <= left).ok_or(Stop::Bad(DecodeError::RecordLength))?;
        if len > MAX_ITEM {
            let offset = batch.base.saturating_add(offset_delta(&mut c).map_err(more)?);
            tell(Item::Unread(offset, len as u64));
            batch.found += 1;
            self.state = State::Skip(whole, Some((batch, left - whole)));
            return Ok(0);
        }
        let body = c.take(len).map_err(more)?;
        tell(Item::Record(record(&batch, body)?));
        batch.found += 1;
        self.go_on(Some((batch, left - whole)));
        Ok(whole)
    }
}

impl Batch {
    /// Records of it that were not found are told of; their content is `left` bytes in all.
    fn unread(&self, left: usize, tell: &mut dyn FnMut(Item<'_>)) {
        let n = self.count - self.found;
        if n > MAX_UNREAD {
            tell(Item::Lost(DecodeError::RecordsUnread));
        }
        for i in 0..n.min(MAX_UNREAD) {
            // Where none was removed by compaction, offsets have no holes.
            let offset = self.base.saturating_add((self.found + i).min(self.last));
            tell(Item::Unread(offset, left as u64 / n.max(1).cast_unsigned()));
        }
    }
}

/// Timestamp and offset, as a record has them relative to its batch; the offset.
fn offset_delta(c: &mut Cursor<'_>) -> Read<i64> {
    c.i8()?;
    c.signed()?;
    c.signed()
}

/// Reads what is behind a record's length.
fn record<'a>(batch: &Batch, body: &'a [u8]) -> Read<Record<'a>> {
    let mut c = Cursor::new(body);
    let mut read = || {
        let offset = batch.base.saturating_add(offset_delta(&mut c)?);
        let (key, value) = (c.record_bytes()?, c.record_bytes()?);
        let n_headers = usize::try_from(c.signed()?).map_err(|_| Stop::Short)?;
        Ok(Record { offset, key, value, headers: c.rest(), n_headers })
    };
    read().map_err(|_: Stop| Stop::Bad(DecodeError::Record))
}

/// A message of the formats before batches; `body` begins with its attributes.
fn message(offset: i64, magic: i8, body: &[u8], tell: &mut dyn FnMut(Item<'_>)) -> Read<()> {
    let mut c = Cursor::new(body);
    let mut read = || {
        let attributes = c.i8()?;
        if magic == 1 {
            c.i64()?;
        }
        if attributes & 7 != 0 {
            // Compressed messages inside of one: the wrapper has the last one's offset, their number is not told.
            return Ok(None);
        }
        let key = c.length(false)?.map(|n| c.take(n)).transpose()?;
        let value = c.length(false)?.map(|n| c.take(n)).transpose()?;
        Ok(Some(Record { offset, key, value, headers: &[], n_headers: 0 }))
    };
    match read().map_err(|_: Stop| Stop::Bad(DecodeError::Message))? {
        Some(record) => tell(Item::Record(record)),
        None => {
            tell(Item::Lost(DecodeError::OldCompressedMessages));
            tell(Item::Unread(offset, body.len() as u64));
        }
    }
    Ok(())
}

/// Reads the records of a compressed batch.
fn unpack(batch: &mut Batch, packed: &[u8], tell: &mut dyn FnMut(Item<'_>)) {
    let Some(reader) = codec::unpack(batch.codec, packed) else {
        tell(Item::Lost(DecodeError::UnreadableCompression));
        return batch.unread(packed.len(), tell);
    };
    let mut reader = reader.take(MAX_UNPACKED);
    let mut buffer: Vec<u8> = Vec::new();
    let mut at = 0;
    while batch.found < batch.count {
        let rest = buffer.get(at..).unwrap_or_default();
        let mut c = Cursor::new(rest);
        let (n, body) = match c.signed().map(usize::try_from) {
            Ok(Ok(n)) if n <= MAX_ITEM => (n, c.take(n)),
            Ok(_) => {
                tell(Item::Lost(DecodeError::RecordLength));
                break;
            }
            Err(stop) => (0, Err(stop)),
        };
        match body {
            Ok(body) => {
                at += c.read();
                match record(batch, body) {
                    Ok(record) => tell(Item::Record(record)),
                    Err(_) => {
                        tell(Item::Lost(DecodeError::Record));
                        break;
                    }
                }
                batch.found += 1;
            }
            Err(Stop::Bad(why)) => {
                tell(Item::Lost(why));
                break;
            }
            Err(Stop::Short) => {
                buffer.drain(..at);
                at = 0;
                let before = buffer.len();
                let want = (n + 10).saturating_sub(before).max(PIECE);
                let _ = reader.by_ref().take(want as u64).read_to_end(&mut buffer);
                // What came before an error is good.
                if buffer.len() == before {
                    tell(Item::Lost(DecodeError::CompressedBatch));
                    break;
                }
            }
        }
    }
    batch.unread(packed.len(), tell);
}
