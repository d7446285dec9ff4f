//! Frames (RFC 9113 §4, §6): bytes of one direction are cut into them. Frames that carry bodies are handed on piece by piece,
//! those that are read as a whole are held until they are whole, and the rest is passed over.
//!
//! Memory: one held frame of at most [`MAX_HELD`] bytes.

use crate::decode::DecodeError;

/// What every client says first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Longest payload, unless the other side allows more (RFC 9113 §6.5.2).
pub(super) const LONGEST: u32 = 16 << 10;
/// Longest that the format allows.
const LONGEST_EVER: u32 = (1 << 24) - 1;
/// Longest that is held.
pub(super) const MAX_HELD: u32 = 64 << 10;

/// Types of frames (RFC 9113 §6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags. The lowest bit acknowledges in SETTINGS and PING.
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// A setting (RFC 9113 §6.5.2): the longest payload that its sender takes.
const MAX_FRAME_SIZE: u16 = 5;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn read(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        // The highest bit is reserved and to be ignored (RFC 9113 §4.1).
        Self {
            len: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the standard allows such a frame.
    pub(super) fn check(&self, longest: u32) -> Result<(), DecodeError> {
        let (len, of_stream) = (self.len, self.stream != 0);
        let fits = len <= longest
            && match self.kind {
                DATA | HEADERS | CONTINUATION | PUSH_PROMISE => of_stream,
                PRIORITY => of_stream && len == 5,
                RST_STREAM => of_stream && len == 4,
                SETTINGS if self.has(ACK) => !of_stream && len == 0,
                SETTINGS => !of_stream && len % 6 == 0,
                PING => !of_stream && len == 8,
                GOAWAY => !of_stream && len >= 8,
                WINDOW_UPDATE => len == 4,
                // Types that are not known are to be ignored (RFC 9113 §4.1).
                _ => true,
            };
        if fits { Ok(()) } else { Err(DecodeError::BadFrame) }
    }

    /// Whether all of it is wanted at once.
    fn is_held(&self) -> bool {
        let wanted = matches!(self.kind, HEADERS | RST_STREAM | SETTINGS | PUSH_PROMISE | GOAWAY | CONTINUATION);
        wanted && self.len <= MAX_HELD
    }
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A piece of a body.
    Data(Head, &'a [u8]),
    /// The frame of a body has ended.
    DataEnd(Head),
    /// A whole frame.
    Frame(Head, &'a [u8]),
    /// A frame that would have been wanted whole, and is not.
    Broken(Head),
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Where frames begin is not known any more.
    Place,
    /// Bytes of a body.
    Data(Head, u64),
    /// Nothing that is wanted now.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the preface were there.
    Preface(usize),
    Head,
    /// All of it is wanted; so much is to come, and not all of it was there so far.
    Held {
        head: Head,
        left: u32,
        broken: bool,
    },
    /// A body whose padding is still to be told.
    Padded(Head),
    Data {
        head: Head,
        left: u32,
        padding: u32,
    },
    /// Nothing of what is left is wanted. `ends`: what it is the end of.
    Rest {
        left: u32,
        ends: Option<Head>,
    },
}

/// Cuts one direction.
#[derive(Debug)]
pub(in crate::decode::http) struct Cutter {
    state: State,
    held: Vec<u8>,
    /// What was held has been handed out.
    over: bool,
    longest: u32,
}

impl Cutter {
    /// `preface`: the client's first words are still to come. `longest`: of a connection seen from its start.
    pub(super) fn new(preface: bool, whole: bool) -> Self {
        let state = if preface { State::Preface(0) } else { State::Head };
        Self { state, held: Vec::new(), over: false, longest: if whole { LONGEST } else { LONGEST_EVER } }
    }

    /// The place is lost: what comes next begins a frame.
    pub(super) fn forget(&mut self) {
        *self = Self { longest: self.longest, ..Self::new(false, false) };
    }

    /// What the other side takes is not known.
    pub(super) fn takes_anything(&mut self) {
        self.longest = LONGEST_EVER;
    }

    /// The other side has told its settings.
    pub(super) fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let [a, b, value @ ..] = setting else { continue };
            if let (MAX_FRAME_SIZE, Ok(value)) = (u16::from_be_bytes([*a, *b]), value.try_into()) {
                // What is on its way was sent before it was heard.
                self.longest = self.longest.max(u32::from_be_bytes(value)).min(LONGEST_EVER);
            }
        }
    }

    /// The next piece; `None`: more bytes are needed. What was read is taken from the front of `bytes`.
    ///
    /// # Errors
    /// These are no frames.
    pub(super) fn next<'a, 'b: 'a>(&'a mut self, bytes: &mut &'b [u8]) -> Result<Option<Piece<'a>>, DecodeError> {
        if std::mem::take(&mut self.over) {
            self.held.clear();
        }
        loop {
            match self.state {
                State::Preface(n) => {
                    let rest = PREFACE.get(n..).unwrap_or_default();
                    let (said, after) = bytes.split_at(rest.len().min(bytes.len()));
                    if !rest.starts_with(said) {
                        return Err(DecodeError::Preface);
                    }
                    *bytes = after;
                    if said.len() < rest.len() {
                        self.state = State::Preface(n + said.len());
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Head => {
                    let (said, after) = bytes.split_at((HEAD - self.held.len().min(HEAD)).min(bytes.len()));
                    self.held.extend_from_slice(said);
                    *bytes = after;
                    let Some(head) = self.held.first_chunk().copied().map(Head::read) else { return Ok(None) };
                    self.held.clear();
                    head.check(self.longest)?;
                    self.state = Self::begin(head);
                }
                State::Held { head, left, broken } => {
                    let n = (left as usize).min(bytes.len());
                    let (said, after) = bytes.split_at(n);
                    *bytes = after;
                    if n < left as usize {
                        if !broken {
                            self.held.extend_from_slice(said);
                        }
                        self.state = State::Held { head, left: left - u32::try_from(n).unwrap_or(left), broken };
                        return Ok(None);
                    }
                    self.state = State::Head;
                    if broken {
                        self.held.clear();
                        return Ok(Some(Piece::Broken(head)));
                    }
                    if self.held.is_empty() {
                        return Ok(Some(Piece::Frame(head, said)));
                    }
                    self.held.extend_from_slice(said);
                    self.over = true;
                    return Ok(Some(Piece::Frame(head, &self.held)));
                }
                State::Padded(head) => {
                    let Some((padding, after)) = bytes.split_first() else { return Ok(None) };
                    *bytes = after;
                    let padding = u32::from(*padding);
                    let left = head.len.checked_sub(1 + padding).ok_or(DecodeError::Padding)?;
                    self.state = State::Data { head, left, padding };
                }
                State::Data { head, left: 0, padding } => self.state = State::Rest { left: padding, ends: Some(head) },
                State::Data { head, left, padding } => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let n = (left as usize).min(bytes.len());
                    let (said, after) = bytes.split_at(n);
                    *bytes = after;
                    self.state = State::Data { head, left: left - u32::try_from(n).unwrap_or(left), padding };
                    return Ok(Some(Piece::Data(head, said)));
                }
                State::Rest { left, ends } => {
                    let n = (left as usize).min(bytes.len());
                    *bytes = bytes.get(n..).unwrap_or_default();
                    let left = left - u32::try_from(n).unwrap_or(left);
                    if left > 0 {
                        self.state = State::Rest { left, ends };
                        return Ok(None);
                    }
                    self.state = State::Head;
                    match ends {
                        Some(head) if head.kind == DATA => return Ok(Some(Piece::DataEnd(head))),
                        Some(head) => return Ok(Some(Piece::Broken(head))),
                        None => {}
                    }
                }
            }
        }
    }

    /// `n` bytes are missing here.
    pub(super) fn miss(&mut self, n: u64) -> Missed {
        let within = |left: u32| u32::try_from(n).ok().and_then(|n| left.checked_sub(n));
        match self.state {
            State::Preface(_) | State::Head => Missed::Place,
            State::Held { head, left, .. } => {
                let Some(left) = within(left) else { return Missed::Place };
                self.held.clear();
                self.state = State::Held { head, left, broken: true };
                Missed::Nothing
            }
            // Where the body ends within it is not known.
            State::Padded(head) => {
                let Some(left) = within(head.len) else { return Missed::Place };
                self.state = State::Rest { left, ends: Some(head) };
                Missed::Data(head, u64::from(head.len))
            }
            State::Data { head, left, padding } => match within(left) {
                Some(left) => {
                    self.state = State::Data { head, left, padding };
                    Missed::Data(head, n)
                }
                None => {
                    let Some(rest) = within(left + padding) else { return Missed::Place };
                    self.state = State::Rest { left: rest, ends: Some(head) };
                    if left > 0 { Missed::Data(head, u64::from(left)) } else { Missed::Nothing }
                }
            },
            State::Rest { left, ends } => {
                let Some(left) = within(left) else { return Missed::Place };
                self.state = State::Rest { left, ends };
                Missed::Nothing
            }
        }
    }

    fn begin(head: Head) -> State {
        match head.kind {
            DATA if head.has(PADDED) => State::Padded(head),
            DATA => State::Data { head, left: head.len, padding: 0 },
            _ if head.is_held() => State::Held { head, left: head.len, broken: false },
            // A header block that is too long to be held.
            HEADERS | PUSH_PROMISE | CONTINUATION => State::Rest { left: head.len, ends: Some(head) },
            _ => State::Rest { left: head.len, ends: None },
        }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.held.capacity()
    }
}

/// The part of a header block in the payload of HEADERS, PUSH_PROMISE or CONTINUATION: without padding and what stands
/// before it.
///
/// # Errors
/// There is more padding than payload.
pub(super) fn fragment(head: Head, payload: &[u8]) -> Result<&[u8], DecodeError> {
    if head.kind == CONTINUATION {
        return Ok(payload);
    }
    let before = match head.kind {
        PUSH_PROMISE => 4,
        _ if head.has(WITH_PRIORITY) => 5,
        _ => 0,
    };
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if head.has(PADDED) => (usize::from(*padding), rest),
        None if head.has(PADDED) => return Err(DecodeError::Padding),
        _ => (0, payload),
    };
    let end = rest.len().checked_sub(padding).ok_or(DecodeError::Padding)?;
    rest.get(before..end).ok_or(DecodeError::Padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces in words, data joined.
    fn cut(cutter: &mut Cutter, pieces: &[&[u8]]) -> Result<Vec<String>, DecodeError> {
        let mut out: Vec<String> = Vec::new();
        for mut bytes in pieces.iter().copied() {
            while let Some(piece) = cutter.next(&mut bytes)? {
                out.push(match piece {
                    Piece::Data(head, bytes) => format!("{}:{}", head.stream, String::from_utf8_lossy(bytes)),
                    Piece::DataEnd(head) => format!("{}.", head.stream),
                    Piece::Frame(head, bytes) => format!("{} {}", head.kind, String::from_utf8_lossy(bytes)),
                    Piece::Broken(head) => format!("{} broken", head.kind),
                });
            }
            assert!(bytes.is_empty());
        }
        Ok(out)
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    fn talk() -> Vec<u8> {
        let mut all = PREFACE.to_vec();
        all.extend(frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64"));
        all.extend(frame(77, 0xff, 9, b"unknown"));
        all.extend(frame(HEADERS, PADDED | END_HEADERS, 1, b"\x02abc\0\0"));
        all.extend(frame(DATA, PADDED, 1, b"\x03body\0\0\0"));
        all.extend(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01"));
        all.extend(frame(DATA, END_STREAM, 1, b""));
        all
    }

    #[test]
    fn however_the_bytes_are_cut() {
        let want = ["4 \0\u{3}\0\0\0d", "1 \u{2}abc\0\0", "1:body", "1.", "1."];
        let all = talk();
        assert_eq!(cut(&mut Cutter::new(true, true), &[&all]).unwrap(), want);
        for at in 1..all.len() {
            let mut got = cut(&mut Cutter::new(true, true), &[&all[..at], &all[at..]]).unwrap();
            if got.len() > want.len() {
                let second = got.remove(3);
                got[2].push_str(&second[2..]);
            }
            assert_eq!(got, want, "{at}");
        }
    }

    #[test]
    fn what_is_missing_costs_what_it_hits() {
        let mut one = frame(DATA, PADDED, 1, b"\x02body\0\0");
        let after = frame(SETTINGS, ACK, 0, b"");
        one.extend(&after);
        let run = |keep: usize, n: u64| {
            let mut cutter = Cutter::new(false, true);
            let mut got = cut(&mut cutter, &[&one[..keep]]).unwrap();
            got.push(format!("{:?}", cutter.miss(n)));
            let rest = &one[keep + usize::try_from(n).unwrap()..];
            (got.last().unwrap() != "Place").then(|| got.extend(cut(&mut cutter, &[rest]).unwrap()));
            got.retain(|g| !g.starts_with("Nothing"));
            got.join("|")
        };
        assert_eq!(run(0, 1), "Place");
        let head = "Head { len: 7, kind: 0, flags: 8, stream: 1 }";
        assert_eq!(run(9, 2), format!("Data({head}, 7)|1.|4 "), "what is padding is not known");
        assert_eq!(run(10, 2), format!("Data({head}, 2)|1:dy|1.|4 "));
        assert_eq!(run(12, 3), format!("1:bo|Data({head}, 2)|1.|4 "));
        assert_eq!(run(14, 1), "1:body|1.|4 ");
        assert_eq!(run(12, 5), "1:bo|Place", "into the next head");
        let mut cutter = Cutter::new(false, true);
        let headers = frame(HEADERS, 4, 1, b"abcdef");
        assert!(cut(&mut cutter, &[&headers[..11]]).unwrap().is_empty());
        assert_eq!(
            (cutter.miss(2), cut(&mut cutter, &[&headers[13..]]).unwrap()),
            (Missed::Nothing, vec!["1 broken".to_owned()])
        );
    }

    #[test]
    fn frames_that_the_standard_does_not_allow() {
        let bad = [
            frame(DATA, 0, 0, b"x"),
            frame(SETTINGS, 0, 0, b"12345"),
            frame(SETTINGS, ACK, 0, b"123456"),
            frame(SETTINGS, 0, 1, b""),
            frame(PING, 0, 0, b"1"),
            frame(RST_STREAM, 0, 1, b"1"),
            frame(PRIORITY, 0, 1, b"1"),
            frame(GOAWAY, 0, 0, b"1"),
            frame(WINDOW_UPDATE, 0, 0, b"1"),
            frame(DATA, PADDED, 1, b"\x02x"),
            frame(DATA, 0, 1, &[0; LONGEST as usize + 1]),
        ];
        for bytes in &bad {
            assert!(cut(&mut Cutter::new(false, true), &[bytes]).is_err(), "{:x?}", &bytes[..9]);
        }
        let mut cutter = Cutter::new(false, true);
        cutter.settings(b"\0\x05\0\0\x80\0");
        assert!(cut(&mut cutter, &[&bad[10]]).is_ok(), "the other side allows it");
        assert!(cut(&mut Cutter::new(false, false), &[&bad[10]]).is_ok(), "it may have");
        let long = frame(HEADERS, 4, 1, &vec![0x82; MAX_HELD as usize + 1]);
        assert_eq!(cut(&mut Cutter::new(false, false), &[&long]).unwrap(), ["1 broken"]);
        assert!(cut(&mut Cutter::new(true, true), &[b"PRI * HTTP/1"]).is_err());
    }

    #[test]
    fn fragments_without_what_surrounds_them() {
        let head = |kind, flags, len| Head { len, kind, flags, stream: 1 };
        let of = |kind, flags, payload: &'static [u8]| fragment(head(kind, flags, 0), payload);
        assert_eq!(of(HEADERS, 0, b"abc"), Ok(&b"abc"[..]));
        assert_eq!(of(HEADERS, PADDED | WITH_PRIORITY, b"\x02pppppabc\0\0"), Ok(&b"abc"[..]));
        assert_eq!(of(PUSH_PROMISE, PADDED, b"\x01\0\0\0\x02abc\0"), Ok(&b"abc"[..]));
        assert_eq!(of(CONTINUATION, PADDED, b"\x01a"), Ok(&b"\x01a"[..]));
        for (flags, bad) in [(PADDED, &b""[..]), (PADDED, b"\x02a"), (WITH_PRIORITY, b"abcd"), (0x28, b"\x01abcde")] {
            assert_eq!(of(HEADERS, flags, bad), Err(DecodeError::Padding), "{bad:?}");
        }
    }
}
