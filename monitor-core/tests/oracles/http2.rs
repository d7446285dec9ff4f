//! Oracles over the recordings of HTTP/2 and gRPC: an HPACK decoder reads every header block of both directions, and `h2` plays
//! the end that each direction was sent to. Either finds out by itself what was asked, and how it ended.

mod blocks;
mod ends;

use std::collections::BTreeMap;

use monitor_core::decode::WireEvent;
use monitor_core::decode::infer::{self, Shared};
use monitor_core::model::{HeaderPolicy, Outcome, Protocol};

use crate::common::{SALT, Suite};
use crate::{Told, Unreadable, every};

const SUITE: Suite = Suite {
    name: "http2",
    make: |mid_stream| {
        infer::decoder(Protocol::Http2, SALT, mid_stream, &Shared::new(SALT, &HeaderPolicy::default())).unwrap()
    },
    values: true,
    at_least: 10,
    memory: 2 << 20,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const UPGRADED: [Unreadable; 2] = [
    ("curl_upgrade", "no preface", "it begins in HTTP/1.1"),
    ("nghttp_upgrade", "no preface", "it begins in HTTP/1.1"),
];

/// The code with which a stream is reset that was not worked on (RFC 9113 §7).
const REFUSED_STREAM: u32 = 7;
/// Codes of a call's status.
const OK: u32 = 0;
const CANCELLED: u32 = 1;
const DEADLINE_EXCEEDED: u32 = 4;

/// A request and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    method: String,
    path: String,
    /// Its body holds messages of gRPC.
    is_call: bool,
    status: Option<u16>,
    /// Of a call, behind its answer or in place of it.
    call_status: Option<u32>,
    /// The answer is whole.
    answered: bool,
    /// The code with which either end has given it up.
    reset: Option<u32>,
}

impl Asked {
    fn outcome(&self) -> Outcome {
        match self.status {
            None if self.reset == Some(REFUSED_STREAM) => Outcome::Error,
            Some(400..) => Outcome::Error,
            None => Outcome::Unknown,
            Some(_) if !self.answered => Outcome::Unknown,
            Some(_) if self.is_call => match self.call_status {
                Some(OK) => Outcome::Ok,
                None | Some(CANCELLED | DEADLINE_EXCEEDED) => Outcome::Unknown,
                Some(_) => Outcome::Error,
            },
            Some(_) => Outcome::Ok,
        }
    }
}

/// What was asked, in the order of the requests' heads.
fn compare(name: &str, asked: &[Asked], told: &Told) {
    let n = told.events().filter(|e| matches!(e, WireEvent::Arrived { .. })).count();
    assert_eq!(n, asked.len(), "{name}: each head is a request");
    let operations = told.by_request();
    for (number, x) in (1..).zip(asked) {
        let what = format!("{name}: {number} {x:?}");
        let of_it = operations.get(&number).map_or(&[][..], Vec::as_slice);
        assert_eq!(of_it.len(), usize::from(x.answered || x.reset.is_some()), "{what} is told when it is over");
        for op in of_it {
            let (verb, target) = (told.name(op.verb), told.name(op.target));
            let path = x.path.split('?').next().unwrap_or_default();
            match path.trim_start_matches('/').rsplit_once('/').filter(|_| x.is_call) {
                Some((service, method)) => assert_eq!((verb, target), (method, service), "{what}"),
                None => assert!(verb == x.method && told.shows(op.target, path), "{what} is {verb} {target}"),
            }
            assert_eq!(op.outcome, x.outcome(), "{what}");
        }
    }
}

#[test]
fn requests_and_answers_are_what_an_hpack_decoder_reads() {
    every(&SUITE, &UPGRADED, blocks::read, |name, asked, told| compare(name, &asked, told));
}

#[test]
fn requests_and_answers_are_what_h2_is_asked_and_answered() {
    let unreadable = [&UPGRADED[..], ends::UNREADABLE].concat();
    every(&SUITE, &unreadable, ends::play, |name, asked, told| compare(name, &asked, told));
}

#[test]
fn the_oracles_agree_with_each_other() {
    let mut n = BTreeMap::new();
    for (name, segments) in SUITE.recordings() {
        if let (Ok(blocks), Ok(ends)) = (blocks::read(&segments), ends::play(&segments)) {
            assert_eq!(blocks, ends, "{name}");
            n.insert(name, blocks.len());
        }
    }
    assert!(n.len() >= 5, "most are read by both: {n:?}");
}
