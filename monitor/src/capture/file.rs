//! Opens a capture or recording by what it is, not by what it is called.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use monitor_core::model::{Direction, Event};

use super::pcap::PcapSource;
use super::recording::{HeaderError, RecordingSource};
use super::{CaptureError, LossCount, Progress, Source, SourceStats};

/// Most warnings given of one file; a damaged one could give one per packet.
const MAX_WARNINGS: usize = 16;

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be opened or its beginning not be read.
    #[error("cannot read {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a pcap, pcapng or leasewarden recording: {found}", path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// What it looks like: its first bytes, or a well-known format with what to do about it.
        found: String,
    },
    /// It is a recording whose header cannot be used.
    #[error("cannot replay {}: {source}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: HeaderError,
    },
}

/// Opens a `.pcap`, `.pcapng` or `.lwr` file, told apart by their first bytes.
///
/// # Errors
/// [`FileError`], when the file cannot be opened or is none of these. Damage further in is no error: what comes before
/// it is delivered, then an [`Event::Lost`], and [`Source::warnings`] say what was wrong and at which byte.
pub fn open(path: &Path) -> Result<Box<dyn Source + Send>, CaptureError> {
    let file = File::open(path).map_err(|source| FileError::Open { path: path.to_owned(), source })?;
    Ok(from_reader(path, file)?)
}

/// As [`open`], from anything that can be read; `path` is for messages only.
///
/// # Errors
/// As [`open`].
pub fn from_reader<'r>(
    path: &Path,
    mut reader: impl Read + Send + 'r,
) -> Result<Box<dyn Source + Send + 'r>, FileError> {
    let mut first = Vec::with_capacity(8);
    reader
        .by_ref()
        .take(8)
        .read_to_end(&mut first)
        .map_err(|source| FileError::Open { path: path.to_owned(), source })?;
    let whole = Cursor::new(first.clone()).chain(reader);
    if RecordingSource::<io::Empty>::is_recording(&first) {
        let source =
            RecordingSource::new(whole).map_err(|source| FileError::Recording { path: path.to_owned(), source })?;
        return Ok(Box::new(source));
    }
    match PcapSource::new(&first, whole) {
        Some(source) => Ok(Box::new(source)),
        None => Err(FileError::Unrecognised { path: path.to_owned(), found: describe(&first) }),
    }
}

fn describe(first: &[u8]) -> String {
    match first {
        [] => "it is empty".to_owned(),
        [0x1f, 0x8b, ..] => "it is compressed with gzip; unpack it first".to_owned(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed with zstd; unpack it first".to_owned(),
        [0xfd, b'7', b'z', b'X', ..] => "it is compressed with xz; unpack it first".to_owned(),
        [0x04, 0x22, 0x4d, 0x18, ..] => "it is compressed with lz4; unpack it first".to_owned(),
        _ => {
            let hex: Vec<String> = first.iter().map(|b| format!("{b:02x}")).collect();
            format!("first bytes {}", hex.join(" "))
        }
    }
}

/// Messages about a file, bounded.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    pending: Vec<String>,
    n: usize,
}

impl Warnings {
    pub(super) fn push(&mut self, message: String) {
        match self.n {
            0..MAX_WARNINGS => self.pending.push(message),
            MAX_WARNINGS => self.pending.push("more of the same, not listed".to_owned()),
            _ => return,
        }
        self.n += 1;
    }

    /// Those since the last call.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.pending)
    }
}

/// Counts what a file gave, for [`Source::stats`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    segments: [u64; 2],
    bytes: [u64; 2],
    // Bounded: reasons are constants, see also `recording::codec`.
    lost: Vec<LossCount>,
}

impl Tally {
    #[inline]
    pub(super) fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Segment(s) => {
                let [tx, rx] = &mut self.segments;
                let [tx_bytes, rx_bytes] = &mut self.bytes;
                let (n, bytes) = match s.dir {
                    Direction::Tx => (tx, tx_bytes),
                    Direction::Rx => (rx, rx_bytes),
                };
                *n += 1;
                *bytes += s.bytes.len() as u64;
            }
            &Event::Lost { stage, reason, count, .. } => {
                let known = self.lost.iter_mut().find(|l| l.stage == stage && l.reason == reason);
                match known {
                    Some(l) => l.count = l.count.saturating_add(count),
                    None => self.lost.push(LossCount { stage, reason, shard: None, count }),
                }
            }
            _ => {}
        }
    }

    pub(super) fn stats(&self) -> SourceStats {
        SourceStats { segments: self.segments, bytes: self.bytes, lost: self.lost.clone(), ..SourceStats::default() }
    }
}

/// Replays `data` as a capture or recording and drops what comes out: for the fuzzer.
///
/// Checks what must hold for any input: it ends, segments carry no more bytes than they say, and a flow is opened
/// before anything is said of it.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz_capture(data: &[u8]) {
    let Ok(mut source) = from_reader(Path::new("fuzz"), data) else { return };
    let synthetic = !RecordingSource::<io::Empty>::is_recording(data);
    let mut n_opened = 0;
    let mut sink = |event: Event<'_>| match event {
        Event::Opened { cookie, .. } => n_opened = cookie.0.max(n_opened),
        Event::Segment(s) => {
            assert!(s.bytes.len() as u64 <= u64::from(s.len), "more bytes than the segment is long");
            assert!(!synthetic || s.cookie.0 <= n_opened, "a segment before its flow was opened");
        }
        Event::Closed { cookie, .. } => {
            assert!(!synthetic || cookie.0 <= n_opened, "closed before it was opened");
        }
        _ => {}
    };
    // Every record takes at least 5 bytes, every poll at least one record.
    for _ in 0..data.len() + 2 {
        match source.poll(Duration::ZERO, &mut sink) {
            Ok(Progress::End) | Err(_) => return,
            Ok(_) => {}
        }
    }
    panic!("the end of {} bytes was never reached", data.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(data: &[u8]) -> String {
        from_reader(Path::new("some.pcap"), data).err().expect("refused").to_string()
    }

    #[test]
    fn what_is_no_capture_is_refused_by_what_it_is() {
        assert_eq!(
            refusal(b"GET / HTTP"),
            "some.pcap is not a pcap, pcapng or leasewarden recording: first bytes 47 45 54 20 2f 20 48 54"
        );
        assert!(refusal(b"").ends_with("it is empty"));
        assert!(refusal(b"\x1f\x8b\x08\0").ends_with("compressed with gzip; unpack it first"));
        assert!(refusal(b"\xa1\xb2\xc3").ends_with("first bytes a1 b2 c3"));
        // A recording of which only the magic is left is still known as one.
        assert!(
            refusal(b"\x89LWR\r\n\x1a\n").starts_with("cannot replay some.pcap: the recording ends inside its header")
        );
    }

    #[test]
    fn the_name_does_not_matter() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("capture.txt");
        std::fs::write(&path, include_bytes!("../../tests/fixtures/v1.lwr")).expect("written");
        let mut source = open(&path).expect("a recording");
        let mut n = 0;
        assert_eq!(source.poll(Duration::ZERO, &mut |_| n += 1).ok(), Some(Progress::Busy));
        assert_eq!(source.poll(Duration::ZERO, &mut |_| n += 1).ok(), Some(Progress::End));
        assert_eq!((n, source.warnings()), (14, vec![]));
        let stats = source.stats();
        assert_eq!((stats.segments, stats.bytes), ([1, 2], [9, 14]));
        assert_eq!(
            stats.lost.iter().map(|l| (l.reason, l.count)).collect::<Vec<_>>(),
            [("ring_full", 12), ("flows_full", u64::MAX), ("interface_drop", 1)]
        );
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = |path: &Path| open(path).err().expect("refused").to_string();
        let missing = dir.path().join("missing.pcap");
        assert!(error(&missing).contains("missing.pcap") && error(&missing).contains("No such file"));
        assert!(error(dir.path()).contains("Is a directory"));
    }
}
