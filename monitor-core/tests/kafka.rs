//! Recorded Kafka connections through the decoder: what it says, however the bytes are cut, and what it does not say when
//! some are missing.
//!
//! Recorded from real clients and librdkafka's mock cluster; see `golden/kafka/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use std::collections::BTreeSet;

use common::suites::KAFKA as SUITE;
use common::{bindings, is_subsequence};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::kafka::fuzz::fuzz_kafka;
use monitor_core::model::{Protocol, Side};

mod common;

/// What is said of the content of a message, if it was seen: from its print on.
fn content(line: &str) -> Option<&str> {
    let (_, content) = line.split_once(" content ")?;
    (!content.starts_with('-')).then_some(content)
}

/// The ids of a message whose topic was known by name.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    let named = !line.contains(" [] ");
    let words = line.split(" content ").next().unwrap_or_default().split(" id ").skip(1);
    words.filter(move |_| named)
}

fn messages(lines: &[String]) -> impl Iterator<Item = &String> {
    lines.iter().filter(|l| l.starts_with("published") || l.starts_with("delivered"))
}

/// Of messages and commits nothing is said that did not happen.
fn check(what: &str, got: &[String], want: &[String]) {
    let all = || format!("{what}:\n{}", got.join("\n"));
    assert!(is_subsequence(&bindings(got), &bindings(want)), "{}", all());
    let happened: BTreeSet<&str> = messages(want).filter_map(|l| content(l)).collect();
    let known: BTreeSet<&str> = messages(want).flat_map(|l| ids(l)).collect();
    let is_named = messages(want).all(|l| !l.contains(" [] "));
    for line in messages(got) {
        assert!(content(line).is_none_or(|c| happened.contains(c)), "{line}\n{}", all());
        assert!(!is_named || ids(line).all(|id| known.contains(id)), "{line}\n{}", all());
    }
    assert!(is_subsequence(&passed(got), &passed(want)), "{}", all());
}

/// How far readers have come.
fn passed(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|l| l.starts_with("passed")).collect()
}

protocol_suite!(SUITE, fuzz_kafka, split 150, step 97);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    SUITE.every_prefix(&mut |what, line| {
        let ends = ["-> unknown", "answered", "status Idle"].iter().any(|w| line.contains(w));
        let unread = line.starts_with("delivered") && content(line).is_none();
        assert!(ends || unread, "{what}: {line}");
    });
}

#[test]
fn a_missing_segment_confirms_and_makes_nothing() {
    let mut n_recovered = 0;
    SUITE.every_hole(&mut |what, got, want| {
        check(what, got, want);
        if let Some(at) = got.iter().position(|l| l.starts_with("disturbed")) {
            n_recovered += usize::from(got[at..].iter().any(|l| l.starts_with("answered")));
        }
    });
    assert!(n_recovered > 100, "the place is found again after most holes: {n_recovered}");
}

#[test]
fn a_cut_segment_confirms_and_makes_nothing() {
    SUITE.every_cut(&[1, 4, 7, 12, 20, 40, 80, 200], &mut check);
}

#[test]
fn a_connection_joined_late_is_read_from_a_request_on() {
    let mut n_joined = 0;
    SUITE.every_late_start(1, &mut |what, got, want| {
        check(what, got, want);
        n_joined += usize::from(got.iter().any(|l| l.starts_with("answered")));
    });
    assert!(n_joined > 100, "most connections are joined: {n_joined}");
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let is = Guess::Is { protocol: Protocol::Kafka, from: Side::Client };
    let mut n_known = 0;
    for (name, segments) in SUITE.recordings() {
        for (at, (from, bytes)) in segments.iter().enumerate() {
            let fresh = infer::infer(bytes, true, false);
            let late = infer::infer(bytes, true, true);
            match from {
                Side::Client => {
                    assert_eq!((fresh, late), (is, is), "{name} {at}");
                    for cut in 1..bytes.len().min(12) {
                        assert_eq!(infer::infer(&bytes[..cut], false, false), Guess::NeedMore, "{name} {at} {cut}");
                    }
                    n_known += 1;
                }
                // Nobody may take for another protocol what the broker says.
                Side::Server => {
                    for guess in [fresh, late] {
                        assert!(!matches!(guess, Guess::Is { .. }), "{name} {at}: {guess:?}");
                    }
                }
            }
        }
    }
    assert!(n_known > 100, "there are enough of them: {n_known}");
}

#[test]
fn producers_and_consumers_tell_of_the_same_messages() {
    let all = SUITE.recordings();
    let told = |prefix: &str, what: &str| -> BTreeSet<String> {
        let of = all.iter().filter(|(name, _)| name.starts_with(prefix));
        let lines = of.flat_map(|(_, segments)| SUITE.whole(segments));
        // Print and values; the trace ids too.
        lines.filter(|l| l.starts_with(what)).filter_map(|l| content(&l).map(str::to_owned)).collect()
    };
    for client in ["confluent", "aiokafka", "kafkajs"] {
        let (sent, got) = (told(client, "published"), told(client, "delivered"));
        assert!(got.len() >= 3 && got.is_subset(&sent), "{client}: {got:#?} {sent:#?}");
    }
}
