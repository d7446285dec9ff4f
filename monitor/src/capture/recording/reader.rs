//! Reads a recording back: block by block, each checked before its events are believed.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use lz4_flex::frame::FrameDecoder;
use monitor_core::model::{Event, LossStage, Nanos};

use super::checksum::crc32;
use super::codec::{self, Cursor};
use super::header::{HeaderError, MAGIC, RecordingInfo};
use super::{BLOCK_HEADER, MAX_BLOCK, MAX_FRAME};
use crate::capture::file::{Tally, Warnings};
use crate::capture::{CaptureError, Progress, Source, SourceStats};

/// A recording that is being replayed.
pub struct RecordingSource<R> {
    reader: BufReader<R>,
    info: RecordingInfo,
    version: u16,
    frame: Vec<u8>,
    block: Vec<u8>,
    /// Offset in the file of what is read next.
    offset: u64,
    n_events: u64,
    now: Nanos,
    ended: bool,
    warnings: Warnings,
    /// Why not all of it was read.
    unread: Option<String>,
    tally: Tally,
}

/// Why reading ends.
enum Stop {
    /// The end mark was found.
    Whole,
    /// Something is wrong: what, and the reason as the metric shows it.
    Damaged(String, &'static str),
}

impl<R: Read> RecordingSource<R> {
    /// True when a file that begins with `first` is a recording, of whatever version.
    pub fn is_recording(first: &[u8]) -> bool {
        first.starts_with(&MAGIC)
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn new(reader: R) -> Result<Self, HeaderError> {
        let mut reader = BufReader::with_capacity(BLOCK_HEADER.max(256 << 10), reader);
        let (info, version, len) = RecordingInfo::read(&mut reader)?;
        let now = info.started;
        Ok(Self {
            reader,
            info,
            version,
            frame: Vec::new(),
            block: Vec::new(),
            offset: len as u64,
            n_events: 0,
            now,
            ended: false,
            warnings: Warnings::default(),
            unread: None,
            tally: Tally::default(),
        })
    }

    /// Who recorded, where and when.
    pub fn info(&self) -> &RecordingInfo {
        &self.info
    }

    /// Version of the file's format.
    pub fn version(&self) -> u16 {
        self.version
    }

    fn next_block(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Stop> {
        let begin = self.offset;
        let [raw_len, n_records, frame_len] = self.block_header()?;
        if raw_len == 0 {
            return Err(self.end_mark(begin, u64::from(n_records) | (u64::from(frame_len) << 32)));
        }
        let damaged = |what: &str| {
            Stop::Damaged(
                format!(
                    "the recording is damaged in the block at byte {begin}: {what}; nothing from there on was read"
                ),
                "recording_corrupt",
            )
        };
        if raw_len as usize > MAX_BLOCK || frame_len as usize > MAX_FRAME {
            return Err(damaged("it is larger than any block"));
        }
        self.read_frame(begin, frame_len as usize)?;
        unpack(&self.frame, raw_len as usize, &mut self.block).map_err(|what| damaged(&what))?;

        let mut rest = Cursor::new(&self.block);
        for n in 0..n_records {
            let record = rest.u32().and_then(|len| rest.take(len as usize));
            let secret = record.and_then(|record| codec::decode_secret(self.version, record)).transpose();
            let secret = secret.map_err(|what| damaged(&format!("record {n} cannot be read, {what}")))?;
            let event = match record {
                Some(_) if secret.is_some() => secret.as_ref().map(Event::TlsSecret).ok_or("it is no secret"),
                Some(record) => codec::decode(self.version, record),
                None => Err("it goes beyond the block"),
            };
            match event {
                Ok(event) => {
                    self.now = self.now.max(event.at());
                    self.n_events += 1;
                    self.tally.note(&event);
                    sink(event);
                }
                Err(what) => return Err(damaged(&format!("record {n} cannot be read, {what}"))),
            }
        }
        if rest.rest().is_empty() { Ok(()) } else { Err(damaged("it has bytes after its last record")) }
    }

    fn block_header(&mut self) -> Result<[u32; 3], Stop> {
        let begin = self.offset;
        let mut header = [0; BLOCK_HEADER];
        let n = self.read(&mut header)?;
        if n < BLOCK_HEADER {
            let what =
                if n == 0 { "without its end mark".to_owned() } else { format!("{n} bytes into a block header") };
            return Err(cut(begin, &what));
        }
        let (covered, sum) = header.split_at(BLOCK_HEADER - 4);
        let mut fields = Cursor::new(covered);
        let (Some(a), Some(b), Some(c), true) =
            (fields.u32(), fields.u32(), fields.u32(), sum == crc32(covered).to_le_bytes())
        else {
            return Err(Stop::Damaged(
                format!(
                    "the recording is damaged at byte {begin}: the checksum of a block header does not match; nothing \
                     from there on was read"
                ),
                "recording_corrupt",
            ));
        };
        Ok([a, b, c])
    }

    fn end_mark(&mut self, begin: u64, n_events: u64) -> Stop {
        if n_events != self.n_events {
            return Stop::Damaged(
                format!(
                    "the recording's end mark at byte {begin} says {n_events} events; {} were there",
                    self.n_events
                ),
                "recording_corrupt",
            );
        }
        let mut more = [0];
        match self.read(&mut more) {
            Ok(0) => Stop::Whole,
            Ok(_) => Stop::Damaged(
                format!("the recording goes on after its end mark at byte {begin}; that was not read"),
                "recording_corrupt",
            ),
            Err(stop) => stop,
        }
    }

    fn read_frame(&mut self, begin: u64, len: usize) -> Result<(), Stop> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.resize(len, 0);
        let n = self.read(&mut frame);
        self.frame = frame;
        match n? {
            n if n == len => Ok(()),
            n => Err(cut(begin, &format!("{n} bytes into a block of {len}"))),
        }
    }

    /// Fills `into` as far as the file goes.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Stop> {
        let mut n = 0;
        while let Some(space) = into.get_mut(n..).filter(|s| !s.is_empty()) {
            match self.reader.read(space) {
                Ok(0) => break,
                Ok(m) => n += m,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let at = self.offset + n as u64;
                    return Err(Stop::Damaged(
                        format!("the recording could not be read on from byte {at}: {e}"),
                        "recording_unreadable",
                    ));
                }
            }
        }
        self.offset += n as u64;
        Ok(n)
    }
}

fn cut(begin: u64, what: &str) -> Stop {
    Stop::Damaged(
        format!(
            "the recording ends {what}, at or after byte {begin}: the agent was stopped while it recorded; everything \
             before was read"
        ),
        "recording_cut",
    )
}

/// Unpacks a frame that must hold exactly `len` bytes, checked by its content checksum.
fn unpack(frame: &[u8], len: usize, block: &mut Vec<u8>) -> Result<(), String> {
    // The decoder takes a frame that just stops for a whole one. A whole one ends with a zero length and a checksum.
    let end_mark = frame.len().checked_sub(8).and_then(|at| frame.get(at..at + 4));
    // Of all that LZ4 frames can be, only what the writer makes: blocks that stand alone (0x20), a content checksum
    // (0x04), and blocks of at most 1 MiB (0x60), which bounds what the decoder allocates.
    let usual = match *frame {
        [0x04, 0x22, 0x4d, 0x18, flags, size, ..] => flags & 0x24 == 0x24 && size <= 0x60,
        _ => false,
    };
    if end_mark != Some(&[0; 4]) || !usual {
        return Err("its frame is not as it is written".to_owned());
    }
    block.resize(len, 0);
    let mut decoder = FrameDecoder::new(frame);
    decoder.read_exact(block).map_err(|e| format!("its frame cannot be unpacked ({e})"))?;
    // The end, and with it the checksum, is only looked at when more is asked for.
    match decoder.read(&mut [0]) {
        Ok(0) if decoder.get_ref().is_empty() => Ok(()),
        Ok(_) => Err("its frame is longer than it says".to_owned()),
        Err(e) => Err(format!("its frame cannot be unpacked ({e})")),
    }
}

impl<R: Read> Source for RecordingSource<R> {
    fn poll(&mut self, _: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<Progress, CaptureError> {
        if self.ended {
            return Ok(Progress::End);
        }
        match self.next_block(sink) {
            Ok(()) => return Ok(Progress::Busy),
            Err(Stop::Whole) => {}
            Err(Stop::Damaged(message, reason)) => {
                self.unread = Some(message.clone());
                self.warnings.push(message);
                let lost = Event::Lost { at: self.now, stage: LossStage::Capture, reason, count: 1, of: None };
                self.tally.note(&lost);
                sink(lost);
            }
        }
        self.ended = true;
        Ok(Progress::End)
    }

    fn stats(&mut self) -> SourceStats {
        self.tally.stats()
    }

    fn warnings(&mut self) -> Vec<String> {
        self.warnings.take()
    }

    fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }
}
