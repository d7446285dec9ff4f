//! Recorded AMQP connections through the decoder: what it says, however the bytes are cut, and what it does not say when
//! some are missing.
//!
//! Recorded from real clients and a real RabbitMQ server; see `golden/amqp/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use std::collections::BTreeSet;

use common::suites::AMQP as SUITE;
use common::{bindings, is_subsequence};
use monitor_core::decode::amqp::fuzz::fuzz_amqp;
use monitor_core::decode::infer::{self, Guess};
use monitor_core::model::{Protocol, Side};

mod common;

/// The deliveries and what became of them, without what is told at the connection's beginning (the virtual host, which
/// is part of the address) or by the consumer's (whether it confirms).
fn deliveries(lines: &[String]) -> Vec<String> {
    let told = lines.iter().filter(|l| l.starts_with("settled") || l.starts_with("delivered"));
    told.map(|l| {
        let mut words: Vec<&str> = l.split(' ').filter(|w| *w != "awaits").collect();
        if let Some(at) = words.iter().position(|w| *w == "at") {
            words.drain(at..at + 2);
            // Requests are counted from where the connection was joined.
            words.remove(1);
        }
        words.join(" ")
    })
    .collect()
}

/// The same delivery, where its consumer was seen to begin without confirmations.
fn unconfirmed(line: &str) -> String {
    let words = line.split(' ').enumerate().map(|(n, word)| if n == 1 { "-" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// What is said of settlements is what happened, or that the connection ended.
fn check(what: &str, got: &[String], want: &[String]) {
    assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
    let (got_told, want) = (deliveries(got), deliveries(want));
    let mut given = BTreeSet::new();
    for line in &got_told {
        let handle = line.split(' ').nth(1).unwrap();
        if line.starts_with("delivered") {
            given.insert(handle);
            let known = want.contains(line) || want.contains(&unconfirmed(line));
            assert!(known || line.contains("content -"), "{what}: {line}");
        } else {
            assert!(given.remove(handle), "{what}: settled once, after it was delivered: {line}");
            assert!(want.contains(line) || line.ends_with("Returned"), "{what}: {line}");
        }
    }
}

protocol_suite!(SUITE, fuzz_amqp, split 200, step 97);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    // What differs is the end of what was outstanding.
    let ends = ["-> unknown", "answered", "Returned", "published", "status Idle"];
    SUITE.every_prefix(&mut |what, line| assert!(ends.iter().any(|w| line.contains(w)), "{what}: {line}"));
}

#[test]
fn a_missing_segment_settles_and_binds_nothing_wrongly() {
    let mut n_recovered = 0;
    SUITE.every_hole(&mut |what, got, want| {
        check(what, got, want);
        if let Some(at) = got.iter().position(|l| l.starts_with("disturbed")) {
            n_recovered += usize::from(got[at..].iter().any(|l| l.starts_with("begun") || l.starts_with("deliv")));
        }
    });
    assert!(n_recovered > 100, "the place is found again after most holes: {n_recovered}");
}

#[test]
fn a_cut_segment_settles_and_binds_nothing_wrongly() {
    SUITE.every_cut(&[1, 4, 7, 12, 20, 40, 80], &mut check);
}

#[test]
fn a_connection_joined_late_is_read_from_a_frame_on() {
    let mut n_joined = 0;
    SUITE.every_late_start(0, &mut |what, got, want| {
        check(what, got, want);
        n_joined += usize::from(got.iter().any(|l| l.starts_with("answered") || l.starts_with("deliv")));
    });
    assert!(n_joined > 100, "most connections are joined: {n_joined}");
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let mut n_known = 0;
    for (name, segments) in SUITE.recordings() {
        let first = |side: Side| &segments.iter().find(|(from, _)| *from == side).unwrap().1;
        for from in [Side::Client, Side::Server] {
            let is = Guess::Is { protocol: Protocol::Amqp, from };
            assert_eq!(infer::infer(first(from), true, false), is, "{name}");
            for cut in 1..8 {
                assert_eq!(infer::infer(&first(from)[..cut], false, false), Guess::NeedMore, "{name} {cut}");
            }
            if from == Side::Client {
                // The protocol header, which is eight bytes and all that a client has to say at first.
                assert_eq!(infer::infer(&first(from)[..8], false, false), is, "{name}");
            }
        }
        for (at, (from, bytes)) in segments.iter().enumerate().skip(1) {
            let is = Guess::Is { protocol: Protocol::Amqp, from: *from };
            let got = infer::infer(bytes, true, true);
            assert!(got == is || got == Guess::NeedMore || bytes.len() > 4096, "{name} {at}: {got:?}");
            n_known += usize::from(got == is);
        }
    }
    assert!(n_known > 100, "most segments tell: {n_known}");
}
