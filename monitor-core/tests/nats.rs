//! Recorded NATS connections through the decoder: what it says, however the bytes are cut, and what it does not say
//! when some are missing.
//!
//! `golden/nats/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment, recorded from real clients
//! and a real nats-server 2.9; `NAME.out` the decoder's calls. `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::suites::NATS as SUITE;
use common::{bindings, is_subsequence};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::nats::fuzz::fuzz_nats;
use monitor_core::model::{Protocol, Side};

mod common;

/// The lines that say what became of messages, without numbers of requests: they count what was seen. Nor does it
/// matter whether a delivery is said to await its confirmation: that is known of a consumer only if the server was
/// seen to tell, and is taken for granted otherwise, since a job too long in flight only makes less certain. What awaits
/// none has no handle (`-`).
fn messages(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter_map(|l| {
            let (what, rest) = l.split_once(' ')?;
            match what {
                "published" => rest.split_once(' ').map(|(_, rest)| rest.to_owned()),
                "delivered" => rest.split_once(' ').map(|(_, rest)| rest.replacen(" awaits ", " ", 1)),
                "settled" => Some(rest.to_owned()),
                _ => None,
            }
        })
        .collect()
}

/// What is said of messages is part of what happened, in the same order.
fn says_nothing_else(got: &[String], want: &[String]) -> bool {
    let (got, want) = (messages(got), messages(want));
    let mut rest = want.iter();
    got.iter().all(|g| {
        let (_, unnamed) = g.split_once(' ').unwrap();
        rest.any(|w| w == g || w.strip_prefix("- ") == Some(unnamed))
    })
}

protocol_suite!(SUITE, fuzz_nats, split 200, step 7);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    SUITE.every_prefix(&mut |what, line| {
        assert!(line.contains("-> unknown") || line.starts_with("answered"), "{what}: {line}");
    });
}

#[test]
fn a_missing_segment_makes_no_binding_and_no_message() {
    SUITE.every_hole(&mut |what, got, want| {
        assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
        assert!(says_nothing_else(got, want), "{what}:\n{}", got.join("\n"));
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
        assert!(says_nothing_else(got, want), "{what}:\n{}", got.join("\n"));
        n_joined += usize::from(got.iter().any(|l| l.starts_with("answered") || l.starts_with("delivered")));
    });
    assert!(n_joined > 30, "most connections are joined: {n_joined}");
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let mut n_known = [0; 2];
    for (name, segments) in SUITE.recordings() {
        for side in [Side::Client, Side::Server] {
            let first = &segments.iter().find(|(from, _)| *from == side).unwrap().1;
            let is = Guess::Is { protocol: Protocol::Nats, from: side };
            assert_eq!(infer::infer(first, true, false), is, "{name}");
            for cut in 1..7 {
                assert_eq!(infer::infer(&first[..cut], false, false), Guess::NeedMore, "{name}");
            }
        }
        for (at, (from, bytes)) in segments.iter().enumerate().skip(1) {
            let is = Guess::Is { protocol: Protocol::Nats, from: *from };
            let got = infer::infer(bytes, true, true);
            assert!(got == is || got == Guess::NeedMore || bytes.len() >= infer::MAX_BYTES, "{name} {at}: {got:?}");
            n_known[usize::from(*from == Side::Server)] += usize::from(got == is);
        }
    }
    assert!(n_known.iter().all(|n| *n > 20), "either side tells in the middle, too: {n_known:?}");
}
