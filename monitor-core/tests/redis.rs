//! Recorded Redis connections through the decoder: what it says, however the bytes are cut, and what it does not say
//! when some are missing.
//!
//! `golden/redis/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment, recorded from real clients
//! and a real Redis 7.0 server; `NAME.out` the decoder's calls. `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::{SALT, Segments, Step, Suite, bindings, is_subsequence};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::redis::{Redis, Shared, fuzz::fuzz_redis};
use monitor_core::model::{Protocol, Side};
use proptest::prelude::*;

mod common;

const SUITE: Suite = Suite {
    name: "redis",
    make: |mid_stream| Box::new(Redis::new(SALT, mid_stream, &Shared::default())),
    values: false,
    at_least: 23,
};

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

fn steps(segments: &Segments) -> impl Iterator<Item = Step<'_>> {
    segments.iter().map(|(from, bytes)| Step::Bytes(*from, bytes, true))
}

#[test]
fn golden() {
    SUITE.golden();
}

#[test]
fn every_split_gives_the_same_calls() {
    SUITE.every_split(200);
}

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for n in 0..segments.len() {
            let got = SUITE.run_from(false, steps(&segments).take(n));
            let same = got.iter().zip(&want).take_while(|(a, b)| a == b).count();
            for line in &got[same..] {
                assert!(line.contains("-> unknown") || line.starts_with("answered"), "{name} first {n}: {line}");
            }
        }
    }
}

#[test]
fn a_missing_segment_makes_no_binding_and_no_message() {
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for lost in 0..segments.len() {
            let got = SUITE.run_from(
                false,
                segments.iter().enumerate().map(|(i, (from, bytes))| {
                    if i == lost { Step::Hole(*from, bytes.len() as u64) } else { Step::Bytes(*from, bytes, true) }
                }),
            );
            let text = || format!("{name} without segment {lost}:\n{}", got.join("\n"));
            assert!(is_subsequence(&bindings(&got), &bindings(&want)), "{}", text());
            assert!(is_subsequence(&messages(&got), &messages(&want)), "{}", text());
        }
    }
}

#[test]
fn a_cut_segment_makes_no_binding_and_no_settlement() {
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for (lost, (_, all)) in segments.iter().enumerate() {
            for keep in [1, 4, 6, 12, 20, 40, 80, 200].into_iter().filter(|k| *k < all.len()) {
                let got = SUITE.run_from(
                    false,
                    segments.iter().enumerate().flat_map(|(i, (from, bytes))| {
                        if i == lost {
                            let head = Step::Bytes(*from, &bytes[..keep], false);
                            vec![head, Step::Hole(*from, (bytes.len() - keep) as u64)]
                        } else {
                            vec![Step::Bytes(*from, bytes, true)]
                        }
                    }),
                );
                let text = || format!("{name}: segment {lost} cut to {keep}:\n{}", got.join("\n"));
                let settled = |lines: &[String]| -> Vec<String> {
                    lines.iter().filter(|l| l.starts_with("settled")).cloned().collect()
                };
                let (got_settled, want_settled) = (settled(&got), settled(&want));
                let as_str = |lines: &[String]| lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
                assert!(got_settled.iter().all(|l| want_settled.contains(l)), "{}\n{}", text(), as_str(&want_settled));
                assert!(is_subsequence(&bindings(&got), &bindings(&want)), "{}", text());
            }
        }
    }
}

#[test]
fn a_connection_joined_late_says_nothing_new() {
    let mut n_joined = 0;
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for skipped in 1..segments.len() {
            let got = SUITE.run_from(true, steps(&segments).skip(skipped));
            let text = || format!("{name} from segment {skipped}:\n{}", got.join("\n"));
            assert!(is_subsequence(&bindings(&got), &bindings(&want)), "{}", text());
            assert!(is_subsequence(&messages(&got), &messages(&want)), "{}", text());
            n_joined += usize::from(got.iter().any(|l| l.starts_with("answered") && !l.ends_with('-')));
        }
    }
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

#[test]
fn the_fuzz_target_holds_on_every_prefix_of_the_recordings() {
    for (_, segments) in SUITE.recordings() {
        let data = Suite::fuzz_input(&segments);
        let step = if data.len() > 4000 { 97 } else { 7 };
        for n in (0..data.len()).step_by(step) {
            fuzz_redis(&data[..n]);
        }
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_calls(sizes in prop::collection::vec(1usize..64, 1..40), which in 0usize..64) {
        let all = SUITE.recordings();
        let (_, segments) = &all[which % all.len()];
        let want = SUITE.whole(segments);
        let mut sizes = sizes.into_iter().cycle();
        let cut = segments.iter().flat_map(|(from, bytes)| {
            let (mut out, mut rest) = (Vec::new(), bytes.as_slice());
            while !rest.is_empty() {
                let (a, b) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                out.push(Step::Bytes(*from, a, b.is_empty()));
                rest = b;
            }
            out
        });
        prop_assert_eq!(SUITE.run_from(false, cut.collect::<Vec<_>>().into_iter()), want);
    }
}
