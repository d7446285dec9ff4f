//! Messages of job libraries whose content is not where their queue is: in a hash beside it, or in a script's arguments.

use std::io::Write as _;

use super::super::*;
use crate::decode::SessionStart;
use crate::model::queue::Message;
use crate::model::{Claim, Fingerprint, MarkerPlace, Operation, Slot, Sym, TenantId};

/// Knows acme, and keeps what becomes of messages.
#[derive(Default)]
struct Told {
    events: Vec<QueueEvent>,
    kinds: Vec<crate::model::OpKind>,
}

impl Sink for Told {
    fn claim(&mut self, _: Slot, _: &str, _: &str) -> Claim {
        Claim::Neutral
    }
    fn setting_binds(&self, _: &str) -> bool {
        false
    }
    fn marker(&mut self, place: MarkerPlace, _: &str, value: &str) -> Claim {
        match place {
            _ if value == "acme" => Claim::Tenant(TenantId(0)),
            MarkerPlace::KeyPrefix => Claim::Neutral,
            _ => Claim::Unreadable,
        }
    }
    fn intern(&mut self, name: &str) -> Sym {
        Sym(name.len() as u32)
    }
    fn started(&mut self, _: SessionStart) {}
    fn begun(&mut self, _: u64, _: Nanos, _: Option<Fingerprint>) {}
    fn done(&mut self, op: &Operation) {
        self.kinds.push(op.kind);
    }
    fn answered(&mut self, _: u64, _: Nanos, _: Option<Fingerprint>) {}
    fn status(&mut self, _: Nanos, _: TxStatus) {}
    fn disturbed(&mut self, _: Nanos, _: Disturbance) {}
    fn opaque(&mut self, _: Nanos, _: &'static str) {}
    fn decode_error(&mut self, _: &'static str) {}
    fn queue(&mut self, event: QueueEvent) {
        self.events.push(event);
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        out.extend(format!("${}\r\n", w.len()).into_bytes());
        out.extend_from_slice(w);
        out.extend(b"\r\n");
    }
    out
}

struct Talk {
    redis: Redis,
    told: Told,
}

impl Talk {
    fn new() -> Self {
        Self { redis: Redis::new(Salt(1, 2), false, &Shared::default()), told: Told::default() }
    }

    fn from(&mut self, side: Side, bytes: &[u8]) {
        self.redis.bytes(side, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut self.told);
    }

    fn run(&mut self, words: &[&[u8]], reply: &[u8]) {
        self.from(Side::Client, &command(words));
        self.from(Side::Server, reply);
    }
}

const ID: &[u8] = b"7f3d9a52-0c41-4be8-9d17-62ab8e50f1c9";

/// As `pickle.dumps(("app.send", None, (), {name: …}), protocol=4)`, compressed as RQ does.
fn job(name: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x04(\x8c\x08app.send\x94N)}\x94\x8c".to_vec();
    pickle.push(u8::try_from(name.len()).unwrap());
    pickle.extend(name.as_bytes());
    pickle.extend(b"\x94\x8c\x04");
    pickle.extend(if name == "tenant_id" { b"acme" } else { b"4711" });
    pickle.extend(b"\x94s\x86\x94.");
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(&pickle).unwrap();
    out.finish().unwrap()
}

/// RQ's own way to hand over a job, with so many bytes missing of its data.
fn enqueued(data: &[u8], description: &[u8], missing: u64) -> Message {
    let mut t = Talk::new();
    t.run(&[b"MULTI"], b"+OK\r\n");
    let key = [b"rq:job:", ID].concat();
    let whole = command(&[b"HSET", &key, b"status", b"queued", b"data", data, b"description", description]);
    let at = memchr::memmem::find(&whole, data).unwrap();
    let cut = usize::try_from(missing).unwrap();
    t.from(Side::Client, &whole[..at]);
    if missing > 0 {
        t.redis.missing(Side::Client, Nanos(1), missing, &mut t.told);
    }
    t.from(Side::Client, &whole[at + cut..]);
    t.from(Side::Server, b"+QUEUED\r\n");
    t.run(&[b"RPUSH", b"rq:queue:default", ID], b"+QUEUED\r\n");
    t.run(&[b"EXEC"], b"*2\r\n:8\r\n:1\r\n");
    let published = t.told.events.into_iter().find_map(|e| match e {
        QueueEvent::Published(m) => Some(m),
        _ => None,
    });
    published.expect("published")
}

#[test]
fn an_id_is_followed_to_what_was_said_of_it() {
    let m = enqueued(&job("tenant_id"), b"app.send(7)", 0);
    assert_eq!((m.labelled, m.marker, m.readable), (true, Claim::Tenant(TenantId(0)), true));
    let m = enqueued(&job("order"), b"app.send(7)", 0);
    assert_eq!((m.labelled, m.marker, m.readable), (false, Claim::Neutral, true), "all was read, and it names nobody");
    let m = enqueued(&job("order"), b"app.send('acme', 7)", 0);
    assert_eq!((m.labelled, m.readable), (true, true), "an argument without a name");
}

#[test]
fn what_was_not_seen_whole_is_not_read() {
    let m = enqueued(&job("order"), b"app.send(7)", 5);
    assert_eq!((m.labelled, m.readable), (false, false));
    let m = enqueued(b"\x80\xff\xfe sealed \x00\x01", b"app.send(7)", 0);
    assert!(!m.readable, "nobody can read it");
    let mut t = Talk::new();
    t.run(&[b"RPUSH", b"rq:queue:default", ID], b":1\r\n");
    assert!(matches!(&t.told.events[..], [QueueEvent::Published(m)] if !m.readable));
}

fn dispatch<'a>(order: &'a [u8], more: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let head: [&[u8]; 12] = [
        b"EVALSHA",
        b"0123456789012345678901234567890123456789",
        b"1",
        b"dramatiq",
        order,
        b"1700000000000",
        b"default",
        b"5e2f",
        b"60000",
        b"604800000",
        b"0",
        b"7999",
    ];
    head.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn dramatiqs_script_adds_takes_and_ends_jobs() {
    use crate::model::OpKind::{Ack, Control, Deliver, Publish};
    let body = format!(
        "{{\"queue_name\":\"default\",\"args\":[],\"kwargs\":{{\"tenant\":\"acme\"}},\"options\":{{\"redis_message_id\":\"{}\"}},\
         \"message_id\":\"m1\"}}",
        std::str::from_utf8(ID).unwrap()
    );
    let mut t = Talk::new();
    t.run(&dispatch(b"enqueue", &[ID, body.as_bytes()]), b"$-1\r\n");
    t.run(&dispatch(b"fetch", &[b"2"]), b"*0\r\n");
    let handed = format!("*1\r\n${}\r\n{body}\r\n", body.len());
    t.run(&dispatch(b"fetch", &[b"2"]), handed.as_bytes());
    t.run(&dispatch(b"ack", &[ID]), b"$-1\r\n");
    t.run(&dispatch(b"qsize", &[]), b":0\r\n");
    assert_eq!(t.told.kinds, [Publish, Control, Deliver, Ack, Control]);
    let [QueueEvent::Published(m), QueueEvent::Delivered(d), QueueEvent::Settled(s)] = &t.told.events[..] else {
        panic!("{:#?}", t.told.events)
    };
    assert!(m.labelled && m.readable && d.awaits_ack);
    assert_eq!((m.place, m.print, &m.ids), (d.message.place, d.message.print, &d.message.ids));
    assert_eq!(d.handle, s.handle);
    // Somebody else's script of one key is no queue.
    let mut t = Talk::new();
    t.run(&[b"EVALSHA", b"0123", b"1", b"counters", b"enqueue", b"now"], b":1\r\n");
    assert!(t.told.events.is_empty());
}
