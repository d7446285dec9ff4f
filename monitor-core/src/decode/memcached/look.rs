//! Do these bytes belong to a connection of memcached, and who says them?

use super::reply::{is_telling, reply};
use super::request::{Does, request};
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// What memcached is recognised by.
pub(crate) struct Known;

/// Longest beginning that is waited for.
const MAX_FIRST: usize = 512;

/// The first line, without its end.
fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', bytes)?;
    bytes.get(..end)?.strip_suffix(b"\r")
}

/// A command that only this protocol has in this form: what is written and how long it is, or a meta command.
fn tells(line: &[u8]) -> bool {
    request(line).is_some_and(|r| match r.does {
        Does::Store(_) | Does::MetaStore(_) => true,
        Does::MetaGet | Does::MetaDelete | Does::MetaCount => line.get(2) == Some(&b' '),
        _ => false,
    })
}

/// Whole commands, up to the end of a segment; with `telling`, one of them only this protocol has.
pub(super) fn commands(bytes: &[u8], telling: bool) -> bool {
    let (mut rest, mut n, mut told) = (bytes, 0, false);
    while !rest.is_empty() && n < 64 {
        let Some(line) = first_line(rest) else { return false };
        let Some(r) = request(line) else { return false };
        told |= tells(line);
        let data = r.data.and_then(|n| usize::try_from(n).ok()).map_or(0, |n| n + 2);
        let Some(after) = rest.get(line.len() + 2 + data..) else { return false };
        if data > 0 && rest.get(line.len() + 2 + data - 2..line.len() + 2 + data) != Some(b"\r\n") {
            return false;
        }
        rest = after;
        n += 1;
    }
    n > 0 && (told || !telling)
}

/// A line of an answer that only this protocol's server says, whole up to a segment's end or not.
fn answer(bytes: &[u8]) -> bool {
    first_line(bytes).and_then(reply).is_some_and(|r| is_telling(&r))
}

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Memcached
    }

    fn starts(&self, bytes: &[u8]) -> Look {
        match first_line(bytes) {
            Some(line) if tells(line) => Look::Is(Side::Client),
            // A read says too little, until it is answered.
            Some(line) if request(line).is_some() && bytes.len() < MAX_FIRST => Look::NeedMore,
            _ => Look::Not,
        }
    }

    fn answers(&self, bytes: &[u8]) -> Look {
        if answer(bytes) { Look::Is(Side::Server) } else { Look::Not }
    }

    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        if commands(bytes, true) { Some(Side::Client) } else { answer(bytes).then_some(Side::Server) }
    }

    /// A miss says too little, unless a read was asked.
    fn confirms(&self, asked: &[u8], answer: &[u8]) -> bool {
        commands(asked, false)
            && (matches!(answer, b"END\r\n" | b"EN\r\n" | b"HD\r\n" | b"MN\r\n") || self::answer(answer))
    }

    fn side(&self, bytes: &[u8]) -> Option<Side> {
        let line = first_line(bytes)?;
        if request(line).is_some() { Some(Side::Client) } else { reply(line).map(|_| Side::Server) }
    }

    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream, &shared.memcached)
    }
}
