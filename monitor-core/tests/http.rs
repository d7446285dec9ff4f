//! Recorded HTTP connections through the decoder: what it says, however the bytes are cut, and what it does not say
//! when some are missing. And written ones, for what real clients do not do, or do too rarely.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::{SALT, Step, Suite, bindings, is_subsequence};
use monitor_core::decode::Decoder;
use monitor_core::decode::body::BodyReader;
use monitor_core::decode::http::{Shared, decoder, fuzz::fuzz_http};
use monitor_core::decode::infer::{Guess, infer};
use monitor_core::model::{HeaderPolicy, Protocol, Side};

mod common;
#[path = "http/framing.rs"]
mod framing;
#[path = "http/made.rs"]
mod made;
#[path = "http/on_top.rs"]
mod on_top;
#[path = "http/operations.rs"]
mod operations;
#[path = "http/pairing.rs"]
mod pairing;

const SUITE: Suite =
    Suite { name: "http", make: |mid_stream| http(mid_stream, None), values: true, at_least: 20, memory: 1 << 20 };

/// The same without values, for tests that look at something else.
const TALK: Suite = Suite { values: false, ..SUITE };

const C: Side = Side::Client;
const S: Side = Side::Server;

fn http(mid_stream: bool, reader: Option<Box<dyn BodyReader>>) -> Box<dyn Decoder> {
    decoder(SALT, mid_stream, &Shared::new(HeaderPolicy::default()), reader)
}

protocol_suite!(SUITE, fuzz_http, split 400, step 97);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    SUITE.every_prefix(&mut |what, line| {
        // What differs is the end of what was outstanding, which nobody answered.
        let unsent = line.starts_with("begun") && line.ends_with(" -");
        let end = line.contains("-> unknown") || line.starts_with("answered") || line == "status Idle";
        // The end of a body that goes on until the connection closes.
        let last = line.starts_with("value") || line.starts_with("  ");
        assert!(end || unsent || (what.starts_with("until_close ") && last), "{what}: {line}");
    });
}

/// What a decoder claims to know: each answered operation without its number, with the fingerprints of its request and
/// its reply, as far as there are any.
fn known(lines: &[String]) -> Vec<String> {
    let print_of = |kind: &str, number: &str| {
        let line = lines.iter().find(|l| l.starts_with(&format!("{kind} {number} ")));
        line.map_or("-", |l| l.rsplit(' ').next().unwrap()).to_owned()
    };
    let ops = lines.iter().filter(|l| l.starts_with("  ") && !l.contains("-> unknown"));
    ops.map(|l| {
        let (number, rest) = l.trim_start().split_once(' ').unwrap();
        format!("{rest} | {} {}", print_of("begun", number), print_of("answered", number))
    })
    .collect()
}

/// Whether everything in `got` stands in `want` in the same order; a fingerprint may be missing.
fn claims_no_more(got: &[String], want: &[String]) -> bool {
    let fits = |g: &str, w: &str| {
        let ((g_op, g_prints), (w_op, w_prints)) = (g.split_once(" | ").unwrap(), w.split_once(" | ").unwrap());
        g_op == w_op && g_prints.split(' ').zip(w_prints.split(' ')).all(|(g, w)| g == "-" || g == w)
    };
    let mut rest = want.iter();
    got.iter().all(|g| rest.any(|w| fits(g, w)))
}

fn check_lossy(what: &str, got: &[String], want: &[String]) {
    assert!(claims_no_more(&known(got), &known(want)), "{what}:\n{}\nwhole:\n{}", got.join("\n"), want.join("\n"));
    assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}");
    assert!(!got.iter().any(|l| l.starts_with("unmatched")), "{what}: after a hole no reply is surely unasked");
    assert!(
        !got.iter().any(|l| l.starts_with("decode_error")),
        "{what}: a hole is no malformed input\n{}",
        got.join("\n")
    );
}

#[test]
fn a_missing_segment_never_makes_a_claim() {
    let mut n_recovered = 0;
    SUITE.every_hole(&mut |what, got, want| {
        check_lossy(what, got, want);
        if let Some(at) = got.iter().position(|l| l.starts_with("disturbed")) {
            n_recovered += usize::from(got[at..].iter().any(|l| l.starts_with("arrived")));
        }
    });
    assert!(n_recovered >= 30, "the place is found again after most holes: {n_recovered}");
}

#[test]
fn a_cut_segment_never_makes_a_claim() {
    SUITE.every_cut(&[1, 4, 6, 12, 20, 40, 80, 160, 240], &mut check_lossy);
}

#[test]
fn a_connection_joined_late_is_read_from_the_next_request() {
    let mut n_joined = 0;
    SUITE.every_late_start(0, &mut |what, got, want| {
        check_lossy(what, got, want);
        n_joined += usize::from(got.iter().any(|l| l.starts_with("answered")));
    });
    assert!(n_joined > 90, "most connections are joined: {n_joined}");
}

/// What the fuzzer starts from, and what it has found.
#[test]
fn the_fuzz_target_holds_on_its_corpus() {
    SUITE.every_fuzz_seed(20, fuzz_http);
}

/// A written conversation; each text is one segment.
fn talk(lines: &[(Side, &str)]) -> Vec<String> {
    TALK.run_from(false, lines.iter().map(|(from, text)| Step::Bytes(*from, text.as_bytes(), true)))
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_connection_is_recognised_by_a_request_or_status_line() {
    let http = |from| Guess::Is { protocol: Protocol::Http, from };
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(10_000));
    for mid_stream in [false, true] {
        let of = |bytes: &[u8]| infer(bytes, true, mid_stream);
        assert_eq!(of(b"GET /a HTTP/1.1\r\nHost: x\r\n"), http(C));
        assert_eq!(of(b"CONNECT db:5432 HTTP/1.1\r\n\r\n"), http(C));
        assert_eq!(of(OK.as_bytes()), http(S));
        assert_eq!(of(&long.as_bytes()[..2000]), http(C), "a long target");
        assert_eq!(of(b"GET /a HT"), Guess::NeedMore);
        assert_eq!(of(b"HTTP/1.1 2"), Guess::NeedMore);
        let http2 = Guess::Is { protocol: Protocol::Http2, from: C };
        assert_eq!(of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), http2);
        for other in [&b"GET key\r\n"[..], b"HTTP/2 200\r\n", b"xGET / HTTP/1.1\r\n", b"get / HTTP/1.1\r\n"] {
            assert!(of(other) != http(C) && of(other) != http(S), "{other:?}");
        }
    }
}

fn operation(lines: &[String]) -> &str {
    lines.iter().find(|l| l.starts_with("  ")).unwrap().trim_start()
}
