//! WebSocket (RFC 6455): messages out of one direction's bytes, with `permessage-deflate` (RFC 7692).

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use super::rpc::{Budget, Collector, MAX_MESSAGE};
use crate::decode::DecodeError;
use crate::decode::wire::Reader;
use crate::model::Side;

/// Most bytes that one message is decompressed to; what is more is an attack, or nothing for us.
const MAX_INFLATED: u64 = 16 << 20;
/// Most bytes for one byte of input: deflate itself gives no more than 1032, JSON seldom more than 20.
const MAX_RATIO: u64 = 256;
/// The ratio counts from here on.
const RATIO_FROM: u64 = 64 << 10;
/// Longest head of a frame: two bytes, eight of length, four of mask.
const MAX_HEAD: usize = 14;

/// How messages may be compressed, where that was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deflate {
    /// The client begins each message anew.
    pub(super) client_fresh: bool,
    /// The server does.
    pub(super) server_fresh: bool,
}

impl Deflate {
    /// From the server's `Sec-WebSocket-Extensions`. `Err`: an extension that is not known here.
    pub(super) fn agreed(header: Option<&str>) -> Result<Option<Self>, DecodeError> {
        let mut agreed = None;
        for extension in header.unwrap_or_default().split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let mut parts = extension.split(';').map(str::trim);
            if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate")) {
                return Err(DecodeError::WebsocketExtension);
            }
            let deflate = agreed.get_or_insert_with(Self::default);
            for p in parts {
                deflate.client_fresh |= p.eq_ignore_ascii_case("client_no_context_takeover");
                deflate.server_fresh |= p.eq_ignore_ascii_case("server_no_context_takeover");
            }
        }
        Ok(agreed)
    }
}

/// Decompression of one direction.
struct Inflate {
    state: Box<InflateState>,
    fresh: bool,
    n_in: u64,
    n_out: u64,
}

impl Inflate {
    fn feed(&mut self, mut input: &[u8], out: &mut Collector) -> Result<(), DecodeError> {
        let mut buffer = [0; 4096];
        self.n_in += input.len() as u64;
        loop {
            let step = inflate(&mut self.state, input, &mut buffer, MZFlush::None);
            input = input.get(step.bytes_consumed..).unwrap_or_default();
            out.push(buffer.get(..step.bytes_written).unwrap_or_default());
            self.n_out += step.bytes_written as u64;
            if self.n_out > MAX_INFLATED || (self.n_out > RATIO_FROM && self.n_out / self.n_in.max(1) > MAX_RATIO) {
                return Err(DecodeError::WebsocketDeflateTooLarge);
            }
            match step.status {
                // A sender may end a block for good (RFC 7692 §7.2.3.4): what follows begins anew.
                Ok(MZStatus::StreamEnd) => {
                    self.state.reset_as(miniz_oxide::inflate::stream::FullReset(DataFormat::Raw))
                }
                Ok(_) if step.bytes_consumed == 0 && step.bytes_written == 0 => return Ok(()),
                Ok(_) => {}
                // Nothing more to be had from this input.
                Err(miniz_oxide::MZError::Buf) => return Ok(()),
                Err(_) => return Err(DecodeError::WebsocketDeflate),
            }
            if input.is_empty() && step.bytes_written < buffer.len() {
                return Ok(());
            }
        }
    }

    fn end(&mut self, out: &mut Collector) -> Result<(), DecodeError> {
        self.feed(&[0, 0, 0xff, 0xff], out)?;
        (self.n_in, self.n_out) = (0, 0);
        if self.fresh {
            self.state.reset_as(miniz_oxide::inflate::stream::FullReset(DataFormat::Raw));
        }
        Ok(())
    }
}

/// The payload of the frame that is being read.
#[derive(Clone, Copy, Debug)]
struct Payload {
    left: u64,
    mask: [u8; 4],
    /// Bytes of the payload before.
    at: u64,
    control: bool,
    /// It ends its message.
    last: bool,
}

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes are needed.
    NeedMore,
    /// A text message has ended: it is in [`Frames::text`].
    Text,
    /// The sender closes.
    Close,
}

/// One direction.
pub(super) struct Frames {
    from: Side,
    head: Vec<u8>,
    payload: Option<Payload>,
    /// The message that is being sent, and whether it is compressed.
    message: Option<(Kind, bool)>,
    /// Messages may be compressed.
    inflate: Option<Inflate>,
    /// The sender has closed: it says nothing more.
    closed: bool,
    /// The message's text.
    pub(super) text: Collector,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").field("from", &self.from).field("payload", &self.payload).finish_non_exhaustive()
    }
}

impl Frames {
    pub(super) fn new(from: Side, deflate: Option<Deflate>, budget: &Budget) -> Self {
        let inflate = deflate.map(|deflate| Inflate {
            state: InflateState::new_boxed(DataFormat::Raw),
            fresh: if from == Side::Client { deflate.client_fresh } else { deflate.server_fresh },
            n_in: 0,
            n_out: 0,
        });
        Self {
            from,
            head: Vec::new(),
            payload: None,
            message: None,
            inflate,
            closed: false,
            text: Collector::new(budget, MAX_MESSAGE),
        }
    }

    /// Reads up to the end of the next text message.
    ///
    /// # Errors
    /// The name of what the protocol does not allow. Nothing more can be read then.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Next, DecodeError> {
        loop {
            if self.closed {
                *bytes = &[];
                return Ok(Next::NeedMore);
            }
            if let Some(mut p) = self.payload {
                let n = usize::try_from(p.left).unwrap_or(usize::MAX).min(bytes.len());
                let (part, rest) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
                *bytes = rest;
                self.piece(&p, part)?;
                p.left -= n as u64;
                p.at += n as u64;
                if p.left > 0 {
                    self.payload = Some(p);
                    return Ok(Next::NeedMore);
                }
                self.payload = None;
                if self.ended(&p)? {
                    return Ok(Next::Text);
                }
                continue;
            }
            let Some((&b, rest)) = bytes.split_first() else { return Ok(Next::NeedMore) };
            *bytes = rest;
            self.head.push(b);
            if let Some(closes) = self.frame()? {
                self.head.clear();
                if closes {
                    self.closed = true;
                    return Ok(Next::Close);
                }
            }
        }
    }

    /// The frame whose head is there, if it is whole: whether it closes the connection.
    fn frame(&mut self) -> Result<Option<bool>, DecodeError> {
        let mut head = Reader::new(&self.head);
        let (Some(first), Some(second)) = (head.u8(), head.u8()) else { return Ok(None) };
        let masked = second & 0x80 != 0;
        if masked != (self.from == Side::Client) {
            return Err(DecodeError::WebsocketMask);
        }
        let length = match second & 0x7f {
            126 => head.u16().map(u64::from),
            127 => head.u64(),
            n => Some(u64::from(n)),
        };
        let mask = if masked { head.array() } else { Some([0; 4]) };
        let (Some(left), Some(mask)) = (length, mask) else {
            debug_assert!(self.head.len() < MAX_HEAD);
            return Ok(None);
        };
        if left >> 63 != 0 {
            return Err(DecodeError::WebsocketLength);
        }
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let control = opcode & 0x8 != 0;
        let compressed = first & 0x40 != 0;
        if first & 0x30 != 0 || (compressed && (self.inflate.is_none() || control || opcode == 0)) {
            return Err(DecodeError::WebsocketReservedBits);
        }
        match opcode {
            0 if self.message.is_none() => return Err(DecodeError::WebsocketContinuation),
            0 => {}
            1 | 2 if self.message.is_some() => return Err(DecodeError::WebsocketInterleaved),
            1 => self.message = Some((Kind::Text, compressed)),
            2 => self.message = Some((Kind::Binary, compressed)),
            8..=10 if left > 125 || !last => return Err(DecodeError::WebsocketControl),
            8 => return Ok(Some(true)),
            9 | 10 => {}
            _ => return Err(DecodeError::WebsocketOpcode),
        }
        self.payload = Some(Payload { left, mask, at: 0, control, last });
        Ok(Some(false))
    }

    fn piece(&mut self, p: &Payload, part: &[u8]) -> Result<(), DecodeError> {
        let Some((kind, compressed)) = self.message.filter(|_| !p.control && !part.is_empty()) else { return Ok(()) };
        // What is compressed must be read for what comes after it.
        if kind == Kind::Binary && !compressed {
            return Ok(());
        }
        let mut plain = [0; 4096];
        let mut at = p.at;
        for chunk in part.chunks(plain.len()) {
            for (out, b) in plain.iter_mut().zip(chunk) {
                let key = p.mask.get((at % 4) as usize).copied().unwrap_or_default();
                *out = b ^ key;
                at += 1;
            }
            let chunk = plain.get(..chunk.len()).unwrap_or_default();
            match self.inflate.as_mut().filter(|_| compressed) {
                Some(inflate) => inflate.feed(chunk, &mut self.text)?,
                None => self.text.push(chunk),
            }
        }
        Ok(())
    }

    /// A frame has ended: whether it ended a text message.
    fn ended(&mut self, p: &Payload) -> Result<bool, DecodeError> {
        if p.control || !p.last {
            return Ok(false);
        }
        let Some((kind, compressed)) = self.message.take() else { return Ok(false) };
        if let Some(inflate) = self.inflate.as_mut().filter(|_| compressed) {
            inflate.end(&mut self.text)?;
        }
        if kind == Kind::Binary {
            self.text.clear();
        }
        Ok(kind == Kind::Text)
    }

    /// `n` bytes are missing here.
    ///
    /// # Errors
    /// The place is lost: nothing more can be read.
    pub(super) fn miss(&mut self, n: u64) -> Result<Next, DecodeError> {
        let compressed = matches!(self.message, Some((_, true)));
        match self.payload {
            _ if self.closed => Ok(Next::NeedMore),
            Some(mut p) if n <= p.left && (p.control || !compressed) => {
                if !p.control {
                    self.text.miss();
                }
                p.left -= n;
                p.at += n;
                self.payload = (p.left > 0).then_some(p);
                let ended = p.left == 0 && self.ended(&p)?;
                Ok(if ended { Next::Text } else { Next::NeedMore })
            }
            _ => Err(DecodeError::WebsocketGap),
        }
    }

    pub(super) fn memory(&self) -> usize {
        let window = if self.inflate.is_some() { size_of::<InflateState>() } else { 0 };
        size_of::<Self>() + self.head.capacity() + self.text.memory() + window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn frame(first: u8, mask: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        let bit = if mask { 0x80 } else { 0 };
        match payload.len() {
            n @ 0..=125 => out.push(bit | n as u8),
            n => {
                out.push(bit | 126);
                out.extend((n as u16).to_be_bytes());
            }
        }
        let key = [1, 2, 3, 4];
        if mask {
            out.extend(key);
        }
        out.extend(payload.iter().enumerate().map(|(i, b)| if mask { b ^ key[i % 4] } else { *b }));
        out
    }

    fn texts(frames: &mut Frames, mut bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
        let mut out = Vec::new();
        loop {
            match frames.next(&mut bytes)? {
                Next::NeedMore => return Ok(out),
                Next::Text => out.push(frames.text.text().unwrap_or_default()),
                Next::Close => out.push("<close>".to_owned()),
            }
        }
    }

    fn client() -> Frames {
        Frames::new(Side::Client, None, &Budget::default())
    }

    fn talk() -> Vec<u8> {
        [
            frame(0x01, true, b"hel"),
            frame(0x89, true, b"ping"),
            frame(0x80, true, b"lo"),
            frame(0x82, true, b"\0\x01"),
            frame(0x81, true, "x".repeat(300).as_bytes()),
            frame(0x81, true, b""),
            frame(0x88, true, b"\x03\xe8"),
        ]
        .concat()
    }

    #[test]
    fn messages_in_fragments_with_control_frames_between() {
        let want = ["hello".to_owned(), "x".repeat(300), String::new(), "<close>".to_owned()];
        let bytes = talk();
        for cut in 0..bytes.len() {
            let mut frames = client();
            let mut got = texts(&mut frames, &bytes[..cut]).unwrap();
            got.extend(texts(&mut frames, &bytes[cut..]).unwrap());
            assert_eq!(got[..4], want, "cut at {cut}");
        }
    }

    #[test]
    fn what_the_protocol_does_not_allow() {
        for (kind, bytes) in [
            ("websocket_mask", frame(0x81, false, b"x")),
            ("websocket_reserved_bits", frame(0xc1, true, b"x")),
            ("websocket_reserved_bits", frame(0xa1, true, b"x")),
            ("websocket_continuation", frame(0x80, true, b"x")),
            ("websocket_interleaved", [frame(0x01, true, b"x"), frame(0x81, true, b"x")].concat()),
            ("websocket_control", frame(0x09, true, b"x")),
            ("websocket_opcode", frame(0x83, true, b"x")),
            ("websocket_length", vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ] {
            assert_eq!(texts(&mut client(), &bytes).map_err(DecodeError::name), Err(kind));
        }
    }

    #[test]
    fn holes_inside_a_payload_cost_the_message_and_others_the_place() {
        let mut frames = client();
        let bytes = [frame(0x81, true, b"hello"), frame(0x81, true, b"next")].concat();
        assert_eq!(texts(&mut frames, &bytes[..8]).unwrap(), [""; 0]);
        assert_eq!(frames.miss(2), Ok(Next::NeedMore));
        assert_eq!(texts(&mut frames, &bytes[10..]).unwrap(), ["", "next"], "the unmasking goes on where it must");
        assert_eq!(frames.miss(1), Err(DecodeError::WebsocketGap));
    }

    fn compressed(text: &[u8]) -> Vec<u8> {
        // A stored block, and the empty block of a flush, whose end is left out.
        let n = u16::try_from(text.len()).unwrap();
        [&[0][..], &n.to_le_bytes(), &(!n).to_le_bytes(), text, &[0]].concat()
    }

    #[test]
    fn compressed_messages_are_read() {
        let deflate = Deflate::agreed(Some("permessage-deflate; client_no_context_takeover")).unwrap();
        assert_eq!(deflate, Some(Deflate { client_fresh: true, server_fresh: false }));
        assert!(Deflate::agreed(Some("x-other")).is_err());
        let bytes = [frame(0xc1, true, &compressed(b"hello")), frame(0xc1, true, &compressed(b"again"))].concat();
        for cut in 0..bytes.len() {
            let mut frames = Frames::new(Side::Client, deflate, &Budget::default());
            let mut got = texts(&mut frames, &bytes[..cut]).unwrap();
            got.extend(texts(&mut frames, &bytes[cut..]).unwrap());
            assert_eq!(got, ["hello", "again"], "cut at {cut}");
        }
        let mut frames = Frames::new(Side::Client, deflate, &Budget::default());
        assert_eq!(texts(&mut frames, &frame(0xc1, true, b"\xff\xff\xff")), Err(DecodeError::WebsocketDeflate));
        let mut frames = Frames::new(Side::Client, deflate, &Budget::default());
        texts(&mut frames, &bytes[..9]).unwrap();
        assert_eq!(frames.miss(1), Err(DecodeError::WebsocketGap), "what is compressed cannot be read on");
    }

    #[test]
    fn a_bomb_is_given_up() {
        let bomb = miniz_oxide::deflate::compress_to_vec(&vec![b'a'; 8 << 20], 9);
        let deflate = Some(Deflate::default());
        let mut frames = Frames::new(Side::Client, deflate, &Budget::default());
        let got = texts(&mut frames, &frame(0xc1, true, &bomb));
        assert_eq!(got, Err(DecodeError::WebsocketDeflateTooLarge));
        assert!(frames.memory() < 3 << 20);
    }
}
