//! Which protocol is this, and which side is the server? From bytes alone; a port is no evidence.

use super::body::BodyReader;
use super::readers::Readers;
use super::{Decoder, amqp, grpc, http, kafka, mcp, memcached, mqtt, mysql, nats, postgres, redis};
use crate::model::claim::Salt;
use crate::model::{HeaderPolicy, Protocol, Side};

/// Every protocol that is decoded here: to add one, add its line. Where bytes could begin several, the first one counts.
const KNOWN: &[&dyn Recognise] = &[
    &nats::look::Known,
    &http::look::Known,
    &http::v2::look::Known,
    &redis::look::Known,
    &amqp::look::Known,
    &mqtt::look::Known,
    &mysql::look::Known,
    &memcached::look::Known,
    &postgres::look::Known,
    &kafka::look::Known,
];

/// What some bytes begin with, as one protocol sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// This side says it.
    Is(Side),
    /// It is something near it that nobody here can read, and what.
    Other(&'static str),
    /// It is not.
    Not,
    /// So far it may be.
    NeedMore,
}

/// What a protocol is recognised by, and what reads it. Each answer must be convincing: see [`infer`].
pub(crate) trait Recognise: Sync {
    /// Which protocol.
    fn protocol(&self) -> Protocol;

    /// Everything that one side has said since the connection's start.
    fn starts(&self, bytes: &[u8]) -> Look;

    /// The same, where it may only be an answer: asked when nobody's start fits.
    fn answers(&self, bytes: &[u8]) -> Look {
        let _ = bytes;
        Look::Not
    }

    /// Bytes from the middle of a connection, that may go on behind their end.
    fn joins(&self, bytes: &[u8]) -> Look {
        let _ = bytes;
        Look::Not
    }

    /// Bytes from the middle of a connection, up to the end of a segment: who says them, if they are whole messages.
    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        let _ = bytes;
        None
    }

    /// The client says this at the connection's start, and at no other time.
    fn begins(&self, bytes: &[u8]) -> bool {
        let _ = bytes;
        false
    }

    /// These are whole messages that both sides may say; `ends_segment`: they end where their sender ended a segment.
    fn either(&self, bytes: &[u8], ends_segment: bool) -> bool {
        let _ = (bytes, ends_segment);
        false
    }

    /// `answer` confirms, by number, what the other side has just `asked`; both are whole messages.
    fn confirms(&self, asked: &[u8], answer: &[u8]) -> bool {
        let _ = (asked, answer);
        false
    }

    /// Who says these bytes, given that they are of this protocol.
    fn side(&self, bytes: &[u8]) -> Option<Side> {
        let _ = bytes;
        None
    }

    /// Reads one connection; `mid_stream`: its start was not seen.
    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder>;
}

/// Bytes of one direction after which the first look at it ends.
pub const MAX_BYTES: usize = 4 << 10;

/// What some bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// A protocol that is decoded here.
    Is {
        /// Which.
        protocol: Protocol,
        /// Who sent these bytes.
        from: Side,
    },
    /// Readable by nobody here, and why.
    Opaque(&'static str),
    /// Not to be told from these bytes.
    NeedMore,
}

/// Looks at bytes of one direction.
///
/// For a connection seen from its start (`mid_stream` false), `bytes` are everything that this direction has said so
/// far. For an older one they are one segment, or several that follow each other without a hole; `ends_segment` says
/// whether they end where their sender ended a segment. The answer is convincing or [`Guess::NeedMore`]: the caller
/// gives up after [`MAX_BYTES`], and looks again where a request may begin.
pub fn infer(bytes: &[u8], ends_segment: bool, mid_stream: bool) -> Guess {
    if bytes.is_empty() {
        return Guess::NeedMore;
    }
    // A record header: type, version 3.x, length.
    if matches!(bytes, [0x14..=0x17, 3, 0..=4, 0..=0x48, _, ..]) {
        return Guess::Opaque("tls");
    }
    if !mid_stream {
        let starts = first(bytes, |known| known.starts(bytes));
        return starts
            .or_else(|| first(bytes, |known| known.answers(bytes)))
            .unwrap_or_else(|| if known_other(bytes) { Guess::Opaque("unknown") } else { give_up_or_wait(bytes) });
    }
    if let Some(guess) = first(bytes, |known| known.joins(bytes)) {
        return guess;
    }
    let whole = |known: &&dyn Recognise| {
        let from = known.whole(bytes)?;
        Some(Guess::Is { protocol: known.protocol(), from })
    };
    KNOWN.iter().filter(|_| ends_segment).find_map(whole).unwrap_or_else(|| give_up_or_wait(bytes))
}

/// What the first protocol says that does not say no.
fn first(bytes: &[u8], look: impl Fn(&dyn Recognise) -> Look) -> Option<Guess> {
    KNOWN.iter().find_map(|known| match look(*known) {
        Look::Is(from) => Some(Guess::Is { protocol: known.protocol(), from }),
        Look::Other(why) => Some(Guess::Opaque(why)),
        Look::NeedMore => Some(give_up_or_wait(bytes)),
        Look::Not => None,
    })
}

fn give_up_or_wait(bytes: &[u8]) -> Guess {
    if bytes.len() >= MAX_BYTES { Guess::Opaque("unknown") } else { Guess::NeedMore }
}

/// Openings of protocols that are none of ours.
fn known_other(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SSH-")
}

/// The protocol whose client begins a connection so, and says this at no other time: whoever sees it has seen the
/// beginning, even where the handshake was not seen.
pub fn begins(bytes: &[u8]) -> Option<Protocol> {
    KNOWN.iter().find(|known| known.begins(bytes)).map(|known| known.protocol())
}

/// The protocol of whole messages that its client and its server may both say. As convincing as [`infer`], which tells
/// who says them, too.
pub fn either(bytes: &[u8], ends_segment: bool) -> Option<Protocol> {
    KNOWN.iter().find(|known| known.either(bytes, ends_segment)).map(|known| known.protocol())
}

/// The protocol in which `answer`, said by one side, confirms what the other side has just said. Neither would be enough
/// alone; that both are whole messages and name the same number is.
pub fn answers(asked: &[u8], answer: &[u8]) -> Option<Protocol> {
    KNOWN.iter().find(|known| known.confirms(asked, answer)).map(|known| known.protocol())
}

/// Who says these bytes of a connection that is known to be of `protocol`, if they tell.
pub fn side(protocol: Protocol, bytes: &[u8]) -> Option<Side> {
    known_as(protocol)?.side(bytes)
}

fn known_as(protocol: Protocol) -> Option<&'static dyn Recognise> {
    KNOWN.iter().copied().find(|known| known.protocol() == protocol)
}

/// What the decoders of one engine share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// For PostgreSQL.
    pub postgres: postgres::Shared,
    /// For HTTP.
    pub http: http::Shared,
    /// For Kafka.
    pub kafka: kafka::Shared,
    /// For MCP.
    pub mcp: mcp::Shared,
    /// For Redis.
    pub redis: redis::Shared,
    /// For MySQL.
    pub mysql: mysql::Shared,
    /// For memcached.
    pub memcached: memcached::Shared,
}

impl Shared {
    /// Empty; `salt` keys every hash, `headers` are those that carry identity.
    pub fn new(salt: Salt, headers: &HeaderPolicy) -> Self {
        Self {
            postgres: postgres::Shared::new(salt),
            http: http::Shared::new(headers.clone()),
            kafka: kafka::Shared::default(),
            mcp: mcp::Shared::default(),
            redis: redis::Shared::default(),
            mysql: mysql::Shared::new(salt),
            memcached: memcached::Shared::default(),
        }
    }

    /// The protocols on top of HTTP, for one connection.
    pub(crate) fn on_http(&self, salt: Salt) -> Box<dyn BodyReader> {
        Box::new(Readers::new([Box::new(mcp::Reader::new(salt, &self.mcp)), Box::new(grpc::Reader::new(salt))]))
    }

    /// Other headers carry identity, on connections that are opened from now on.
    pub fn set_headers(&mut self, headers: &HeaderPolicy) {
        self.http.set_headers(headers.clone());
    }
}

/// The decoder for a protocol; `None` if there is none. `mid_stream`: the connection's start was not seen.
pub fn decoder(protocol: Protocol, salt: Salt, mid_stream: bool, shared: &Shared) -> Option<Box<dyn Decoder>> {
    Some(known_as(protocol)?.decoder(salt, mid_stream, shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(from: Side) -> Guess {
        Guess::Is { protocol: Protocol::Postgres, from }
    }

    const START: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0app\0\0";
    const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";
    const REPLY: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05T";

    #[test]
    fn a_fresh_connection_is_known_by_its_first_packet() {
        assert_eq!(infer(START, true, false), postgres(Side::Client));
        assert_eq!(infer(&START[..5], true, false), Guess::NeedMore);
        assert_eq!(infer(b"\0\0\0\x08\x04\xd2\x16\x2f", true, false), postgres(Side::Client));
        assert_eq!(infer(b"R\0\0\0\x08\0\0\0\0", true, false), postgres(Side::Server));
        assert_eq!(infer(b"N", true, false), Guess::NeedMore);
        assert_eq!(infer(b"\x16\x03\x01\x02\0\x01", true, false), Guess::Opaque("tls"));
        let http = Guess::Is { protocol: Protocol::Http, from: Side::Client };
        assert_eq!(infer(b"GET / HTTP/1.1\r\n\r\n", true, false), http);
        let redis = Guess::Is { protocol: Protocol::Redis, from: Side::Client };
        assert_eq!(infer(b"*1\r\n$4\r\nPING\r\n", true, false), redis);
        assert_eq!(infer(b"SSH-2.0-x", true, false), Guess::Opaque("unknown"));
    }

    #[test]
    fn an_older_connection_is_known_by_whole_messages() {
        assert_eq!(infer(QUERY, true, true), postgres(Side::Client));
        assert_eq!(infer(REPLY, true, true), postgres(Side::Server));
        assert_eq!(infer(QUERY, false, true), Guess::NeedMore, "may go on");
        assert_eq!(infer(&QUERY[1..], true, true), Guess::NeedMore);
        assert_eq!(infer(b"S\0\0\0\x04", true, true), Guess::NeedMore, "too little to be sure");
        assert_eq!(infer(b"Q\0\0\0\x0dselect \x01\0", true, true), Guess::NeedMore);
        assert_eq!(infer(&[b'x'; MAX_BYTES], true, true), Guess::Opaque("unknown"));
        assert_eq!(infer(b"\x17\x03\x03\0\x40aaaa", true, true), Guess::Opaque("tls"));
    }
}
