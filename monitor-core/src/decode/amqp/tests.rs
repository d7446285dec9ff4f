//! What AMQP conversations mean, told step by step.

use super::*;
use crate::decode::WireEvent;
use crate::decode::testing::Told;
use crate::model::queue::QueueEvent;
use crate::model::{Claim, Effect, TenantId};

/// Knows a user.
fn listener() -> Told {
    let claim = |value: &str| if value == "tenant_a" { Claim::Tenant(TenantId(0)) } else { Claim::Neutral };
    Told::default().claiming(claim)
}

fn lines(told: &Told) -> Vec<String> {
    told.lines(|event| match event {
        WireEvent::Started(_) => Some("started".to_owned()),
        WireEvent::Done(op) => {
            let bind = if matches!(op.effect, Effect::Bind { .. }) { " binds" } else { "" };
            Some(format!("{} {} {}{bind}", told.name(op.verb), told.name(op.target), op.outcome.name()))
        }
        WireEvent::Queue(event) => Some(match &**event {
            QueueEvent::Published(m) => format!("published {}", told.name(m.queue)),
            QueueEvent::Delivered(d) => {
                let handle = d.confirmation.handle().map_or_else(|| "-".to_owned(), |handle| format!("{handle:x}"));
                format!("delivered {handle} {}", told.name(d.message.queue))
            }
            QueueEvent::Settled(s) => format!("settled {:x} {:?}", s.handle, s.how),
            QueueEvent::Passed(p) => format!("passed {}", p.to.offset),
        }),
        _ => None,
    })
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend(payload);
    out.push(0xce);
    out
}

fn method(channel: u16, class: u16, number: u16, arguments: &[u8]) -> Vec<u8> {
    frame(1, channel, &[&class.to_be_bytes(), &number.to_be_bytes(), arguments].concat())
}

fn header(channel: u16, size: u64) -> Vec<u8> {
    frame(2, channel, &[&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat())
}

/// To the default exchange, with a body.
fn publish(channel: u16, key: &str, body: &str) -> Vec<u8> {
    let arguments = [&[0, 0, 0, u8::try_from(key.len()).unwrap()], key.as_bytes(), &[0]].concat();
    let content = [header(channel, body.len() as u64), frame(3, channel, body.as_bytes())].concat();
    [method(channel, 60, 40, &arguments), content].concat()
}

fn deliver(channel: u16, tag: u64, key: &str) -> Vec<u8> {
    let tail = [&[0, 0, u8::try_from(key.len()).unwrap()], key.as_bytes()].concat();
    [method(channel, 60, 60, &[b"\x01c", &tag.to_be_bytes()[..], &tail].concat()), header(channel, 0)].concat()
}

fn ack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    method(channel, 60, 80, &[&tag.to_be_bytes()[..], &[u8::from(multiple)]].concat())
}

const C: Side = Side::Client;
const S: Side = Side::Server;

/// What is said of a conversation behind the greeting.
fn talk(steps: &[(Side, Vec<u8>)]) -> Vec<String> {
    let mut d = Amqp::new(Salt(1, 2), false);
    let mut told = listener();
    d.bytes(C, Chunk { at: Nanos(1), bytes: GREETING, ends_segment: true }, &mut told.sink());
    for (from, bytes) in steps {
        d.bytes(*from, Chunk { at: Nanos(2), bytes, ends_segment: true }, &mut told.sink());
    }
    assert!(d.memory() < 2 << 20);
    lines(&told)
}

#[test]
fn a_login_is_told_when_the_virtual_host_is_open() {
    let start_ok = |mechanism: &str, response: &[u8]| {
        let mut out = vec![0, 0, 0, 0, u8::try_from(mechanism.len()).unwrap()];
        out.extend(mechanism.as_bytes());
        out.extend(u32::try_from(response.len()).unwrap().to_be_bytes());
        out.extend(response);
        method(0, 10, 11, &[&out[..], b"\x05en_US"].concat())
    };
    let open = (C, method(0, 10, 40, b"\x04shop\0\0"));
    let opened = (S, method(0, 10, 41, b"\0"));
    let want = ["started", "connection.start-ok user ok binds"];
    let plain = (C, start_ok("PLAIN", b"\0tenant_a\0secret"));
    assert_eq!(talk(&[plain.clone(), open.clone(), opened.clone()]), want);
    let table = (C, start_ok("AMQPLAIN", b"\x05LOGINS\0\0\0\x08tenant_a\x08PASSWORDS\0\0\0\x01x"));
    assert_eq!(talk(&[table, open.clone(), opened]), want);
    let refused = (S, method(0, 10, 50, b"\x01\x93\x00\0\x0a\0\x0b"));
    assert!(talk(&[plain, open, refused]).is_empty(), "what was refused was never bound");
}

#[test]
fn confirmations_are_counted_by_channel() {
    let select = |c| (C, method(c, 85, 10, b"\0"));
    let lines = talk(&[
        select(1),
        select(2),
        (C, publish(1, "a", "x")),
        (C, publish(2, "b", "x")),
        (C, publish(1, "c", "x")),
        (S, ack(2, 1, false)),
        (S, method(1, 60, 120, b"\0\0\0\0\0\0\0\x01\0")),
        (S, ack(1, 2, true)),
    ]);
    let told = ["basic.publish b ok", "published b", "basic.publish a error", "basic.publish c ok", "published c"];
    assert_eq!(lines, told);
}

#[test]
fn bodies_of_two_channels_may_be_mixed() {
    let arguments = |key: u8| [0, 0, 0, 1, key, 0];
    let lines = talk(&[
        (C, [method(1, 60, 40, &arguments(b'a')), header(1, 4)].concat()),
        (C, [method(2, 60, 40, &arguments(b'b')), header(2, 2), frame(3, 1, b"xx")].concat()),
        (C, [frame(3, 2, b"yy"), frame(3, 1, b"xx")].concat()),
    ]);
    assert_eq!(lines, ["basic.publish b unknown", "published b", "basic.publish a unknown", "published a"]);
}

#[test]
fn settlements_of_several_are_told_one_by_one() {
    let mut steps: Vec<_> = (1..=4).map(|tag| (S, deliver(1, tag, "q"))).collect();
    steps.push((S, deliver(2, 1, "q")));
    steps.push((C, ack(1, 2, false)));
    steps.push((C, ack(1, 3, true)));
    steps.push((C, ack(1, 3, true)));
    steps.push((C, method(2, 60, 90, b"\0\0\0\0\0\0\0\x01\0")));
    steps.push((C, method(1, 20, 40, b"\0\0\0\0\0\0\0")));
    steps.push((S, method(1, 20, 41, b"")));
    let lines = talk(&steps);
    let settled: Vec<&str> = lines.iter().filter_map(|l| l.strip_prefix("settled ")).collect();
    let want = ["1000000000002 Done", "1000000000001 Done", "1000000000003 Done", "2000000000001 Dropped"];
    assert_eq!(settled, [&want[..], &["1000000000004 Returned"]].concat());
}

#[test]
fn who_takes_messages_without_confirming_is_known_by_its_tag() {
    let consume = b"\0\0\x04jobs\x01c\x02\0\0\0\0";
    let lines = talk(&[
        (C, method(1, 60, 20, consume)),
        (S, method(1, 60, 21, b"\x01c")),
        (S, deliver(1, 1, "q")),
        (S, deliver(2, 1, "q")),
    ]);
    assert_eq!(
        lines,
        [
            "basic.consume jobs ok",
            "basic.deliver jobs ok",
            "delivered - q",
            "basic.deliver q ok",
            "delivered 2000000000001 q",
        ]
    );
}

#[test]
fn replies_to_one_caller_are_no_messages_of_a_queue() {
    let lines =
        talk(&[(C, publish(1, "amq.rabbitmq.reply-to.g1h2", "x")), (S, deliver(1, 1, "amq.rabbitmq.reply-to.g"))]);
    assert!(!lines.iter().any(|l| l.starts_with("published") || l.starts_with("delivered")), "{lines:?}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn malformed_conversations_are_told_and_given_up_in_the_end() {
    assert_eq!(talk(&[(C, frame(3, 1, b"x"))]), ["content_without_method", "malformed"]);
    assert_eq!(talk(&[(S, method(1, 60, 40, b""))]), ["unknown_method"], "a server does not publish");
    let cut_short = method(1, 60, 40, b"\0\0\x05a");
    assert_eq!(talk(&[(C, cut_short.clone())]), ["short_method", "malformed"]);
    let mut d = Amqp::new(Salt(1, 2), false);
    let mut told = listener();
    d.bytes(C, Chunk { at: Nanos(1), bytes: b"AMQP\0\x01\0\0", ends_segment: true }, &mut told.sink());
    assert_eq!(lines(&told), ["amqp_version"]);
    let lines = talk(&vec![(C, cut_short); 40]);
    assert_eq!(lines.last().unwrap(), "malformed");
    assert_eq!(lines.iter().filter(|l| *l == "short_method").count(), 8);
}

#[test]
fn a_message_that_another_one_overtakes_ends_its_request() {
    // The header tells of more bytes than ever come.
    let got = |body: u64| {
        let arguments = [&1u64.to_be_bytes()[..], &[0, 0, 1, b'q', 0, 0, 0, 0]].concat();
        (S, [method(1, 60, 71, &arguments), header(1, body)].concat())
    };
    let get = (C, method(1, 60, 70, b"\0\0\x01q\0"));
    let told = talk(&[get.clone(), got(1 << 40), get, got(0)]);
    let want =
        ["unfinished_message", "malformed", "basic.get q unknown", "basic.get q ok", "delivered 1000000000001 q"];
    assert_eq!(told, want);
}

#[test]
fn what_is_held_is_bounded() {
    let mut d = Amqp::new(Salt(1, 2), false);
    let mut told = listener();
    let mut say = |from, bytes: &[u8]| {
        d.bytes(from, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut told.sink());
        assert!(d.memory() < 2 << 20, "{}", d.memory());
        told.events.clear();
    };
    say(C, GREETING);
    let body = "x".repeat(20_000);
    for channel in 1..1000 {
        say(C, &method(channel, 85, 10, b"\0"));
        // Publications that are never confirmed, one that never ends, and deliveries that are never settled.
        say(C, &publish(channel, "a", &body));
        say(C, &publish(channel, "a", &body)[..15_000]);
        say(C, &[&body.as_bytes()[..20_000 - 14_961], &[0xce]].concat());
        for tag in 1..30 {
            say(S, &deliver(channel, tag, "q"));
        }
    }
}
