//! A protocol on top of HTTP.

use std::cell::RefCell;
use std::rc::Rc;

use monitor_core::decode::body::{RequestHead, ResponseHead};
use monitor_core::decode::{Chunk, Sink};
use monitor_core::model::{Nanos, Operation};

use super::common::Recorder;
use super::*;

/// Writes down what a protocol on top gets to see, and says its own operations.
#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<String>>>);

impl BodyReader for Notes {
    fn request(&mut self, n: u64, head: &RequestHead<'_>, _: Nanos, _: &mut dyn Sink) -> bool {
        let of_interest = head.target == "/mcp";
        if of_interest {
            let session = head.header("MCP-Session-Id").unwrap_or("-");
            self.0.borrow_mut().push(format!("{n} {} {session}", head.method));
        }
        of_interest
    }
    fn response(&mut self, n: u64, head: &ResponseHead<'_>, _: Nanos, _: &mut dyn Sink) {
        let kind = head.header("content-type").unwrap_or("-");
        self.0.borrow_mut().push(format!("{n} {} {kind}", head.status));
    }
    fn bytes(&mut self, n: u64, from: Side, bytes: &[u8], _: Nanos, _: &mut dyn Sink) {
        self.0.borrow_mut().push(format!("{n} {} {}", from.name(), String::from_utf8_lossy(bytes)));
    }
    fn missing(&mut self, n: u64, from: Side, _: u64, _: Nanos, _: &mut dyn Sink) {
        self.0.borrow_mut().push(format!("{n} {} missing", from.name()));
    }
    fn end(&mut self, n: u64, from: Side, _: Nanos, _: &mut dyn Sink) {
        self.0.borrow_mut().push(format!("{n} {} end", from.name()));
    }
    fn done(&mut self, _: u64, op: Operation, sink: &mut dyn Sink) {
        let verb = sink.intern("tools/call");
        sink.done(&Operation { verb, ..op });
    }
    fn upgraded(&mut self, n: u64, head: &ResponseHead<'_>) -> bool {
        self.0.borrow_mut().push(format!("{n} upgraded {}", head.header("upgrade").unwrap_or("-")));
        true
    }
    fn memory(&self) -> usize {
        0
    }
}

#[test]
fn a_protocol_on_top_sees_bodies_in_pieces_and_says_what_they_are() {
    let notes = Notes::default();
    let (mut decoder, mut out) = (http(false, Some(Box::new(notes.clone()))), Recorder::new());
    let mut say = |from, text: &str| {
        out.hear(|sink| decoder.bytes(from, Chunk { at: Nanos(1), bytes: text.as_bytes(), ends_segment: true }, sink));
    };
    say(C, "GET /other HTTP/1.1\r\n\r\n");
    say(S, OK);
    say(C, "POST /mcp HTTP/1.1\r\nMcp-Session-Id: s1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    say(C, "2\r\ncd\r\n0\r\n\r\n");
    say(S, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n");
    out.hear(|sink| decoder.missing(C, Nanos(2), 0, sink));
    let mut say = |from, text: &str| {
        out.hear(|sink| decoder.bytes(from, Chunk { at: Nanos(2), bytes: text.as_bytes(), ends_segment: true }, sink));
    };
    say(S, "0\r\n\r\n");
    say(C, "GET /mcp HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    say(S, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nraw");
    say(C, "up");
    out.hear(|sink| decoder.closed(Nanos(3), sink));
    assert_eq!(
        *notes.0.borrow(),
        [
            "2 POST s1",
            "2 client ab",
            "2 client cd",
            "2 client end",
            "2 200 text/event-stream",
            "2 server xyz",
            "2 server end",
            "3 GET -",
            "3 client end",
            "3 101 -",
            "3 upgraded websocket",
            "3 server raw",
            "3 client up",
            "3 client end",
            "3 server end"
        ]
    );
    let ops: Vec<_> = out.lines.iter().filter(|l| l.starts_with("  ")).collect();
    assert_eq!(ops[..2], ["  1 Data GET [/other]", "  2 Data tools/call [/mcp]"]);
    assert!(out.open.is_empty());
}
