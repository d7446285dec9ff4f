//! Do these bytes begin a request of Kafka's protocol?

use super::api;
use super::bytes::{Cursor, Read, Stop};
use crate::decode::DecodeError;
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// Largest frame: `socket.request.max.bytes` is 100 MiB where nobody has changed it, fetches may be larger.
pub(super) const MAX_FRAME: usize = 256 << 20;
/// Longest name that a client gives itself.
const MAX_CLIENT: usize = 255;
/// Most zeros behind a question for versions.
const MAX_PADDING: usize = 16;
/// Topics that no Produce request has.
const MAX_TOPICS: usize = 1 << 14;

/// A request of whoever may be speaking: its header is complete, its number and version exist, its client names itself
/// in text. Almost all clients do, and without a name a response with a small correlation id looks the same; but not the
/// question for versions, with which connections begin.
pub(crate) fn request(bytes: &[u8]) -> Look {
    let mut c = Cursor::new(bytes);
    match frame(&mut c).and_then(|head| asks(head, &mut c)) {
        Ok(()) => Look::Is(Side::Client),
        Err(Stop::Short) => Look::NeedMore,
        Err(Stop::Bad(_)) => Look::Not,
    }
}

/// Whether this is no response. The response to a Produce request begins with a topic's name where a request has its
/// client's, and is in the first thousands of requests of a connection taken for a Produce or Fetch request.
fn asks(head: Head, c: &mut Cursor<'_>) -> Read<()> {
    let compact = api::flexible(head.key, head.version);
    match head.key {
        api::API_VERSIONS => return Ok(()),
        _ if !head.named => return Err(NOT),
        api::PRODUCE => {
            c.tags(compact)?;
            if head.version >= 3 && c.string(compact)? == Some(&[]) || !(-1..=1).contains(&c.i16()?) {
                return Err(NOT);
            }
            c.i32()?;
            if !(1..MAX_TOPICS).contains(&c.count(compact)?) {
                return Err(NOT);
            }
        }
        api::FETCH if head.version <= 14 => {
            c.tags(compact)?;
            // Replicas do not fetch on behalf of tenants.
            if c.i32()? >= 0 {
                return Err(NOT);
            }
        }
        _ => {}
    }
    Ok(())
}

/// A request of what is known to be a client.
pub(super) fn resumes(bytes: &[u8]) -> bool {
    frame(&mut Cursor::new(bytes)).is_ok()
}

const NOT: Stop = Stop::Bad(DecodeError::NoRequest);

/// What the header of a request says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    key: i16,
    version: i16,
    /// Its client names itself.
    named: bool,
}

fn frame(c: &mut Cursor<'_>) -> Read<Head> {
    let len = match c.rest() {
        [] => return Err(Stop::Short),
        [0..=0x0f, ..] => c.i32()?,
        _ => return Err(NOT),
    };
    let len = usize::try_from(len).ok().filter(|n| (10..=MAX_FRAME).contains(n)).ok_or(NOT)?;
    header(len, c)
}

/// The header of a request whose frame has so many bytes. Each field is looked at as soon as it is there, so that other
/// protocols are ruled out early.
pub(super) fn header(len: usize, c: &mut Cursor<'_>) -> Read<Head> {
    let key = c.i16()?;
    let known = api::known(key).ok_or(NOT)?;
    let version = c.i16()?;
    // Clients may ask for the newest version they know, and be told of an older one.
    if version < 0 || version > known.newest.saturating_add(4) || c.i32()? < 0 {
        return Err(NOT);
    }
    let client = c.i16()?;
    let name = match client {
        -1 => 0,
        n => usize::try_from(n).ok().filter(|n| *n <= MAX_CLIENT && 10 + n <= len).ok_or(NOT)?,
    };
    let rest = c.rest();
    let some = rest.get(..name.min(rest.len())).unwrap_or_default();
    if some.iter().any(|b| !(0x20..0x7f).contains(b)) {
        return Err(NOT);
    }
    c.take(name)?;
    let left = len.checked_sub(10 + name).ok_or(NOT)?;
    if key == api::API_VERSIONS {
        // What asks for versions in the first layouts says nothing else; librdkafka before 1.4 adds an empty list, which
        // brokers pass over.
        if version < 3 && left > MAX_PADDING || version >= 3 && left == 0 {
            return Err(NOT);
        }
        if version < 3 {
            let rest = c.rest();
            let padding = rest.get(..left.min(rest.len())).unwrap_or_default();
            if padding.iter().any(|b| *b != 0) {
                return Err(NOT);
            }
            c.take(left)?;
        }
    }
    Ok(Head { key, version, named: name > 0 })
}

/// What Kafka is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Kafka
    }
    fn starts(&self, bytes: &[u8]) -> Look {
        request(bytes)
    }
    /// In the middle nobody waits for more: too much begins like the length of a frame.
    fn joins(&self, bytes: &[u8]) -> Look {
        match request(bytes) {
            Look::NeedMore => Look::Not,
            look => look,
        }
    }
    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream, &shared.kafka)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSIONS: &[u8] = b"\0\0\0\x12\0\x12\0\0\0\0\0\x01\0\x08rdkafka1";

    #[test]
    fn a_request_is_known_by_its_header() {
        assert_eq!(request(VERSIONS), Look::Is(Side::Client));
        for cut in 0..VERSIONS.len() {
            assert_eq!(request(&VERSIONS[..cut]), Look::NeedMore, "{cut}");
        }
        for other in [
            &b"\0\0\0\x12\0\x03\0\0user\0app\0\0"[..],
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"GET / HTTP/1.1\r\n\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"AMQP\0\0\x09\x01",
            b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04abcd",
            b"CONNECT {\"verbose\":false}\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
            b"\0\0\0\x12\0\x12\0\0\0\0\0\x01\0\x08rdkaf\0ka",
            b"\0\0\0\x13\0\x12\0\0\0\0\0\x01\0\x08rdkafka1x",
            // Responses of a broker, which could be Produce requests of versions 1 and 3.
            b"\0\0\0\x1f\0\0\0\x03\0\0\0\x01\0\x04jobs\0\0\0\x01\0\0\0\0\0\0\0\0\0\0",
            b"\0\0\0\x0f\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x0a",
        ] {
            assert_eq!(request(other), Look::Not, "{other:?}");
        }
        assert_eq!(request(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff"), Look::Is(Side::Client));
        // As librdkafka 0.11 to 1.3 asks.
        let padded = b"\0\0\0\x16\0\x12\0\0\0\0\0\x01\0\x08rdkafka1\0\0\0\0";
        assert_eq!(request(padded), Look::Is(Side::Client));
        for cut in 0..padded.len() {
            assert_eq!(request(&padded[..cut]), Look::NeedMore, "{cut}");
        }
        assert_eq!(request(b"\0\0\0\x16\0\x12\0\0\0\0\0\x01\0\x08rdkafka1\0\0\0\x01"), Look::Not);
        assert!(resumes(b"\0\0\0\x0a\0\x03\0\0\0\0\0\x01\xff\xff"));
    }
}
