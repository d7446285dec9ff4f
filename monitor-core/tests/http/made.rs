//! Conversations that are made up: what is written is what is read.

use proptest::prelude::*;

use super::common::Segments;
use super::*;

/// One exchange of a made-up conversation.
#[derive(Clone, Debug)]
struct Made {
    head: bool,
    body: Option<Vec<u8>>,
    chunked: bool,
    interim: bool,
    status: u16,
    reply: Vec<u8>,
    reply_chunked: bool,
}

fn framed(head: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let mut out = head.as_bytes().to_vec();
    if !chunked {
        out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        out.extend(body);
        return out;
    }
    out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    for (i, piece) in body.chunks(7).enumerate() {
        out.extend(format!("{:x}{}\r\n", piece.len(), if i % 2 == 1 { ";ext=\"v\"" } else { "" }).bytes());
        out.extend(piece);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\nX-Trailer: t\r\n\r\n");
    out
}

impl Made {
    fn request(&self, n: usize) -> Vec<u8> {
        let head = format!("{} /p/w{n} HTTP/1.1\r\nHost: x\r\n", if self.head { "HEAD" } else { "POST" });
        match &self.body {
            Some(body) => framed(&head, body, self.chunked),
            None => format!("{head}\r\n").into_bytes(),
        }
    }
    fn reply(&self) -> Vec<u8> {
        let mut out = if self.interim { b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec() } else { Vec::new() };
        let head = format!("HTTP/1.1 {} X\r\nServer: s\r\n", self.status);
        if matches!(self.status, 204 | 304) {
            out.extend(format!("{head}\r\n").bytes());
        } else if self.head {
            out.extend(format!("{head}Content-Length: 999\r\n\r\n").bytes());
        } else {
            out.extend(framed(&head, &self.reply, self.reply_chunked));
        }
        out
    }
    fn operation(&self, n: usize) -> String {
        let verb = if self.head { "HEAD" } else { "POST" };
        format!("  {} Data {verb} [/p/w{n}]{}", n + 1, if self.status >= 400 { " -> error" } else { "" })
    }
}

fn made() -> impl Strategy<Value = Made> {
    let body = proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b'0')], 0..40);
    let status = prop_oneof![Just(200u16), Just(204), Just(304), Just(404), Just(500), Just(201)];
    (any::<bool>(), proptest::option::of(body.clone()), any::<bool>(), any::<bool>(), status, body, any::<bool>())
        .prop_map(|(head, body, chunked, interim, status, reply, reply_chunked)| Made {
            head,
            body,
            chunked,
            interim,
            status,
            reply,
            reply_chunked,
        })
}

proptest! {
    #[test]
    fn any_conversation_is_read_as_it_was_written(
        all in proptest::collection::vec(made(), 1..8),
        pipelined in 1usize..4,
        cuts in proptest::collection::vec(1usize..60, 1..6),
    ) {
        let mut segments: Segments = Vec::new();
        let all: Vec<(usize, &Made)> = all.iter().enumerate().collect();
        for group in all.chunks(pipelined) {
            segments.push((C, group.iter().flat_map(|(n, m)| m.request(*n)).collect()));
            segments.push((S, group.iter().flat_map(|(_, m)| m.reply()).collect()));
        }
        let mut size = cuts.iter().cycle();
        let mut pieces: Vec<(Side, Vec<u8>)> = Vec::new();
        for (from, bytes) in &segments {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*size.next().unwrap()).min(rest.len()));
                pieces.push((*from, piece.to_vec()));
                rest = after;
            }
        }
        let got = SUITE.whole(&pieces);
        prop_assert_eq!(&got, &SUITE.whole(&segments));
        let ops: Vec<String> = got.iter().filter(|l| l.starts_with("  ")).cloned().collect();
        let want: Vec<String> = all.iter().map(|(n, m)| m.operation(*n)).collect();
        prop_assert_eq!(ops, want);
        prop_assert!(!got.iter().any(|l| l.starts_with("dec") || l.starts_with("dis") || l.ends_with(" -")));
    }

    #[test]
    fn a_hole_anywhere_never_pairs_wrongly(
        all in proptest::collection::vec(made(), 2..8),
        at in 0usize..10_000,
        len in 1usize..400,
    ) {
        let segments: Segments =
            all.iter().enumerate().flat_map(|(n, m)| [(C, m.request(n)), (S, m.reply())]).collect();
        let want = SUITE.whole(&segments);
        // The same hole in each segment's own bytes: cut at the end, as captures are.
        let which = at % segments.len();
        let keep = segments[which].1.len().saturating_sub(len);
        let steps = segments.iter().enumerate().flat_map(|(i, (from, bytes))| {
            if i == which {
                let (kept, lost) = bytes.split_at(keep);
                vec![Step::Bytes(*from, kept, false), Step::Hole(*from, lost.len() as u64)]
            } else {
                vec![Step::Bytes(*from, bytes, true)]
            }
        });
        let got = SUITE.run_from(false, steps);
        prop_assert!(claims_no_more(&known(&got), &known(&want)), "{}\n\n{}", got.join("\n"), want.join("\n"));
    }
}
