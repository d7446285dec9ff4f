//! The whole core on streams of MCP: one that another tenant takes up, and calls of two tenants under one id.

use super::scenes::{SERVER, TENANTS, post};
use super::*;

pub(super) const EVENT: &str = "7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn call(id: u32) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"report\",\"arguments\":{{\"n\":{id}}}}}}}"
    )
}

fn done(id: u32) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"ok\"}}]}}}}")
}

fn over(mut script: Script, conns: &[usize]) -> Vec<Step> {
    script.steps.push(Step::Wait { millis: 4_000 });
    conns.iter().for_each(|conn| script.close(*conn));
    script.steps
}

fn headers(session: usize, who: usize) -> String {
    format!(
        "mcp-protocol-version: 2025-11-25\r\nmcp-session-id: session-of-{session}\r\nauthorization: Bearer token-of-{who}\r\n"
    )
}

/// acme's stream breaks off behind the event `given`, and whoever of the two takes it up behind `shown`, in a session of
/// its own or in the only one, is given the answer.
pub(super) fn taken_up(by: usize, [given, shown]: [&str; 2], one_session: bool) -> Vec<Step> {
    let mut script = Script::default();
    let headers = |who: usize| headers(if one_session { 0 } else { who }, who);
    let conns = TENANTS.map(|who| script.connect(who, SERVER, 41_000 + who as u16, 8080));
    for (who, conn) in conns.into_iter().enumerate() {
        script.send(conn, 0, post("/mcp", &headers(who), &call(1)));
        script.send(conn, 1, STREAM.into());
        script.send(conn, 1, chunk(&format!("data: {}\n\n", done(1))));
        script.send(conn, 1, b"0\r\n\r\n".to_vec());
    }
    script.send(conns[0], 0, post("/mcp", &headers(0), &call(7)));
    script.send(conns[0], 1, STREAM.into());
    script.send(conns[0], 1, chunk(&format!("id: {given}\ndata: \n\n")));
    script.close(conns[0]);
    let again = script.connect(TENANTS[by], SERVER, 42_000, 8080);
    let get = format!("GET /mcp HTTP/1.1\r\nhost: server\r\naccept: text/event-stream\r\n{}", headers(by));
    script.send(again, 0, format!("{get}last-event-id: {shown}\r\n\r\n").into_bytes());
    script.send(again, 1, STREAM.into());
    let whose = ",\"structuredContent\":{\"tenant_id\":\"acme\"}}}";
    let answer = done(7);
    let answer = format!("{}{whose}", answer.strip_suffix("}}").unwrap());
    script.send(again, 1, chunk(&format!("data: {answer}\n\n")));
    over(script, &[conns[1], again])
}

/// Two tenants call in one session under the ids, and the answers come on its stream: both calls first, or one after the
/// other.
pub(super) fn one_session(ids: [u32; 2], at_once: bool) -> Vec<Step> {
    let mut script = Script::default();
    let stream = script.connect(POOLER, SERVER, 40_000, 8080);
    let conns = TENANTS.map(|who| script.connect(who, SERVER, 41_000 + who as u16, 8080));
    let to = "/messages?session_id=9f86d081884c7d65";
    script.send(stream, 0, b"GET /sse HTTP/1.1\r\nhost: server\r\naccept: text/event-stream\r\n\r\n".to_vec());
    script.send(stream, 1, STREAM.into());
    script.send(stream, 1, chunk(&format!("event: endpoint\ndata: {to}\n\n")));
    for (who, id) in ids.into_iter().enumerate() {
        script.send(conns[who], 0, post(to, &format!("authorization: Bearer token-of-{who}\r\n"), &call(id)));
        script.send(conns[who], 1, b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec());
        if !at_once {
            script.send(stream, 1, chunk(&format!("data: {}\n\n", done(id))));
        }
        script.steps.push(Step::Wait { millis: 5 });
    }
    for id in ids.into_iter().filter(|_| at_once) {
        script.send(stream, 1, chunk(&format!("data: {}\n\n", done(id))));
    }
    over(script, &[conns[0], conns[1], stream])
}

/// Both call in turn, several times, in a session that a gateway has opened; the later ones before they are answered.
pub(super) fn in_session() -> Vec<Step> {
    let mut script = Script::default();
    let gateway = script.connect(POOLER, SERVER, 40_000, 8080);
    let conns = TENANTS.map(|who| script.connect(who, SERVER, 41_000 + who as u16, 8080));
    let json = |more: &str, body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}content-length: {}", body.len());
        format!("{head}\r\n\r\n{body}").into_bytes()
    };
    let open =
        "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}";
    script.send(gateway, 0, post("/mcp", "", open));
    let opened = "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-06-18\"}}";
    script.send(gateway, 1, json("mcp-session-id: session-of-all\r\n", opened));
    let ask = |script: &mut Script, who: usize, id: u32| {
        let headers = "mcp-protocol-version: 2025-06-18\r\nmcp-session-id: session-of-all\r\n";
        script.send(conns[who], 0, post("/mcp", headers, &call(id)));
    };
    for id in [1, 3] {
        for who in [0, 1] {
            ask(&mut script, who, id + who as u32);
            script.send(conns[who], 1, json("", &done(id + who as u32)));
        }
    }
    [5, 6].into_iter().zip([0, 1]).for_each(|(id, who)| ask(&mut script, who, id));
    [6, 5].into_iter().zip([1, 0]).for_each(|(id, who)| script.send(conns[who], 1, json("", &done(id))));
    over(script, &[conns[0], conns[1], gateway])
}

/// A server that counts its sessions is started anew: the session that was acme's is globex' then. Where `crossed`, it is not:
/// globex goes on in acme's.
pub(super) fn counted(crossed: bool) -> Vec<Step> {
    let mut script = Script::default();
    let conns = TENANTS.map(|who| script.connect(who, SERVER, 41_000 + who as u16, 8080));
    let json = |more: &str, body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}content-length: {}", body.len());
        format!("{head}\r\n\r\n{body}").into_bytes()
    };
    for who in [0, 1] {
        if who == 0 || !crossed {
            let version = "\"protocolVersion\":\"2025-06-18\"";
            let client = format!("{{{version},\"clientInfo\":{{\"name\":\"c\",\"version\":\"1\"}}}}");
            let hello = format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{client}}}");
            script.send(conns[who], 0, post("/mcp", "", &hello));
            let opened = format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{{{version}}}}}");
            script.send(conns[who], 1, json("mcp-session-id: session-7\r\n", &opened));
        }
        for id in [1, 2] {
            let headers = "mcp-protocol-version: 2025-06-18\r\nmcp-session-id: session-7\r\n";
            script.send(conns[who], 0, post("/mcp", headers, &call(id)));
            script.send(conns[who], 1, json("", &done(id)));
        }
    }
    over(script, &conns)
}

#[test]
fn a_session_whose_number_is_given_again_is_its_new_holders() {
    let crossed = (Some("globex".to_owned()), Some("acme".to_owned()));
    let found = rules(&counted(true), "mcp-session-cross-tenant");
    assert!(!found.is_empty() && found.iter().all(|who| *who == crossed), "{found:?}");
    assert_eq!(rules(&counted(false), "mcp-session-cross-tenant"), []);
}

fn rules(steps: &[Step], rule: &str) -> Vec<(Option<String>, Option<String>)> {
    let seen = all(steps);
    let of = |f: &&crate::model::Finding| f.rule == rule;
    seen.latest.iter().filter(of).map(|f| (f.tenants.used.clone(), f.tenants.bound.clone())).collect()
}

#[test]
fn a_stream_of_anothers_that_is_taken_up_is_told_by_whom_its_event_was_given_to() {
    let crossed = (Some("globex".to_owned()), Some("acme".to_owned()));
    let told = |by, events, one_session| rules(&taken_up(by, events, one_session), "handle-cross-tenant");
    assert_eq!(told(1, [EVENT; 2], false), std::slice::from_ref(&crossed));
    assert_eq!(told(0, [EVENT; 2], false), []);
    let other = "0e1b9f0c-5d55-4d0c-a7b1-2f8d3c1a9e77";
    assert_eq!(told(1, [EVENT, other], false), [], "an event that was given to nobody known");
    // Numbers are events of their session: in another, the same one is another's.
    assert_eq!(told(1, ["5"; 2], true), std::slice::from_ref(&crossed));
    assert_eq!(told(0, ["5"; 2], true), []);
    assert_eq!(told(1, ["5", "4"], true), []);
    assert_eq!(told(1, ["5"; 2], false), []);
    // There, what the answer shows still says whose it is.
    assert_eq!(rules(&taken_up(1, ["5"; 2], false), "result-cross-tenant"), [crossed]);
    assert_eq!(rules(&taken_up(0, ["5"; 2], false), "result-cross-tenant"), []);
}

#[test]
fn two_calls_under_one_id_in_one_session_are_told_when_they_are_under_way_at_once() {
    let crossed = (Some("globex".to_owned()), Some("acme".to_owned()));
    assert_eq!(rules(&one_session([1, 1], true), "response-desync"), [crossed]);
    assert_eq!(rules(&one_session([1, 2], true), "response-desync"), []);
    assert_eq!(rules(&one_session([1, 1], false), "response-desync"), []);
}

#[test]
fn a_session_is_whose_request_in_it_began_first() {
    let crossed = BTreeSet::from([(Some("globex".to_owned()), Some("acme".to_owned()))]);
    for steps in [in_session(), one_session([1, 2], true)] {
        let told: BTreeSet<_> = rules(&steps, "mcp-session-cross-tenant").into_iter().collect();
        assert_eq!(told, crossed);
    }
}
