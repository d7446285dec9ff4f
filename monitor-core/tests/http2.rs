//! Recorded HTTP/2 and gRPC connections through the decoder: what it says, however the bytes are cut, and what it does not
//! say when some are missing or were said before anybody listened.
//!
//! `golden/http2/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment; `NAME.out` the decoder's calls.
//! `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::{SALT, Segments, Step, Suite, bindings, is_subsequence};
use monitor_core::decode::grpc::fuzz::fuzz_grpc;
use monitor_core::decode::http::v2::fuzz::{fuzz_hpack, fuzz_http2};
use monitor_core::decode::infer::{self, Guess, Shared};
use monitor_core::decode::{Chunk, Decoder, Sink};
use monitor_core::model::{HeaderPolicy, Nanos, Protocol, Side};

mod common;

/// Recordings of connections that begin in HTTP/1.1.
const UPGRADED: &[&str] = &["curl_upgrade", "nghttp_upgrade"];

/// The decoder that a connection gets whose first bytes these are.
struct First(Option<Box<dyn Decoder>>, bool);

impl First {
    fn decoder(&mut self, protocol: Protocol) -> &mut dyn Decoder {
        let shared = Shared::new(SALT, &HeaderPolicy::default());
        self.0.get_or_insert_with(|| infer::decoder(protocol, SALT, self.1, &shared).unwrap()).as_mut()
    }
}

impl Decoder for First {
    fn protocol(&self) -> Protocol {
        Protocol::Http2
    }
    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        let is_http1 = from == Side::Client && chunk.bytes.starts_with(b"G") && !self.1;
        self.decoder(if is_http1 { Protocol::Http } else { Protocol::Http2 }).bytes(from, chunk, sink);
    }
    fn missing(&mut self, from: Side, at: Nanos, n: u64, sink: &mut dyn Sink) {
        self.decoder(Protocol::Http2).missing(from, at, n, sink);
    }
    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.decoder(Protocol::Http2).closed(at, sink);
    }
    fn appetite(&self, from: Side) -> monitor_core::decode::Appetite {
        self.0.as_ref().map_or(monitor_core::decode::Appetite::Everything, |d| d.appetite(from))
    }
    fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |d| d.memory())
    }
}

const SUITE: Suite = Suite {
    name: "http2",
    make: |mid_stream| Box::new(First(None, mid_stream)),
    values: true,
    at_least: 10,
    memory: 2 << 20,
};

protocol_suite!(SUITE, fuzz_http2, split 120, step 97);

/// The operations that are said to have ended one way or another, without their numbers.
fn known(lines: &[String]) -> Vec<&str> {
    let ops = lines.iter().filter(|l| l.starts_with("  ") && !l.contains("-> unknown"));
    ops.map(|l| l.trim_start().split_once(' ').unwrap().1).collect()
}

/// What is said is part of what there is to say: each operation as it is in the whole, or with less known of whom it names.
fn claims_no_more(what: &str, got: &[String], want: &[String]) {
    let mut rest: Vec<&str> = known(want);
    for g in known(got) {
        let bare = g.replace(" of unreadable", "");
        let whole = |w: &str| w == g || (g != bare && without_marker(w) == bare);
        let at = rest.iter().position(|w| whole(w));
        let at = at.unwrap_or_else(|| panic!("{what}: {g}\n{}\nwhole:\n{}", got.join("\n"), want.join("\n")));
        rest.remove(at);
    }
    assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}");
    assert!(!got.iter().any(|l| l.starts_with("unmatched")), "{what}: after a hole no reply is surely unasked");
}

fn without_marker(line: &str) -> String {
    ["acme", "globex", "opaque"].iter().fold(line.to_owned(), |l, who| l.replace(&format!(" of {who}"), ""))
}

#[test]
fn every_prefix_ends_what_it_began() {
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for n in 0..segments.len() {
            let got = SUITE.run_from(false, segments.iter().take(n).map(|(from, b)| Step::Bytes(*from, b, true)));
            claims_no_more(&format!("{name} first {n}"), &got, &want);
        }
    }
}

fn is_http1(name: &str, segments: &Segments, at: usize) -> bool {
    let preface = segments.iter().position(|(_, b)| b.starts_with(b"PRI ") || b.windows(4).any(|w| w == b"PRI "));
    UPGRADED.contains(&name) && preface.is_none_or(|preface| at <= preface)
}

#[test]
fn a_missing_segment_never_makes_a_claim() {
    let mut n_read_on = 0;
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for lost in (0..segments.len()).filter(|lost| !is_http1(&name, &segments, *lost)) {
            let steps = segments.iter().enumerate().map(|(i, (from, bytes))| {
                if i == lost { Step::Hole(*from, bytes.len() as u64) } else { Step::Bytes(*from, bytes, true) }
            });
            let got = SUITE.run_from(false, steps);
            claims_no_more(&format!("{name} without segment {lost}"), &got, &want);
            let errors: Vec<_> = got.iter().filter(|l| l.starts_with("decode_error")).collect();
            assert!(
                errors.iter().all(|l| want.contains(l)),
                "{name} without {lost}: a hole is no malformed input {errors:?}"
            );
            n_read_on += usize::from(known(&got).len() + 8 >= known(&want).len());
        }
    }
    assert!(n_read_on >= 100, "the place is found again after most holes: {n_read_on}");
}

#[test]
fn a_cut_segment_never_makes_a_claim() {
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for (lost, (_, all)) in segments.iter().enumerate().filter(|(i, _)| !is_http1(&name, &segments, *i)) {
            for keep in [1, 8, 9, 10, 12, 20, 40, 80, 240].into_iter().filter(|k| *k < all.len()) {
                let steps = segments.iter().enumerate().flat_map(|(i, (from, bytes))| {
                    if i == lost {
                        let head = Step::Bytes(*from, &bytes[..keep], false);
                        vec![head, Step::Hole(*from, (bytes.len() - keep) as u64)]
                    } else {
                        vec![Step::Bytes(*from, bytes, true)]
                    }
                });
                let got = SUITE.run_from(false, steps);
                claims_no_more(&format!("{name}: segment {lost} cut to {keep}"), &got, &want);
            }
        }
    }
}

#[test]
fn a_connection_joined_late_says_nothing_else() {
    let (mut n_known, mut n_all) = (0, 0);
    for (name, segments) in SUITE.recordings() {
        let want = SUITE.whole(&segments);
        for from in (1..segments.len()).filter(|from| !is_http1(&name, &segments, *from)) {
            let got = SUITE.run_from(true, segments.iter().skip(from).map(|(side, b)| Step::Bytes(*side, b, true)));
            claims_no_more(&format!("{name} from {from}"), &got, &want);
            n_known += known(&got).len();
            n_all += 1;
        }
    }
    assert!(n_known > n_all, "most connections are joined: {n_known} operations of {n_all} starts");
}

/// Every frame boundary, whether or not it is a segment's: the agent may join in any segmentation.
#[test]
fn a_connection_joined_at_any_frame_says_nothing_else() {
    for (name, segments) in SUITE.recordings().into_iter().filter(|(name, _)| !UPGRADED.contains(&name.as_str())) {
        let want = SUITE.whole(&segments);
        let cut: Segments =
            segments.iter().flat_map(|(from, bytes)| frames(bytes).into_iter().map(|f| (*from, f))).collect();
        for from in 1..cut.len() {
            let got = SUITE.run_from(true, cut.iter().skip(from).map(|(side, b)| Step::Bytes(*side, b, true)));
            claims_no_more(&format!("{name} from frame {from}"), &got, &want);
        }
    }
}

/// A segment's frames; what is cut stays as it is.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some([a, b, c]) = rest.first_chunk::<3>().filter(|_| rest.len() > 9) {
        let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let n = if rest.starts_with(b"PRI ") { 24 } else { (9 + len).min(rest.len()) };
        let (frame, after) = rest.split_at(n);
        all.push(frame.to_vec());
        rest = after;
    }
    if !rest.is_empty() {
        all.push(rest.to_vec());
    }
    all
}

#[test]
fn recordings_are_known_for_what_they_are() {
    let mut n_known = [0; 2];
    for (name, segments) in SUITE.recordings().into_iter().filter(|(name, _)| !UPGRADED.contains(&name.as_str())) {
        for side in [Side::Client, Side::Server] {
            let first = &segments.iter().find(|(from, _)| *from == side).unwrap().1;
            let is = Guess::Is { protocol: Protocol::Http2, from: side };
            let got = infer::infer(first, true, false);
            // Settings without any setting are nine bytes, of which eight are zero.
            assert!(
                got == is || (got == Guess::NeedMore && side == Side::Server && first.len() == 9),
                "{name} {side:?} {got:?}"
            );
        }
        for (at, (from, bytes)) in segments.iter().enumerate().skip(1) {
            let is = Guess::Is { protocol: Protocol::Http2, from: *from };
            let got = infer::infer(bytes, true, true);
            assert!(got == is || got == Guess::NeedMore || got == Guess::Opaque("unknown"), "{name} {at}: {got:?}");
            n_known[usize::from(*from == Side::Server)] += usize::from(got == is);
        }
    }
    assert!(n_known.iter().all(|n| *n > 10), "either side tells in the middle, too: {n_known:?}");
}

#[test]
fn header_blocks_of_random_bytes_do_no_harm() {
    for (_, segments) in SUITE.recordings() {
        for (_, bytes) in segments.iter().take(12) {
            for at in 0..bytes.len().min(200) {
                fuzz_hpack(&bytes[at..bytes.len().min(at + 300)]);
            }
        }
    }
}

#[test]
fn the_fuzz_targets_hold_on_their_corpora() {
    for (name, fuzz) in [("http2", fuzz_http2 as fn(&[u8])), ("hpack", fuzz_hpack), ("grpc", fuzz_grpc)] {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let seeds: Vec<_> =
            std::fs::read_dir(corpus).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect();
        assert!(seeds.len() >= 2, "the corpus of {name} is there");
        seeds.iter().for_each(|data| fuzz(data));
    }
}

/// A recording of MCP. Its first lines tell what a second one who plays it has instead: a session and a token of its own.
#[test]
fn mcp_is_read_as_over_http1() {
    let text = std::fs::read_to_string(SUITE.folder().join("mcp.one")).unwrap();
    let segments: Segments = text
        .lines()
        .filter(|line| !line.starts_with('='))
        .map(|line| {
            let (side, hex) = line.split_once(' ').unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            (if side == "C" { Side::Client } else { Side::Server }, bytes)
        })
        .collect();
    let want = SUITE.whole(&segments);
    let path = SUITE.folder().join("mcp.out");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, want.join("\n") + "\n").unwrap();
    }
    assert_eq!(want.join("\n") + "\n", std::fs::read_to_string(&path).unwrap(), "BLESS=1 accepts the new output");
    let calls = |lines: &[String]| lines.iter().filter(|l| l.contains("ToolsCall") || l.contains("tools/call")).count();
    assert!(calls(&want) >= 6, "each call is an operation and an exchange");
    let single = segments.iter().flat_map(|(from, bytes)| {
        bytes.chunks(1).enumerate().map(move |(i, b)| Step::Bytes(*from, b, i + 1 == bytes.len()))
    });
    assert_eq!(SUITE.run_from(false, single), want, "byte by byte");
    for from in 1..segments.len() {
        let late = SUITE.run_from(true, segments.iter().skip(from).map(|(side, b)| Step::Bytes(*side, b, true)));
        assert!(!late.iter().any(|l| l.starts_with("unmatched")), "from {from}");
    }
}
