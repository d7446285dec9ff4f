//! Which answer is to which request.

use monitor_core::decode::Chunk;
use monitor_core::model::Nanos;

use super::common::Recorder;
use super::*;

#[test]
fn a_reply_that_nobody_asked_for_is_told_once_it_is_certain() {
    let get = (C, "GET /a HTTP/1.1\r\n\r\n");
    let got = talk(&[get, (S, OK), (S, OK), get, (S, OK)]);
    assert_eq!(got.iter().filter(|l| l.starts_with("unmatched")).count(), 1, "{got:?}");
    assert!(got.contains(&"decode_error unsolicited_response".to_owned()));
    assert_eq!(got.iter().filter(|l| l.as_str() == "  2 Data GET [/a]").count(), 1, "the count goes on: {got:?}");
    // A server may say unasked that it closes the connection, and may refuse a head that is not whole.
    for unasked in ["408 Request Timeout", "421 Misdirected Request", "503 Service Unavailable", "400 Bad Request"] {
        let text = format!("HTTP/1.1 {unasked}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        for before in [vec![get, (S, OK)], vec![(C, "GET /a HTTP/1.1\r\nX-")]] {
            let mut lines = before;
            lines.push((S, &text));
            let got = talk(&lines);
            assert!(!got.iter().any(|l| l.starts_with("unmatched") || l.starts_with("decode")), "{got:?}");
        }
    }
    // What is missing may have been the request.
    let (get, ok) = (get.1.as_bytes(), OK.as_bytes());
    let lossy = [
        Step::Hole(C, 20),
        Step::Bytes(S, ok, true),
        Step::Bytes(C, get, true),
        Step::Bytes(S, ok, true),
        Step::Bytes(S, ok, true),
    ];
    let got = TALK.run_from(false, lossy.into_iter());
    assert!(!got.iter().any(|l| l.starts_with("unmatched")), "{got:?}");
    let got = TALK.run_from(true, [Step::Bytes(S, ok, true), Step::Bytes(S, ok, true)].into_iter());
    assert_eq!(got, ["disturbed mid_stream"]);
}

#[test]
fn the_body_of_a_stray_reply_is_not_the_next_requests() {
    let get = (C, "GET /a HTTP/1.1\r\n\r\n");
    // The request comes while the server is still saying what nobody asked for.
    let got = talk(&[(S, "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nab"), get, (S, "cd"), (S, OK)]);
    assert_eq!(operation(&got), "1 Data GET [/a]", "{got:?}");
}

#[test]
fn replies_are_matched_by_count() {
    let line = |n: u32| format!("GET /p{n} HTTP/1.1\r\n\r\n");
    let all: String = (0..64).map(line).collect();
    let replies = format!("{}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", OK.repeat(63));
    let got = talk(&[(C, &all), (S, &replies)]);
    let ops: Vec<_> = got.iter().filter(|l| l.starts_with("  ")).collect();
    assert_eq!(ops.len(), 64);
    assert_eq!((ops[5].as_str(), ops[63].as_str()), ("  6 Data GET [/p5]", "  64 Data GET [/p63] -> error"));
    assert_eq!(got.iter().filter(|l| l.as_str() == "status Idle").count(), 1, "idle when all is answered");
    let got = talk(&[(C, &(all + &line(64)))]);
    assert!(got.contains(&"decode_error too_many_requests".to_owned()));
}

#[test]
fn an_answer_may_come_before_the_request_is_whole() {
    let big = "POST /up HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc";
    let got = talk(&[(C, big), (S, OK), (C, "defghij"), (C, "GET /b HTTP/1.1\r\n\r\n"), (S, OK)]);
    assert_eq!(got[0..4], ["arrived 1", "begun 1 -", "  1 Data POST [/up]", &got[3]]);
    assert!(got.contains(&"  2 Data GET [/b]".to_owned()), "{got:?}");
    // The answer to `Expect` is final: the body never comes.
    let asks = "POST /up HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 30\r\n\r\n";
    let no = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let got = talk(&[(C, asks), (S, no), (C, "GET /b HTTP/1.1\r\n\r\n"), (S, OK)]);
    assert!(got.contains(&"  2 Data GET [/b]".to_owned()), "{got:?}");
    // Or it comes all the same.
    let got = talk(&[(C, asks), (S, no), (C, &"x".repeat(30)), (C, "GET /b HTTP/1.1\r\n\r\n"), (S, OK)]);
    assert!(got.contains(&"  2 Data GET [/b]".to_owned()), "{got:?}");
    // Interim answers are none.
    let got = talk(&[(C, asks), (S, "HTTP/1.1 100 Continue\r\n\r\n"), (C, &"x".repeat(30)), (S, OK)]);
    assert_eq!(operation(&got), "1 Data POST [/up]");
}

#[test]
fn a_hole_inside_a_body_of_known_length_costs_the_fingerprint_only() {
    let (post, get) = (b"POST /a HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", b"GET /b HTTP/1.1\r\n\r\n");
    let (length, chunked) = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nxy",
    );
    for (reply, rest, end) in [
        (&length[..], 7, &b""[..]),
        (&length[..], 5, b"yz"),
        (&chunked[..], 7, b"\r\n0\r\n\r\n"),
        (&chunked[..], 3, b"abcd\r\n0\r\n\r\n"),
    ] {
        let got = TALK.run([
            Step::Bytes(C, post, true),
            Step::Hole(C, 7),
            Step::Bytes(S, reply, true),
            Step::Hole(S, rest),
            Step::Bytes(S, end, true),
            Step::Bytes(C, get, true),
            Step::Bytes(S, OK.as_bytes(), true),
        ]);
        assert!(!got.iter().any(|l| l.starts_with("disturbed")), "{got:?}");
        assert_eq!(got[0..5], ["arrived 1", "begun 1 -", "  1 Data POST [/a]", "answered 1 -", "status Idle"]);
        assert!(got.contains(&"  2 Data GET [/b]".to_owned()));
    }
    // One byte more, and the next message's beginning is missing.
    let got = TALK.run([Step::Bytes(C, post, true), Step::Hole(C, 8), Step::Bytes(S, OK.as_bytes(), true)]);
    assert!(got.contains(&"disturbed gap".to_owned()));
}

#[test]
fn after_a_hole_a_pipelining_client_is_believed_only_when_all_was_quiet() {
    let (get, a, b) = ("GET /a HTTP/1.1\r\n\r\n", "GET /b HTTP/1.1\r\n\r\n", "GET /c HTTP/1.1\r\n\r\n");
    let run = |pause: u64| {
        let (mut decoder, mut out) = (http(false, None), Recorder::new());
        let mut at = Nanos(1);
        let mut say = |from, text: &str, at| {
            out.hear(|sink| decoder.bytes(from, Chunk { at, bytes: text.as_bytes(), ends_segment: true }, sink));
        };
        say(C, &format!("{get}{a}"), at);
        say(S, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", at);
        out.hear(|sink| decoder.missing(S, at, 30, sink));
        at = at + Nanos::millis(pause);
        out.hear(|sink| decoder.bytes(C, Chunk { at, bytes: b.as_bytes(), ends_segment: true }, sink));
        // This may be the answer to the second request as well as to the third.
        out.hear(|sink| decoder.bytes(S, Chunk { at, bytes: OK.as_bytes(), ends_segment: true }, sink));
        out.hear(|sink| decoder.closed(at, sink));
        out.lines.join("\n")
    };
    assert!(!run(10).contains("arrived 3"));
    assert!(run(2000).contains("  3 Data GET [/c]\n"), "{}", run(2000));
}
