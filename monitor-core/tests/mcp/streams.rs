//! Sessions, and answers that come on another stream than the one that was asked on.

use super::*;

/// What a line of an exchange gives or uses: the handle's name.
fn handle(line: &str, what: &str) -> Option<String> {
    line.split(what).nth(1).map(|r| r.split(' ').next().unwrap().to_owned())
}

#[test]
fn a_stream_taken_up_again_brings_the_answer_to_its_session() {
    let session = "Mcp-Session-Id: s-0001\r\n";
    let broken = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nid: 1\n\n\r\n0\r\n\r\n";
    let get = |session: &str| {
        format!("GET /mcp HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{session}Last-Event-ID: 1\r\n\r\n")
    };
    let lines = |other: &str| {
        talk(&[
            (1, C, post(session, &call(5, "search", r#"{"a":1}"#))),
            (1, S, broken.to_owned()),
            (2, C, get(other)),
            (2, S, events(&[&done(5)])),
        ])
    };
    let got = lines(session);
    let all = mcp(&got);
    assert!(all[0].contains("[search] -> Unknown") && all[0].contains(" arguments "), "{got:?}");
    assert!(all[1].contains("Control GET -> Accepted"), "{got:?}");
    assert!(all[2].starts_with("2 mcp 1") && all[2].contains("[search] -> Result"), "{got:?}");
    assert!(!all[2].contains(" arguments "), "it is not called twice");
    let got = lines("Mcp-Session-Id: s-0002\r\n");
    let all = mcp(&got);
    assert!(!all.iter().any(|l| l.contains("[search] -> Result")), "another session's: {got:?}");
    // It was given something all the same, and not behind an event of the first session.
    let used = all.iter().find(|l| l.contains(" Data GET -> Result")).unwrap_or_else(|| panic!("{got:?}"));
    assert_ne!(handle(all[0], " gives "), handle(used, " uses "));
}

#[test]
fn sessions_open_and_end() {
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","clientInfo":{},"capabilities":{}}}"#;
    let answer = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"srv","version":"3"},"capabilities":{}}}"#;
    let s = "Mcp-Session-Id: s-0001\r\n";
    let got = talk(&[
        (1, C, post("", hello)),
        (1, S, reply("200 OK", "application/json", s, answer)),
        (2, C, post(s, &call(1, "search", "{}"))),
        (2, S, json(&done(1))),
        (1, C, format!("DELETE /mcp HTTP/1.1\r\n{s}\r\n")),
        (1, S, reply("200 OK", "text/plain", "", "")),
    ]);
    let all = mcp(&got);
    assert!(all[0].contains("V2025_06_18 Initialize") && all[0].contains(" opens ") && all[0].contains("of srv/3"));
    let opened = all[0].split(" opens ").nth(1).unwrap()[..4].to_owned();
    assert!(
        all[1].contains("V2025_06_18") && all[1].contains(&format!(" session {opened}")) && all[1].contains("of srv/3"),
        "{got:?}"
    );
    assert!(all[2].contains("End DELETE -> ") && all[2].contains(&format!(" session {opened}")), "{got:?}");
}

#[test]
fn another_session_s_stream_answers_nothing() {
    let get = |n| {
        let head = format!("GET /sse HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-N: {n}\r\n\r\n");
        (n, C, head)
    };
    let open = |n, id: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        (n, S, format!("{head}event: endpoint\ndata: /m?session_id={id}\n\n"))
    };
    let send = |n, session: &str, body: &str| {
        let n_body = body.len();
        (n, C, format!("POST /m?session_id={session} HTTP/1.1\r\nHost: x\r\nContent-Length: {n_body}\r\n\r\n{body}"))
    };
    let accepted = |n| (n, S, reply("202 Accepted", "text/plain", "", ""));
    let event = |n, body: &str| (n, S, format!("event: message\ndata: {body}\n\n"));
    let got = talk(&[
        get(1),
        open(1, "aaa"),
        get(2),
        open(2, "bbb"),
        send(3, "aaa", &call(1, "search", "{}")),
        accepted(3),
        event(2, &done(1)),
        event(1, &done(1)),
    ]);
    let results: Vec<_> = mcp(&got).into_iter().filter(|l| l.contains("-> Result")).collect();
    assert_eq!(results.len(), 1, "{got:?}");
    assert!(results[0].starts_with("1 mcp") && results[0].contains("HttpSse") && results[0].contains("[search]"));
    // Somebody else's request into this session, with a key instead of a token: it stays that request's.
    let n_body = call(2, "refund", "{}").len();
    let head =
        format!("POST /m?session_id=aaa HTTP/1.1\r\nHost: x\r\nX-Api-Key: k\r\nContent-Length: {n_body}\r\n\r\n");
    let post = head + &call(2, "refund", "{}");
    let got = talk(&[get(1), open(1, "aaa"), (4, C, post), event(1, &done(2)), accepted(4)]);
    let told = mcp(&got).into_iter().find(|l| l.contains("-> Result")).unwrap();
    assert!(told.contains("(asked elsewhere) credential "), "before it was accepted: {got:?}");
}

const EVENT: &str = "7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11";

/// A stream of `session`'s, taken up behind `event`, on which `answer` comes.
fn taken_up(session: &str, event: &str, answer: &str) -> Vec<(u32, Side, String)> {
    let headers = format!("Accept: text/event-stream\r\nMcp-Session-Id: {session}\r\nLast-Event-ID: {event}\r\n");
    vec![
        (2, C, format!("GET /mcp HTTP/1.1\r\nHost: x\r\n{headers}\r\n")),
        (2, S, format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 2\ndata: {answer}\n\n")),
    ]
}

#[test]
fn a_stream_that_is_taken_up_shows_whose_event_it_goes_on_behind() {
    let begun = |event: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let first = format!("id: {event}\ndata: \n\n");
        vec![
            (1, C, post("Mcp-Session-Id: one\r\n", &call(7, "search", "{}"))),
            (1, S, format!("{head}{:x}\r\n{first}\r\n", first.len())),
        ]
    };
    let got = talk(&[begun(EVENT), taken_up("two", EVENT, &done(7))].concat());
    let all = mcp(&got);
    let given = all.iter().find(|l| l.contains("[search]")).unwrap();
    let used = all.iter().find(|l| l.contains(" Data GET ")).unwrap_or_else(|| panic!("{got:?}"));
    assert!(used.starts_with("2 ") && used.contains("-> Result"), "{used}");
    assert_eq!(handle(given, " gives "), handle(used, " uses "));
    assert!(handle(used, " uses ").is_some());
    // Its own request, which waits for its answer; an event that is no answer; an id that many streams have.
    let own = [begun(EVENT), vec![(1, C, String::new())], taken_up("one", EVENT, &done(7))].concat();
    let mut agent = Agent::new();
    for (no, from, text) in &own {
        if text.is_empty() {
            agent.with(1, |decoder, sink, at| decoder.closed(at, sink));
        } else {
            agent.step(&Step::Bytes(*no, *from, text.as_bytes(), true));
        }
    }
    assert!(agent.lines.iter().any(|l| l.contains("[search] -> Result (asked elsewhere)")), "{:?}", agent.lines);
    assert!(!agent.lines.iter().any(|l| l.contains(" Data GET ")), "{:?}", agent.lines);
    let message = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
    let got = talk(&[begun(EVENT), taken_up("two", EVENT, message)].concat());
    assert!(!mcp(&got).iter().any(|l| l.contains(" Data GET ")), "{got:?}");
    // A number is an event of its own session alone.
    let got = talk(&[begun("7"), taken_up("two", "7", &done(7))].concat());
    let all = mcp(&got);
    let given = all.iter().find(|l| l.contains("[search]")).unwrap();
    let used = all.iter().find(|l| l.contains(" Data GET ")).unwrap_or_else(|| panic!("{got:?}"));
    assert!(used.contains("-> Result") && handle(given, " gives ").is_some());
    assert_ne!(handle(given, " gives "), handle(used, " uses "));
}

#[test]
fn two_calls_under_one_id_that_wait_on_one_stream_are_both_answered_and_neither_is_given_the_others() {
    let (to, id) = ("/messages?session_id=9f86d081884c7d65", 1);
    let ask = |no, tool: &str| {
        let body = call(id, tool, "{}");
        let head = format!("POST {to} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json");
        [
            (no, C, format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())),
            (no, S, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ]
    };
    let open = "GET /sse HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".to_owned();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let endpoint = format!("{head}event: endpoint\ndata: {to}\n\n");
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"CANARY-GLOBEX-9"}]}}"#;
    let event = || (1, S, format!("data: {result}\n\n"));
    let start = vec![(1, C, open), (1, S, endpoint)];
    let answers = |got: &[String]| {
        let all = got.iter().filter(|l| l.contains("(asked elsewhere)"));
        all.map(|l| (l.contains("[search]"), l.contains("canary"))).collect::<Vec<_>>()
    };
    let got = talk(&[start.clone(), ask(2, "search").to_vec(), vec![event()]].concat());
    assert_eq!(answers(&got), [(true, true)], "{got:?}");
    let both = [ask(2, "search").to_vec(), ask(3, "refund").to_vec()].concat();
    let got = talk(&[start.clone(), both.clone(), vec![event(), event()]].concat());
    assert_eq!(answers(&got), [(true, false), (false, true)], "the last one can only be the other's: {got:?}");
    let refused = (3, S, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned());
    let got = talk(&[start, vec![both[0].clone(), both[1].clone(), both[2].clone(), refused, event()]].concat());
    assert_eq!(answers(&got), [(true, true)], "{got:?}");
}
