//! Just enough of HTTP/2 to write conversations for tests.

use super::frame::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS};

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A field that stands there, and is put into no table.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0, u8::try_from(name.len()).unwrap()];
    out.extend(name.bytes());
    out.push(u8::try_from(value.len()).unwrap());
    out.extend(value.bytes());
    out
}

/// The same, put into the table.
pub(crate) fn kept(name: &str, value: &str) -> Vec<u8> {
    let mut out = literal(name, value);
    out[0] = 0x40;
    out
}

/// The header block of a GET.
pub(crate) fn get(path: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    block.extend(literal(":path", path));
    block.extend(more.concat());
    block
}

/// What a client says first.
pub(crate) fn greeting() -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// What a server says first.
pub(crate) fn welcome() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// A whole message that is nothing but a head.
pub(crate) fn message(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}
