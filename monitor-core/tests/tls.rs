//! Recorded TLS connections and the secrets that one end logged for them: what was sealed, however the bytes are cut, and
//! nothing that is not true when some are missing or changed.
//!
//! `golden/tls/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment; `NAME.keys` its key log;
//! `NAME.out` what was sealed. `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics fails")]

use std::fs;
use std::path::PathBuf;

use monitor_core::model::tls::Unread;
use monitor_core::model::{Nanos, Secret, SecretLabel, Side};
use monitor_core::tls::fuzz::fuzz_tls;
use monitor_core::tls::{Plain, Sealed, Spent, Tls};

/// What one side said, or that something is missing there.
type Heard = Vec<(Side, Option<Vec<u8>>)>;

#[derive(Default)]
struct Ear(Heard);

impl Plain for Ear {
    fn bytes(&mut self, from: Side, _: Nanos, bytes: &[u8], _: bool) {
        match self.0.last_mut() {
            Some((side, Some(all))) if *side == from => all.extend_from_slice(bytes),
            _ => self.0.push((from, Some(bytes.to_vec()))),
        }
    }
    fn missing(&mut self, from: Side, _: Nanos, _: Option<u64>) {
        self.0.push((from, None));
    }
    fn spent(&mut self, _: Spent, _: u64) {}
}

#[derive(Clone)]
enum Step {
    Bytes(Side, Vec<u8>),
    Hole(Side, u64),
}

struct Recording {
    name: String,
    steps: Vec<Step>,
    secrets: Vec<(SecretLabel, Secret)>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls")
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}

fn recordings() -> Vec<Recording> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "in"));
    paths.sort();
    let read = |path: &PathBuf| {
        let steps = fs::read_to_string(path).unwrap();
        let steps = steps.lines().map(|line| {
            let (side, hex) = line.split_once(' ').unwrap();
            Step::Bytes(if side == "C" { Side::Client } else { Side::Server }, unhex(hex))
        });
        let keys = fs::read_to_string(path.with_extension("keys")).unwrap();
        let secrets = keys.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (SecretLabel::parse(words[0].as_bytes()).unwrap(), Secret::new(&unhex(words[2])).unwrap())
        });
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Recording { name, steps: steps.collect(), secrets: secrets.collect() }
    };
    let all: Vec<Recording> = paths.iter().map(read).collect();
    assert!(all.len() >= 16);
    all
}

fn hear(steps: &[Step], secrets: &[(SecretLabel, Secret)]) -> (Heard, Option<Unread>) {
    let (mut tls, mut ear, mut scratch) = (Tls::new(Side::Client), Ear::default(), Vec::new());
    for step in steps {
        match step {
            Step::Bytes(from, bytes) => {
                let sealed = Sealed { at: Nanos(0), bytes, ends_segment: true };
                tls.bytes(*from, sealed, &mut scratch, &mut ear);
            }
            Step::Hole(from, n) => tls.missing(*from, Nanos(0), *n, &mut scratch, &mut ear),
        }
        while let Some(label) = SecretLabel::ALL.into_iter().find(|label| tls.wants(*label)) {
            let mut of_label = secrets.iter().filter(|(l, _)| *l == label);
            if of_label.any(|(_, secret)| tls.offer(label, secret, false)) {
                tls.advance(Nanos(0), &mut scratch, &mut ear);
            } else {
                tls.none_fits(label);
            }
        }
    }
    (ear.0, tls.unread())
}

/// Whether everything that was heard is part of what was said, in order.
fn is_true(got: &Heard, want: &Heard) -> bool {
    [Side::Client, Side::Server].into_iter().all(|side| {
        let of = |heard: &Heard| -> Vec<Vec<u8>> {
            heard.iter().filter(|(s, _)| *s == side).filter_map(|(_, bytes)| bytes.clone()).collect()
        };
        let said = of(want).concat();
        let mut at = 0;
        of(got).iter().all(|bytes| {
            let found = said[at..].windows(bytes.len()).position(|w| w == bytes);
            at += found.map_or(0, |n| n + bytes.len());
            found.is_some()
        })
    })
}

#[test]
fn golden() {
    for r in recordings() {
        let (heard, unread) = hear(&r.steps, &r.secrets);
        let mut text = String::new();
        for (side, bytes) in &heard {
            let side = if *side == Side::Client { 'C' } else { 'S' };
            let bytes = bytes.as_ref().expect("nothing is missing");
            let beginning = bytes[..bytes.len().min(100)].escape_ascii();
            text.push_str(&format!("{side} {} {beginning}\n", bytes.len()));
        }
        text.push_str(&format!("unread: {}\n", unread.map_or("nothing", Unread::name)));
        let path = folder().join(format!("{}.out", r.name));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&path).unwrap(), "{}", r.name);
    }
}

#[test]
fn every_split_says_the_same() {
    for r in recordings() {
        let whole = hear(&r.steps, &r.secrets);
        for size in [1, 2, 5, 13, 200] {
            let cut = |step: &Step| match step {
                Step::Bytes(from, bytes) => bytes.chunks(size).map(|c| Step::Bytes(*from, c.to_vec())).collect(),
                hole @ Step::Hole(..) => vec![hole.clone()],
            };
            let steps: Vec<Step> = r.steps.iter().flat_map(cut).collect();
            assert_eq!(hear(&steps, &r.secrets), whole, "{} in pieces of {size}", r.name);
        }
    }
}

#[test]
fn holes_cuts_and_changes_make_nothing_up() {
    let mut n_read_on = 0;
    for r in recordings() {
        let (whole, _) = hear(&r.steps, &r.secrets);
        for (n, step) in r.steps.iter().enumerate() {
            let Step::Bytes(from, bytes) = step else { continue };
            for keep in [0, 1, 5, 40, bytes.len() / 2, bytes.len() - 1] {
                let keep = keep.min(bytes.len());
                let mut steps = r.steps[..n].to_vec();
                steps.push(Step::Bytes(*from, bytes[..keep].to_vec()));
                if keep < bytes.len() {
                    steps.push(Step::Hole(*from, (bytes.len() - keep) as u64));
                }
                steps.extend_from_slice(&r.steps[n + 1..]);
                let (heard, unread) = hear(&steps, &r.secrets);
                assert!(is_true(&heard, &whole), "{} step {n} cut to {keep}", r.name);
                n_read_on += usize::from(unread.is_none() && heard.iter().any(|(_, b)| b.is_none()));
                // And one byte changed.
                let mut steps = r.steps.clone();
                let mut changed = bytes.clone();
                if let Some(byte) = changed.get_mut(keep) {
                    *byte ^= 0x40;
                }
                steps[n] = Step::Bytes(*from, changed);
                let (heard, _) = hear(&steps, &r.secrets);
                assert!(is_true(&heard, &whole), "{} step {n} changed at {keep}", r.name);
            }
        }
    }
    assert!(n_read_on > 100, "most holes are read past: {n_read_on}");
}

#[test]
fn another_connections_secrets_open_nothing() {
    let all = recordings();
    for (n, r) in all.iter().enumerate() {
        let others = &all[(n + 2) % all.len()];
        assert!(hear(&r.steps, &others.secrets).0.is_empty(), "{} with the secrets of {}", r.name, others.name);
    }
}

#[test]
fn the_fuzz_target_holds_on_the_corpus() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/tls");
    for entry in fs::read_dir(corpus).unwrap() {
        let data = fs::read(entry.unwrap().path()).unwrap();
        for end in (0..=data.len()).rev().step_by(97) {
            fuzz_tls(&data[..end]);
        }
    }
}
