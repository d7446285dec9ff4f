//! Recorded MCP conversations through the decoder: what it says, however the bytes are cut, and what it does not say
//! when some are missing. And written ones, for what real servers should not do.
//!
//! `golden/mcp/NAME.in` holds all connections of a conversation, a line per segment: number of the connection and side
//! (`1C`, `2S`), then the bytes in hex. `BLESS=1 cargo test -p monitor-core --test mcp` writes the outputs anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use std::collections::{BTreeMap, BTreeSet};

use common::{Recorder, SALT};
use monitor_core::decode::http;
use monitor_core::decode::mcp::{Reader, Shared};
use monitor_core::decode::{Chunk, Decoder, Sink};
use monitor_core::model::{HeaderPolicy, Nanos, Side};

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod packed;
mod recorded;
mod streams;
mod websocket;

const C: Side = Side::Client;
const S: Side = Side::Server;

/// A segment of a conversation: connection, side, bytes.
type Segment = (u32, Side, Vec<u8>);

enum Step<'a> {
    Bytes(u32, Side, &'a [u8], bool),
    Hole(u32, Side, u64),
}

/// A decoder, and what its calls have counted.
type Connection = (Box<dyn Decoder>, (BTreeSet<u64>, u64, u64));

/// The connections of one agent.
struct Agent {
    shared: Shared,
    http: http::Shared,
    connections: BTreeMap<u32, Connection>,
    sink: Recorder,
    at: u64,
    lines: Vec<String>,
}

impl Agent {
    fn new() -> Self {
        Self {
            shared: Shared::default(),
            http: http::Shared::new(HeaderPolicy::default()),
            connections: BTreeMap::new(),
            sink: Recorder::new(),
            at: 0,
            lines: Vec::new(),
        }
    }

    fn with(&mut self, no: u32, act: impl FnOnce(&mut dyn Decoder, &mut dyn Sink, Nanos)) {
        self.at += 1;
        let (decoder, counts) = self.connections.entry(no).or_insert_with(|| {
            let reader = Box::new(Reader::new(SALT, &self.shared));
            (http::decoder(SALT, false, &self.http, Some(reader)), Default::default())
        });
        self.sink.switch(counts);
        self.sink.hear(|sink| act(&mut **decoder, sink, Nanos(self.at)));
        self.sink.switch(counts);
        self.lines.extend(self.sink.lines.drain(..).map(|l| format!("{no} {l}")));
    }

    fn step(&mut self, step: &Step<'_>) {
        let (Step::Bytes(no, ..) | Step::Hole(no, ..)) = step;
        self.with(*no, |decoder, sink, at| {
            match step {
                Step::Bytes(_, from, bytes, ends_segment) => {
                    decoder.bytes(*from, Chunk { at, bytes, ends_segment: *ends_segment }, sink);
                }
                Step::Hole(_, from, n) => decoder.missing(*from, at, *n, sink),
            }
            assert!(decoder.memory() < 5 << 19, "a message of 1 MiB, with the room it grows into");
        });
    }

    fn close(&mut self) {
        let all: Vec<u32> = self.connections.keys().copied().collect();
        for no in all {
            self.with(no, |decoder, sink, at| decoder.closed(at, sink));
            let open = self.connections.get(&no).map(|(_, (open, ..))| open);
            assert!(open.is_some_and(BTreeSet::is_empty), "every request that begins is answered: {open:?}");
        }
    }
}

fn run<'a>(steps: impl Iterator<Item = Step<'a>>) -> Vec<String> {
    let mut agent = Agent::new();
    steps.for_each(|s| agent.step(&s));
    agent.close();
    agent.lines
}

fn whole(segments: &[Segment]) -> Vec<String> {
    run(segments.iter().map(|(no, from, bytes)| Step::Bytes(*no, *from, bytes, true)))
}

/// A written request.
fn post(headers: &str, body: &str) -> String {
    let n = body.len();
    format!(
        "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {n}\r\n\r\n{body}"
    )
}

/// A written answer.
fn reply(status: &str, kind: &str, headers: &str, body: &str) -> String {
    let n = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}Content-Length: {n}\r\n\r\n{body}")
}

fn json(body: &str) -> String {
    reply("200 OK", "application/json", "", body)
}

fn events(bodies: &[&str]) -> String {
    let all: String = bodies.iter().map(|b| format!("event: message\r\ndata: {b}\r\n\r\n")).collect();
    reply("200 OK", "text/event-stream", "", &all)
}

fn talk(lines: &[(u32, Side, String)]) -> Vec<String> {
    run(lines.iter().map(|(no, from, text)| Step::Bytes(*no, *from, text.as_bytes(), true)))
}

fn call(id: u32, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

fn done(id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"ok"}}]}}}}"#)
}

fn mcp(lines: &[String]) -> Vec<&str> {
    lines.iter().filter(|l| l.contains(" mcp ")).map(String::as_str).collect()
}

/// What one call with these headers and arguments is said to be.
fn called(headers: &str, arguments: &str) -> String {
    let got = talk(&[(1, C, post(headers, &call(1, "search", arguments))), (1, S, json(&done(1)))]);
    let all = mcp(&got);
    assert_eq!(all.len(), 1, "{got:?}");
    all.first().unwrap().to_string()
}
