//! Do these bytes belong to a connection of AMQP 0-9-1, and who says them?

use super::frame::{END, HEAD, Head, Kind};
use super::method::{self, Says};
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::decode::wire::Reader;
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// What a client begins with: protocol name, id 0, version 0-9-1 (§4.2.2).
pub(crate) const GREETING: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// The beginning of a connection.
pub(crate) fn start(bytes: &[u8]) -> Look {
    let n = bytes.len().min(GREETING.len());
    if bytes.get(..n) == GREETING.get(..n) {
        return if n == GREETING.len() { Look::Is(Side::Client) } else { Look::NeedMore };
    }
    if bytes.starts_with(b"AMQP") {
        return Look::Other("amqp_version");
    }
    // connection.start, version 0-9.
    let begins = |want: &[u8], at: usize| bytes.iter().skip(at).zip(want).all(|(a, b)| a == b);
    if begins(&[1, 0, 0], 0) && begins(&[0, 10, 0, 10, 0, 9], HEAD) {
        return if bytes.len() >= HEAD + 6 { Look::Is(Side::Server) } else { Look::NeedMore };
    }
    Look::Not
}

/// Whole frames, up to the end of a segment: who says them, if that is sure.
pub(crate) fn frames(bytes: &[u8]) -> Option<Side> {
    let mut said = None;
    let mut both = false;
    let whole = walk(bytes, &mut |head, payload| {
        if head.kind == Kind::Method {
            match method_of(payload).map(|k| k.says) {
                Some(Says::Client) => both |= said.replace(Side::Client) == Some(Side::Server),
                Some(Says::Server) => both |= said.replace(Side::Server) == Some(Side::Client),
                Some(Says::Both) => {}
                None => both = true,
            }
        }
    });
    said.filter(|_| whole == Some(true) && !both)
}

/// Whole frames, up to the end of a segment, that either side may say: confirmations, heartbeats, content.
pub(crate) fn either(bytes: &[u8]) -> bool {
    let (mut sure, mut wrong) = (false, false);
    let whole = walk(bytes, &mut |head, payload| match head.kind {
        Kind::Method => match method_of(payload) {
            Some(_) => sure = true,
            None => wrong = true,
        },
        Kind::Header => sure |= payload.starts_with(&[0, 60, 0, 0]),
        Kind::Heartbeat => sure |= payload.is_empty(),
        Kind::Body => {}
    });
    whole == Some(true) && sure && !wrong
}

/// Whether frames of `from` begin here: at the beginning of a segment, after something was missed.
pub(super) fn begins(bytes: &[u8], from: Side) -> bool {
    let (mut sure, mut wrong) = (false, false);
    let whole = walk(bytes, &mut |head, payload| match head.kind {
        Kind::Method => match method_of(payload) {
            Some(k) if k.says.includes(from) => sure = true,
            _ => wrong = true,
        },
        Kind::Header => sure |= payload.starts_with(&[0, 60, 0, 0]),
        Kind::Heartbeat => sure = true,
        Kind::Body => {}
    });
    whole.is_some() && sure && !wrong
}

fn method_of(payload: &[u8]) -> Option<method::Known> {
    let mut b = Reader::new(payload);
    method::known((b.u16()?, b.u16()?))
}

/// Goes from frame to frame, the last one's beginning included if it is long enough to tell. `Some(true)`: they end
/// where the bytes do. `None`: they are no frames.
fn walk(bytes: &[u8], each: &mut dyn FnMut(Head, &[u8])) -> Option<bool> {
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
        let head = Head::read(*head)?;
        let size = usize::try_from(head.size).ok()?;
        let Some((payload, after)) = after.split_at_checked(size) else {
            if after.len() >= 4 {
                each(head, after);
            }
            return Some(false);
        };
        each(head, payload);
        match after.split_first() {
            Some((&END, after)) => rest = after,
            Some(_) => return None,
            None => return Some(false),
        }
    }
    Some(rest.is_empty())
}

/// What AMQP is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Amqp
    }
    fn starts(&self, bytes: &[u8]) -> Look {
        start(bytes)
    }
    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        frames(bytes)
    }
    fn begins(&self, bytes: &[u8]) -> bool {
        start(bytes) == Look::Is(Side::Client)
    }
    fn either(&self, bytes: &[u8], ends_segment: bool) -> bool {
        ends_segment && either(bytes)
    }
    fn side(&self, bytes: &[u8]) -> Option<Side> {
        frames(bytes)
    }
    fn decoder(&self, salt: Salt, mid_stream: bool, _: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = b"\x01\0\0\0\0\x01\xf6\0\x0a\0\x0a\0\x09\0\0\x01\xd1";
    const DELIVER: &[u8] = b"\x01\0\x01\0\0\0\x15\0\x3c\0\x3c\x01c\0\0\0\0\0\0\0\x01\0\x00\x04jobs\xce";
    const ACK: &[u8] = b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0\xce";

    #[test]
    fn connections_are_known_by_their_greeting() {
        assert_eq!(start(GREETING), Look::Is(Side::Client));
        assert_eq!(start(b"AM"), Look::NeedMore);
        assert_eq!(start(b"AMQP\x03\x01\0\0"), Look::Other("amqp_version"));
        assert_eq!(start(b"GET / HTTP/1.1"), Look::Not);
        for n in 1..HEAD + 6 {
            assert_eq!(start(&START[..n]), Look::NeedMore, "{n}");
        }
        assert_eq!(start(START), Look::Is(Side::Server));
    }

    #[test]
    fn older_connections_are_known_by_whole_frames() {
        assert_eq!(frames(DELIVER), Some(Side::Server));
        assert_eq!(frames(ACK), None, "either says it");
        assert!(either(ACK) && either(b"\x08\0\0\0\0\0\0\xce") && !either(&ACK[..20]) && !either(&ACK[1..]));
        assert_eq!(frames(&[ACK, DELIVER].concat()), Some(Side::Server));
        assert_eq!(frames(&DELIVER[..DELIVER.len() - 1]), None);
        assert_eq!(frames(b"\x01\0\x01\0\0\0\x04\0\x3c\0\x3d\xce"), None, "no such method");
        assert!(
            begins(DELIVER, Side::Server) && !begins(DELIVER, Side::Client) && begins(&DELIVER[..12], Side::Server)
        );
        assert!(begins(ACK, Side::Client) && !begins(&ACK[1..], Side::Client) && !begins(&ACK[..9], Side::Client));
    }
}
