//! What the fuzz targets call, kept here so that `cargo test` runs it too.

use super::rpc::{Budget, Collector, MAX_MESSAGE, Messages};
use super::sse::Events;
use super::websocket::{Deflate, Frames, Next};
use crate::decode::fuzzing::{Checks, steps};
use crate::decode::{Chunk, Decoder, infer};
use crate::model::claim::Salt;
use crate::model::{HeaderPolicy, Nanos, Protocol, Side};

const SALT: Salt = Salt(1, 2);

/// One body, in two pieces and with a hole, as request and as answer.
pub fn fuzz_jsonrpc(data: &[u8]) {
    let whole = Messages::parse(data, SALT);
    let mut body = Collector::new(&Budget::default(), MAX_MESSAGE);
    let cut = data.first().map_or(0, |b| usize::from(*b) % data.len());
    let (a, b) = data.split_at_checked(cut).unwrap_or((data, &[]));
    body.push(a);
    body.push(b);
    assert_eq!(body.finish(SALT), whole, "pieces give the same as the whole");
    let mut small = Collector::new(&Budget::default(), 16);
    small.push(a);
    small.push(b);
    assert!(small.memory() < 64 << 10);
    let sketched = small.finish(SALT);
    assert!(sketched.list.len() <= 64);
    for answer in [data, br#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"tools":[]}}"#] {
        let mut talk = Vec::new();
        for (side, first, body) in [
            (Side::Client, "POST /mcp HTTP/1.1\r\nmcp-session-id: s\r\nmcp-name: x\r\nmcp-param-a: 1", data),
            (Side::Server, "HTTP/1.1 200 OK\r\ncontent-type: application/json", answer),
        ] {
            talk.push((side, format!("{first}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes()));
            talk.push((side, body.to_vec()));
        }
        let mut sink = Checks::default();
        let Some(mut decoder) = decoder(false) else { return };
        for (side, bytes) in &talk {
            decoder.bytes(*side, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut sink);
        }
        decoder.closed(Nanos(2), &mut sink);
    }
}

/// An event stream, whole and in pieces.
pub fn fuzz_sse(data: &[u8]) {
    let read = |pieces: &[&[u8]]| {
        let (mut events, mut found) = (Events::new(&Budget::default()), Vec::new());
        for piece in pieces {
            let mut bytes = *piece;
            while events.next(&mut bytes) {
                found.push((events.kind().to_vec(), events.data.finish(SALT)));
                events.over();
            }
            assert!(events.memory() < 4 << 20, "memory is bounded");
        }
        found
    };
    let cut = data.first().map_or(0, |b| usize::from(*b) % data.len());
    let (a, b) = data.split_at_checked(cut).unwrap_or((data, &[]));
    assert_eq!(read(&[a, b]), read(&[data]), "however it is cut");
    let mut events = Events::new(&Budget::default());
    for mut piece in [a, b] {
        while events.next(&mut piece) {
            events.over();
        }
        events.miss();
    }
}

/// WebSocket frames of either side, with and without compression, in pieces and with holes. The first byte chooses.
pub fn fuzz_websocket(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let from = if first & 1 == 0 { Side::Client } else { Side::Server };
    let fresh = first & 4 != 0;
    let deflate = (first & 2 != 0).then_some(Deflate { client_fresh: fresh, server_fresh: fresh });
    let read = |pieces: &[&[u8]], hole: Option<u64>| {
        let (mut frames, mut found) = (Frames::new(from, deflate, &Budget::default()), Vec::new());
        for piece in pieces {
            let mut bytes = *piece;
            loop {
                match frames.next(&mut bytes) {
                    Ok(Next::NeedMore) => break,
                    Ok(Next::Text) => found.push(Ok(frames.text.finish(SALT))),
                    Ok(Next::Close) => found.push(Err("close")),
                    Err(kind) => {
                        found.push(Err(kind.name()));
                        return found;
                    }
                }
            }
            assert!(frames.memory() < 4 << 20, "memory is bounded");
            if let Some(n) = hole
                && frames.miss(n).is_err()
            {
                return found;
            }
        }
        found
    };
    let cut = usize::from(first) % rest.len().max(1);
    let (a, b) = rest.split_at_checked(cut).unwrap_or((rest, &[]));
    assert_eq!(read(&[a, b], None), read(&[rest], None), "however it is cut");
    read(&[a, b], Some(u64::from(first >> 3)));
}

/// A whole connection, as for HTTP: the first byte of each step says which side speaks, whether something is missing
/// and how long the piece is.
pub fn fuzz_mcp(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    if let Some(mut decoder) = decoder(first & 1 == 1) {
        steps(rest, 2 << 20, decoder.as_mut());
    }
}

/// MCP is read on top of HTTP: what composes the two composes them here.
fn decoder(mid_stream: bool) -> Option<Box<dyn Decoder>> {
    infer::decoder(Protocol::Http, SALT, mid_stream, &infer::Shared::new(SALT, &HeaderPolicy::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::no_harm;

    #[test]
    fn no_input_panics() {
        no_harm(
            br#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"tenant_id":"a"}}}]"#,
            fuzz_jsonrpc,
        );
        no_harm(b"event: message\r\nid: 1\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\"x\"}\n\n", fuzz_sse);
        no_harm(b"\x01\x01\x03abc\x89\x00\x80\x02de\x81\x7e\x00\x01x\x88\x00", fuzz_websocket);
        no_harm(b"\x02\xc1\x87\x00\x00\x00\x00\xca\x48\xcd\xc9\xc9\x07\x00", fuzz_websocket);
    }
}
