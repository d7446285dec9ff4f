//! Handshakes of rustls, with every cipher suite that is read, through the layer: whole, in pieces, with holes, changed,
//! with secrets that come late, twice, wrong or not at all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics fails")]

pub(crate) mod talk;

use std::collections::BTreeSet;

use rustls::CipherSuite;
use rustls::crypto::ring::kx_group;

use super::join::{Handshake, Join, Speaker, Speakers};
use super::*;
use crate::model::{CgroupId, ConnId, HandshakeSecret, Salt, SecretLabel};
use talk::{Heard, Listener, Pair, Say, Step, client, in_pieces, is_true, server, told, whole, wire};

const SUITES: [CipherSuite; 9] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    // The same in few, for what takes long.
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
];
const FEW: [CipherSuite; 3] = [SUITES[6], SUITES[7], SUITES[8]];

fn is_new(suite: CipherSuite) -> bool {
    u16::from(suite) >> 8 == 0x13
}

fn script() -> Vec<Say> {
    vec![
        client(b"GET /orders HTTP/1.1\r\n\r\n"),
        server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
        client(b"GET /invoices HTTP/1.1\r\n\r\n"),
        server(&[b'x'; 3_000]),
        client(b"one"),
        client(b"two"),
        server(b"three"),
        server(b"four"),
    ]
}

#[test]
fn every_suite_is_read_however_it_is_cut() {
    for suite in &SUITES[..6] {
        let steps = Pair::new(*suite).talk(b"", &script());
        for sizes in [&[usize::MAX][..], &[1], &[2, 3, 5, 7, 11, 1000], &[1460]] {
            let heard = Listener::hear(&in_pieces(&steps, sizes));
            assert_eq!(heard.tls.unread(), None, "{suite:?}");
            assert_eq!(heard.ear.heard, whole(&script()), "{suite:?} in {sizes:?}");
            assert_eq!((heard.ear.waits, heard.tls.unresolved(), heard.ear.spent[2..].iter().sum()), (0, 0, 0u64));
            assert!(heard.tls.is_keyed() && heard.tls.memory() < 4 << 10, "nothing is kept");
            assert_eq!((heard.tls.alpn(), heard.tls.server_name()), (Some("http/1.1"), Some("db.example")));
        }
    }
}

#[test]
fn records_and_messages_of_any_length() {
    for suite in &SUITES[..6] {
        let script = [client(&[b'a'; 100_000]), server(&[b'b'; 70_000]), client(b"c")];
        let short = Pair::new(*suite).with_short_records().talk(b"", &script);
        let long = Pair::new(*suite).talk(b"", &script);
        for steps in [short, long] {
            assert_eq!(Listener::hear(&in_pieces(&steps, &[1460, 9])).ear.heard, whole(&script), "{suite:?}");
        }
    }
}

#[test]
fn secrets_may_come_late_twice_and_in_any_order() {
    for suite in &SUITES[..6] {
        let steps = Pair::new(*suite).talk(b"", &script());
        let (wire, told) = (wire(&steps), told(&steps));
        for before in 0..=wire.len() {
            let (first, rest) = wire.split_at(before);
            for told in [told.clone(), told.iter().rev().cloned().collect(), [&told[..], &told[..]].concat()] {
                let heard = Listener::hear(&[first, &told, rest].concat());
                assert_eq!(heard.ear.heard, whole(&script()), "{suite:?}: after {before} segments");
            }
        }
    }
}

#[test]
fn without_the_handshakes_secrets_the_sessions_are_enough() {
    for suite in &SUITES[..3] {
        let steps = Pair::new(*suite).talk(b"", &script());
        let wire = wire(&steps);
        let of_session = |s: &Step| matches!(s, Step::Told(s) if matches!(s.label, SecretLabel::ClientTraffic | SecretLabel::ServerTraffic));
        let told: Vec<Step> = told(&steps).into_iter().filter(of_session).collect();
        for before in 0..=wire.len() {
            let (first, rest) = wire.split_at(before);
            let heard = Listener::hear(&[first, &told, rest].concat());
            assert_eq!(heard.ear.heard, whole(&script()), "{suite:?}: after {before} segments");
        }
    }
}

#[test]
fn other_secrets_open_nothing() {
    for suite in FEW {
        let pair = Pair::new(suite);
        let (steps, others) = (pair.talk(b"", &script()), told(&Pair::new(suite).talk(b"", &script())));
        let heard = Listener::hear(&[&others, &wire(&steps)[..]].concat());
        assert!(heard.ear.heard.is_empty() && heard.tls.waits_since().is_some(), "{suite:?}");
        // Nor do they stand in the way of the right ones.
        let heard = Listener::hear(&[&others, &steps[..], &others].concat());
        assert_eq!(heard.ear.heard, whole(&script()));
        // One direction alone says nothing: what is read is read in order.
        let half: Vec<Step> = steps
            .iter()
            .filter(|s| !matches!(s, Step::Told(s) if s.label == SecretLabel::ClientTraffic))
            .cloned()
            .collect();
        if is_new(suite) {
            assert!(Listener::hear(&half).ear.heard.is_empty());
        }
    }
}

#[test]
fn what_waits_is_bounded() {
    let script = [client(&[b'a'; 600_000])];
    for suite in FEW {
        let heard = Listener::hear(&wire(&Pair::new(suite).talk(b"", &script)));
        assert_eq!((heard.tls.unread(), heard.ear.heard.len()), (Some(Unread::NoSecret), 0));
        assert!(heard.tls.memory() < 4 << 10);
    }
}

#[test]
fn a_changed_byte_ends_the_reading_and_is_never_heard() {
    for suite in FEW {
        let steps = Pair::new(suite).talk(b"", &script());
        let mut ends = BTreeSet::new();
        for (n, step) in steps.iter().enumerate() {
            let Step::Bytes(from, bytes, ends_segment) = step else { continue };
            for at in (0..bytes.len()).step_by(if bytes.len() > 200 { 7 } else { 1 }) {
                let mut changed = steps.clone();
                let mut bytes = bytes.clone();
                bytes[at] ^= 0x20;
                changed[n] = Step::Bytes(*from, bytes, *ends_segment);
                let heard = Listener::hear(&changed);
                assert!(is_true(&heard.ear.heard, &script()), "{suite:?}: byte {at} of step {n}");
                ends.insert(heard.tls.unread().map(Unread::name));
            }
        }
        assert!(ends.contains(&Some("not_authentic")) && ends.contains(&Some("malformed")), "{ends:?}");
    }
}

#[test]
fn holes_lose_what_they_hold_and_no_more() {
    for suite in FEW {
        let steps = Pair::new(suite).talk(b"", &script());
        let first_data = steps.iter().rposition(|s| matches!(s, Step::Told(_))).unwrap() + 3;
        for (n, step) in steps.iter().enumerate() {
            let Step::Bytes(from, bytes, ends) = step else { continue };
            let places =
                [(0, bytes.len()), (0, 1), (0, 6), (1, 2), (3, bytes.len()), (5, bytes.len()), (6, 7), (9, 30)];
            for (a, b) in places.into_iter().filter(|(_, b)| *b <= bytes.len()) {
                let parts = [
                    Step::Bytes(*from, bytes[..a].to_vec(), false),
                    Step::Hole(*from, (b - a) as u64),
                    Step::Bytes(*from, bytes[b..].to_vec(), *ends),
                ];
                let holed = [&steps[..n], &parts, &steps[n + 1..]].concat();
                for holed in [holed.clone(), in_pieces(&holed, &[3, 50])] {
                    let heard = Listener::hear(&holed);
                    let what = format!("{suite:?}: {a} to {b} of step {n}");
                    assert!(is_true(&heard.ear.heard, &script()), "{what}: {:?}", heard.ear.heard);
                    if n >= first_data {
                        let last = Heard::Bytes(Side::Server, b"threefour".to_vec());
                        let closes = n + 4 >= steps.len();
                        assert!(closes || heard.ear.heard.contains(&last), "{what}: {:?}", heard.ear.heard);
                        assert_eq!(heard.tls.unread(), None, "{what}");
                    }
                    if heard.tls.unread().is_none() && heard.ear.heard != whole(&script()) {
                        let told = heard.ear.heard.iter().any(|h| matches!(h, Heard::Missing(..)));
                        assert!(told || n + 4 >= steps.len(), "{what}: a hole is told");
                    }
                }
            }
        }
    }
}

#[test]
fn several_records_may_be_lost_at_once() {
    let script: Vec<Say> = (0..60).map(|n: u8| client(&[b'a' + n % 26; 30])).collect();
    for suite in FEW {
        let steps = Pair::new(suite).talk(b"", &script);
        let data: Vec<usize> = (0..steps.len()).filter(|n| matches!(steps[*n], Step::Bytes(..))).collect();
        let n = data.len();
        for lost in [1, 2, 10, 30] {
            let mut holed = steps.clone();
            for at in &data[n - 35..n - 35 + lost] {
                let Step::Bytes(from, bytes, _) = &steps[*at] else { unreachable!() };
                holed[*at] = Step::Hole(*from, bytes.len() as u64);
            }
            let heard = Listener::hear(&holed);
            assert_eq!(heard.tls.unread(), None, "{suite:?}: {lost}");
            assert!(is_true(&heard.ear.heard, &script));
            assert_eq!(heard.ear.spent[0], (60 - lost as u64) * 30, "{suite:?}: {lost}");
        }
    }
}

#[test]
fn keys_are_updated_also_unseen() {
    for suite in &SUITES[..3] {
        let script = [
            client(b"one"),
            Say::Update(Side::Client),
            client(b"two"),
            server(b"three"),
            Say::Update(Side::Server),
            server(b"four"),
            client(b"five"),
        ];
        let steps = Pair::new(*suite).talk(b"", &script);
        assert_eq!(Listener::hear(&in_pieces(&steps, &[7])).ear.heard, whole(&script));
        for (n, step) in steps.iter().enumerate().skip(12) {
            let Step::Bytes(from, bytes, ends) = step else { continue };
            for keep in [0, 5, 8] {
                let hole =
                    [Step::Bytes(*from, bytes[..keep].to_vec(), false), Step::Hole(*from, (bytes.len() - keep) as u64)];
                let heard = Listener::hear(&[&steps[..n], &hole, &steps[n + 1..]].concat());
                assert!(is_true(&heard.ear.heard, &script) && *ends, "{suite:?}: without step {n}");
                assert_eq!(heard.tls.unread(), None, "{suite:?}: without step {n}");
            }
        }
    }
}

#[test]
fn sessions_are_resumed_and_early_data_is_passed_over() {
    for suite in &SUITES[..6] {
        let pair = Pair::new(*suite).with_early_data();
        pair.talk(b"", &script());
        let again = pair.talk(b"GET /early HTTP/1.1\r\n\r\n", &script());
        for sizes in [&[usize::MAX][..], &[1], &[40]] {
            let heard = Listener::hear(&in_pieces(&again, sizes));
            assert_eq!(heard.tls.unread(), None);
            let mut want = whole(&script());
            if is_new(*suite) {
                assert!(heard.tls.is_resumed() && heard.ear.spent[3] > 0, "{suite:?}");
                let missing = heard.ear.heard.iter().take_while(|h| matches!(h, Heard::Missing(_, None))).count();
                assert!(missing > 0, "what was passed over is told");
                want.splice(0..0, heard.ear.heard[..missing].to_vec());
            }
            assert_eq!(heard.ear.heard, want, "{suite:?}");
        }
    }
}

#[test]
fn a_server_may_ask_for_another_hello() {
    let pair = Pair::with_groups(SUITES[0], &[kx_group::SECP256R1, kx_group::X25519], &[kx_group::X25519]);
    let steps = pair.talk(b"", &script());
    let hellos = steps.iter().filter(|s| matches!(s, Step::Bytes(_, b, _) if b.starts_with(b"\x16\x03"))).count();
    assert!(hellos >= 3, "{hellos}: a server that asks again, and answers");
    assert_eq!(Listener::hear(&steps).ear.heard, whole(&script()));
}

/// Connections that shake hands at once, and secrets that name none of them.
fn two_at_once(named: bool) {
    let speaker = Speaker::Cgroup(CgroupId(7));
    let script_of = |n: u8| vec![client(&[b'a' + n; 20]), server(&[b'0' + n; 20])];
    for suite in FEW {
        let talks: Vec<Vec<Step>> = (0..2).map(|n| Pair::new(suite).talk(b"", &script_of(n))).collect();
        let mut join = Join::new(Salt(3, 4));
        let mut listeners = [Listener::new(), Listener::new()];
        let (mut scratch, at) = (Vec::new(), Nanos(1));
        // Turn by turn; secrets of both are told in one process.
        for step in 0..talks.iter().map(Vec::len).max().unwrap() {
            for (n, talk) in talks.iter().enumerate() {
                match talk.get(step) {
                    Some(Step::Told(secret)) => {
                        let client_random = secret.client_random.filter(|_| named);
                        let secret = HandshakeSecret { at, client_random, ..secret.clone() };
                        for id in join.tell(&secret, Some(speaker)) {
                            let l = &mut listeners[id.0 as usize];
                            if l.tls.offer(secret.label, &secret.secret, true) {
                                assert_eq!(id.0 as usize, n, "its own connection alone");
                                join.opened(secret.label, &secret.secret);
                                l.tls.advance(at, &mut scratch, &mut l.ear);
                            }
                        }
                    }
                    Some(Step::Bytes(from, bytes, ends)) => {
                        let l = &mut listeners[n];
                        let sealed = Sealed { at, bytes, ends_segment: *ends };
                        l.tls.bytes(*from, sealed, &mut scratch, &mut l.ear);
                    }
                    Some(Step::Hole(..)) => unreachable!(),
                    None => {}
                }
                let l = &mut listeners[n];
                let id = ConnId(n as u32);
                if let (Some(random), None) = (l.tls.random(), join.handshake(id)) {
                    let speakers = Speakers::from_elem(speaker, 1);
                    join.begins(id, Handshake { random: *random, hides_random: false, speakers });
                }
                while let Some(label) = SecretLabel::ALL.into_iter().find(|label| l.tls.wants(*label)) {
                    let found = join.handshake(id).map(|h| join.find(label, h)).unwrap_or_default();
                    let fits = found.into_iter().find(|n| l.tls.offer(label, join.secret(*n).unwrap(), false));
                    match fits {
                        Some(found) => {
                            join.claim(found);
                            l.tls.advance(at, &mut scratch, &mut l.ear);
                        }
                        None => l.tls.none_fits(label),
                    }
                }
            }
        }
        for (n, l) in listeners.iter().enumerate() {
            assert_eq!(l.ear.heard, whole(&script_of(n as u8)), "{suite:?}");
        }
        assert_eq!(join.counts().joined, if is_new(suite) { 8 } else { 2 });
    }
}

#[test]
fn two_handshakes_at_once_in_one_process_are_told_apart_by_their_tags() {
    two_at_once(false);
    two_at_once(true);
}
