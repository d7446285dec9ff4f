//! Recorded conversations, whole and harmed.

use std::fs;
use std::path::{Path, PathBuf};

use monitor_core::decode::mcp::fuzz;

use super::common::is_subsequence;
use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mcp")
}

fn recordings() -> Vec<(String, Vec<Segment>)> {
    let mut all: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "in"))
        .map(|p| (p.file_stem().unwrap().to_str().unwrap().to_owned(), read(&p)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() >= 12, "the recordings are there");
    all
}

fn read(path: &Path) -> Vec<Segment> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let (who, hex) = line.split_once(' ').unwrap();
            let (no, side) = who.split_at(who.len() - 1);
            let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            (no.parse().unwrap(), if side == "C" { C } else { S }, bytes)
        })
        .collect()
}

#[test]
fn golden() {
    for (name, segments) in recordings() {
        let got = whole(&segments).join("\n") + "\n";
        let path = folder().join(format!("{name}.out"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &got).unwrap();
        }
        let want = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(got, want, "{name}: BLESS=1 accepts the new output");
        assert!(!got.contains("decode_error"), "{name}: a real connection is never malformed");
        let crossed = name.starts_with("crossed");
        assert_eq!(got.contains("unmatched"), crossed, "{name}: a sound server answers what it was asked");
    }
}

#[test]
fn every_split_gives_the_same_calls() {
    for (name, segments) in recordings() {
        let want = whole(&segments);
        let single = segments.iter().flat_map(|(no, from, bytes)| {
            bytes.chunks(1).enumerate().map(move |(i, b)| Step::Bytes(*no, *from, b, i + 1 == bytes.len()))
        });
        assert_eq!(run(single), want, "{name} byte by byte");
        for (at, (no, from, bytes)) in segments.iter().enumerate() {
            for cut in (1..bytes.len()).step_by(1 + bytes.len() / 24) {
                let (a, b) = bytes.split_at(cut);
                let steps = segments.iter().enumerate().flat_map(|(i, (n, side, all))| {
                    if i == at {
                        vec![Step::Bytes(*no, *from, a, false), Step::Bytes(*no, *from, b, true)]
                    } else {
                        vec![Step::Bytes(*n, *side, all, true)]
                    }
                });
                assert_eq!(run(steps), want, "{name}: segment {at} cut at {cut}");
            }
        }
    }
}

/// The exchanges with a known answer, without the number of their request.
fn answers(lines: &[String]) -> Vec<&str> {
    let of = |l: &'_ String| {
        l.contains(" mcp ") && l.contains("-> Result") && !l.contains("(cut)") && !l.contains("cut true")
    };
    lines.iter().filter(|l| of(l)).map(|l| l.splitn(4, ' ').nth(3).unwrap()).collect()
}

/// What was learnt from another exchange (revision, server, session) may be missing.
fn core(answers: &[&str]) -> Vec<String> {
    answers.iter().map(|a| a.split(" -> ").next().unwrap().split(' ').skip(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_missing_segment_never_makes_a_claim() {
    let (mut n_cases, mut n_kept) = (0, 0);
    for (name, segments) in recordings().into_iter().filter(|(name, _)| !name.starts_with("crossed")) {
        let want = whole(&segments);
        let want = core(&answers(&want));
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        for (lost, (_, _, all)) in segments.iter().enumerate() {
            for keep in [0, 1, 40, 300].into_iter().filter(|k| *k < all.len()) {
                let steps = segments.iter().enumerate().flat_map(|(i, (no, from, bytes))| {
                    if i != lost {
                        return vec![Step::Bytes(*no, *from, bytes, true)];
                    }
                    let hole = Step::Hole(*no, *from, (bytes.len() - keep) as u64);
                    if keep == 0 { vec![hole] } else { vec![Step::Bytes(*no, *from, &bytes[..keep], false), hole] }
                });
                let got = run(steps);
                let what = format!("{name}: segment {lost} cut to {keep}\n{}", got.join("\n"));
                assert!(!got.iter().any(|l| l.contains("unmatched")), "{what}");
                assert!(!got.iter().any(|l| l.contains("decode_error")), "{what}");
                let got = answers(&got);
                let got = core(&got);
                let got: Vec<&str> = got.iter().map(String::as_str).collect();
                assert!(is_subsequence(&got, &want), "{what}");
                n_cases += 1;
                n_kept += usize::from(!got.is_empty());
            }
        }
    }
    assert!(n_kept * 10 > n_cases * 8, "a hole costs its own exchange, seldom the rest: {n_kept} of {n_cases}");
}

/// The recording as the fuzz target for whole connections reads it: its first connection only.
fn fuzz_input(segments: &[Segment]) -> Vec<u8> {
    let mut data = vec![0];
    for (_, from, bytes) in segments.iter().filter(|(no, ..)| *no == 1) {
        for piece in bytes.chunks(125) {
            // Steps are of 4n + 1 bytes; what is left over goes byte by byte.
            let (body, rest) = piece.split_at((piece.len() - 1) / 4 * 4 + 1);
            data.push(u8::try_from((piece.len() - 1) / 4 * 8).unwrap() | u8::from(*from == S));
            data.extend(body);
            data.extend(rest.iter().flat_map(|b| [u8::from(*from == S), *b]));
        }
    }
    data
}

#[test]
fn the_fuzz_targets_hold_on_the_recordings_and_the_corpora() {
    for (_, segments) in recordings() {
        let data = fuzz_input(&segments);
        for n in (0..data.len()).step_by(211) {
            fuzz::fuzz_mcp(&data[..n]);
        }
    }
    let corpus = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
        assert!(seeds.len() >= 3, "the corpus of {name} is there");
        seeds
    };
    corpus("jsonrpc").iter().for_each(|data| fuzz::fuzz_jsonrpc(data));
    corpus("sse").iter().for_each(|data| fuzz::fuzz_sse(data));
    corpus("mcp").iter().for_each(|data| fuzz::fuzz_mcp(data));
    corpus("websocket").iter().for_each(|data| fuzz::fuzz_websocket(data));
}
