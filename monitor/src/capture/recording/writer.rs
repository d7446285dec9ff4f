//! Writes a recording: events into blocks, each block compressed and written in one piece.

use std::io::{self, Write};
use std::path::Path;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use monitor_core::model::{Event, Nanos};

use super::checksum::crc32;
use super::codec;
use super::header::RecordingInfo;
use super::{BLOCK_HEADER, BLOCK_TARGET};
use crate::export::sink::Existing;
use crate::private::{self, How};

/// A block is written at the latest when it spans so much time: what an agent that is killed loses of its recording.
const BLOCK_SPAN: Nanos = Nanos::secs(1);

/// Why recording stopped, or never began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be created.
    #[error("cannot record to {name}: {source}")]
    Create {
        /// The file.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// Writing failed, for instance as the disk is full. What was written before can be replayed.
    #[error("recording to {name} stopped after {n_events} events: {source}")]
    Write {
        /// The file.
        name: String,
        /// Events in the file that can be replayed.
        n_events: u64,
        /// What the system says.
        source: io::Error,
    },
}

/// A recording that is being written.
///
/// Holds at most one block of events and its compressed form. Dropping it finishes the file as well as it can;
/// [`finish`](Self::finish) also tells what went wrong.
pub struct Recorder {
    /// `None`: finished, or stopped by an error that was told.
    out: Option<Box<dyn Write + Send>>,
    name: String,
    block: Vec<u8>,
    n_block_events: u32,
    /// Secrets of TLS handshakes are recorded.
    secrets: bool,
    block_began: Nanos,
    /// Block header and frame, kept for its memory.
    frame: Vec<u8>,
    n_written: u64,
}

impl Recorder {
    /// Creates the file, readable by its owner only since it will hold payload. A regular file of that name is
    /// overwritten; a symbolic link is refused.
    ///
    /// # Errors
    /// [`RecordingError::Create`], or [`RecordingError::Write`] for the header.
    pub fn create(path: &Path, info: &RecordingInfo) -> Result<Self, RecordingError> {
        let name = path.display().to_string();
        match private::open(path, How { existing: Existing::Replace, follow: false }) {
            Ok(file) => Self::new(Box::new(file), name, info),
            Err(source) => Err(RecordingError::Create { name, source }),
        }
    }

    /// Records to `out`, which messages call `name`. Each call of its `write` gets a whole block.
    ///
    /// # Errors
    /// [`RecordingError::Write`] for the header.
    pub fn new(out: Box<dyn Write + Send>, name: String, info: &RecordingInfo) -> Result<Self, RecordingError> {
        let mut recorder = Self {
            out: Some(out),
            name,
            block: Vec::with_capacity(BLOCK_TARGET + (64 << 10)),
            n_block_events: 0,
            secrets: info.secrets,
            block_began: Nanos(0),
            frame: Vec::new(),
            n_written: 0,
        };
        recorder.frame.extend_from_slice(&info.encode());
        recorder.write_frame()?;
        Ok(recorder)
    }

    /// Adds one event.
    ///
    /// # Errors
    /// [`RecordingError::Write`], once: recording has then stopped for good, and later calls do nothing.
    pub fn record(&mut self, event: &Event<'_>) -> Result<(), RecordingError> {
        // What would open the recording's ciphertext is not kept beside it, unless that is asked for by name.
        if self.out.is_none() || (matches!(event, Event::TlsSecret(_)) && !self.secrets) {
            return Ok(());
        }
        let at = event.at();
        if self.n_block_events == 0 {
            self.block_began = at;
        }
        codec::encode(event, &mut self.block);
        self.n_block_events += 1;
        if self.block.len() >= BLOCK_TARGET || at.since(self.block_began) >= BLOCK_SPAN {
            return self.write_block();
        }
        Ok(())
    }

    /// Writes what is left and the end mark. Gives the number of events in the file.
    ///
    /// # Errors
    /// [`RecordingError::Write`], unless `record` has already told of one.
    pub fn finish(&mut self) -> Result<u64, RecordingError> {
        if self.out.is_none() {
            return Ok(self.n_written);
        }
        self.write_block()?;
        let total = self.n_written;
        self.frame.clear();
        block_header(&mut self.frame, 0, total as u32, (total >> 32) as u32);
        self.write_frame()?;
        self.out = None;
        Ok(total)
    }

    fn write_block(&mut self) -> Result<(), RecordingError> {
        if self.n_block_events == 0 {
            return Ok(());
        }
        self.frame.clear();
        self.frame.resize(BLOCK_HEADER, 0);
        let info = FrameInfo::new()
            .block_size(BlockSize::Max256KB)
            .block_mode(BlockMode::Independent)
            .content_checksum(true)
            .content_size(Some(self.block.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, &mut self.frame);
        let compressed = encoder.write_all(&self.block).and_then(|()| encoder.finish().map_err(io::Error::other));
        if let Err(source) = compressed {
            return Err(self.stopped(source));
        }
        let mut header = Vec::with_capacity(BLOCK_HEADER);
        let frame_len = (self.frame.len() - BLOCK_HEADER) as u32;
        block_header(&mut header, self.block.len() as u32, self.n_block_events, frame_len);
        if let Some(place) = self.frame.get_mut(..BLOCK_HEADER) {
            place.copy_from_slice(&header);
        }
        self.write_frame()?;
        self.n_written += u64::from(self.n_block_events);
        self.n_block_events = 0;
        self.block.clear();
        Ok(())
    }

    fn write_frame(&mut self) -> Result<(), RecordingError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        match out.write_all(&self.frame).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(source) => Err(self.stopped(source)),
        }
    }

    fn stopped(&mut self, source: io::Error) -> RecordingError {
        self.out = None;
        self.block = Vec::new();
        RecordingError::Write { name: self.name.clone(), n_events: self.n_written, source }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Nobody is left to tell; a file without its end mark says so when it is read.
        let _ = self.finish();
    }
}

fn block_header(out: &mut Vec<u8>, a: u32, b: u32, c: u32) {
    let begin = out.len();
    for n in [a, b, c] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    let sum = crc32(out.get(begin..).unwrap_or_default());
    out.extend_from_slice(&sum.to_le_bytes());
}
