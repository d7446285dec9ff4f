//! Bodies that come packed.

use super::*;

/// `text`, packed as `coding` says.
fn packed(coding: &str, text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let level = flate2::Compression::default();
    match coding {
        "gzip" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(text.as_bytes()).unwrap();
            out.finish().unwrap()
        }
        "deflate" => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), level);
            out.write_all(text.as_bytes()).unwrap();
            out.finish().unwrap()
        }
        "zstd" => ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest),
        "gzip, zstd" => {
            let inner = packed("gzip", text);
            ruzstd::encoding::compress_to_vec(&inner[..], ruzstd::encoding::CompressionLevel::Fastest)
        }
        // Made with brotli 1.2 of the answer that the test below expects.
        _ => (0..BROTLI.len()).step_by(2).map(|i| u8::from_str_radix(&BROTLI[i..i + 2], 16).unwrap()).collect(),
    }
}

const BROTLI: &str = "7005107b226a736f6e727063223a22322e30222c226964223a312c22726573756c74223a7b22636f6e74656e74223a5b7b2274797065223a2274657874222c2274657874223a2243414e4152592d474c4f4245582d39227d5d7d7d03";

fn with_body(head: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

fn answered_with(coding: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    with_body(&format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: {coding}"), body)
}

fn talk_bytes(segments: &[Segment]) -> Vec<String> {
    run(segments.iter().map(|(no, from, bytes)| Step::Bytes(*no, *from, bytes, true)))
}

#[test]
fn packed_bodies_are_read_as_if_they_were_plain() {
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"CANARY-GLOBEX-9"}]}}"#;
    let ask = call(1, "search", r#"{"tenant_id":"globex"}"#);
    let head = "POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    let plain = talk_bytes(&[
        (1, C, with_body(head, ask.as_bytes())),
        (1, S, with_body("HTTP/1.1 200 OK\r\ncontent-type: application/json", result.as_bytes())),
    ]);
    assert!(mcp(&plain)[0].contains("-> Result") && mcp(&plain)[0].contains("canary globex"), "{plain:?}");
    for coding in ["gzip", "deflate", "zstd", "gzip, zstd", "br"] {
        let answer = answered_with(coding, "application/json", &packed(coding, result));
        let got = talk_bytes(&[(1, C, with_body(head, ask.as_bytes())), (1, S, answer.clone())]);
        assert_eq!(mcp(&got), mcp(&plain), "{coding}");
        for cut in 1..answer.len() {
            let (a, b) = answer.split_at(cut);
            let request = (1, C, with_body(head, ask.as_bytes()));
            let got = talk_bytes(&[request, (1, S, a.to_vec()), (1, S, b.to_vec())]);
            assert_eq!(mcp(&got), mcp(&plain), "{coding} cut at {cut}");
        }
        if coding != "br" {
            let request = with_body(&format!("{head}\r\ncontent-encoding: {coding}"), &packed(coding, &ask));
            let got = talk_bytes(&[(1, C, request), (1, S, answer)]);
            assert_eq!(mcp(&got), mcp(&plain), "{coding}, the request too");
        }
        // In a stream, in chunks.
        let events = packed(coding, &format!("event: message\ndata: {result}\n\n"));
        if coding != "br" {
            let answer = answered_with(coding, "text/event-stream", &events);
            let got = talk_bytes(&[(1, C, with_body(head, ask.as_bytes())), (1, S, answer)]);
            assert_eq!(mcp(&got), mcp(&plain), "{coding} events");
        }
    }
}

#[test]
fn events_of_a_packed_stream_are_read_as_they_come() {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut segments: Vec<Segment> = vec![(1, C, post("", &call(1, "search", "{}")).into_bytes())];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
    segments.push((1, S, head.as_bytes().to_vec()));
    for data in [r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(), done(1)] {
        write!(out, "data: {data}\n\n").unwrap();
        out.flush().unwrap();
        let piece = std::mem::take(out.get_mut());
        segments.push((1, S, [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat()));
    }
    let mut agent = Agent::new();
    let mut told = Vec::new();
    for (no, from, bytes) in &segments {
        agent.step(&Step::Bytes(*no, *from, bytes, true));
        told.push(agent.lines.iter().filter(|l| l.contains(" mcp ")).count());
    }
    assert_eq!(told, [0, 0, 1, 1], "the notification at once, the call when it is over");
    agent.close();
    assert!(agent.lines.iter().any(|l| l.contains("[search] -> Result")), "{:?}", agent.lines);
}

#[test]
fn what_cannot_be_unpacked_counts_by_its_status_and_what_is_missing_by_nothing() {
    let ask = || (1, C, post("", &call(1, "search", "{}")).into_bytes());
    let how = |answer: Vec<u8>| {
        let got = talk_bytes(&[ask(), (1, S, answer)]);
        let op = got.iter().find(|l| l.starts_with("1   1")).unwrap().clone();
        let how = mcp(&got)[0].split(" -> ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        assert_eq!(op.contains("-> unknown"), how == "Unknown", "{got:?}");
        how
    };
    let gzip = packed("gzip", &done(1));
    assert_eq!(how(answered_with("gzip", "application/json", &gzip)), "Result");
    for (coding, body) in [
        ("gzip", b"???".to_vec()),
        ("compress", gzip.clone()),
        ("br", gzip.clone()),
        ("gzip", gzip[..gzip.len() / 2].to_vec()),
        ("gzip, gzip, gzip, gzip", gzip.clone()),
    ] {
        assert_eq!(how(answered_with(coding, "application/json", &body)), "Status(200)", "{coding}");
        assert_eq!(how(answered_with(coding, "text/event-stream", &body)), "Status(200)", "{coding}");
    }
    // More than anybody reads.
    let bomb = packed("gzip", &format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{}\"", " ".repeat(8 << 20)));
    assert_eq!(how(answered_with("gzip", "application/json", &bomb)), "Status(200)");
    assert_eq!(how(answered_with("gzip", "text/event-stream", &bomb)), "Status(200)");
    let refused = with_body("HTTP/1.1 401 Unauthorized\r\ncontent-encoding: x", b"no");
    assert_eq!(how(refused), "Status(401)");
    // A hole anywhere in the body.
    let whole = answered_with("gzip", "application/json", &gzip);
    let start = whole.len() - gzip.len();
    for from in (start..whole.len()).step_by(7) {
        for n in [1, 10, whole.len() - from] {
            let n = n.min(whole.len() - from);
            let request = ask();
            let got = run([
                Step::Bytes(1, C, &request.2, true),
                Step::Bytes(1, S, &whole[..from], false),
                Step::Hole(1, S, n as u64),
                Step::Bytes(1, S, &whole[from + n..], true),
            ]
            .into_iter());
            // As of a plain body: what came before the hole may show that there was a result, and no more.
            let told = mcp(&got)[0];
            assert!(
                told.contains("-> Unknown") || told.contains("-> Result") && told.ends_with("(cut)"),
                "{from} {n}: {got:?}"
            );
            assert!(!got.iter().any(|l| l.contains("decode_error") || l.contains("unmatched")), "{got:?}");
        }
    }
}
