//! `watermelon-proto` over the recordings of NATS. It is a client's codec: it reads what servers say. What clients publish
//! is written the same way but for the number of the subscription, which is put in for it.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes, BytesMut};
use monitor_core::model::Side;
use watermelon_proto::proto::error::FrameDecoderError;
use watermelon_proto::proto::{ServerOp, decode_frame};

use crate::common::Segments;
use crate::common::suites::NATS as SUITE;
use crate::{Frames, Unreadable, every, frames};

const UNREADABLE: &[Unreadable] =
    &[("nats_js_producer", "MissingHead", "nats.js sends headers of no bytes at all, which servers take for none")];

enum Op {
    /// A line of the client's that is no message: its first word, and the second.
    Line(String, String),
    Message(Message),
    /// Something else that the server says.
    Says,
}

struct Message {
    subject: String,
    reply: Option<String>,
    size: usize,
    /// As an answer to a publication it says that nobody has it, or that it was there before.
    refuses: bool,
}

fn read(segments: &Segments) -> Frames<Op> {
    frames(segments, |from, bytes| match from {
        Side::Server => op(bytes).map(|read| read.map(|(op, n)| take(bytes, n, op))),
        Side::Client => {
            let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
            let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut words = line.split_whitespace();
            let (verb, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let what = match verb.to_ascii_uppercase().as_str() {
                "PUB" => "MSG",
                "HPUB" => "HMSG",
                _ => return Ok(Some(take(bytes, end + 2, Op::Line(verb.to_ascii_uppercase(), second.to_owned())))),
            };
            let rest: Vec<&str> = words.collect();
            let head = format!("{what} {second} 1 {}", rest.join(" "));
            let whole = [head.as_bytes(), &bytes[end..]].concat();
            op(&whole).map(|read| read.map(|(op, n)| take(bytes, n + end - head.len(), op)))
        }
    })
}

fn take(bytes: &mut BytesMut, n: usize, op: Op) -> Op {
    bytes.advance(n);
    op
}

/// One operation, and how many bytes it has.
fn op(bytes: &[u8]) -> Result<Option<(Op, usize)>, String> {
    let mut rest = Bytes::copy_from_slice(bytes);
    match decode_frame(&mut rest) {
        Ok(op) => {
            let op = if let ServerOp::Message { message } = op {
                let (base, text) = (&message.base, String::from_utf8_lossy(&message.base.payload));
                Op::Message(Message {
                    subject: base.subject.to_string(),
                    reply: base.reply_subject.as_ref().map(ToString::to_string),
                    size: base.payload.len(),
                    refuses: message.status_code.is_some()
                        || text.contains("\"error\":")
                        || text.contains("\"duplicate\": true"),
                })
            } else {
                Op::Says
            };
            Ok(Some((op, bytes.len() - rest.len())))
        }
        Err(FrameDecoderError::IncompleteFrame) => Ok(None),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// A subject that is nobody's queue: of the server's own services, or for one answer.
fn is_own(subject: &str) -> bool {
    subject.starts_with('$') || subject.starts_with("_INBOX.")
}

#[test]
fn operations_and_messages_are_what_watermelon_reads() {
    every(&SUITE, UNREADABLE, read, |name, frames, told| {
        let operations = told.by_request();
        let refusals: BTreeSet<&String> = frames
            .iter()
            .filter_map(|(_, op)| if let Op::Message(m) = op { m.refuses.then_some(&m.subject) } else { None })
            .collect();
        let (mut request, mut deliveries, mut n_published) = (0, told.delivered(), 0);
        for (from, op) in &frames {
            match (from, op) {
                (Side::Client, Op::Line(verb, _)) if ["PING", "PONG"].contains(&verb.as_str()) => {}
                (Side::Client, Op::Line(verb, subject)) => {
                    request += 1;
                    let of_it = operations.get(&request).unwrap_or_else(|| panic!("{name}: {request} {verb}"));
                    assert!(of_it.iter().all(|op| told.name(op.verb) == verb), "{name}: {request} {verb}");
                    if verb == "SUB" && !is_own(subject) {
                        assert!(told.shows(of_it[0].target, subject), "{name}: {request} {subject}");
                    }
                }
                (Side::Client, Op::Message(sent)) => {
                    request += 1;
                    let what = format!("{name}: {request} {}", sent.subject);
                    assert!(operations.contains_key(&request), "{what}");
                    let refused = sent.reply.as_ref().is_some_and(|reply| refusals.contains(reply));
                    let message = told.published().find(|m| m.request == request);
                    n_published += usize::from(message.is_some());
                    assert!(message.is_some() != refused || is_own(&sent.subject), "{what}: whether it was taken");
                    if let Some(m) = message {
                        assert!(told.shows(m.queue, &sent.subject), "{what}");
                        assert_eq!(m.bytes, sent.size as u64, "{what}");
                    }
                }
                (Side::Server, Op::Message(got)) if !is_own(&got.subject) => {
                    let d = deliveries.next().unwrap_or_else(|| panic!("{name}: {} is delivered", got.subject));
                    assert!(told.shows(d.message.queue, &got.subject), "{name}: {}", got.subject);
                    assert_eq!(d.message.bytes, got.size as u64, "{name}: {}", got.subject);
                }
                _ => {}
            }
        }
        assert_eq!(told.n_begun() as u64, request, "{name}: each of them is a request");
        assert!(deliveries.next().is_none(), "{name}: nothing else was delivered");
        assert_eq!(told.published().count(), n_published, "{name}: nothing else was published");
    });
}
