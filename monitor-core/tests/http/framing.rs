//! Where messages begin and end, for strict readers and for patient ones.

#![expect(clippy::disallowed_methods, reason = "one test compares how long things take")]

use std::time::Instant;

use monitor_core::decode::{Appetite, Chunk};
use monitor_core::model::Nanos;

use super::common::Recorder;
use super::*;

#[test]
fn framing_that_two_ends_may_read_differently_is_malformed() {
    let post = |headers: &str, body: &str| (C, format!("POST /a HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}"));
    let cases = [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "conflicting_framing"),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), "content_length"),
        (post("Content-Length: 5, 6\r\n", "hello"), "content_length"),
        (post("Content-Length: +5\r\n", "hello"), "content_length"),
        (post("Content-Length: 0x5\r\n", "hello"), "content_length"),
        (post("Content-Length: 99999999999999999999999\r\n", ""), "content_length"),
        (post("Transfer-Encoding: gzip\r\n", "x"), "transfer_encoding"),
        (post("Transfer-Encoding: chunked, identity\r\n", "x"), "transfer_encoding"),
        (post("Transfer-Encoding: chunked\r\n", "zz\r\n"), "chunk_size"),
        (post("Transfer-Encoding: chunked\r\n", "-1\r\n"), "chunk_size"),
        (post("Transfer-Encoding: chunked\r\n", "11111111111111111\r\n"), "chunk_size"),
        (post("Transfer-Encoding: chunked\r\n", "2\r\nabc"), "chunk_end"),
        (post("Content-Length : 5\r\n", "hello"), "header"),
        ((C, "\u{1}\u{2}\u{3}".to_owned()), "start_line"),
        ((S, "hello there\r\n".to_owned()), "version"),
        (post(&format!("A: {}\r\n", "x".repeat(70_000)), ""), "head_too_long"),
    ];
    for ((from, text), kind) in &cases {
        let got = talk(&[(*from, text), (C, "GET /b HTTP/1.1\r\n\r\n"), (S, OK)]);
        let errors: Vec<_> = got.iter().filter(|l| l.starts_with("decode_error")).collect();
        assert_eq!(errors, [&format!("decode_error {kind}")], "{text:.60}\n{got:?}");
        assert!(got.contains(&"disturbed malformed".to_owned()), "{text:.60}");
        let after = got.iter().position(|l| l == "disturbed malformed").unwrap();
        assert!(got[after..].iter().any(|l| l.ends_with("Data GET [/b]")), "read on with the next request: {got:?}");
        // A tenant could hide behind it: it is an operation, of which the outcome is not known.
        let unknown = got[..=after + 2].iter().filter(|l| l.starts_with("  ") && l.ends_with("-> unknown")).count();
        assert_eq!(unknown, usize::from(*from == C), "{text:.60}\n{got:?}");
    }
}

/// What servers answer although the standard forbids it: an operation each, and the next request is read without a loss.
#[test]
fn requests_that_only_patient_servers_read_are_operations() {
    let cases = [
        ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "GET [/{id}]"),
        ("GET /a\tb HTTP/1.1\r\n\r\n", "GET [/{id}]"),
        ("GET  /a  HTTP/1.1\r\n\r\n", "GET [/a]"),
        ("GET /a HTTP/1.1 \r\n\r\n", "GET [/a]"),
        ("GET /a HTTP/1.2\r\n\r\n", "GET [/a]"),
        ("GET /a HTTP/3.7\r\n\r\n", "GET [/a]"),
        ("GET /a HTTP/2.0\r\n\r\n", "GET [/a]"),
        ("GET /a http/1.1\r\n\r\n", "GET [/a]"),
        ("GET /caf\u{e9}\u{1} HTTP/1.1\r\n\r\n", "GET [/caf\u{e9}]"),
        ("GET /a HTTP/1.1\r\nX-Tenant-ID:\r\n acme\r\n\r\n", "GET [/a] of acme"),
        ("GET /a HTTP/1.1\r\nHost: x\r\n folded: y\r\n\tmore\r\nX-Tenant-ID: acme\r\n\r\n", "GET [/a] of acme"),
        ("GET /a HTTP/1.1\r\n folded: x\r\n\r\n", "GET [/a]"),
        ("GET /a HTTP/1.1\r\nX-Tenant-ID : acme\r\n\r\n", "GET [/a] of acme"),
        ("GET /a HTTP/1.1\r\nX-Tenant-ID\t: acme\n\n", "GET [/a] of acme"),
        ("GET /a HTTP/1.1\r\nX: \u{1}\u{0}\r\nX-Tenant-ID: acme\r\n\r\n", "GET [/a] of acme"),
        ("GET /a HTTP/1.1\r\nno colon\r\n: no name\r\na b(c): d\r\nn\u{e4}me: x\r\n\r\n", "GET [/a]"),
        ("POST /a HTTP/1.1\r\nX : y\r\nContent-Length: 4\r\n\r\nGET ", "POST [/a]"),
        ("POST /a HTTP/1.1\r\nX : y\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "POST [/a]"),
        ("OPTIONS /a HTTP/1.1\r\nX : y\r\n\r\n", "OPTIONS [/a]"),
    ];
    let many = format!("GET /a HTTP/1.1\r\n{}X-Tenant-ID: acme\r\n\r\n", "A: b\r\n".repeat(300));
    let cases = cases.into_iter().chain([(many.as_str(), "GET [/a] of acme")]);
    for (text, want) in cases {
        for pieces in [1, 7, 10_000] {
            let next = format!("{text}GET /b HTTP/1.1\r\n\r\n");
            let got = TALK.run_from(
                false,
                [Step::Bytes(C, b"GET /first HTTP/1.1\r\n\r\n", true), Step::Bytes(S, OK.as_bytes(), true)]
                    .into_iter()
                    .chain(next.as_bytes().chunks(pieces).map(|b| Step::Bytes(C, b, false)))
                    .chain([Step::Bytes(S, OK.as_bytes(), true), Step::Bytes(S, OK.as_bytes(), true)]),
            );
            assert!(!got.iter().any(|l| l.starts_with("disturbed")), "{text:.60}\n{got:?}");
            let ops: Vec<_> = got.iter().filter(|l| l.starts_with("  ")).map(|l| l.trim_start()).collect();
            let irregular = format!("2 Data {want} -> unknown");
            assert_eq!(ops, ["1 Data GET [/first]", irregular.as_str(), "3 Data GET [/b]"], "{text:.60}");
        }
        // What was refused did nothing.
        let got = talk(&[(C, text), (S, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")]);
        let op = got.iter().find(|l| l.starts_with("  ")).unwrap();
        assert_eq!(op, &format!("  1 Data {want} -> error"));
    }
    // A method of the application's own is nothing special.
    assert_eq!(operation(&talk(&[(C, "x-y_z /a HTTP/1.1\r\n\r\n"), (S, OK)])), "1 Data x-y_z [/a]");
    assert_eq!(operation(&talk(&[(C, "GET /a HTTP/1.1\nX-Tenant-ID: acme\n\n"), (S, OK)])), "1 Data GET [/a] of acme");
}

#[test]
fn responses_that_only_patient_clients_read_lose_nothing() {
    for head in [
        "HTTP/1.1 200 OK\r\nServer : x\r\nContent-Length : 2",
        "HTTP/1.1 200 OK\r\nContent-Length\t: 2",
        "HTTP/1.1 200\r\nContent-Length: 2",
        "HTTP/1.1 200 \r\nContent-Length: 2",
        "HTTP/1.1  200 OK\r\nContent-Length: 2",
        "HTTP/1.2 200 OK\r\nContent-Length: 2",
        "HTTP/2 200\r\nContent-Length: 2",
        "ICY 200 OK\r\nContent-Length: 2",
        "HTTP/1.1 200 \u{1}\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nno colon\r\n: no name\r\na b: c\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: \u{0}2",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked",
    ] {
        let body = if head.contains("chunked") { "2\r\nok\r\n0\r\n\r\n" } else { "ok" };
        let reply = format!("{head}\r\n\r\n{body}");
        let get = "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        let pieces = reply.as_bytes().chunks(5).map(|b| Step::Bytes(S, b, false));
        let steps = [Step::Bytes(C, get.as_bytes(), true)].into_iter();
        let got = TALK.run_from(false, steps.chain(pieces).chain([Step::Bytes(S, OK.as_bytes(), true)]));
        let bad = got.iter().find(|l| l.starts_with("disturbed") || l.starts_with("decode"));
        assert_eq!(bad, None, "{head}\n{got:?}");
        let ops: Vec<_> = got.iter().filter(|l| l.starts_with("  ")).collect();
        assert_eq!(ops, ["  1 Data GET [/a]", "  2 Data GET [/b]"], "{head}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "Set-Cookie: a=b\r\n".repeat(300));
    assert_eq!(operation(&talk(&[(C, "GET /a HTTP/1.1\r\n\r\n"), (S, &many)])), "1 Data GET [/a]");
}

#[test]
fn a_response_that_nobody_can_read_costs_the_servers_side_only() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n\r\n");
    let (a, b, c) = (get("/a"), get("/b"), get("/c"));
    // Its status is known, and where it ends is not.
    let odd = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok";
    let got = talk(&[(C, &a), (S, odd), (C, &b), (S, OK), (C, &c), (S, OK), (S, OK)]);
    let ops: Vec<_> = got.iter().filter(|l| l.starts_with("  ")).collect();
    assert_eq!(ops, ["  1 Data GET [/a]", "  2 Data GET [/b]", "  3 Data GET [/c]"], "{got:?}");
    assert!(got.contains(&"answered 1 -".to_owned()) && !got.iter().any(|l| l.starts_with("unmatched")), "{got:?}");
    // Requests under way are operations all the same, and so are those that come before the place is found again.
    let got = talk(&[(C, &format!("{a}{b}")), (S, "what\r\n"), (C, &c), (S, OK), (S, OK)]);
    let ops: Vec<_> = got.iter().filter(|l| l.starts_with("  ")).collect();
    let unknown = |n: u32, path: &str| format!("  {n} Data GET [{path}] -> unknown");
    assert_eq!(ops, [&unknown(1, "/a"), &unknown(2, "/b"), &unknown(3, "/c")], "{got:?}");
}

#[test]
fn a_head_that_trickles_in_is_read_in_bounded_time_and_memory() {
    let of = |n: usize| {
        let head = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(n));
        let steps = head.as_bytes().chunks(1).map(|b| Step::Bytes(C, b, false));
        let started = Instant::now();
        let got = TALK.run_from(false, steps.chain([Step::Bytes(S, OK.as_bytes(), true)]));
        assert!(got.contains(&"  1 Data GET [/]".to_owned()), "{got:?}");
        started.elapsed()
    };
    // As many bytes in eight heads as in one. Parsed anew with every byte, the one takes eight times as long as they do. The
    // best of several: the machine has other work.
    let best = |n: usize, heads: usize| {
        (0..5).map(|_| (0..heads).map(|_| of(n)).sum::<std::time::Duration>()).min().unwrap_or_default()
    };
    let (short, long) = (best(8_000, 8), best(64_000, 1));
    assert!(long < short * 4, "{short:?} for eight heads, {long:?} for one as long");
    let trailers = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: {}", "x".repeat(70_000));
    let got = TALK.run_from(false, trailers.as_bytes().chunks(1).map(|b| Step::Bytes(C, b, false)));
    assert!(got.contains(&"decode_error trailers".to_owned()), "{got:?}");
}

#[test]
fn repeated_nonsense_ends_as_opaque() {
    let (get, junk) = ((C, "GET / HTTP/1.1\r\n\r\n"), (C, "\u{7f}\u{7f}\u{7f}"));
    let lines: Vec<_> = (0..20).flat_map(|_| [get, junk]).collect();
    let got = talk(&lines);
    assert_eq!(got.iter().filter(|l| l.starts_with("decode_error")).count(), 8);
    assert_eq!(got.last().unwrap(), "opaque malformed");
    // A request answered in between starts the count anew.
    let lines: Vec<_> = (0..20).flat_map(|_| [get, (S, OK), junk]).collect();
    assert!(!talk(&lines).contains(&"opaque malformed".to_owned()));
}

#[test]
fn much_that_nobody_reads_is_not_asked_for() {
    let (mut decoder, mut out) = (http(false, None), Recorder::new());
    let say = |decoder: &mut dyn Decoder, out: &mut Recorder, from, text: &str| {
        out.hear(|sink| decoder.bytes(from, Chunk { at: Nanos(1), bytes: text.as_bytes(), ends_segment: true }, sink));
    };
    say(&mut *decoder, &mut out, C, "GET /a HTTP/1.1\r\n\r\n");
    assert_eq!((decoder.appetite(C), decoder.appetite(S)), (Appetite::Everything, Appetite::Everything));
    say(&mut *decoder, &mut out, S, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    assert!(matches!(decoder.appetite(S), Appetite::Head(_)));
    assert_eq!(decoder.appetite(C), Appetite::Everything);
    out.hear(|sink| decoder.missing(S, Nanos(2), 990_000, sink));
    assert_eq!(decoder.appetite(S), Appetite::Everything, "the next head is near");
    say(&mut *decoder, &mut out, S, &"x".repeat(10_000));
    assert_eq!(out.lines.last().unwrap(), "status Idle");
    // Values are looked for: all of the body, up to the budget.
    out.words.values = true;
    say(&mut *decoder, &mut out, C, "GET /a HTTP/1.1\r\n\r\n");
    say(&mut *decoder, &mut out, S, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(decoder.appetite(S), Appetite::Everything);
    say(&mut *decoder, &mut out, S, &"x".repeat(100_000));
    assert!(matches!(decoder.appetite(S), Appetite::Head(_)));
    assert!(decoder.memory() < 64 << 10);
}
