//! Recorded MQTT connections through the decoder: what it says, however the bytes are cut, and what it does not say when
//! some are missing.
//!
//! Recorded from real clients and a real Mosquitto server; see `golden/mqtt/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use std::collections::BTreeSet;

use common::suites::MQTT as SUITE;
use common::{bindings, is_subsequence};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::mqtt::fuzz::fuzz_mqtt;
use monitor_core::model::{Protocol, Side};

mod common;

/// The deliveries and what became of them, without their numbers on the connection.
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

/// What is said of settlements is what happened, or that the connection ended.
fn check(what: &str, got: &[String], want: &[String]) {
    assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
    let (got_told, want) = (deliveries(got), deliveries(want));
    let mut given = BTreeSet::new();
    for line in &got_told {
        let handle = line.split(' ').nth(1).unwrap();
        if line.starts_with("delivered") {
            given.insert(handle);
            // Of a topic's alias that was told in what is missing nothing is said.
            assert!(want.contains(line) || line.contains("content -"), "{what}: {line}");
        } else {
            assert!(given.remove(handle), "{what}: settled once, after it was delivered: {line}");
            assert!(want.contains(line) || line.ends_with("Returned") || line.ends_with("Dropped"), "{what}: {line}");
        }
    }
}

protocol_suite!(SUITE, fuzz_mqtt, split 200, step 97);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    // What differs is the end of what was outstanding.
    let ends = ["-> unknown", "answered", "Returned", "Dropped", "published", "status Idle"];
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
    assert!(n_recovered > 60, "the place is found again after most holes: {n_recovered}");
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
    assert!(n_joined > 60, "most connections are joined: {n_joined}");
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let mut n_known = 0;
    for (name, segments) in SUITE.recordings() {
        let first = |side: Side| &segments.iter().find(|(from, _)| *from == side).unwrap().1;
        let is = Guess::Is { protocol: Protocol::Mqtt, from: Side::Client };
        assert_eq!(infer::infer(first(Side::Client), true, false), is, "{name}");
        for cut in 1..8 {
            assert_eq!(infer::infer(&first(Side::Client)[..cut], false, false), Guess::NeedMore);
        }
        for (at, (from, bytes)) in segments.iter().enumerate().skip(1) {
            let is = Guess::Is { protocol: Protocol::Mqtt, from: *from };
            let got = infer::infer(bytes, true, true);
            assert!(got == is || got == Guess::NeedMore || bytes.len() > 4096, "{name} {at}: {got:?}");
            n_known += usize::from(got == is);
        }
    }
    // Publications and their confirmations go both ways: subscriptions tell, and pings beside publications.
    assert!(n_known >= 7, "subscriptions tell: {n_known}");
}
