//! What Redis conversations mean, told step by step.

mod libraries;

use super::*;
use crate::decode::WireEvent;
use crate::decode::testing::Told;
use crate::model::{Claim, Effect, OpKind, TenantId};

/// Knows two users, one of each of two tenants.
fn listener() -> Told {
    let claim = |value: &str| match value {
        "tenant_a" => Claim::Tenant(TenantId(0)),
        "tenant_b" => Claim::Tenant(TenantId(1)),
        _ => Claim::Neutral,
    };
    Told::default().claiming(claim)
}

fn lines(told: &Told) -> Vec<String> {
    told.lines(|event| match event {
        WireEvent::Done(op) => {
            let effect = match op.effect {
                Effect::Bind { claim, .. } => format!(" binds {claim:?}"),
                Effect::Reset { .. } => " resets".to_owned(),
                _ => String::new(),
            };
            let kind = if op.kind == OpKind::Data { "" } else { "*" };
            Some(format!("{kind}{} {} {}{effect}", told.name(op.verb), told.name(op.target), op.outcome.name()))
        }
        WireEvent::Status { status, .. } => Some(format!("{status:?}")),
        _ => None,
    })
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        out.extend(format!("${}\r\n{w}\r\n", w.len()).into_bytes());
    }
    out
}

/// Steps: a command starts with `> `, a reply is given raw.
fn talk(mid_stream: bool, steps: &[&str]) -> Vec<String> {
    let mut d = Redis::new(Salt(1, 2), mid_stream, &Shared::default());
    let mut told = listener();
    for step in steps {
        let (from, bytes) = match step.strip_prefix("> ") {
            Some(c) => (Side::Client, command(&c.split(' ').collect::<Vec<_>>())),
            None => (Side::Server, step.as_bytes().to_vec()),
        };
        d.bytes(from, Chunk { at: Nanos(1), bytes: &bytes, ends_segment: true }, &mut told.sink());
    }
    lines(&told)
}

#[test]
fn a_refused_login_keeps_the_old_user_and_a_reset_forgets_it() {
    let lines = talk(
        false,
        &["> AUTH tenant_a pw", "+OK\r\n", "> AUTH tenant_b pw", "-WRONGPASS no\r\n", "> RESET", "+RESET\r\n"],
    );
    assert_eq!(
        lines,
        [
            "*AUTH  ok binds Tenant(TenantId(0))",
            "Idle",
            "*AUTH  error binds Tenant(TenantId(1))",
            "Idle",
            "*RESET  ok resets",
            "Idle"
        ]
    );
}

#[test]
fn a_redirect_is_no_outcome_of_a_read_and_modules_commands_have_their_keys() {
    let lines = talk(
        false,
        &[
            "> GET k",
            "-MOVED 3999 127.0.0.1:6381\r\n",
            "> ASKING",
            "+OK\r\n",
            "> GET k",
            "-ASK 3999 127.0.0.1:6381\r\n",
        ],
    );
    let reads: Vec<_> = lines.iter().filter(|l| l.starts_with("GET")).collect();
    assert_eq!(reads, ["GET k error", "GET k error"], "{lines:?}");
    for (said, told) in [
        ("FT.SEARCH acme:docs (@tag:{x})", "FT.SEARCH acme:docs ok"),
        ("GRAPH.QUERY social q", "GRAPH.QUERY social ok"),
        ("JSON.GET doc $", "JSON.GET doc ok"),
        ("FT._LIST", "*FT._LIST  ok"),
    ] {
        let lines = talk(false, &[&format!("> {said}"), "+OK\r\n"]);
        assert!(lines.iter().any(|l| l == told), "{said}: {lines:?}");
    }
}

#[test]
fn a_transaction_is_told_at_its_end() {
    let lines = talk(
        false,
        &[
            "> MULTI",
            "+OK\r\n",
            "> SET a:1 x",
            "+QUEUED\r\n",
            "> INCR b:22",
            "+QUEUED\r\n",
            "> EXEC",
            "*2\r\n+OK\r\n-ERR no\r\n",
        ],
    );
    assert_eq!(lines, ["*MULTI  ok", "Open", "SET a:{id} ok", "INCR b:{id} error", "*EXEC  ok", "Idle"]);
    let refused = talk(false, &["> MULTI", "+OK\r\n", "> GET k", "+QUEUED\r\n", "> EXEC", "-EXECABORT x\r\n"]);
    assert_eq!(refused, ["*MULTI  ok", "Open", "GET k error", "*EXEC  error", "Idle"]);
}

#[test]
fn messages_answer_nobody() {
    let lines = talk(
        false,
        &[
            "> SUBSCRIBE c d",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nd\r\n:2\r\n",
            "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n",
            ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
            "> GET k",
            "$1\r\nv\r\n",
        ],
    );
    // The message is a delivery of its own (`*`: nobody asked for it); an invalidation is nothing.
    assert_eq!(lines, ["SUBSCRIBE c ok", "Idle", "*message c ok", "GET k ok", "Idle"]);
}

#[test]
fn silent_commands_wait_for_nothing() {
    let lines =
        talk(false, &["> CLIENT REPLY OFF", "> SET k v", "> CLIENT REPLY ON", "+OK\r\n", "> GET k", "$1\r\nv\r\n"]);
    assert_eq!(lines.iter().filter(|l| *l == "unmatched").count(), 0, "{lines:?}");
    assert!(lines.contains(&"SET k unknown".to_owned()) && lines.contains(&"GET k ok".to_owned()), "{lines:?}");
    let skip = talk(false, &["> CLIENT REPLY SKIP", "> SET k v", "> GET k", "$1\r\nv\r\n"]);
    assert!(skip.contains(&"GET k ok".to_owned()), "{skip:?}");
}

#[test]
fn after_something_was_missed_replies_belong_to_nobody_for_a_while() {
    let lines = talk(true, &["+OK\r\n", "> GET a", "$1\r\nv\r\n", "> GET b", "$1\r\nv\r\n", "> GET c", "$1\r\nv\r\n"]);
    assert_eq!(lines, ["mid_stream", "GET a unknown", "Idle", "GET b unknown", "Idle", "GET c ok", "Idle"]);
}

#[test]
fn a_reply_too_many_is_told() {
    let lines = talk(false, &["> GET a", "$1\r\nv\r\n", "$1\r\nw\r\n"]);
    assert_eq!(lines, ["GET a ok", "Idle", "unsolicited_reply", "unmatched"]);
}

#[test]
fn what_is_never_answered_and_malformed_is_given_up() {
    let feed = |answered: bool| {
        let mut d = Redis::new(Salt(1, 2), false, &Shared::default());
        let mut told = listener();
        for _ in 0..20 {
            let mut say = |from, bytes: &[u8]| {
                d.bytes(from, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut told.sink());
            };
            if answered {
                say(Side::Client, &command(&["PING"]));
                say(Side::Server, b"+PONG\r\n");
            }
            say(Side::Client, &[&command(&["PING"])[..], b"*x\r\n"].concat());
        }
        lines(&told).iter().filter(|l| *l == "array_length").count()
    };
    assert_eq!((feed(false), feed(true)), (8, 20));
}

#[test]
fn who_waits_when_the_connection_leaves_the_protocol_is_not_forgotten() {
    let lines = talk(false, &["> MONITOR", "> GET a", "+OK\r\n", "+1700000000.1 [0 127.0.0.1:5] \"GET\" \"a\"\r\n"]);
    assert_eq!(lines, ["*MONITOR  ok", "GET a unknown", "monitor"]);
}

#[test]
fn the_words_of_a_key_are_marks() {
    let id = "7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11";
    let mut d = Redis::new(Salt(1, 2), false, &Shared::default());
    let mut told = Told::default().with_values();
    let bytes = command(&["GET", &format!("acme:orders:{id}")]);
    d.bytes(Side::Client, Chunk { at: Nanos(1), bytes: &bytes, ends_segment: true }, &mut told.sink());
    let mut wanted = Vec::new();
    for word in ["acme", "orders", id] {
        crate::decode::values::values(Salt(1, 2), word.as_bytes(), &mut |v| wanted.push(Mark::Value(v)));
    }
    let marks =
        told.events.iter().filter_map(|e| if let WireEvent::Mark { mark, .. } = e { Some(*mark) } else { None });
    assert_eq!(marks.collect::<Vec<_>>(), wanted);
}
