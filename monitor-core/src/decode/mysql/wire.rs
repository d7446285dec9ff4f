//! Numbers, strings and values as the protocol writes them. Source: MySQL internals, "Basic Data Types" and "Binary
//! Protocol Value".

use std::borrow::Cow;

use crate::decode::sql::value::{MAX_VALUE, Read};
use crate::decode::wire::Reader;

/// An integer of variable length; `None` also for what is none (NULL in a row, an error's first byte).
pub(super) fn lenenc(r: &mut Reader<'_>) -> Option<u64> {
    match r.u8()? {
        n @ 0..=0xfa => Some(u64::from(n)),
        0xfc => r.u16_le().map(u64::from),
        0xfd => {
            let [a, b, c] = r.array()?;
            Some(u64::from(u32::from_le_bytes([a, b, c, 0])))
        }
        0xfe => r.u64_le(),
        0xfb | 0xff => None,
    }
}

/// Bytes behind their length of variable length.
pub(super) fn lenenc_bytes<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    let n = lenenc(r)?;
    r.take(usize::try_from(n).ok()?)
}

/// Types of values, by number.
const TINY: u8 = 1;
const SHORT: u8 = 2;
const LONG: u8 = 3;
const FLOAT: u8 = 4;
const DOUBLE: u8 = 5;
pub(super) const NULL: u8 = 6;
const TIMESTAMP: u8 = 7;
const LONGLONG: u8 = 8;
const INT24: u8 = 9;
const DATE: u8 = 10;
const TIME: u8 = 11;
const DATETIME: u8 = 12;
const YEAR: u8 = 13;
/// Flag of a parameter's type: it has no sign.
const UNSIGNED: u16 = 0x8000;

/// A value in the binary protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary<'a> {
    /// A number.
    Integer(i128),
    /// Text, or something written as text.
    Text(&'a [u8]),
    /// A number with a fraction, a date or a time: no name of anybody.
    Other,
}

/// The next value, of a type as a parameter has it (flags in the higher byte).
pub(super) fn binary<'a>(r: &mut Reader<'a>, kind: u16) -> Option<Binary<'a>> {
    let unsigned = kind & UNSIGNED != 0;
    let int = |signed: i64, plain: u64| Binary::Integer(if unsigned { i128::from(plain) } else { i128::from(signed) });
    let [number, _] = kind.to_le_bytes();
    Some(match number {
        TINY => r.u8().map(|n| int(i64::from(n.cast_signed()), u64::from(n)))?,
        SHORT | YEAR => r.u16_le().map(|n| int(i64::from(n.cast_signed()), u64::from(n)))?,
        LONG | INT24 => r.u32_le().map(|n| int(i64::from(n.cast_signed()), u64::from(n)))?,
        LONGLONG => r.u64_le().map(|n| int(n.cast_signed(), n))?,
        FLOAT => r.take(4).map(|_| Binary::Other)?,
        DOUBLE => r.take(8).map(|_| Binary::Other)?,
        TIMESTAMP | DATE | DATETIME | TIME => r.u8_bytes().map(|_| Binary::Other)?,
        NULL => Binary::Other,
        _ => Binary::Text(lenenc_bytes(r)?),
    })
}

impl Binary<'_> {
    /// As a parameter of a statement reads it.
    pub(super) fn read(self) -> Read<'static> {
        match self {
            Self::Integer(n) => Read::Text(Cow::Owned(n.to_string())),
            Self::Text(text) if text.len() <= MAX_VALUE => {
                Read::Text(Cow::Owned(String::from_utf8_lossy(text).into_owned()))
            }
            Self::Text(_) | Self::Other => Read::Unreadable,
        }
    }
}

/// Whether the `i`th bit of a bitmap is set.
pub(super) fn bit(bitmap: &[u8], i: usize) -> bool {
    bitmap.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length() {
        let read = |bytes: &[u8]| lenenc(&mut Reader::new(bytes));
        assert_eq!(
            (read(b"\xfa"), read(b"\xfc\x01\x02"), read(b"\xfd\x01\x02\x03")),
            (Some(250), Some(513), Some(0x30201))
        );
        assert_eq!(read(b"\xfe\x01\0\0\0\0\0\0\0"), Some(1));
        assert_eq!((read(b"\xfb"), read(b"\xff"), read(b"\xfc\x01"), read(b"")), (None, None, None, None));
        assert_eq!(lenenc_bytes(&mut Reader::new(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff")), None);
    }

    #[test]
    fn values_by_type() {
        let of = |bytes: &[u8], kind| binary(&mut Reader::new(bytes), kind).map(Binary::read);
        let text = |t: &str| Some(Read::Text(t.to_owned().into()));
        assert_eq!((of(b"\xff", 1), of(b"\xff", 0x8001)), (text("-1"), text("255")));
        assert_eq!((of(b"\x67\x12\0\0", 3), of(&[0xff; 8], 0x8008)), (text("4711"), text("18446744073709551615")));
        assert_eq!((of(b"\x04acme", 0xfd), of(b"\0", 0xfe)), (text("acme"), text("")));
        assert_eq!((of(b"\x04\xe9\x07\x01\x02", 10), of(b"\x05acme", 0xfd)), (Some(Read::Unreadable), None));
        let long = [&b"\xfc\x01\x04"[..], &[b'x'; 1025]].concat();
        assert_eq!(of(&long, 0xfd), Some(Read::Unreadable), "one byte more than is read");
        assert_eq!(of(&[b"\xfc\x00\x04", &[b'x'; 1024][..]].concat(), 0xfd), text(&"x".repeat(1024)));
    }
}
