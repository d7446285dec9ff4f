//! Values as MQTT writes them (MQTT 5 §1.5), and the properties of version 5 (§2.2.2).

use crate::decode::wire::Reader;

/// A number of up to four bytes, seven bits each (§1.5.5).
pub(super) fn varint(b: &mut Reader<'_>) -> Option<u32> {
    b.leb128(4).ok().and_then(|n| u32::try_from(n).ok())
}

/// The properties that stand here.
pub(super) fn property_bytes<'a>(b: &mut Reader<'a>) -> Option<&'a [u8]> {
    let n = varint(b)?;
    b.take(usize::try_from(n).ok()?)
}

/// A property, as far as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property<'a> {
    /// Session Expiry Interval, in seconds.
    SessionExpiry(u32),
    /// Topic Alias.
    TopicAlias(u16),
    /// Correlation Data.
    Correlation(&'a [u8]),
    /// Authentication Data.
    AuthData(&'a [u8]),
    /// User Property: name and value.
    User(&'a [u8], &'a [u8]),
}

/// Most properties of one packet that are read.
const MAX_PROPERTIES: usize = 1024;

/// Hands over the properties that are looked at; `None`: malformed.
pub(super) fn properties<'a>(all: &'a [u8], each: &mut dyn FnMut(Property<'a>)) -> Option<()> {
    let mut b = Reader::new(all);
    let mut left = MAX_PROPERTIES;
    while !b.is_empty() {
        left = left.checked_sub(1)?;
        match varint(&mut b)? {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
                b.u8()?;
            }
            0x13 | 0x21 | 0x22 => {
                b.u16()?;
            }
            0x02 | 0x18 | 0x27 => {
                b.u32()?;
            }
            0x0b => {
                varint(&mut b)?;
            }
            0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => {
                b.u16_bytes()?;
            }
            0x11 => each(Property::SessionExpiry(b.u32()?)),
            0x23 => each(Property::TopicAlias(b.u16()?)),
            0x09 => each(Property::Correlation(b.u16_bytes()?)),
            0x16 => each(Property::AuthData(b.u16_bytes()?)),
            0x26 => each(Property::User(b.u16_bytes()?, b.u16_bytes()?)),
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_up_to_four_bytes() {
        for (bytes, want) in [
            (&b"\x00"[..], Some(0)),
            (b"\x7f", Some(127)),
            (b"\x80\x01", Some(128)),
            (b"\xff\xff\xff\x7f", Some(268_435_455)),
            (b"\x80\x80\x80\x80\x01", None),
            (b"\x80", None),
        ] {
            assert_eq!(varint(&mut Reader::new(bytes)), want, "{bytes:?}");
        }
    }

    #[test]
    fn properties_are_read_and_broken_ones_refused() {
        let all = b"\x01\x01\x23\x00\x05\x26\x00\x01a\x00\x02bc\x09\x00\x01x";
        let mut seen = Vec::new();
        assert!(properties(all, &mut |p| seen.push(p)).is_some());
        assert_eq!(seen, [Property::TopicAlias(5), Property::User(b"a", b"bc"), Property::Correlation(b"x")]);
        for n in [1, 3, 4, 7, 11, all.len() - 1] {
            assert!(properties(&all[..n], &mut |_| {}).is_none(), "{n}");
        }
        assert!(properties(b"\x04", &mut |_| {}).is_none(), "no such property");
        assert!(properties(&b"\x01\x01".repeat(2000), &mut |_| {}).is_none(), "too many");
    }
}
