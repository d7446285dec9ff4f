//! What the tests of every decoder share: recorded connections, and a recorder that writes what is told as lines.
//!
//! `golden/PROTOCOL/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment; `NAME.out` the decoder's
//! calls. `BLESS=1 cargo test` writes the latter anew.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod harm;
pub mod recorder;
pub mod suite;
pub mod suites;

use std::fs;
use std::path::{Path, PathBuf};

use monitor_core::decode::{Chunk, Decoder};
use monitor_core::model::claim::Salt;
use monitor_core::model::{Nanos, Side};
pub use recorder::Recorder;

pub const SALT: Salt = Salt(17, 4);

/// The segments of a connection, in wire order.
pub type Segments = Vec<(Side, Vec<u8>)>;

/// A step of a run: bytes with whether they end a segment, or a hole.
pub enum Step<'a> {
    Bytes(Side, &'a [u8], bool),
    Hole(Side, u64),
}

/// A decoder under test and its recordings.
pub struct Suite {
    /// The folder below `golden`.
    pub name: &'static str,
    /// A new decoder, for a connection seen from its start or from the middle.
    pub make: fn(mid_stream: bool) -> Box<dyn Decoder>,
    /// Whether it is asked for values.
    pub values: bool,
    /// Fewest recordings there must be.
    pub at_least: usize,
    /// Most bytes that a connection may hold, whatever it is fed.
    pub memory: usize,
}

impl Suite {
    /// Everything a decoder says about these steps before the connection ends; and `close` ends it.
    pub fn listen<'a>(&self, mid_stream: bool, steps: impl Iterator<Item = Step<'a>>, close: bool) -> Recorder {
        let mut decoder = (self.make)(mid_stream);
        let mut out = Recorder::new();
        out.words.values = self.values;
        let mut at = 0;
        for step in steps {
            at += 1;
            match step {
                Step::Bytes(from, bytes, ends_segment) => {
                    out.hear(|sink| decoder.bytes(from, Chunk { at: Nanos(at), bytes, ends_segment }, sink));
                }
                Step::Hole(from, n) => out.hear(|sink| decoder.missing(from, Nanos(at), n, sink)),
            }
            assert!(decoder.memory() < self.memory, "{} bytes held", decoder.memory());
        }
        if close {
            out.hear(|sink| decoder.closed(Nanos(at), sink));
            assert!(out.open.is_empty(), "every request that begins is answered: {:?}", out.open);
        }
        out
    }

    /// Everything a decoder says about these steps and their end, as lines.
    pub fn run_from<'a>(&self, mid_stream: bool, steps: impl Iterator<Item = Step<'a>>) -> Vec<String> {
        self.listen(mid_stream, steps, true).lines
    }

    pub fn run(&self, steps: impl IntoIterator<Item = Step<'static>>) -> Vec<String> {
        self.run_from(false, steps.into_iter())
    }

    pub fn whole(&self, segments: &Segments) -> Vec<String> {
        self.run_from(false, segments.iter().map(|(from, bytes)| Step::Bytes(*from, bytes, true)))
    }

    pub fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(self.name)
    }

    pub fn recordings(&self) -> Vec<(String, Segments)> {
        let mut all: Vec<_> = fs::read_dir(self.folder())
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "in"))
            .map(|p| (p.file_stem().unwrap().to_str().unwrap().to_owned(), read(&p)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(all.len() >= self.at_least, "the recordings are there");
        all
    }

    /// What is said about each recording is what was said before; `BLESS=1` accepts what is said now.
    pub fn golden(&self) {
        for (name, segments) in self.recordings() {
            let got = self.whole(&segments).join("\n") + "\n";
            let path = self.folder().join(format!("{name}.out"));
            if std::env::var_os("BLESS").is_some() {
                fs::write(&path, &got).unwrap();
            }
            let want = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(got, want, "{name}: BLESS=1 accepts the new output");
            assert!(!got.contains("decode_error"), "{name}: a real connection is never malformed");
        }
    }

    /// Byte by byte, and with each segment cut anywhere, the same is said. Segments longer than `long` are cut at every
    /// seventh place, to keep the test quick.
    pub fn every_split(&self, long: usize) {
        for (name, segments) in self.recordings() {
            let want = self.whole(&segments);
            let single = segments.iter().flat_map(|(from, bytes)| {
                bytes.chunks(1).enumerate().map(move |(i, b)| Step::Bytes(*from, b, i + 1 == bytes.len()))
            });
            assert_eq!(self.run_from(false, single), want, "{name} byte by byte");
            for (at, (from, bytes)) in segments.iter().enumerate() {
                let step = if bytes.len() > long { 7 } else { 1 };
                for cut in (1..bytes.len()).step_by(step) {
                    let (a, b) = bytes.split_at(cut);
                    let steps = segments.iter().enumerate().flat_map(|(i, (side, all))| {
                        if i == at {
                            vec![Step::Bytes(*from, a, false), Step::Bytes(*from, b, true)]
                        } else {
                            vec![Step::Bytes(*side, all, true)]
                        }
                    });
                    assert_eq!(self.run_from(false, steps), want, "{name}: segment {at} cut at {cut}");
                }
            }
        }
    }

    /// The recording as the fuzz targets read it: a first byte, then pieces with their side.
    pub fn fuzz_input(segments: &Segments) -> Vec<u8> {
        let mut data = vec![0];
        for (from, bytes) in segments {
            // A step holds 4 k + 1 bytes, of which the target reads k.
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let k = ((rest.len() - 1) / 4).min(31);
                let (piece, after) = rest.split_at(4 * k + 1);
                data.push(u8::try_from(k * 8).unwrap() | u8::from(*from == Side::Server));
                data.extend(piece);
                rest = after;
            }
        }
        data
    }
}

fn read(path: &Path) -> Segments {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let (side, hex) = line.split_once(' ').unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            (if side == "C" { Side::Client } else { Side::Server }, bytes)
        })
        .collect()
}

/// The lines that claim that something was bound or reset.
pub fn bindings(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter(|l| (l.contains(" binds ") || l.contains("esets ")) && !l.contains("->") && !l.contains("unreadable"))
        .map(|l| l.trim_start().split_once(' ').map_or("", |(_, rest)| rest))
        .collect()
}

pub fn is_subsequence(part: &[&str], all: &[&str]) -> bool {
    let mut rest = all.iter();
    part.iter().all(|p| rest.any(|a| a == p))
}
