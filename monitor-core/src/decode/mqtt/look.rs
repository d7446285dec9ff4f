//! Do these bytes belong to an MQTT connection, and who says them?

use smallvec::SmallVec;

use super::packet::{Kind, Version, is_topic};
use super::read::{property_bytes, varint};
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::decode::wire::Reader;
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// Most numbers that an answer is compared with.
const MAX_IDS: usize = 256;

/// A CONNECT, with which every client begins.
pub(crate) fn connect(bytes: &[u8]) -> Look {
    if bytes.first() != Some(&0x10) {
        return Look::Not;
    }
    let mut b = Reader::new(bytes.get(1..).unwrap_or_default());
    let Some(remaining) = varint(&mut b) else {
        return if bytes.len() < 5 { Look::NeedMore } else { Look::Not };
    };
    if remaining < 12 {
        return Look::Not;
    }
    for name in [&b"\0\x04MQTT"[..], b"\0\x06MQIsdp"] {
        let n = name.len().min(b.len());
        if b.rest().get(..n) == name.get(..n) {
            return match b.rest().get(name.len()) {
                None => Look::NeedMore,
                Some(level) if matches!(level & 0x7f, 3..=5) => Look::Is(Side::Client),
                Some(_) => Look::Not,
            };
        }
    }
    Look::Not
}

/// Whole packets, up to the end of a segment: who says them, if that is sure. One packet is little to go by; a
/// subscription, or several of which one is a publication, are enough.
pub(crate) fn packets(bytes: &[u8]) -> Option<Side> {
    let seen = Seen::of(bytes)?;
    if seen.telling || seen.several() { seen.side() } else { None }
}

/// Several whole packets, up to the end of a segment, of which one is a publication. Either side may say them.
pub(crate) fn either(bytes: &[u8]) -> bool {
    Seen::of(bytes).is_some_and(|seen| seen.several() && seen.sides.contains(&true))
}

/// Who says these whole packets, given that they are of MQTT.
pub(crate) fn side(bytes: &[u8]) -> Option<Side> {
    Seen::of(bytes)?.side()
}

/// Whether whole packets of one side confirm what the other side said in whole packets just before, by number.
pub(crate) fn confirms(asked: &[u8], answer: &[u8]) -> bool {
    let mut ids: SmallVec<[u16; 8]> = SmallVec::new();
    let asks = walk(asked, &mut |kind, flags, rest| {
        let mut b = Reader::new(rest);
        let id = match kind {
            Kind::Publish if !publishes_to(flags, rest) => return false,
            Kind::Publish if flags & 6 != 0 => b.u16_bytes().and_then(|_| b.u16()),
            Kind::Subscribe | Kind::Unsubscribe if filters(kind, rest) => b.u16(),
            _ => None,
        };
        ids.extend(id);
        ids.len() <= MAX_IDS
    });
    if asks != Some(true) || ids.is_empty() {
        return false;
    }
    let mut confirmed = false;
    let whole = walk(answer, &mut |kind, flags, rest| {
        if matches!(kind, Kind::Puback | Kind::Pubrec | Kind::Suback | Kind::Unsuback) {
            confirmed |= Reader::new(rest).u16().is_some_and(|id| ids.contains(&id));
        }
        kind != Kind::Publish || publishes_to(flags, rest)
    });
    whole == Some(true) && confirmed
}

/// What whole packets, up to the end of a segment, have in them.
struct Seen {
    /// Whether the client, the server may say all of them.
    sides: [bool; 2],
    n: usize,
    /// A subscription is among them.
    telling: bool,
    publishes: bool,
}

impl Seen {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut seen = Self { sides: [true; 2], n: 0, telling: false, publishes: false };
        let whole = walk(bytes, &mut |kind, flags, rest| {
            seen.n += 1;
            for (may, side) in seen.sides.iter_mut().zip([Side::Client, Side::Server]) {
                *may &= kind.is_said_by(side);
            }
            match kind {
                Kind::Publish => {
                    let fits = publishes_to(flags, rest);
                    seen.publishes |= fits;
                    fits
                }
                Kind::Subscribe | Kind::Unsubscribe => {
                    seen.telling = true;
                    filters(kind, rest)
                }
                _ => true,
            }
        })?;
        (whole && seen.n > 0).then_some(seen)
    }

    fn several(&self) -> bool {
        self.n > 1 && self.publishes
    }

    fn side(&self) -> Option<Side> {
        match self.sides {
            [true, false] => Some(Side::Client),
            [false, true] => Some(Side::Server),
            _ => None,
        }
    }
}

/// Whether packets of `from` begin here: at the beginning of a segment, after something was missed.
pub(super) fn begins(bytes: &[u8], from: Side) -> bool {
    let mut n = 0;
    let whole = walk(bytes, &mut |kind, flags, rest| {
        n += 1;
        kind.is_said_by(from) && kind != Kind::Connect && (kind != Kind::Publish || publishes_to(flags, rest))
    });
    n > 0 && whole.is_some()
}

fn publishes_to(flags: u8, rest: &[u8]) -> bool {
    let mut b = Reader::new(rest);
    let Some(topic) = b.u16_bytes() else { return false };
    // Text with control characters is possible, and nobody's topic.
    let plain = is_topic(topic) && !topic.is_empty() && topic.iter().all(|b| *b >= b' ');
    plain && (flags & 6 == 0 || b.u16().is_some_and(|id| id != 0))
}

/// Filters, behind a packet id: of version 3, or after the properties of version 5.
fn filters(kind: Kind, rest: &[u8]) -> bool {
    let mut b = Reader::new(rest);
    let id = b.u16().is_some_and(|id| id != 0);
    id && (all_filters(kind, b) || property_bytes(&mut b).is_some() && all_filters(kind, b))
}

/// The version in which what follows a packet id is filters, if it is in one only.
pub(super) fn filters_version(kind: Kind, rest: Reader<'_>) -> Option<Version> {
    let mut five = rest;
    let as_five = property_bytes(&mut five).is_some() && all_filters(kind, five);
    match (all_filters(kind, rest), as_five) {
        (true, false) => Some(Version::Three),
        (false, true) => Some(Version::Five),
        _ => None,
    }
}

/// Nothing but filters, at least one.
fn all_filters(kind: Kind, mut b: Reader<'_>) -> bool {
    let one = |b: &mut Reader<'_>| -> Option<bool> {
        let filter = b.u16_bytes()?;
        let options = if kind == Kind::Subscribe { b.u8()? } else { 0 };
        let text = std::str::from_utf8(filter).is_ok_and(|t| !t.is_empty() && t.bytes().all(|b| b >= b' '));
        Some(text && options & 0xc0 == 0 && options & 3 != 3)
    };
    let mut right = !b.is_empty();
    while right && !b.is_empty() {
        right = one(&mut b) == Some(true);
    }
    right
}

/// Goes from packet to packet while `each` agrees, a PUBLISH that goes on after the last byte included. `Some(true)`:
/// they end where the bytes do. `None`: they are no packets.
fn walk(bytes: &[u8], each: &mut dyn FnMut(Kind, u8, &[u8]) -> bool) -> Option<bool> {
    let mut b = Reader::new(bytes);
    while let Some(first) = b.u8() {
        let kind = Kind::of(first)?;
        let remaining = varint(&mut b).filter(|n| kind.fits(*n))?;
        let size = usize::try_from(remaining).ok()?;
        match b.take(size) {
            Some(rest) => {
                if !each(kind, first & 0x0f, rest) {
                    return None;
                }
            }
            None if kind == Kind::Publish => return each(kind, first & 0x0f, b.rest()).then_some(false),
            None => return None,
        }
    }
    Some(true)
}

/// What MQTT is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }
    fn starts(&self, bytes: &[u8]) -> Look {
        connect(bytes)
    }
    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        packets(bytes)
    }
    fn begins(&self, bytes: &[u8]) -> bool {
        connect(bytes) == Look::Is(Side::Client)
    }
    fn either(&self, bytes: &[u8], ends_segment: bool) -> bool {
        ends_segment && either(bytes)
    }
    fn confirms(&self, asked: &[u8], answer: &[u8]) -> bool {
        confirms(asked, answer)
    }
    fn side(&self, bytes: &[u8]) -> Option<Side> {
        side(bytes)
    }
    fn decoder(&self, salt: Salt, mid_stream: bool, _: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &[u8] = b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04acme";
    const SUBSCRIBE: &[u8] = b"\x82\x08\0\x01\0\x03a/+\x01";
    const PUBLISH: &[u8] = b"\x32\x08\0\x03a/b\0\x01x";

    #[test]
    fn connections_are_known_by_their_first_packet() {
        assert_eq!(connect(CONNECT), Look::Is(Side::Client));
        for n in 1..9 {
            assert_eq!(connect(&CONNECT[..n]), Look::NeedMore, "{n}");
        }
        assert_eq!(connect(b"\x10\x03\0\x01x"), Look::Not);
        assert_eq!(connect(b"\x10\x20\0\x04HTTP"), Look::Not);
        assert_eq!(connect(b"GET / HTTP/1.1"), Look::Not);
    }

    #[test]
    fn older_connections_are_known_by_what_one_side_says() {
        assert_eq!(packets(SUBSCRIBE), Some(Side::Client));
        assert_eq!(packets(b"\x82\x09\0\x01\0\0\x03a/+\x01"), Some(Side::Client), "version 5");
        assert_eq!(packets(PUBLISH), None, "either says it");
        assert_eq!(packets(&[PUBLISH, b"\xd0\0"].concat()), Some(Side::Server));
        assert_eq!(packets(&[PUBLISH, b"\xc0\0"].concat()), Some(Side::Client));
        assert_eq!(packets(b"\xc0\0"), None, "too little");
        assert_eq!(side(b"\xc0\0"), Some(Side::Client));
        assert!(either(&[PUBLISH, PUBLISH].concat()) && !either(PUBLISH) && !either(b"\x40\x02\0\x01\x40\x02\0\x01"));
        assert!(!either(&[SUBSCRIBE, b"\x90\x03\0\x01\x01", PUBLISH].concat()), "nobody says both");
        assert!(confirms(PUBLISH, b"\x40\x02\0\x01") && confirms(SUBSCRIBE, b"\x90\x03\0\x01\x01"));
        assert!(!confirms(PUBLISH, b"\x40\x02\0\x02"), "another number");
        assert!(!confirms(PUBLISH, b"\x40\x02\0\x01x") && !confirms(b"\x30\x06\0\x03a/bx", b"\x40\x02\0\x01"));
        assert_eq!(packets(&SUBSCRIBE[..9]), None);
        assert!(
            begins(PUBLISH, Side::Server)
                && begins(&PUBLISH[..9], Side::Server)
                && begins(b"\x40\x02\0\x01", Side::Client)
        );
        assert!(
            !begins(SUBSCRIBE, Side::Server)
                && !begins(&PUBLISH[1..], Side::Client)
                && !begins(b"{\"a\":1}", Side::Client)
        );
    }
}
