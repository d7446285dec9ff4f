//! Do these bytes begin an HTTP/2 connection, or are they frames from the middle of one?

use super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD, HEADERS, Head, LONGEST, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, fragment,
};
use super::hpack;
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::decode::wire::Reader;
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// Frames that are looked at.
const MAX_FRAMES: usize = 64;
/// Fewest frames, one of them with a header block, by which a connection is recognised in its middle.
const ENOUGH: usize = 2;
/// Numbers of settings that are in use (the IANA registry ends at 0x10), and those that are left for trials.
const SETTINGS_IN_USE: std::ops::RangeInclusive<u16> = 1..=0x10;
const TRIALS: std::ops::RangeInclusive<u16> = 0xf000..=0xffff;

/// What some bytes are if they are taken for frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// Heads of frames.
    heads: usize,
    /// Whole frames.
    n: usize,
    /// Of those, frames that hold a whole header block.
    blocks: usize,
    /// The last one ends with the bytes.
    ends: bool,
    /// Highest stream that any of them is of.
    pub(super) highest: u32,
    /// And the lowest.
    lowest: u32,
    /// Who says them, if they tell.
    pub(super) side: Option<Side>,
}

/// Frames as every implementation sends them: stricter than what has to be accepted.
fn is_likely(head: &Head) -> bool {
    let known = match head.kind {
        DATA => END_STREAM | PADDED,
        HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
        CONTINUATION => END_HEADERS,
        PUSH_PROMISE => END_HEADERS | PADDED,
        SETTINGS | PING => 1,
        _ => 0,
    };
    // Streams that a server begins (pushes) are hardly met with.
    let stream = head.stream == 0 || head.stream % 2 == 1;
    head.kind <= CONTINUATION && head.flags & !known == 0 && stream && head.check(LONGEST).is_ok()
}

/// Whether a frame says what its kind can say.
fn says(head: &Head, payload: &[u8], out: &mut Frames) -> bool {
    match head.kind {
        HEADERS | PUSH_PROMISE => {
            let Ok(block) = fragment(*head, payload) else { return false };
            if !head.has(END_HEADERS) {
                return !block.is_empty();
            }
            let side = if head.kind == PUSH_PROMISE { Some(Side::Server) } else { hpack::side(block) };
            // Nobody says what both do.
            if !hpack::is_block(block) || (side.is_some() && out.side.is_some() && side != out.side) {
                return false;
            }
            out.side = out.side.or(side);
            out.blocks += usize::from(!block.is_empty());
            true
        }
        SETTINGS => settings(payload),
        WINDOW_UPDATE => matches!(payload, [0..=0x7f, ..] if payload != [0; 4]),
        // Error codes end at 0xd (RFC 9113 §7).
        RST_STREAM => matches!(payload, [0, 0, 0, 0..=0x0d]),
        PRIORITY | PING => true,
        _ => true,
    }
}

fn settings(payload: &[u8]) -> bool {
    let mut r = Reader::new(payload);
    while let Some(name) = r.u16() {
        // Of two like bytes that end in `a` are those that are sent to see whether what is not known is ignored (RFC 8701).
        let [a, b] = name.to_be_bytes();
        let grease = a == b && a & 0xf == 0xa;
        let known = SETTINGS_IN_USE.contains(&name) || TRIALS.contains(&name) || grease;
        if !known || r.u32().is_none() {
            return false;
        }
    }
    r.is_empty()
}

/// What `bytes` are as frames; `None`: they are none.
pub(super) fn frames(bytes: &[u8]) -> Option<Frames> {
    let mut r = Reader::new(bytes);
    let mut out = Frames::default();
    // The stream whose header block goes on.
    let mut block = None;
    while out.n < MAX_FRAMES {
        if r.is_empty() {
            out.ends = true;
            break;
        }
        let Some(head) = r.array::<HEAD>().map(Head::read) else { break };
        if !is_likely(&head) || block != (head.kind == CONTINUATION).then_some(head.stream) {
            return None;
        }
        let begins = matches!(head.kind, HEADERS | PUSH_PROMISE | CONTINUATION) && !head.has(END_HEADERS);
        block = begins.then_some(head.stream);
        out.heads += 1;
        out.highest = out.highest.max(head.stream);
        if head.stream > 0 {
            out.lowest = if out.lowest > 0 { out.lowest.min(head.stream) } else { head.stream };
        }
        let Some(payload) = r.take(head.len as usize) else { break };
        if !says(&head, payload, &mut out) {
            return None;
        }
        out.n += 1;
    }
    Some(out)
}

/// Whether a segment of `from` may be taken for the beginning of a frame where the place in the stream is lost: whole frames
/// up to its end, or more of them than chance gives. `ends`: the segment ends with these bytes. `newest`: the highest
/// stream that is known to have begun, 0 if none is.
pub(super) fn resumes(bytes: &[u8], from: Side, ends: bool, newest: u32) -> bool {
    if bytes.starts_with(PREFACE) {
        return from == Side::Client;
    }
    let Some(f) = frames(bytes) else { return false };
    if f.side.is_some_and(|side| side != from) || (newest > 0 && f.highest > newest.saturating_add(MAX_AHEAD)) {
        return false;
    }
    // A body in the middle of which a segment begins may hold anything, but hardly a head that fits to its end.
    (f.n >= 1 && f.ends && ends) || (f.heads >= ENOUGH && f.blocks >= 1)
}

/// Streams that may have begun while the place was lost, and between those that are met with at once.
const MAX_AHEAD: u32 = 1 << 16;

/// Whether these frames show what a connection speaks of which nothing else is known.
fn convinces(bytes: &[u8]) -> Option<Frames> {
    frames(bytes).filter(|f| f.n >= ENOUGH && f.blocks >= 1 && f.ends && f.highest - f.lowest <= MAX_AHEAD)
}

/// What HTTP/2 is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Http2
    }

    fn starts(&self, bytes: &[u8]) -> Look {
        if bytes.starts_with(PREFACE) {
            Look::Is(Side::Client)
        } else if PREFACE.starts_with(bytes) {
            Look::NeedMore
        } else {
            Look::Not
        }
    }

    /// A server's first frame is its settings, which it may send before it has heard anything (RFC 9113 §3.4).
    fn answers(&self, bytes: &[u8]) -> Look {
        let mut r = Reader::new(bytes);
        let Some(head) = r.array::<HEAD>().map(Head::read) else {
            // Its first bytes are a length of which the highest byte is zero.
            return if matches!(bytes, [0] | [0, ..=1] | [0, ..=1, _] | [0, ..=1, _, SETTINGS, ..]) {
                Look::NeedMore
            } else {
                Look::Not
            };
        };
        if head.kind != SETTINGS || head.flags != 0 || head.stream != 0 || !is_likely(&head) {
            return Look::Not;
        }
        match r.take(head.len as usize) {
            Some(payload) if settings(payload) && !payload.is_empty() => Look::Is(Side::Server),
            // Without any setting it is a number of zeros, and what follows has to tell.
            Some(_) if head.len == 0 => match frames(r.rest()) {
                Some(f) if f.n >= 1 => Look::Is(Side::Server),
                Some(_) => Look::NeedMore,
                None => Look::Not,
            },
            Some(_) => Look::Not,
            None => Look::NeedMore,
        }
    }

    fn joins(&self, bytes: &[u8]) -> Look {
        if bytes.starts_with(PREFACE) { Look::Is(Side::Client) } else { Look::Not }
    }

    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        convinces(bytes)?.side
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(PREFACE)
    }

    fn either(&self, bytes: &[u8], ends_segment: bool) -> bool {
        ends_segment && convinces(bytes).is_some()
    }

    fn side(&self, bytes: &[u8]) -> Option<Side> {
        if bytes.starts_with(PREFACE) { Some(Side::Client) } else { frames(bytes)?.side }
    }

    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream, &shared.http, Some(shared.on_http(salt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x03\x82\x84\x86";
    const OK: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x03\x88\0\0\x02\0\x01\0\0\0\x03hi";

    #[test]
    fn the_preface_is_known_when_it_is_whole() {
        assert_eq!(Known.starts(PREFACE), Look::Is(Side::Client));
        for cut in 1..PREFACE.len() {
            assert_eq!(Known.starts(&PREFACE[..cut]), Look::NeedMore, "{cut}");
            assert!(!Known.begins(&PREFACE[..cut]));
        }
        assert_eq!(Known.starts(b"PRI * HTTP/3"), Look::Not);
    }

    #[test]
    fn a_server_may_speak_first() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        assert_eq!(Known.answers(settings), Look::Is(Side::Server));
        for cut in 1..settings.len() {
            assert_eq!(Known.answers(&settings[..cut]), Look::NeedMore, "{cut}");
        }
        assert_eq!(Known.answers(b"\0\0\0\x04\0\0\0\0\0"), Look::NeedMore);
        assert_eq!(Known.answers(b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0"), Look::Is(Side::Server));
        for other in
            [&b"\0\0\x06\x04\0\0\0\0\0\x99\x03\0\0\0\x64"[..], b"\0\0\x06\x05\0\0\0\0\0", b"\0\x05\0\x04", b"HTTP/1.1"]
        {
            assert_eq!(Known.answers(other), Look::Not, "{other:x?}");
        }
    }

    #[test]
    fn in_the_middle_several_frames_have_to_fit() {
        let two = [GET, GET].concat();
        assert_eq!((Known.whole(&two), Known.whole(OK)), (Some(Side::Client), Some(Side::Server)));
        assert_eq!(Known.whole(GET), None, "one may be chance");
        for cut in 1..two.len() {
            assert_eq!(Known.whole(&two[..cut]), None, "{cut}");
            assert_eq!(Known.whole(&two[cut..]), None, "{cut}");
        }
        assert_eq!(Known.whole(&[GET, OK].concat()), None, "nobody says both");
        for at in 0..7 {
            let mut bad = two.clone();
            bad[at] ^= 0x40;
            assert_eq!(Known.whole(&bad), None, "{at}");
        }
        let only_data = b"\0\0\x02\0\x01\0\0\0\x03hi\0\0\x02\0\x01\0\0\0\x05hi";
        assert!(!Known.either(only_data, true), "no header block");
        assert!(!Known.either(OK, false) && Known.either(OK, true));
    }

    #[test]
    fn the_place_is_found_where_frames_fit_to_the_end() {
        let at = |bytes: &[u8], ends, newest| resumes(bytes, Side::Client, ends, newest);
        assert!(at(GET, true, 0) && at(GET, true, 1) && at(PREFACE, false, 0));
        assert!(!at(GET, false, 0), "may go on");
        assert!(at(&[GET, GET, b"\0"].concat(), false, 0));
        assert!(!at(OK, true, 0), "that is the server's to say");
        assert!(!at(&[GET, b"x"].concat(), true, 0) && !at(b"", true, 0));
        let far = b"\0\0\x03\x01\x05\x10\0\0\x01\x82\x84\x86";
        assert!(at(far, true, 0) && !at(far, true, 7));
        assert!(!at(&[0; 18], true, 0));
    }
}
