//! Streams that cross each other, holes, and what no peer sends.

use std::collections::BTreeMap;

use super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE,
};
use super::writing::{frame, get, kept, literal};
use super::*;
use crate::decode::{Disturbance, Mark, SessionStart};
use crate::model::{Claim, Fingerprint, MarkerPlace, Operation, Slot, Sym, TxStatus};

/// What is told, in words.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    names: Vec<String>,
}

impl Sink for Told {
    fn claim(&mut self, _: Slot, _: &str, _: &str) -> Claim {
        Claim::Neutral
    }
    fn setting_binds(&self, _: &str) -> bool {
        false
    }
    fn marker(&mut self, _: MarkerPlace, name: &str, value: &str) -> Claim {
        self.lines.push(format!("{name}={value}"));
        Claim::Tenant(crate::model::TenantId(u32::try_from(value.len()).unwrap()))
    }
    fn intern(&mut self, name: &str) -> Sym {
        let at = self.names.iter().position(|n| n == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        Sym(u32::try_from(at).unwrap() + 2)
    }
    fn started(&mut self, _: SessionStart) {}
    fn mark(&mut self, request: u64, _: Side, mark: Mark) {
        if let Mark::Trace(_) = mark {
            self.lines.push(format!("trace {request}"));
        }
    }
    fn begun(&mut self, request: u64, _: Nanos, print: Option<Fingerprint>) {
        self.lines.push(format!("begun {request}{}", if print.is_some() { "" } else { " in part" }));
    }
    fn done(&mut self, op: &Operation) {
        let name = |s: Sym| self.names.get((s.0 as usize).wrapping_sub(2)).cloned().unwrap_or_default();
        let by = if op.credential.is_some() { " by" } else { "" };
        let of = match op.marker {
            Claim::Neutral => String::new(),
            other => format!(" {other:?}"),
        };
        let line = format!("{} {} {}{by}{of} {}", op.request, name(op.verb), name(op.target), op.outcome.name());
        self.lines.push(line);
    }
    fn answered(&mut self, _: u64, _: Nanos, _: Option<Fingerprint>) {}
    fn unmatched_reply(&mut self, _: Nanos, _: &'static str) {
        self.lines.push("unmatched".to_owned());
    }
    fn concurrent(&mut self) {
        self.lines.push("concurrent".to_owned());
    }
    fn status(&mut self, _: Nanos, _: TxStatus) {}
    fn disturbed(&mut self, _: Nanos, why: Disturbance) {
        self.lines.push(format!("disturbed {}", why.name()));
    }
    fn opaque(&mut self, _: Nanos, why: &'static str) {
        self.lines.push(format!("opaque {why}"));
    }
    fn decode_error(&mut self, kind: DecodeError) {
        self.lines.push(format!("error {kind}"));
    }
}

const OK: &[u8] = &[0x88];

struct Talk {
    decoder: Lifecycle<Http2>,
    told: Told,
    at: u64,
}

impl Talk {
    fn new(mid_stream: bool) -> Self {
        let shared = Shared::new(crate::model::HeaderPolicy::default());
        let semantics = Semantics::new(Salt(1, 2), &shared, None);
        Self { decoder: lifecycle(mid_stream, semantics), told: Told::default(), at: 0 }
    }

    /// A connection whose two ends have greeted each other.
    fn greeted() -> Self {
        let mut talk = Self::new(false);
        talk.says(Side::Client, &[PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat());
        talk.says(Side::Server, &[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat());
        talk.told.lines.clear();
        talk
    }

    fn says(&mut self, from: Side, bytes: &[u8]) {
        self.at += 1;
        let chunk = Chunk { at: Nanos(self.at), bytes, ends_segment: true };
        self.decoder.bytes(from, chunk, &mut self.told);
    }

    fn misses(&mut self, from: Side, n: usize) {
        self.at += 1;
        self.decoder.missing(from, Nanos(self.at), n as u64, &mut self.told);
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told.lines)
    }
}

use Side::{Client as C, Server as S};

#[test]
fn streams_cross_each_other() {
    let mut talk = Talk::greeted();
    talk.says(C, &frame(HEADERS, END_HEADERS, 1, &get("/a", &[literal("x-tenant-id", "acme")])));
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/b", &[literal("authorization", "Bearer x")])));
    talk.says(S, &[frame(HEADERS, END_HEADERS, 3, OK), frame(DATA, END_STREAM, 3, b"body")].concat());
    assert_eq!(talk.told(), ["x-tenant-id=acme", "begun 2", "2 GET /b by ok"]);
    talk.says(C, &[frame(DATA, PADDED, 1, b"\x02abc\0\0"), frame(DATA, END_STREAM, 1, b"d")].concat());
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x8d]));
    assert_eq!(talk.told(), ["begun 1", "1 GET /a Tenant(TenantId(4)) error"]);
    // What comes for a stream that is over says nothing.
    talk.says(S, &[frame(DATA, 0, 3, b"late"), frame(RST_STREAM, 0, 3, &[0; 4])].concat());
    talk.decoder.closed(Nanos(99), &mut talk.told);
    assert!(talk.told().is_empty());
}

#[test]
fn blocks_in_several_frames_and_what_comes_between() {
    let mut talk = Talk::greeted();
    let block = get("/a", &[kept("x-tenant-id", "acme")]);
    let (a, b) = block.split_at(7);
    let mut bytes = frame(HEADERS, END_STREAM, 1, a);
    bytes.extend(frame(CONTINUATION, 0, 1, b""));
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, b));
    for byte in bytes {
        talk.says(C, &[byte]);
    }
    assert_eq!(talk.told(), ["x-tenant-id=acme", "begun 1"]);
    for bad in [frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 3, b), frame(HEADERS, END_HEADERS, 1, b)] {
        let mut talk = Talk::greeted();
        talk.says(C, &[frame(HEADERS, 0, 1, a), bad].concat());
        assert_eq!(talk.told(), ["error continuation", "disturbed malformed"]);
    }
    let mut talk = Talk::greeted();
    talk.says(C, &frame(CONTINUATION, END_HEADERS, 1, b));
    assert_eq!(talk.told(), ["error continuation", "disturbed malformed"]);
}

#[test]
fn informational_answers_trailers_and_pushes() {
    let mut talk = Talk::greeted();
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/a", &[])));
    talk.says(S, &frame(HEADERS, END_HEADERS, 1, &literal(":status", "103")));
    // A pushed request changes the table like any other block.
    let promise = [2u32.to_be_bytes().to_vec(), get("/pushed", &[kept(":status", "404")])].concat();
    talk.says(S, &frame(PUSH_PROMISE, END_HEADERS, 1, &promise));
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 2, OK));
    talk.says(S, &frame(HEADERS, END_HEADERS, 1, &[0xbe]));
    talk.says(S, &frame(DATA, 0, 1, b"body"));
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &literal("checksum", "1")));
    assert_eq!(talk.told(), ["begun 1", "0 push  unknown", "1 GET /a error"]);
}

#[test]
fn streams_that_are_broken_off_or_refused() {
    let mut talk = Talk::greeted();
    for (stream, path) in [(1, "/one"), (3, "/three"), (5, "/five"), (7, "/seven"), (9, "/nine")] {
        talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(path, &[])));
    }
    talk.told();
    talk.says(S, &frame(HEADERS, END_HEADERS, 3, OK));
    talk.says(S, &[frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]), frame(RST_STREAM, 0, 3, &[0, 0, 0, 2])].concat());
    talk.says(C, &frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]));
    talk.says(S, &frame(GOAWAY, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 0]));
    assert_eq!(talk.told(), ["1 GET /one error", "2 GET /three unknown", "3 GET /five unknown", "5 GET /nine error"]);
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 7, OK));
    assert_eq!(talk.told(), ["4 GET /seven ok"]);
}

#[test]
fn an_answer_that_comes_first_and_one_that_nobody_asked_for() {
    let mut talk = Talk::greeted();
    talk.says(C, &frame(HEADERS, END_HEADERS, 1, &get("/a", &[])));
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
    talk.says(C, &frame(DATA, END_STREAM, 1, b"late"));
    assert_eq!(talk.told(), ["begun 1 in part", "1 GET /a ok"]);
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 3, OK));
    assert_eq!(talk.told(), ["error unsolicited_response", "unmatched"]);
    let mut late = Talk::new(true);
    late.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/a", &[])));
    late.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 3, OK));
    assert!(!late.told().contains(&"unmatched".to_owned()));
}

#[test]
fn a_tunnel_is_told_when_it_is_accepted_and_not_read() {
    let mut talk = Talk::greeted();
    let block = [literal(":method", "CONNECT"), literal(":authority", "x:1")].concat();
    talk.says(C, &frame(HEADERS, END_HEADERS, 1, &block));
    talk.says(S, &frame(HEADERS, END_HEADERS, 1, OK));
    talk.says(C, &frame(DATA, 0, 1, b"GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(talk.told(), ["begun 1 in part", "1 CONNECT {id} ok"]);
}

#[test]
fn a_hole_in_a_body_costs_that_body_and_nothing_else() {
    let mut talk = Talk::greeted();
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/a", &[])));
    talk.says(C, &frame(HEADERS, END_HEADERS, 3, &get("/b", &[])));
    let body = frame(DATA, END_STREAM, 3, &[b'x'; 100]);
    talk.says(C, &body[..20]);
    talk.misses(C, body.len() - 20);
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 3, OK));
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
    assert_eq!(talk.told(), ["begun 1", "begun 2 in part", "2 GET /b ok", "1 GET /a ok"]);
}

#[test]
fn a_hole_in_a_header_block_leaves_what_is_put_into_the_table_later() {
    let mut talk = Talk::greeted();
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/a", &[kept("x-tenant-id", "acme")])));
    let lost = frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/b", &[kept("x-tenant-id", "globex")]));
    talk.says(C, &lost[..12]);
    talk.misses(C, lost.len() - 12);
    assert_eq!(talk.told(), ["x-tenant-id=acme", "begun 1", "disturbed gap", "1 GET /a Tenant(TenantId(4)) unknown"]);
    // 62 would be `acme` if the block had not been there, and is not known.
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 5, &get("/c", &[vec![0xbe]])));
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 7, &get("/d", &[kept("x-tenant-id", "hooli")])));
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 9, &get("/e", &[vec![0xbe]])));
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 11, &get("/f", &[vec![0xbf]])));
    for stream in [5, 7, 9, 11] {
        talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, stream, OK));
    }
    let told = talk.told();
    let ops: Vec<_> = told.iter().filter(|l| l.contains("GET")).collect();
    assert_eq!(
        ops,
        [
            "2 GET /c Unreadable unknown",
            "3 GET /d Tenant(TenantId(5)) ok",
            "4 GET /e Tenant(TenantId(5)) ok",
            "5 GET /f Unreadable unknown"
        ]
    );
}

#[test]
fn a_credential_that_stands_there_counts_beside_what_is_not_known() {
    let mut talk = Talk::new(true);
    let token = literal("authorization", "Bearer x");
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 41, &get("/a", &[vec![0xbe], token.clone()])));
    let unknown_path = [vec![0x82, 0x86, 0xbf], token].concat();
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 43, &unknown_path));
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 39, OK));
    talk.told();
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 45, &get("/a", &[vec![0xbe], literal("api-key", "k")])));
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 47, &unknown_path));
    talk.says(
        S,
        &[frame(HEADERS, END_HEADERS | END_STREAM, 47, OK), frame(HEADERS, END_HEADERS | END_STREAM, 45, OK)].concat(),
    );
    assert_eq!(
        talk.told(),
        ["begun 3 in part", "begun 4 in part", "4 GET  by Unreadable unknown", "3 GET /a by Unreadable ok"]
    );
}

#[test]
fn the_place_is_found_again_and_who_asked_before_may_have_been_answered() {
    let mut talk = Talk::greeted();
    let one = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/a", &[]));
    talk.says(C, &one);
    talk.misses(S, 30);
    assert_eq!(talk.told(), ["begun 1", "disturbed gap", "1 GET /a unknown"]);
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/b", &[])));
    talk.says(S, b"no frame");
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
    assert_eq!(talk.told(), ["begun 2", "2 GET /b unknown"]);
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 5, &get("/c", &[])));
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 5, OK));
    assert_eq!(talk.told(), ["begun 3", "3 GET /c ok"]);
}

#[test]
fn what_is_followed_is_bounded() {
    let mut talk = Talk::greeted();
    for n in 0..=u32::try_from(MAX_STREAMS).unwrap() {
        let block = get("/a", &[kept(&format!("name-{n}"), &"v".repeat(120))]);
        talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block));
    }
    let told = talk.told();
    let open = told.iter().filter(|l| l.starts_with("begun")).count();
    assert_eq!((open, talk.decoder.talk.streams.len()), (MAX_STREAMS + 1, MAX_STREAMS));
    assert_eq!(told[told.len() - 3..], ["error too_many_requests", "begun 257 in part", "257 GET /a unknown"]);
    assert!(talk.decoder.memory() < 1 << 20, "{}", talk.decoder.memory());
    // A block of exactly the bound is read, one byte more is not.
    for (more, read) in [(0, true), (1, false)] {
        let mut talk = Talk::greeted();
        let mut block = get("/a", &[]);
        block.resize(MAX_BLOCK + more, 0x82);
        let mut parts: Vec<Vec<u8>> = block.chunks(16 << 10).map(|part| frame(CONTINUATION, 0, 1, part)).collect();
        parts[0][3] = HEADERS;
        let last = parts.len() - 1;
        parts[last][4] = END_HEADERS;
        parts.iter().for_each(|part| talk.says(C, part));
        assert_eq!(talk.told().is_empty(), read);
        assert_eq!(talk.decoder.talk.streams.len(), usize::from(read));
    }
}

#[test]
fn what_is_no_http2_is_given_up() {
    let mut talk = Talk::new(false);
    for _ in 0..8 {
        talk.says(C, b"GET / HTTP/1.1\r\n\r\n");
        talk.says(C, &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
        talk.says(C, &frame(PING, 0, 0, &[0; 3]));
    }
    assert_eq!(talk.told().last().unwrap(), "opaque malformed");
}

#[test]
fn however_a_talk_is_cut_the_same_is_told() {
    let client = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(HEADERS, END_HEADERS, 1, &get("/a", &[kept("x-tenant-id", "acme")])),
        frame(DATA, PADDED, 1, b"\x01a\0"),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/b", &[vec![0xbe]])),
        frame(DATA, END_STREAM, 1, b"b"),
    ]
    .concat();
    let server = [
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, OK),
        frame(HEADERS, END_HEADERS, 1, OK),
        frame(DATA, END_STREAM, 1, b"done"),
    ]
    .concat();
    let mut all: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for (from, n) in [(C, client.len()), (S, server.len())] {
        for cut in 0..n {
            let mut talk = Talk::new(false);
            for (side, bytes) in [(C, &client), (S, &server)] {
                let (a, b) = bytes.split_at(if side == from { cut } else { 0 });
                talk.says(side, a);
                talk.says(side, b);
            }
            talk.decoder.closed(Nanos(99), &mut talk.told);
            *all.entry(talk.told()).or_default() += 1;
        }
    }
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(all.keys().all(|told| told.iter().filter(|l| l.ends_with(" ok")).count() == 2), "{all:#?}");
}

#[test]
fn an_outcome_of_a_request_that_is_not_as_it_should_be() {
    let mut talk = Talk::greeted();
    let twice = get("/a", &[literal(":path", "/b")]);
    talk.says(C, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &twice));
    talk.says(S, &frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
    assert_eq!(talk.told().last().unwrap(), "1 GET /a unknown");
}
