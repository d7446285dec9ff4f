//! Packets: type and flags, remaining length, the rest (MQTT 5 §2.1). All but the content of a PUBLISH is handed on
//! whole, that in pieces as it comes.

use super::read::{properties, property_bytes};
use crate::decode::DecodeError;
use crate::decode::wire::Reader;
use crate::model::Side;

/// Longest packet, or head of a PUBLISH, that is kept; of longer ones the beginning is.
pub(super) const MAX_KEPT: usize = 128 << 10;
/// Bytes of a PUBLISH's rest by which its version is told, where the connection's beginning was not seen.
const TELLING: usize = 1024;

/// The types of packets (§2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Connect,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Pingreq,
    Pingresp,
    Disconnect,
    Auth,
}

impl Kind {
    /// The type in the first byte of a packet; `None`: no packet begins so (flags are fixed for all but PUBLISH, §2.1.3).
    pub(super) fn of(first: u8) -> Option<Self> {
        let kind = match first >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        };
        let flags = first & 0x0f;
        let right = match kind {
            Self::Publish => flags & 6 != 6,
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => flags == 2,
            _ => flags == 0,
        };
        right.then_some(kind)
    }

    /// Whether `side` says it.
    pub(super) fn is_said_by(self, side: Side) -> bool {
        match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::Pingreq => side == Side::Client,
            Self::Connack | Self::Suback | Self::Unsuback | Self::Pingresp => side == Side::Server,
            _ => true,
        }
    }

    /// Lengths that its rest can have.
    pub(super) fn fits(self, remaining: u32) -> bool {
        match self {
            Self::Pingreq | Self::Pingresp => remaining == 0,
            Self::Disconnect | Self::Auth => true,
            Self::Connect => remaining >= 12,
            Self::Subscribe | Self::Unsubscribe => remaining >= 5,
            _ => remaining >= 2,
        }
    }
}

/// Part of what one direction says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// Any packet but PUBLISH; of a very long one, its beginning.
    Packet { kind: Kind, rest: &'a [u8] },
    /// The head of a PUBLISH: flags, topic, packet id, properties.
    Publish { flags: u8, head: &'a [u8] },
    /// A PUBLISH whose head is too long to be read.
    Unread { flags: u8 },
    /// Content of the PUBLISH.
    Content(&'a [u8]),
    /// So many bytes of its content are missing.
    Hole(u64),
    /// The PUBLISH has ended.
    End,
}

/// What the first byte of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct First {
    kind: Kind,
    flags: u8,
}

/// Which part of a packet comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    First,
    Length { first: u8, value: u32, shift: u8 },
    Rest { first: First, left: u32 },
    Content { left: u32 },
}

/// Cuts one direction into packets.
#[derive(Debug)]
pub(super) struct Packets {
    part: Part,
    kept: Vec<u8>,
}

impl Packets {
    /// At the beginning of a packet.
    pub(super) fn new() -> Self {
        Self { part: Part::First, kept: Vec::new() }
    }

    /// Forgets what was begun.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.kept.capacity()
    }

    /// More bytes; `version` as far as it is known. `Err`: they are no packets; the rest was not read.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        version: &mut Option<Version>,
        each: &mut dyn FnMut(Piece<'_>, &mut Option<Version>),
    ) -> Result<(), DecodeError> {
        while let Some((&byte, after)) = bytes.split_first() {
            match self.part {
                Part::First => {
                    Kind::of(byte).ok_or(DecodeError::BadPacket)?;
                    self.part = Part::Length { first: byte, value: 0, shift: 0 };
                    bytes = after;
                }
                Part::Length { first, value, shift } => {
                    let value = value | u32::from(byte & 0x7f) << shift;
                    bytes = after;
                    if byte & 0x80 != 0 {
                        if shift >= 21 {
                            return Err(DecodeError::BadLength);
                        }
                        self.part = Part::Length { first, value, shift: shift + 7 };
                        continue;
                    }
                    let kind = Kind::of(first).filter(|k| k.fits(value)).ok_or(DecodeError::BadPacket)?;
                    self.part = Part::Rest { first: First { kind, flags: first & 0x0f }, left: value };
                    if value == 0 {
                        self.part = Part::First;
                        each(Piece::Packet { kind, rest: &[] }, version);
                    }
                }
                Part::Rest { first, left } => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (now, rest) = bytes.split_at(n);
                    bytes = rest;
                    self.rest(first, left, now, version, each)?;
                }
                Part::Content { left } => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (now, rest) = bytes.split_at(n);
                    bytes = rest;
                    each(Piece::Content(now), version);
                    self.passed(left, n, version, each);
                }
            }
        }
        Ok(())
    }

    fn rest(
        &mut self,
        first: First,
        left: u32,
        now: &[u8],
        version: &mut Option<Version>,
        each: &mut dyn FnMut(Piece<'_>, &mut Option<Version>),
    ) -> Result<(), DecodeError> {
        let First { kind, flags } = first;
        let after = left.saturating_sub(u32::try_from(now.len()).unwrap_or(u32::MAX));
        let mut held = std::mem::take(&mut self.kept);
        // The common case: nothing to copy.
        let in_place = held.is_empty() && (kind == Kind::Publish || after == 0);
        let room = if in_place { now.len() } else { MAX_KEPT.saturating_sub(held.len()).min(now.len()) };
        let (kept, over) = now.split_at_checked(room).unwrap_or((now, &[]));
        if !in_place {
            held.extend_from_slice(kept);
        }
        let all: &[u8] = if in_place { kept } else { &held };
        let beginning = all.get(..MAX_KEPT).unwrap_or(all);
        self.part = Part::Rest { first, left: after };
        if kind != Kind::Publish {
            if after == 0 {
                self.part = Part::First;
                each(Piece::Packet { kind, rest: beginning }, version);
            } else {
                self.kept = held;
            }
            return Ok(());
        }
        let whole = after == 0 && all.len() < MAX_KEPT;
        match head(flags, beginning, whole, version)? {
            Some(n) => {
                let (head, content) = all.split_at_checked(n).ok_or(DecodeError::BadPublish)?;
                each(Piece::Publish { flags, head }, version);
                for piece in [content, over] {
                    if !piece.is_empty() {
                        each(Piece::Content(piece), version);
                    }
                }
                self.passed(after, 0, version, each);
            }
            None if all.len() >= MAX_KEPT => {
                each(Piece::Unread { flags }, version);
                self.passed(after, 0, version, each);
            }
            None if after == 0 => return Err(DecodeError::BadPublish),
            None if in_place => self.kept = all.to_vec(),
            None => self.kept = held,
        }
        Ok(())
    }

    fn passed(
        &mut self,
        left: u32,
        n: usize,
        version: &mut Option<Version>,
        each: &mut dyn FnMut(Piece<'_>, &mut Option<Version>),
    ) {
        let left = left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        self.part = Part::Content { left };
        if left == 0 {
            self.part = Part::First;
            each(Piece::End, version);
        }
    }

    /// `n` bytes are missing here. `false`: something other than content is missing, or the place is lost.
    pub(super) fn miss(&mut self, n: u64, each: &mut dyn FnMut(Piece<'_>)) -> bool {
        match self.part {
            Part::Content { left } if n <= u64::from(left) => {
                let left = left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                each(Piece::Hole(n));
                self.part = Part::Content { left };
                if left == 0 {
                    self.part = Part::First;
                    each(Piece::End);
                }
                true
            }
            _ => false,
        }
    }

    /// Bytes of content that come before anything else.
    pub(super) fn content_left(&self) -> u32 {
        if let Part::Content { left } = self.part { left } else { 0 }
    }
}

/// Versions, as far as they differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.1 and 3.1.1: no properties.
    Three,
    /// 5.
    Five,
}

/// Length of the head of a PUBLISH, if `bytes` of it tell; `whole`: there are no more.
fn head(flags: u8, bytes: &[u8], whole: bool, version: &mut Option<Version>) -> Result<Option<usize>, DecodeError> {
    let mut b = Reader::new(bytes);
    let fixed = b.u16_bytes().and_then(|topic| if flags & 6 == 0 { Some(topic) } else { b.u16().map(|_| topic) });
    let Some(topic) = fixed else { return Ok(None) };
    if !is_topic(topic) {
        return Err(DecodeError::BadTopic);
    }
    if version.is_none() {
        if !whole && b.len() < TELLING {
            return Ok(None);
        }
        let mut after = Reader::new(b.rest().get(..TELLING).unwrap_or(b.rest()));
        // No text begins with a zero, and few contents with properties that are right.
        let five = property_bytes(&mut after).is_some_and(|all| properties(all, &mut |_| {}).is_some());
        *version = Some(if five { Version::Five } else { Version::Three });
    }
    let before = bytes.len().saturating_sub(b.len());
    match version {
        Some(Version::Five) => {
            let Some(_) = property_bytes(&mut b) else { return Ok(None) };
            Ok(Some(bytes.len().saturating_sub(b.len())))
        }
        _ => Ok(Some(before)),
    }
}

/// Whether it can be a topic's name: text without wildcards and zeros (§4.7), empty only beside an alias.
pub(super) fn is_topic(topic: &[u8]) -> bool {
    std::str::from_utf8(topic).is_ok_and(|t| !t.contains(['#', '+', '\0']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[&[u8]], version: Option<Version>) -> (Vec<String>, Option<DecodeError>) {
        let (mut packets, mut all, mut version) = (Packets::new(), Vec::<String>::new(), version);
        for piece in bytes {
            let fed = packets.feed(piece, &mut version, &mut |p, _| match (p, all.last_mut()) {
                (Piece::Content(c), Some(last)) if last.starts_with("Content") => {
                    last.push_str(&String::from_utf8_lossy(c));
                }
                (Piece::Content(c), _) => all.push(format!("Content {}", String::from_utf8_lossy(c))),
                _ => all.push(format!("{p:?}")),
            });
            if let Err(why) = fed {
                return (all, Some(why));
            }
        }
        (all, None)
    }

    #[test]
    fn cuts_do_not_matter() {
        let bytes = b"\xc0\x00\x32\x0b\x00\x03a/b\x00\x07{\"x\"\x40\x02\x00\x07";
        for version in [Some(Version::Three), None] {
            let (want, _) = told(&[bytes], version);
            assert_eq!(want.len(), 5, "{want:?}");
            assert_eq!(want[2], "Content {\"x\"");
            for cut in 1..bytes.len() {
                let (a, b) = bytes.split_at(cut);
                assert_eq!(told(&[a, b], version).0, want, "{cut}");
            }
        }
    }

    #[test]
    fn properties_are_part_of_the_head() {
        let bytes = b"\x30\x0c\x00\x01a\x07\x26\x00\x01k\x00\x01vx";
        let want = ["Publish { flags: 0, head: [0, 1, 97, 7, 38, 0, 1, 107, 0, 1, 118] }", "Content x", "End"];
        assert_eq!(told(&[bytes], Some(Version::Five)).0, want);
        assert_eq!(told(&[bytes], None).0, want, "and tell the version");
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for (bytes, why) in [
            (&b"\x00"[..], DecodeError::BadPacket),
            (b"\x36\x00", DecodeError::BadPacket),
            (b"\x80\x05", DecodeError::BadPacket),
            (b"\xc0\x01\x00", DecodeError::BadPacket),
            (b"\x30\xff\xff\xff\xff\x01", DecodeError::BadLength),
            (b"\x30\x04\x00\x02#\x00", DecodeError::BadTopic),
            (b"\x30\x03\x00\x09a", DecodeError::BadPublish),
        ] {
            assert_eq!(told(&[bytes], Some(Version::Three)).1, Some(why), "{bytes:?}");
        }
    }

    #[test]
    fn long_heads_are_given_up_and_what_follows_is_read() {
        // Properties of 200,000 bytes.
        let mut bytes = b"\x30\xc9\x9a\x0c\x00\x01a\xc0\x9a\x0c".to_vec();
        bytes.resize(bytes.len() + 200_003, b'x');
        bytes.extend(b"\xc0\x00");
        let without_content = |pieces: &[&[u8]]| {
            let (mut all, why) = told(pieces, Some(Version::Five));
            all.retain(|l| !l.starts_with("Content"));
            (all, why)
        };
        let want = ["Unread { flags: 0 }", "End", "Packet { kind: Pingreq, rest: [] }"].map(str::to_owned);
        assert_eq!(without_content(&[&bytes]), (want.to_vec(), None));
        for piece in [100_000, 1000, 150_000] {
            assert_eq!(without_content(&bytes.chunks(piece).collect::<Vec<_>>()), (want.to_vec(), None));
        }
    }
}
