//! Recorded connections of MySQL's protocol through the decoder: what it says, however the bytes are cut, and what it does
//! not say when some are missing.
//!
//! `golden/mysql/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment, recorded from real clients
//! and a real MariaDB 10.11 server; `NAME.out` the decoder's calls. `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::{SALT, Suite, bindings, is_subsequence};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::mysql::{Shared, decoder, fuzz_mysql, fuzz_mysql_text};
use monitor_core::model::{Protocol, Side};

mod common;

const SUITE: Suite = Suite {
    name: "mysql",
    make: |mid_stream| decoder(SALT, mid_stream, &Shared::new(SALT)),
    values: false,
    at_least: 14,
    memory: 4 << 20,
};

protocol_suite!(SUITE, fuzz_mysql, split 200, step 7);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    SUITE.every_prefix(&mut |what, line| {
        assert!(line.contains("-> unknown") || line.starts_with("answered"), "{what}: {line}");
    });
}

#[test]
fn a_missing_segment_makes_no_binding() {
    SUITE.every_hole(&mut |what, got, want| {
        assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
    });
}

#[test]
fn a_cut_segment_makes_no_binding() {
    SUITE.every_cut(&[1, 3, 4, 5, 6, 12, 20, 40, 80, 200], &mut |what, got, want| {
        assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
    });
}

#[test]
fn a_connection_joined_late_says_nothing_new() {
    let mut n_joined = 0;
    SUITE.every_late_start(1, &mut |what, got, want| {
        assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
        n_joined += usize::from(got.iter().any(|l| l.starts_with("answered") && !l.ends_with('-')));
    });
    assert!(n_joined > 100, "most connections are joined: {n_joined}");
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let mut n_known = 0;
    for (name, segments) in SUITE.recordings() {
        let first = &segments.first().unwrap().1;
        let is = Guess::Is { protocol: Protocol::MySql, from: Side::Server };
        assert_eq!(infer::infer(first, true, false), is, "{name}");
        for cut in 2..first.len() {
            assert_eq!(infer::infer(&first[..cut], false, false), Guess::NeedMore, "{name} {cut}");
        }
        for (at, (from, bytes)) in segments.iter().enumerate().skip(2) {
            let is = Guess::Is { protocol: Protocol::MySql, from: *from };
            let got = infer::infer(bytes, true, true);
            assert!(
                got == is || matches!(got, Guess::NeedMore | Guess::Opaque("tls")) || bytes.len() >= infer::MAX_BYTES,
                "{name} {at}: {got:?}"
            );
            n_known += usize::from(got == is);
        }
    }
    assert!(n_known > 60, "a client tells in the middle, too: {n_known}");
}

proptest::proptest! {
    #[test]
    fn random_text_does_no_harm(text in "[a-z'\"`@?#/*!;:=() \\\\-]{0,200}") {
        fuzz_mysql_text(text.as_bytes());
    }
}
