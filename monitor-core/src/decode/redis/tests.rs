//! What Redis conversations mean, told step by step.

mod libraries;

use super::*;
use crate::decode::{DecodeError, Disturbance, SessionStart};
use crate::model::{Claim, Effect, Fingerprint, OpKind, Operation, Slot, Sym, TenantId};

#[derive(Default)]
struct Told {
    lines: Vec<String>,
    names: Vec<String>,
}

impl Sink for Told {
    fn claim(&mut self, _: Slot, _: &str, value: &str) -> Claim {
        match value {
            "tenant_a" => Claim::Tenant(TenantId(0)),
            "tenant_b" => Claim::Tenant(TenantId(1)),
            _ => Claim::Neutral,
        }
    }
    fn setting_binds(&self, _: &str) -> bool {
        false
    }
    fn intern(&mut self, name: &str) -> Sym {
        self.names.push(name.to_owned());
        Sym(self.names.len() as u32 + 1)
    }
    fn started(&mut self, _: SessionStart) {}
    fn begun(&mut self, _: u64, _: Nanos, _: Option<Fingerprint>) {}
    fn done(&mut self, op: &Operation) {
        let name = |s: Sym| self.names.get((s.0 as usize).wrapping_sub(2)).cloned().unwrap_or_default();
        let effect = match op.effect {
            Effect::Bind { claim, .. } => format!(" binds {claim:?}"),
            Effect::Reset { .. } => " resets".to_owned(),
            _ => String::new(),
        };
        let kind = if op.kind == OpKind::Data { "" } else { "*" };
        self.lines.push(format!("{kind}{} {} {}{effect}", name(op.verb), name(op.target), op.outcome.name()));
    }
    fn answered(&mut self, _: u64, _: Nanos, _: Option<Fingerprint>) {}
    fn status(&mut self, _: Nanos, status: TxStatus) {
        self.lines.push(format!("{status:?}"));
    }
    fn disturbed(&mut self, _: Nanos, why: Disturbance) {
        self.lines.push(why.name().to_owned());
    }
    fn opaque(&mut self, _: Nanos, why: &'static str) {
        self.lines.push(why.to_owned());
    }
    fn decode_error(&mut self, error: DecodeError) {
        self.lines.push(error.name().to_owned());
    }
    fn unmatched_reply(&mut self, _: Nanos, _: &'static str) {
        self.lines.push("unmatched".to_owned());
    }
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
    let mut told = Told::default();
    for step in steps {
        let (from, bytes) = match step.strip_prefix("> ") {
            Some(c) => (Side::Client, command(&c.split(' ').collect::<Vec<_>>())),
            None => (Side::Server, step.as_bytes().to_vec()),
        };
        d.bytes(from, Chunk { at: Nanos(1), bytes: &bytes, ends_segment: true }, &mut told);
    }
    told.lines
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
        let mut told = Told::default();
        for _ in 0..20 {
            let mut say = |from, bytes: &[u8]| {
                d.bytes(from, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut told);
            };
            if answered {
                say(Side::Client, &command(&["PING"]));
                say(Side::Server, b"+PONG\r\n");
            }
            say(Side::Client, &[&command(&["PING"])[..], b"*x\r\n"].concat());
        }
        told.lines.iter().filter(|l| *l == "array_length").count()
    };
    assert_eq!((feed(false), feed(true)), (8, 20));
}

#[test]
fn who_waits_when_the_connection_leaves_the_protocol_is_not_forgotten() {
    let lines = talk(false, &["> MONITOR", "> GET a", "+OK\r\n", "+1700000000.1 [0 127.0.0.1:5] \"GET\" \"a\"\r\n"]);
    assert_eq!(lines, ["*MONITOR  ok", "GET a unknown", "monitor"]);
}

/// Counts marks.
#[derive(Default)]
struct Marks(Vec<Mark>);

impl Sink for Marks {
    fn claim(&mut self, _: Slot, _: &str, _: &str) -> Claim {
        Claim::Neutral
    }
    fn setting_binds(&self, _: &str) -> bool {
        false
    }
    fn wants_values(&self, _: Side) -> bool {
        true
    }
    fn mark(&mut self, _: u64, _: Side, mark: Mark) {
        self.0.push(mark);
    }
    fn intern(&mut self, _: &str) -> Sym {
        Sym::EMPTY
    }
    fn started(&mut self, _: SessionStart) {}
    fn begun(&mut self, _: u64, _: Nanos, _: Option<Fingerprint>) {}
    fn done(&mut self, _: &Operation) {}
    fn answered(&mut self, _: u64, _: Nanos, _: Option<Fingerprint>) {}
    fn status(&mut self, _: Nanos, _: TxStatus) {}
    fn disturbed(&mut self, _: Nanos, _: Disturbance) {}
    fn opaque(&mut self, _: Nanos, _: &'static str) {}
    fn decode_error(&mut self, _: DecodeError) {}
}

#[test]
fn the_words_of_a_key_are_marks() {
    let id = "7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11";
    let mut d = Redis::new(Salt(1, 2), false, &Shared::default());
    let mut told = Marks::default();
    let bytes = command(&["GET", &format!("acme:orders:{id}")]);
    d.bytes(Side::Client, Chunk { at: Nanos(1), bytes: &bytes, ends_segment: true }, &mut told);
    let mut wanted = Vec::new();
    for word in ["acme", "orders", id] {
        crate::decode::values::values(Salt(1, 2), word.as_bytes(), &mut |v| wanted.push(Mark::Value(v)));
    }
    assert_eq!(told.0, wanted);
}
