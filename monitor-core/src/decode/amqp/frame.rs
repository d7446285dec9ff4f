//! Frames: type, channel, length, payload, end octet (AMQP 0-9-1 §2.3). Methods and headers are handed on whole, bodies
//! in pieces as they come.

use crate::decode::DecodeError;

/// Longest method or header that is kept; of longer ones the beginning is.
pub(super) const MAX_KEPT: usize = 64 << 10;
/// Longest frame that can be one: peers agree on far less (RabbitMQ: 128 KiB), or on no limit.
const MAX_FRAME: u32 = 64 << 20;
/// What every frame ends with.
pub(super) const END: u8 = 0xce;
/// Length of what stands before the payload.
pub(super) const HEAD: usize = 7;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// The beginning of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) channel: u16,
    /// Length of the payload, in bytes.
    pub(super) size: u32,
}

impl Head {
    /// Reads one; `None`: no frame begins like this.
    pub(super) fn read(bytes: [u8; HEAD]) -> Option<Self> {
        let [kind, c0, c1, s0, s1, s2, s3] = bytes;
        let (channel, size) = (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([s0, s1, s2, s3]));
        let kind = match kind {
            1 if size >= 4 => Kind::Method,
            2 if size >= 14 && channel != 0 => Kind::Header,
            3 if channel != 0 => Kind::Body,
            8 if size == 0 && channel == 0 => Kind::Heartbeat,
            _ => return None,
        };
        (size <= MAX_FRAME).then_some(Self { kind, channel, size })
    }
}

/// Part of what one direction says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// A method.
    Method { channel: u16, payload: &'a [u8] },
    /// A content header.
    Header { channel: u16, payload: &'a [u8] },
    /// Bytes of a body.
    Body { channel: u16, bytes: &'a [u8] },
    /// So many bytes of a body are missing.
    Hole { channel: u16, n: u64 },
    /// A body frame has ended.
    BodyEnd { channel: u16 },
    /// Nothing but a sign of life.
    Heartbeat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Payload(Head, u32),
    End(Head),
}

/// Cuts one direction into frames.
#[derive(Debug)]
pub(super) struct Frames {
    part: Part,
    /// What is kept of an unfinished head, method or header.
    kept: Vec<u8>,
}

impl Frames {
    /// At the beginning of a frame.
    pub(super) fn new() -> Self {
        Self { part: Part::Head, kept: Vec::new() }
    }

    /// Forgets what was begun.
    pub(super) fn reset(&mut self) {
        self.part = Part::Head;
        self.kept.clear();
        self.kept.shrink_to(4 << 10);
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.kept.capacity()
    }

    /// More bytes. `Err`: they are no frames; the rest was not read.
    pub(super) fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Piece<'_>)) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            match self.part {
                Part::Head => {
                    let wanted = HEAD.saturating_sub(self.kept.len());
                    let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
                    bytes = rest;
                    let whole = if self.kept.is_empty() { head.first_chunk::<HEAD>().copied() } else { None };
                    let whole = match whole {
                        Some(whole) => whole,
                        None => {
                            self.kept.extend_from_slice(head);
                            let Some(whole) = self.kept.first_chunk::<HEAD>().copied() else { return Ok(()) };
                            self.kept.clear();
                            whole
                        }
                    };
                    let head = Head::read(whole).ok_or(DecodeError::BadFrame)?;
                    self.part = if head.size == 0 { Part::End(head) } else { Part::Payload(head, head.size) };
                }
                Part::Payload(head, left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (payload, rest) = bytes.split_at(n);
                    let left = left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                    if head.kind == Kind::Body {
                        each(Piece::Body { channel: head.channel, bytes: payload });
                    } else if self.kept.is_empty() && left == 0 && rest.first() == Some(&END) {
                        // The common case: whole, and nothing to copy.
                        whole(head, payload, each);
                        bytes = rest.get(1..).unwrap_or_default();
                        self.part = Part::Head;
                        continue;
                    } else {
                        let room = MAX_KEPT.saturating_sub(self.kept.len());
                        self.kept.extend_from_slice(payload.get(..room.min(payload.len())).unwrap_or_default());
                    }
                    bytes = rest;
                    self.part = if left == 0 { Part::End(head) } else { Part::Payload(head, left) };
                }
                Part::End(head) => {
                    let (end, rest) = bytes.split_at(1);
                    bytes = rest;
                    if end.first() != Some(&END) {
                        return Err(DecodeError::BadFrameEnd);
                    }
                    self.part = Part::Head;
                    let kept = std::mem::take(&mut self.kept);
                    whole(head, &kept, each);
                    self.kept = kept;
                    self.kept.clear();
                    self.kept.shrink_to(4 << 10);
                }
            }
        }
        Ok(())
    }

    /// `n` bytes are missing here. `false`: something other than a body is missing, or the place is lost.
    pub(super) fn miss(&mut self, n: u64, each: &mut dyn FnMut(Piece<'_>)) -> bool {
        match self.part {
            Part::Payload(head, left) if head.kind == Kind::Body && n <= u64::from(left) => {
                let left = left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                each(Piece::Hole { channel: head.channel, n });
                self.part = if left == 0 { Part::End(head) } else { Part::Payload(head, left) };
                true
            }
            _ => false,
        }
    }

    /// Bytes of a body that come before anything else.
    pub(super) fn body_left(&self) -> u32 {
        match self.part {
            Part::Payload(head, left) if head.kind == Kind::Body => left,
            _ => 0,
        }
    }
}

fn whole(head: Head, payload: &[u8], each: &mut dyn FnMut(Piece<'_>)) {
    let channel = head.channel;
    each(match head.kind {
        Kind::Method => Piece::Method { channel, payload },
        Kind::Header => Piece::Header { channel, payload },
        Kind::Body => Piece::BodyEnd { channel },
        Kind::Heartbeat => Piece::Heartbeat,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(frames: &mut Frames, bytes: &[u8]) -> (Vec<String>, Result<(), DecodeError>) {
        let mut all = Vec::new();
        let result = frames.feed(bytes, &mut |p| all.push(format!("{p:?}")));
        (all, result)
    }

    #[test]
    fn bodies_come_in_pieces_and_the_rest_whole() {
        let bytes = b"\x01\0\x01\0\0\0\x04\0\x14\0\x0a\xce\x03\0\x01\0\0\0\x02hi\xce\x08\0\0\0\0\0\0\xce";
        let want = [
            "Method { channel: 1, payload: [0, 20, 0, 10] }",
            "Body { channel: 1, bytes: [104, 105] }",
            "BodyEnd { channel: 1 }",
            "Heartbeat",
        ];
        assert_eq!(told(&mut Frames::new(), bytes).0, want);
        for cut in 1..bytes.len() {
            let mut frames = Frames::new();
            let (mut all, _) = told(&mut frames, &bytes[..cut]);
            all.extend(told(&mut frames, &bytes[cut..]).0);
            all.retain(|l| !l.starts_with("Body {"));
            assert_eq!(all, [want[0], want[2], want[3]], "{cut}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(told(&mut Frames::new(), b"\x04\0\0\0\0\0\0").1, Err(DecodeError::BadFrame));
        assert_eq!(told(&mut Frames::new(), b"\x01\0\0\0\0\0\x04aaaa\xcd").1, Err(DecodeError::BadFrameEnd));
        assert_eq!(
            told(&mut Frames::new(), b"\x03\0\0\0\0\0\x01").1,
            Err(DecodeError::BadFrame),
            "no content on channel 0"
        );
        assert_eq!(told(&mut Frames::new(), b"\x03\0\x01\xff\xff\xff\xff").1, Err(DecodeError::BadFrame));
    }

    #[test]
    fn a_hole_in_a_body_is_passed_over() {
        let mut frames = Frames::new();
        assert_eq!(told(&mut frames, b"\x03\0\x01\0\0\0\x0aab").1, Ok(()));
        assert!(frames.miss(8, &mut |_| {}) && !frames.miss(1, &mut |_| {}));
        assert_eq!(told(&mut frames, b"\xce").0, ["BodyEnd { channel: 1 }"]);
    }

    #[test]
    fn long_methods_are_kept_in_part() {
        let mut frames = Frames::new();
        let mut bytes = b"\x01\0\x01\0\x10\0\0".to_vec();
        bytes.resize(bytes.len() + (1 << 20), b'x');
        let mut n = 0;
        assert!(frames.feed(&bytes, &mut |_| {}).is_ok());
        assert!(frames.memory() <= 2 * MAX_KEPT);
        assert!(
            frames
                .feed(b"\xce", &mut |p| if let Piece::Method { payload, .. } = p {
                    n = payload.len()
                })
                .is_ok()
        );
        assert_eq!(n, MAX_KEPT);
    }
}
