//! Recorded Redis connections through the decoder: what it says, however the bytes are cut, and what it does not say
//! when some are missing.
//!
//! `golden/redis/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment, recorded from real clients
//! and a real Redis 7.0 server; `NAME.out` the decoder's calls. `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::suites::REDIS as SUITE;
use common::{bindings, is_subsequence};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::redis::fuzz::fuzz_redis;
use monitor_core::model::{Protocol, Side};

mod common;

/// The lines that say what became of messages.
fn messages(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|l| {
            let (what, rest) = l.split_once(' ')?;
            // Numbers of requests are left out: they count what was seen.
            match what {
                "published" | "delivered" => rest.split_once(' ').map(|(_, rest)| rest),
                "settled" => Some(rest),
                _ => None,
            }
        })
        .collect()
}

protocol_suite!(SUITE, fuzz_redis, split 200, step 7);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    SUITE.every_prefix(&mut |what, line| {
        let unknown =
            line.contains("-> unknown") || line.trim_start().starts_with("key ") && line.ends_with(" unknown");
        assert!(unknown || line.starts_with("answered"), "{what}: {line}");
    });
}

#[test]
fn a_missing_segment_makes_no_binding_and_no_message() {
    SUITE.every_hole(&mut |what, got, want| {
        assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
        assert!(is_subsequence(&messages(got), &messages(want)), "{what}:\n{}", got.join("\n"));
    });
}

#[test]
fn a_cut_segment_makes_no_binding_and_no_settlement() {
    SUITE.every_cut(&[1, 4, 6, 12, 20, 40, 80, 200], &mut |what, got, want| {
        let mut settled = got.iter().filter(|l| l.starts_with("settled"));
        assert!(settled.all(|l| want.contains(l)), "{what}:\n{}", got.join("\n"));
        assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
    });
}

#[test]
fn a_connection_joined_late_says_nothing_new() {
    let mut n_joined = 0;
    SUITE.every_late_start(1, &mut |what, got, want| {
        assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
        assert!(is_subsequence(&messages(got), &messages(want)), "{what}:\n{}", got.join("\n"));
        n_joined += usize::from(got.iter().any(|l| l.starts_with("answered") && !l.ends_with('-')));
    });
    assert!(n_joined > 100, "most connections are joined: {n_joined}");
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let mut n_known = [0; 2];
    for (name, segments) in SUITE.recordings() {
        let first = &segments.iter().find(|(from, _)| *from == Side::Client).unwrap().1;
        let is = Guess::Is { protocol: Protocol::Redis, from: Side::Client };
        assert_eq!(infer::infer(first, true, false), is, "{name}");
        for cut in 1..7 {
            assert_eq!(infer::infer(&first[..cut], false, false), Guess::NeedMore, "{name}");
        }
        for (at, (from, bytes)) in segments.iter().enumerate().skip(1) {
            let is = Guess::Is { protocol: Protocol::Redis, from: *from };
            let got = infer::infer(bytes, true, true);
            assert!(got == is || got == Guess::NeedMore || bytes.len() >= infer::MAX_BYTES, "{name} {at}: {got:?}");
            n_known[usize::from(*from == Side::Server)] += usize::from(got == is);
        }
    }
    assert!(n_known.iter().all(|n| *n > 20), "either side tells in the middle, too: {n_known:?}");
}
