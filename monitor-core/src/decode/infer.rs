//! Which protocol is this, and which side is the server? From bytes alone; a port is no evidence.

use super::Decoder;
use super::amqp;
use super::amqp::look::{self as amqp_look, Look as AmqpLook};
use super::http;
use super::http::look::{self as http_look, Look as HttpLook};
use super::kafka;
use super::kafka::look::{self as kafka_look, Look as KafkaLook};
use super::mcp;
use super::mqtt;
use super::mqtt::look::{self as mqtt_look, Look as MqttLook};
use super::nats;
use super::nats::look as nats_look;
use super::postgres::startup::{Look, Opening, look};
use super::postgres::{self, resync};
use super::redis;
use super::redis::look::{self as redis_look, Look as RedisLook};
use crate::model::claim::Salt;
use crate::model::{HeaderPolicy, Protocol, Side};

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
    if bytes.starts_with(b"PRI * HTTP/2.0") {
        return Guess::Opaque("http2");
    }
    if !mid_stream && let Some(from) = nats_look::start(bytes) {
        return Guess::Is { protocol: Protocol::Nats, from };
    }
    if !mid_stream && nats_look::may_start(bytes) {
        return give_up_or_wait(bytes);
    }
    for (looks, from) in [(http_look::request(bytes), Side::Client), (http_look::response(bytes), Side::Server)] {
        match looks {
            HttpLook::Is => return Guess::Is { protocol: Protocol::Http, from },
            HttpLook::NeedMore => return give_up_or_wait(bytes),
            HttpLook::Not => {}
        }
    }
    match redis_look::request(bytes) {
        RedisLook::Is => return Guess::Is { protocol: Protocol::Redis, from: Side::Client },
        RedisLook::NeedMore => return give_up_or_wait(bytes),
        RedisLook::Not => {}
    }
    if !mid_stream {
        match amqp_look::start(bytes) {
            AmqpLook::Is(from) => return Guess::Is { protocol: Protocol::Amqp, from },
            AmqpLook::Other => return Guess::Opaque("amqp_version"),
            AmqpLook::NeedMore => return give_up_or_wait(bytes),
            AmqpLook::Not => {}
        }
        match mqtt_look::connect(bytes) {
            MqttLook::Is => return Guess::Is { protocol: Protocol::Mqtt, from: Side::Client },
            MqttLook::NeedMore => return give_up_or_wait(bytes),
            MqttLook::Not => {}
        }
        match look(bytes) {
            Look::Is(Opening::Tls, _) => return Guess::Opaque("tls"),
            Look::Is(..) => return postgres(Side::Client),
            Look::NeedMore => return give_up_or_wait(bytes),
            Look::Not => {}
        }
        match kafka_look::request(bytes) {
            KafkaLook::Is => return Guess::Is { protocol: Protocol::Kafka, from: Side::Client },
            KafkaLook::NeedMore => return give_up_or_wait(bytes),
            KafkaLook::Not => {}
        }
        // The server speaks second: what it says first is either one byte about encryption or typed messages.
        if matches!(bytes, [b'S' | b'N' | b'G']) {
            return Guess::NeedMore;
        }
        if greets(bytes) {
            return postgres(Side::Server);
        }
        return if known_other(bytes) { Guess::Opaque("unknown") } else { give_up_or_wait(bytes) };
    }
    if kafka_look::request(bytes) == KafkaLook::Is {
        return Guess::Is { protocol: Protocol::Kafka, from: Side::Client };
    }
    if ends_segment {
        if let Some(from) = amqp_look::frames(bytes) {
            return Guess::Is { protocol: Protocol::Amqp, from };
        }
        if let Some(from) = mqtt_look::packets(bytes) {
            return Guess::Is { protocol: Protocol::Mqtt, from };
        }
        if let Some(from) = nats_look::lines(bytes) {
            return Guess::Is { protocol: Protocol::Nats, from };
        }
        if redis_look::replies(bytes) {
            return Guess::Is { protocol: Protocol::Redis, from: Side::Server };
        }
        if resync::requests(bytes) {
            return postgres(Side::Client);
        }
        if resync::replies(bytes) {
            return postgres(Side::Server);
        }
    }
    give_up_or_wait(bytes)
}

fn postgres(from: Side) -> Guess {
    Guess::Is { protocol: Protocol::Postgres, from }
}

fn give_up_or_wait(bytes: &[u8]) -> Guess {
    if bytes.len() >= MAX_BYTES { Guess::Opaque("unknown") } else { Guess::NeedMore }
}

/// An authentication request, the first typed message of every server.
fn greets(bytes: &[u8]) -> bool {
    let bytes = match bytes {
        [b'N', rest @ ..] if rest.first() == Some(&b'R') => rest,
        _ => bytes,
    };
    matches!(bytes, [b'R', 0, 0, 0, 8..=64, 0, 0, 0, 0..=12, ..])
}

/// Openings of protocols that are none of ours.
fn known_other(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SSH-")
}

/// The protocol whose client begins a connection so, and says this at no other time: whoever sees it has seen the
/// beginning, even where the handshake was not seen.
pub fn begins(bytes: &[u8]) -> Option<Protocol> {
    if amqp_look::start(bytes) == AmqpLook::Is(Side::Client) {
        Some(Protocol::Amqp)
    } else if mqtt_look::connect(bytes) == MqttLook::Is {
        Some(Protocol::Mqtt)
    } else if matches!(look(bytes), Look::Is(Opening::Start(_) | Opening::Encrypt, _)) {
        Some(Protocol::Postgres)
    } else {
        None
    }
}

/// The protocol of whole messages that its client and its server may both say. As convincing as [`infer`], which tells
/// who says them, too.
pub fn either(bytes: &[u8], ends_segment: bool) -> Option<Protocol> {
    if redis_look::array(bytes) {
        Some(Protocol::Redis)
    } else if ends_segment && mqtt_look::either(bytes) {
        Some(Protocol::Mqtt)
    } else if ends_segment && amqp_look::either(bytes) {
        Some(Protocol::Amqp)
    } else {
        None
    }
}

/// The protocol in which `answer`, said by one side, confirms what the other side has just said. Neither would be enough
/// alone; that both are whole messages and name the same number is.
pub fn answers(asked: &[u8], answer: &[u8]) -> Option<Protocol> {
    mqtt_look::confirms(asked, answer).then_some(Protocol::Mqtt)
}

/// Who says these bytes of a connection that is known to be of `protocol`, if they tell.
pub fn side(protocol: Protocol, bytes: &[u8]) -> Option<Side> {
    match protocol {
        Protocol::Redis => redis_look::side(bytes),
        Protocol::Mqtt => mqtt_look::side(bytes),
        Protocol::Amqp => amqp_look::frames(bytes),
        _ => None,
    }
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
        }
    }

    /// Other headers carry identity, on connections that are opened from now on.
    pub fn set_headers(&mut self, headers: &HeaderPolicy) {
        self.http.set_headers(headers.clone());
    }
}

/// The decoder for a protocol; `None` if there is none. `mid_stream`: the connection's start was not seen.
pub fn decoder(protocol: Protocol, salt: Salt, mid_stream: bool, shared: &Shared) -> Option<Box<dyn Decoder>> {
    Some(match protocol {
        Protocol::Postgres => postgres::decoder(salt, mid_stream, &shared.postgres),
        Protocol::Http => {
            let mcp = Box::new(mcp::Reader::new(salt, &shared.mcp));
            http::decoder(salt, mid_stream, &shared.http, Some(mcp))
        }
        Protocol::Nats => nats::decoder(salt, mid_stream),
        Protocol::Redis => redis::decoder(salt, mid_stream, &shared.redis),
        Protocol::Mqtt => mqtt::decoder(salt, mid_stream),
        Protocol::Kafka => kafka::decoder(salt, mid_stream, &shared.kafka),
        Protocol::Amqp => amqp::decoder(salt, mid_stream),
        Protocol::Unknown | Protocol::Opaque | Protocol::Mcp => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
