//! What MQTT conversations mean, told step by step.

use super::*;
use crate::decode::WireEvent;
use crate::decode::testing::Told;
use crate::model::queue::QueueEvent;
use crate::model::{Claim, Effect, TenantId};

/// Knows a user, and acme.
fn listener() -> Told {
    Told::default()
        .claiming(|value| if value == "tenant_a" { Claim::Tenant(TenantId(0)) } else { Claim::Neutral })
        .marking(|_, _, value| if value.contains("acme") { Claim::Tenant(TenantId(1)) } else { Claim::Neutral })
}

fn lines(told: &Told) -> Vec<String> {
    told.lines(|event| match event {
        WireEvent::Started(_) => Some("started".to_owned()),
        WireEvent::Done(op) => {
            let bind = match op.effect {
                Effect::Bind { strength, .. } => format!(" binds {strength:?}"),
                _ => String::new(),
            };
            Some(format!("{} {} {}{bind}", told.name(op.verb), told.name(op.target), op.outcome.name()))
        }
        WireEvent::Queue(event) => Some(match &**event {
            QueueEvent::Published(m) => format!("published {} {:?}", told.name(m.queue), m.marker),
            QueueEvent::Delivered(d) => {
                let id = d.confirmation.handle().map_or_else(|| "-".to_owned(), |id| id.to_string());
                let again = if d.again { " again" } else { "" };
                format!("delivered {id} {}{again}", told.name(d.message.queue))
            }
            QueueEvent::Settled(s) => format!("settled {} {:?}", s.handle, s.how),
            QueueEvent::Passed(p) => format!("passed {}", p.to.offset),
        }),
        _ => None,
    })
}

const C: Side = Side::Client;
const S: Side = Side::Server;
const V3: (Side, &[u8]) = (C, b"\x10\x0d\0\x04MQTT\x04\x00\0\x3c\0\x01c");
const V5: (Side, &[u8]) = (C, b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01c");

fn run(mid_stream: bool, steps: &[(Side, &[u8])], close: bool) -> Vec<String> {
    let mut d = Mqtt::new(Salt(1, 2), mid_stream);
    let mut told = listener();
    for (from, bytes) in steps {
        d.bytes(*from, Chunk { at: Nanos(2), bytes, ends_segment: true }, &mut told.sink());
        assert!(d.memory() < 2 << 20);
    }
    if close {
        d.closed(Nanos(3), &mut told.sink());
    }
    lines(&told)
}

fn talk(steps: &[(Side, &[u8])]) -> Vec<String> {
    run(false, steps, true)
}

#[test]
fn a_login_is_told_when_it_is_accepted() {
    let connect = (C, &b"\x10\x1b\0\x04MQTT\x04\xc2\0\x3c\0\x01c\0\x08tenant_a\0\x02pw"[..]);
    let accepted = (S, &b"\x20\x02\0\0"[..]);
    assert_eq!(talk(&[connect, accepted]), ["started", "CONNECT user ok binds V3"]);
    assert!(talk(&[connect, (S, b"\x20\x02\0\x05")]).is_empty());
    let no_password = (C, &b"\x10\x17\0\x04MQTT\x04\x82\0\x3c\0\x01c\0\x08tenant_a"[..]);
    assert_eq!(talk(&[no_password, accepted]), ["started", "CONNECT user ok binds V1"]);
    let with_will = (C, &b"\x10\x21\0\x04MQTT\x04\xc6\0\x3c\0\x01c\0\x01w\0\x01x\0\x08tenant_a\0\x02pw"[..]);
    assert_eq!(talk(&[with_will, accepted]), ["started", "CONNECT user ok binds V3"]);
}

#[test]
fn publications_are_told_when_the_server_has_them() {
    let steps = [
        V5,
        (C, b"\x32\x07\0\x01a\0\x01\0x"),
        (C, b"\x34\x07\0\x01b\0\x02\0x"),
        (C, b"\x32\x07\0\x01c\0\x03\0x"),
        (S, b"\x50\x02\0\x02"),
        (S, b"\x40\x03\0\x01\x87"),
        (C, b"\x62\x02\0\x02"),
        (S, b"\x70\x02\0\x02"),
    ];
    let want = ["PUBLISH b ok", "published b Neutral", "PUBLISH a error", "PUBLISH c unknown", "published c Neutral"];
    assert_eq!(talk(&steps), want, "0x87: not authorized; the third was never answered");
}

#[test]
fn the_same_sent_again_is_one_publication() {
    let steps = [V3, (C, b"\x32\x06\0\x01a\0\x01x"), (C, b"\x3a\x06\0\x01a\0\x01x"), (S, b"\x40\x02\0\x01")];
    assert_eq!(talk(&steps), ["PUBLISH a unknown", "PUBLISH a ok", "published a Neutral"]);
}

#[test]
fn deliveries_are_settled_by_packet_id() {
    let steps = [
        V3,
        (S, b"\x32\x06\0\x01a\0\x01x"),
        (S, b"\x34\x06\0\x01b\0\x02x"),
        (S, b"\x3c\x06\0\x01b\0\x02x"),
        (S, b"\x30\x04\0\x01cx"),
        (S, b"\x32\x06\0\x01d\0\x04x"),
        (C, b"\x50\x02\0\x02"),
        (C, b"\x40\x02\0\x01"),
        (S, b"\x62\x02\0\x02"),
        (C, b"\x70\x02\0\x02"),
        (C, b"\x40\x02\0\x01"),
    ];
    let lines = talk(&steps);
    let told: Vec<&str> = lines.iter().filter(|l| !l.starts_with('P')).map(String::as_str).collect();
    let given = ["delivered 1 a", "delivered 2 b", "delivered - c", "delivered 4 d"];
    assert_eq!(told, [&given[..], &["settled 1 Done", "settled 2 Done", "settled 4 Returned"]].concat());
}

#[test]
fn a_session_that_ends_with_its_connection_drops_what_is_left() {
    assert_eq!(
        talk(&[V5, (S, b"\x20\x03\0\0\0"), (S, b"\x32\x07\0\x01a\0\x01\0x")]).last().unwrap(),
        "settled 1 Dropped"
    );
    let expiry = (C, &b"\x10\x13\0\x04MQTT\x05\x02\0\x3c\x05\x11\0\0\0\x0a\0\x01c"[..]);
    let lines = talk(&[expiry, (S, b"\x20\x03\0\0\0"), (S, b"\x32\x07\0\x01a\0\x01\0x")]);
    assert_eq!(lines.last().unwrap(), "settled 1 Returned");
}

#[test]
fn aliases_belong_to_one_direction() {
    let first = &b"\x30\x08\0\x01a\x03\x23\0\x01x"[..];
    let second = &b"\x30\x07\0\0\x03\x23\0\x01y"[..];
    let lines = talk(&[V5, (C, first), (S, second), (C, second)]);
    // The server has told none: what it delivers is nobody's for us.
    let want = ["PUBLISH a unknown", "published a Neutral", "PUBLISH  ok"];
    assert_eq!(lines, [&want[..], &["PUBLISH a unknown", "published a Neutral"]].concat());
}

#[test]
fn user_properties_are_headers() {
    let publish = b"\x30\x1a\0\x01a\x16\x26\0\x0bx-tenant-id\0\x04acme\x01\x01";
    let steps = [V5, (C, &publish[..])];
    let lines = talk(&steps);
    assert_eq!(lines.last().unwrap(), "published a Tenant(TenantId(1))", "{lines:?}");
}

#[test]
fn an_older_connection_tells_its_version_by_its_publications() {
    let five = run(true, &[(C, b"\x30\x0c\0\x01a\x07\x26\0\x01k\0\x01vx")], false);
    assert_eq!(five, ["mid_stream", "PUBLISH a unknown", "published a Neutral"]);
    let three = run(true, &[(C, b"\x30\x06\0\x01a{}}")], false);
    assert_eq!(three, five);
}

#[test]
fn malformed_conversations_are_told_and_given_up_in_the_end() {
    assert_eq!(talk(&[V3, (C, b"\x20\x02\0\0")]), ["wrong_side", "malformed"]);
    assert_eq!(talk(&[V3, (C, b"\x00")]), ["bad_packet", "malformed"]);
    assert_eq!(talk(&[(C, b"\x10\x0d\0\x04HTTP\x04\0\0\x3c\0\x01c")]), ["short_packet", "malformed"]);
    let lines = run(true, &[(C, &b"\xc0\0"[..]), (C, b"\x00")].repeat(40), false);
    assert_eq!(lines.iter().filter(|l| *l == "bad_packet").count(), 8);
    assert_eq!(lines.last().unwrap(), "malformed");
}

#[test]
fn what_is_held_is_bounded() {
    let mut d = Mqtt::new(Salt(1, 2), false);
    let mut told = listener();
    let mut say = |from, bytes: &[u8]| {
        d.bytes(from, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut told.sink());
        assert!(d.memory() < 2 << 20, "{}", d.memory());
        told.events.clear();
    };
    say(C, V5.1);
    for id in 1..20_000u16 {
        let [a, b] = id.to_be_bytes();
        say(C, &[0x32, 0x0a, 0, 1, b'a', a, b, 3, 0x23, a, b, b'x']);
        say(S, &[0x32, 0x0a, 0, 1, b'a', a, b, 3, 0x23, a, b, b'x']);
        say(C, &[0x82, 0x07, a, b, 0, 0, 1, b'a', 0]);
    }
    // A packet that says it is very long.
    say(S, b"\x90\xff\xff\xff\x7f");
    for _ in 0..64 {
        say(S, &[0; 65_536]);
    }
}
