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

/// Identifiers of properties (§2.2.2.2).
mod id {
    pub(super) const PAYLOAD_FORMAT_INDICATOR: u32 = 0x01;
    pub(super) const MESSAGE_EXPIRY_INTERVAL: u32 = 0x02;
    pub(super) const CONTENT_TYPE: u32 = 0x03;
    pub(super) const RESPONSE_TOPIC: u32 = 0x08;
    pub(super) const CORRELATION_DATA: u32 = 0x09;
    pub(super) const SUBSCRIPTION_IDENTIFIER: u32 = 0x0b;
    pub(super) const SESSION_EXPIRY_INTERVAL: u32 = 0x11;
    pub(super) const ASSIGNED_CLIENT_IDENTIFIER: u32 = 0x12;
    pub(super) const SERVER_KEEP_ALIVE: u32 = 0x13;
    pub(super) const AUTHENTICATION_METHOD: u32 = 0x15;
    pub(super) const AUTHENTICATION_DATA: u32 = 0x16;
    pub(super) const REQUEST_PROBLEM_INFORMATION: u32 = 0x17;
    pub(super) const WILL_DELAY_INTERVAL: u32 = 0x18;
    pub(super) const REQUEST_RESPONSE_INFORMATION: u32 = 0x19;
    pub(super) const RESPONSE_INFORMATION: u32 = 0x1a;
    pub(super) const SERVER_REFERENCE: u32 = 0x1c;
    pub(super) const REASON_STRING: u32 = 0x1f;
    pub(super) const RECEIVE_MAXIMUM: u32 = 0x21;
    pub(super) const TOPIC_ALIAS_MAXIMUM: u32 = 0x22;
    pub(super) const TOPIC_ALIAS: u32 = 0x23;
    pub(super) const MAXIMUM_QOS: u32 = 0x24;
    pub(super) const RETAIN_AVAILABLE: u32 = 0x25;
    pub(super) const USER_PROPERTY: u32 = 0x26;
    pub(super) const MAXIMUM_PACKET_SIZE: u32 = 0x27;
    pub(super) const WILDCARD_SUBSCRIPTION_AVAILABLE: u32 = 0x28;
    pub(super) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u32 = 0x29;
    pub(super) const SHARED_SUBSCRIPTION_AVAILABLE: u32 = 0x2a;
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
            id::PAYLOAD_FORMAT_INDICATOR
            | id::REQUEST_PROBLEM_INFORMATION
            | id::REQUEST_RESPONSE_INFORMATION
            | id::MAXIMUM_QOS
            | id::RETAIN_AVAILABLE
            | id::WILDCARD_SUBSCRIPTION_AVAILABLE
            | id::SUBSCRIPTION_IDENTIFIER_AVAILABLE
            | id::SHARED_SUBSCRIPTION_AVAILABLE => {
                b.u8()?;
            }
            id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM => {
                b.u16()?;
            }
            id::MESSAGE_EXPIRY_INTERVAL | id::WILL_DELAY_INTERVAL | id::MAXIMUM_PACKET_SIZE => {
                b.u32()?;
            }
            id::SUBSCRIPTION_IDENTIFIER => {
                varint(&mut b)?;
            }
            id::CONTENT_TYPE
            | id::RESPONSE_TOPIC
            | id::ASSIGNED_CLIENT_IDENTIFIER
            | id::AUTHENTICATION_METHOD
            | id::RESPONSE_INFORMATION
            | id::SERVER_REFERENCE
            | id::REASON_STRING => {
                b.u16_bytes()?;
            }
            id::SESSION_EXPIRY_INTERVAL => each(Property::SessionExpiry(b.u32()?)),
            id::TOPIC_ALIAS => each(Property::TopicAlias(b.u16()?)),
            id::CORRELATION_DATA => each(Property::Correlation(b.u16_bytes()?)),
            id::AUTHENTICATION_DATA => each(Property::AuthData(b.u16_bytes()?)),
            id::USER_PROPERTY => each(Property::User(b.u16_bytes()?, b.u16_bytes()?)),
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
