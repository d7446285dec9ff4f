//! Frames of both directions, whose header blocks `fluke-hpack` decodes.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};
use fluke_hpack::Decoder;
use monitor_core::model::{Side, Sides};

use super::{Asked, PREFACE};
use crate::common::Segments;
use crate::frames;

/// Types of frames (RFC 9113 §6) and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// What a frame says of its stream.
#[derive(Debug)]
enum Frame {
    /// A header block, whole; and whether the stream ends with it.
    Head(u32, Vec<(String, String)>, bool),
    /// The stream ends.
    End(u32),
    Reset(u32, u32),
    /// Of no stream, or of no interest.
    Other,
}

/// One direction.
struct Direction<'a> {
    decoder: Decoder<'a>,
    /// The connection has begun.
    begun: bool,
    /// A block of which more is to come: its stream, whether that ends with it, whether it promises something.
    block: (u32, bool, bool, Vec<u8>),
}

impl Default for Direction<'_> {
    fn default() -> Self {
        Self { decoder: Decoder::new(), begun: false, block: (0, false, false, Vec::new()) }
    }
}

impl Direction<'_> {
    fn next(&mut self, from: Side, bytes: &mut BytesMut) -> Result<Option<Frame>, String> {
        if from == Side::Client && !self.begun {
            if !bytes.starts_with(PREFACE) {
                return Err("no preface".to_owned());
            }
            self.begun = true;
            bytes.advance(PREFACE.len());
            return Ok(Some(Frame::Other));
        }
        let Some([a, b, c, kind, flags, stream @ ..]) = bytes.first_chunk::<9>().copied() else { return Ok(None) };
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        if bytes.len() < 9 + len {
            return Ok(None);
        }
        let frame = bytes.split_to(9 + len);
        self.frame(kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff, &frame[9..]).map(Some)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame, String> {
        let ends = flags & END_STREAM != 0;
        let mut rest = payload;
        if matches!(kind, HEADERS | PUSH_PROMISE) && flags & PADDED != 0 {
            rest = &payload[1..payload.len() - usize::from(payload[0])];
        }
        match kind {
            DATA if ends => return Ok(Frame::End(stream)),
            RST_STREAM => return Ok(Frame::Reset(stream, u32::from_be_bytes(payload.try_into().unwrap()))),
            HEADERS => {
                rest = if flags & PRIORITY == 0 { rest } else { &rest[5..] };
                self.block = (stream, ends, false, rest.to_vec());
            }
            PUSH_PROMISE => self.block = (stream, false, true, rest[4..].to_vec()),
            CONTINUATION => self.block.3.extend(payload),
            _ => return Ok(Frame::Other),
        }
        if flags & END_HEADERS == 0 {
            return Ok(Frame::Other);
        }
        let (stream, ends, promises, block) = std::mem::take(&mut self.block);
        let fields = self.decoder.decode(&block).map_err(|e| format!("{e:?}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        Ok(if promises { Frame::Other } else { Frame::Head(stream, fields, ends) })
    }
}

/// What was asked and answered.
pub(super) fn read(segments: &Segments) -> Result<Vec<Asked>, String> {
    let mut sides = Sides::of(|_| Direction::default());
    let mut order: BTreeMap<u32, usize> = BTreeMap::new();
    let mut all: Vec<Asked> = Vec::new();
    for (from, frame) in frames(segments, |from, bytes| sides[from].next(from, bytes))? {
        let (stream, ends) = match &frame {
            Frame::Head(stream, _, ends) => (*stream, *ends),
            Frame::End(stream) => (*stream, true),
            Frame::Reset(stream, _) => (*stream, false),
            Frame::Other => continue,
        };
        let head = if let Frame::Head(_, fields, _) = &frame { fields.as_slice() } else { &[] };
        let field = |name: &str| head.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        if let (Side::Client, Some(method)) = (from, field(":method")) {
            order.insert(stream, all.len());
            all.push(Asked {
                method: method.to_owned(),
                path: field(":path").unwrap_or_default().to_owned(),
                is_call: field("content-type").is_some_and(|t| t.starts_with("application/grpc")),
                ..Asked::default()
            });
        }
        // What was pushed was not asked for.
        let Some(x) = order.get(&stream).and_then(|n| all.get_mut(*n)) else { continue };
        if let Frame::Reset(_, code) = frame {
            x.reset = x.reset.or(Some(code));
        }
        if from == Side::Server {
            x.status = field(":status").and_then(|s| s.parse().ok()).filter(|s| *s >= 200).or(x.status);
            x.call_status = field("grpc-status").and_then(|s| s.parse().ok()).or(x.call_status);
            x.answered |= ends;
        }
    }
    Ok(all)
}
