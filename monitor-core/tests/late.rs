//! Connections joined late, or begun with something that is no request: from which request on the engine reads them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics fails")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use common::{SALT, Segments, Suite};
use monitor_core::decode::{Appetite, infer};
use monitor_core::detect::FindingEvent;
use monitor_core::engine::{Engine, OperationView, Output, Wanted};
use monitor_core::model::settings::ServiceSpec;
use monitor_core::model::{
    BindPolicy, Direction, Event, Finding, HeaderPolicy, Nanos, Protocol, Role, Segment, Settings, Side, SocketCookie,
};

mod common;

macro_rules! suite {
    ($name:literal, $protocol:ident) => {
        Suite {
            name: $name,
            make: |mid| {
                let shared = infer::Shared::new(SALT, &HeaderPolicy::default());
                infer::decoder(Protocol::$protocol, SALT, mid, &shared).unwrap()
            },
            values: false,
            at_least: 1,
            memory: 64 << 20,
        }
    };
}

#[derive(Default)]
struct Seen {
    /// Verb, target and segment with which it began.
    operations: BTreeSet<(String, String, u64)>,
    protocols: BTreeSet<&'static str>,
    n_findings: usize,
    all_wanted: usize,
}

impl Output for Seen {
    fn finding(&mut self, _: &Finding, _: FindingEvent) {
        self.n_findings += 1;
    }
    fn operation(&mut self, o: &OperationView<'_>) {
        // Some operations begin with a reply's segment (deliveries); what is told of the end of the input is left out.
        self.operations.insert((o.verb.to_owned(), o.target.to_owned(), o.op.begun.0 / STEP));
        self.protocols.insert(o.protocol.name());
    }
    fn capture(&mut self, _: SocketCookie, wanted: Wanted) {
        self.all_wanted += usize::from(wanted.sent == Appetite::Everything);
    }
}

const STEP: u64 = 1_000_000;

/// One captured connection.
struct Play {
    engine: Engine,
    seen: Seen,
    at: u64,
    seq: [u32; 2],
    port: u16,
}

impl Play {
    fn new(settings: Settings, handshake: bool, port: u16) -> Self {
        let mut engine = Engine::new(Settings { operations: true, ..settings });
        let mut seen = Seen::default();
        let addr = |s: &str, port| SocketAddr::new(s.parse().unwrap(), port);
        let opened = Event::Opened {
            at: Nanos(0),
            cookie: SocketCookie(1),
            cgroup: None,
            local: addr("10.0.0.1", 40_000),
            peer: addr("10.0.0.2", port),
            role: if handshake { Role::Client } else { Role::Unknown },
            tx_start: handshake.then_some(1000),
            rx_start: handshake.then_some(5000),
        };
        engine.handle(&opened, &mut seen);
        Self { engine, seen, at: 0, seq: [1000, 5000], port }
    }

    fn say(&mut self, from: Side, bytes: &[u8]) {
        let i = usize::from(from == Side::Server);
        let segment = Segment {
            at: Nanos(self.at * STEP),
            cookie: SocketCookie(1),
            dir: if i == 0 { Direction::Tx } else { Direction::Rx },
            seq: self.seq[i],
            ack: Some(self.seq[1 - i]),
            len: bytes.len() as u32,
            bytes,
            thread: None,
        };
        self.seq[i] = self.seq[i].wrapping_add(bytes.len() as u32);
        self.engine.handle(&Event::Segment(segment), &mut self.seen);
    }

    fn end(mut self) -> Seen {
        assert!(self.port > 0);
        self.engine.finish(Nanos((self.at + 10_000) * STEP), &mut self.seen);
        self.seen
    }
}

fn play(segments: &Segments, skip: usize, settings: Settings, before: &[(Side, Vec<u8>)], port: u16) -> Seen {
    let mut p = Play::new(settings, skip == 0, port);
    for (from, bytes) in before {
        p.say(*from, bytes);
    }
    for (i, (from, bytes)) in segments.iter().enumerate().skip(skip) {
        p.at = i as u64 + 1;
        p.say(*from, bytes);
    }
    p.end()
}

/// The rest of a long reply, in full segments and a last one: nothing in it begins anything.
fn rest_of_a_reply() -> Vec<(Side, Vec<u8>)> {
    let full = |_| (Side::Server, vec![b'\x07'; 1448]);
    (0..40).map(full).chain([(Side::Server, vec![b'\x07'; 700])]).collect()
}

/// How many of the operations that begin at or after the segment joined at are found, over every turn of the client.
fn found(suite: &Suite, before: &[(Side, Vec<u8>)]) -> (usize, usize) {
    let (mut n, mut all) = (0, 0);
    for (name, segments) in suite.recordings() {
        let want = play(&segments, 0, Settings::default(), &[], 5432);
        for skip in 1..segments.len() {
            if segments[skip].0 != Side::Client || segments[skip - 1].0 == Side::Client {
                continue;
            }
            let got = play(&segments, skip, Settings::default(), before, 5432);
            assert!(got.n_findings <= want.n_findings, "{name} from {skip}");
            assert!(got.protocols.is_subset(&want.protocols), "{name} from {skip}: {:?}", got.protocols);
            let later = || want.operations.iter().filter(|o| o.2 > skip as u64);
            all += later().count();
            n += later().filter(|o| got.operations.contains(o)).count();
        }
    }
    (n, all)
}

#[test]
fn a_connection_joined_at_any_turn_is_read_from_then_on_also_after_a_long_reply() {
    // Of each protocol, in percent. What is missing is mostly what depends on the beginning: prepared statements, names of
    // what was subscribed to, transactions that were open.
    let suites = [
        (suite!("postgres", Postgres), 95),
        (suite!("http", Http), 95),
        (suite!("redis", Redis), 99),
        (suite!("kafka", Kafka), 90),
        (suite!("amqp", Amqp), 97),
        (suite!("nats", Nats), 96),
        (suite!("mqtt", Mqtt), 95),
        (suite!("mysql", MySql), 95),
        (suite!("memcached", Memcached), 95),
    ];
    let mut low = Vec::new();
    for (suite, percent) in &suites {
        let (short, all) = found(suite, &[]);
        let (long, _) = found(suite, &rest_of_a_reply());
        println!("{}: {short} and {long} of {all}", suite.name);
        if short * 100 < all * percent || long * 100 < short * 98 {
            low.push(format!("{}: {short} and {long} of {all}", suite.name));
        }
    }
    assert!(low.is_empty(), "{low:?}");
}

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

/// A connection seen from its start, in which the client says `first` and then asks six times.
fn after(first: &[&[u8]], answers: &[u8]) -> Seen {
    let mut p = Play::new(Settings::default(), true, 6379);
    for bytes in first {
        p.at += 1;
        p.say(Side::Client, bytes);
    }
    if !answers.is_empty() {
        p.at += 1;
        p.say(Side::Server, answers);
    }
    for _ in 0..6 {
        p.at += 1;
        p.say(Side::Client, GET);
        p.at += 1;
        p.say(Side::Server, b"$1\r\nx\r\n");
    }
    p.end()
}

fn gets(seen: &Seen) -> usize {
    seen.operations.iter().filter(|o| o.0 == "GET").count()
}

#[test]
fn no_beginning_blinds() {
    let one_by_one: Vec<&[u8]> = PING.chunks(1).collect();
    let line = format!("*2\r\n$4\r\nECHO\r\n$300\r\n{}\r\n", "x".repeat(300));
    let long: Vec<&[u8]> = line.as_bytes().chunks(1).collect();
    let junk = vec![7; 9000];
    for (what, first, answer, least) in [
        ("nothing", &[][..], &b""[..], 6),
        ("byte by byte", &one_by_one, b"+PONG\r\n", 6),
        ("byte by byte, long", &long, b"$1\r\nx\r\n", 6),
        ("a command not known here", &[b"*2\r\n$8\r\nSENTINEL\r\n$7\r\nmasters\r\n"], b"*0\r\n", 6),
        ("a module's command", &[b"*2\r\n$8\r\nJSON.GET\r\n$1\r\na\r\n"], b"$1\r\nx\r\n", 6),
        ("an inline command", &[b"PING\r\n"], b"+PONG\r\n", 5),
        ("junk", &[&junk], b"-ERR unknown command\r\n", 5),
        ("what looks like TLS", &[b"\x16\x03\x01\0\x05hello\r\n"], b"-ERR unknown command\r\n", 5),
    ] {
        let seen = after(first, answer);
        assert!(gets(&seen) >= least, "{what}: {:?}", seen.operations);
    }
}

#[test]
fn what_both_ends_encrypt_is_asked_for_no_more() {
    let mut p = Play::new(Settings::default(), true, 443);
    for i in 0..2000 {
        p.at += 1;
        p.say(if i % 2 == 0 { Side::Client } else { Side::Server }, b"\x17\x03\x03\0\x10aaaaaaaaaaaaaaaa");
    }
    let stats = p.engine.stats();
    assert_eq!((stats.flows_opaque, stats.bytes_decoded), (1, 0));
    assert_eq!(p.end().all_wanted, 0);
}

fn declared(port: u16, protocol: Protocol) -> Settings {
    let service = ServiceSpec {
        name: "declared".to_owned(),
        port: Some(port),
        net: None,
        protocol: Some(protocol),
        minimum: None,
        policy: BindPolicy::default(),
        proxies: Vec::new(),
    };
    Settings { services: vec![service], ..Settings::default() }
}

#[test]
fn a_declared_protocol_decides_at_once_unless_the_bytes_say_otherwise() {
    for (protocol, handshake) in [
        (Protocol::Postgres, true),
        (Protocol::Redis, false),
        (Protocol::Http, true),
        (Protocol::Mcp, false),
        (Protocol::Amqp, false),
        (Protocol::Nats, true),
        (Protocol::Kafka, true),
        (Protocol::Mqtt, false),
        (Protocol::MySql, true),
        (Protocol::Memcached, false),
    ] {
        let mut p = Play::new(declared(777, protocol), handshake, 777);
        p.say(Side::Server, b"\x07");
        assert_eq!(p.engine.stats().flows_decoded, 1, "{protocol:?}");
        // Elsewhere nothing is declared.
        let mut p = Play::new(declared(777, protocol), handshake, 778);
        p.say(Side::Server, b"\x07");
        assert_eq!(p.engine.stats().flows_undecided, 1, "{protocol:?}");
    }
    let mut p = Play::new(declared(777, Protocol::Http), true, 777);
    p.say(Side::Client, GET);
    p.say(Side::Server, b"$1\r\nx\r\n");
    assert_eq!(gets(&p.end()), 1, "the bytes are plain");
    let mut p = Play::new(declared(777, Protocol::Http), true, 777);
    p.say(Side::Client, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    assert_eq!(p.engine.stats().flows_opaque, 1);
}

#[test]
fn mqtt_joined_late_is_known_with_one_packet_in_each_segment() {
    let publish = |id: u8| [b"\x32\x08\0\x03a/b\0".as_slice(), &[id], b"x"].concat();
    let mut p = Play::new(Settings::default(), false, 1883);
    for id in 1..20 {
        p.at += 1;
        p.say(Side::Client, &publish(id));
        p.at += 1;
        p.say(Side::Server, &[0x40, 2, 0, id]);
    }
    let seen = p.end();
    assert!(seen.operations.iter().filter(|o| o.0 == "PUBLISH").count() >= 17, "{:?}", seen.operations);
}

#[test]
fn a_beginning_is_known_where_the_handshake_was_not_seen() {
    let suites = [suite!("postgres", Postgres), suite!("amqp", Amqp), suite!("mqtt", Mqtt)];
    for suite in suites {
        for (name, segments) in suite.recordings() {
            let want = play(&segments, 0, Settings::default(), &[], 5432);
            let mut p = Play::new(Settings::default(), false, 5432);
            for (i, (from, bytes)) in segments.iter().enumerate() {
                p.at = i as u64 + 1;
                p.say(*from, bytes);
            }
            assert_eq!(p.engine.stats().flows_mid_stream, 0, "{name}");
            assert_eq!(p.end().operations, want.operations, "{} {name}", suite.name);
        }
    }
}

#[test]
fn postgres_joined_late_tells_the_first_exchange_without_its_outcome() {
    let mut segments = vec![
        (Side::Client, b"Q\0\0\0\x18select a from orders\0".to_vec()),
        (Side::Server, b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I".to_vec()),
    ];
    let n = segments[0].1.len() as u8 - 1;
    segments[0].1[4] = n;
    let mut p = Play::new(Settings::default(), false, 5432);
    for (from, bytes) in &segments {
        p.at += 1;
        p.say(*from, bytes);
    }
    let seen = p.end();
    assert_eq!(seen.operations.len(), 1, "{:?}", seen.operations);
}

#[test]
fn what_waits_is_told_as_what_it_was_after_an_upgrade() {
    let mut p = Play::new(Settings::default(), true, 80);
    p.at = 1;
    p.say(Side::Client, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    p.say(Side::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    p.at = 2;
    p.say(Side::Client, b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    p.say(Side::Server, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    p.at = 3;
    p.say(Side::Client, &[7; 100]);
    assert_eq!(p.engine.stats().flows_opaque, 1);
    let seen = p.end();
    assert_eq!(seen.operations.len(), 2, "{:?}", seen.operations);
    assert_eq!(seen.protocols, BTreeSet::from(["http"]));
}

/// What was said before refers to more and more of what is not known: a path, a header of identity. So not all is found
/// that begins later; but what is found is right, and nobody is accused.
#[test]
fn a_connection_of_http2_joined_at_any_turn_says_nothing_else() {
    let suite = suite!("http2", Http2);
    let (mut n, mut joined, mut all) = (0, 0, 0);
    for (name, segments) in suite.recordings() {
        if segments[0].1.starts_with(b"GET ") {
            continue;
        }
        let want = play(&segments, 0, Settings::default(), &[], 8080);
        for skip in 1..segments.len() {
            if segments[skip].0 != Side::Client || segments[skip - 1].0 == Side::Client {
                continue;
            }
            let got = play(&segments, skip, Settings::default(), &rest_of_a_reply(), 8080);
            assert!(got.n_findings <= want.n_findings, "{name} from {skip}");
            for (verb, target, begun) in &got.operations {
                let of_http = want.operations.iter().any(|(_, t, _)| t == target) || target.starts_with('/');
                assert!(
                    target.is_empty() || verb == "unreadable" || of_http,
                    "{name} from {skip}: {verb} {target} {begun}"
                );
            }
            joined += usize::from(!got.operations.is_empty());
            n += got.operations.len();
            all += 1;
        }
    }
    println!("http2: {joined} of {all} starts, {n} operations");
    assert!(joined * 100 >= all * 60, "{joined} of {all} are joined");
}
