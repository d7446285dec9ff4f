//! MCP over WebSocket.

use super::*;

/// A WebSocket frame, masked if it is the client's.
fn frame(from: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = from == C;
    let bit = if mask { 0x80 } else { 0 };
    let mut out = vec![first];
    if payload.len() < 126 {
        out.push(bit | u8::try_from(payload.len()).unwrap());
    } else {
        out.push(bit | 126);
        out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    let key = if mask { [7, 1, 9, 4] } else { [0; 4] };
    out.extend(key.iter().filter(|_| mask));
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(b, key)| b ^ key));
    out
}

/// A conversation over one WebSocket: the upgrade, then these messages.
fn socket(messages: &[(Side, &str)]) -> Vec<String> {
    let hello = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer t\r\n\r\n";
    let welcome = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let mut all = vec![(1, C, hello.to_vec()), (1, S, welcome.to_vec())];
    all.extend(messages.iter().map(|(from, text)| (1, *from, frame(*from, 0x81, text.as_bytes()))));
    whole(&all)
}

#[test]
fn over_websocket_each_message_is_a_request() {
    let got = socket(&[(C, &call(1, "a", "{}")), (C, &call(2, "b", "{}")), (S, &done(2)), (S, &done(1))]);
    let all = mcp(&got);
    assert!(all[0].contains("mcp 3 WebSocket") && all[0].contains("[b] -> Result"), "{got:?}");
    assert!(all[1].contains("mcp 2 WebSocket") && all[1].contains("[a] -> Result"), "{got:?}");
    assert!(all.iter().all(|l| !l.contains(" token ")), "the upgrade's token is no proof for a message");
    assert_eq!(got.iter().filter(|l| l.ends_with("status Idle")).count(), 2, "{got:?}");
    let got = socket(&[(C, &call(1, "a", "{}")), (S, &done(9))]);
    assert_eq!(got.iter().filter(|l| l.contains("unmatched")).count(), 1);
    assert!(mcp(&got)[0].contains("-> Unknown"));
}

#[test]
fn a_websocket_without_mcp_is_opaque() {
    let got = socket(&[(C, "{\"op\":\"subscribe\"}"); 20]);
    assert!(mcp(&got).is_empty() && got.contains(&"1 opaque upgraded".to_owned()), "{got:?}");
    assert!(!got.iter().any(|l| l.contains("arrived 2")));
}

#[test]
fn a_hole_in_a_websocket_costs_a_message_or_the_connection() {
    let text = call(1, "search", r#"{"a":"some longer text that is lost"}"#);
    let ask = frame(C, 0x81, text.as_bytes());
    let upgrade = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: mcp\r\n\r\n";
    let welcome = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let next = frame(C, 0x81, call(2, "refund", "{}").as_bytes());
    let answer = [frame(S, 0x81, done(1).as_bytes()), frame(S, 0x81, done(2).as_bytes())].concat();
    let start = || vec![Step::Bytes(1, C, upgrade, true), Step::Bytes(1, S, welcome, true)];
    let mut steps = start();
    steps.extend([
        Step::Bytes(1, C, &ask[..90], false),
        Step::Hole(1, C, 20),
        Step::Bytes(1, C, &ask[110..], true),
        Step::Bytes(1, C, &next, true),
        Step::Bytes(1, S, &answer, true),
    ]);
    let got = run(steps.into_iter());
    assert!(mcp(&got).iter().any(|l| l.contains("[refund] -> Result")), "{got:?}");
    assert!(!got.iter().any(|l| l.contains("unmatched") || l.contains("opaque")), "{got:?}");
    let mut steps = start();
    steps.extend([Step::Hole(1, C, 20), Step::Bytes(1, C, &next, true)]);
    let got = run(steps.into_iter());
    assert!(got.contains(&"1 opaque websocket_gap".to_owned()) && mcp(&got).is_empty(), "{got:?}");
}
