//! Recorded connections of memcached through the decoder. `golden/memcached/NAME.in` holds a connection as lines `C hex`
//! and `S hex`, recorded from real clients and memcached 1.6.18; `NAME.out` the decoder's calls.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::{SALT, Suite};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::memcached::{Shared, decoder, fuzz_memcached};
use monitor_core::model::{Protocol, Side};

mod common;

const SUITE: Suite = Suite {
    name: "memcached",
    make: |mid_stream| decoder(SALT, mid_stream, &Shared::default()),
    values: false,
    at_least: 4,
    memory: 1 << 20,
};

protocol_suite!(SUITE, fuzz_memcached, split 200, step 7);

/// The lines that say what was written or handed over, without their places.
fn keys(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|l| l.trim_start()).filter(|l| l.starts_with("key ") && !l.ends_with(" unknown")).collect()
}

#[test]
fn whatever_is_missing_hands_nothing_over_that_was_not() {
    let mut check = |what: &str, got: &[String], want: &[String]| {
        let all = keys(want);
        assert!(keys(got).iter().all(|k| all.contains(k)), "{what}:\n{}", got.join("\n"));
    };
    SUITE.every_hole(&mut check);
    SUITE.every_cut(&[1, 4, 6, 12, 20, 40], &mut check);
    SUITE.every_late_start(1, &mut check);
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let mut n_known = 0;
    for (name, segments) in SUITE.recordings() {
        let first = &segments.first().unwrap().1;
        let is = Guess::Is { protocol: Protocol::Memcached, from: Side::Client };
        assert_eq!(infer::infer(first, true, false), is, "{name}");
        for (from, bytes) in &segments {
            let got = infer::infer(bytes, true, true);
            let is = Guess::Is { protocol: Protocol::Memcached, from: *from };
            assert!(got == is || got == Guess::NeedMore || bytes.len() >= infer::MAX_BYTES, "{name}: {got:?}");
            n_known += usize::from(got == is);
        }
    }
    assert!(n_known > 30, "either side tells in the middle, too: {n_known}");
}
