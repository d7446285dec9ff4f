//! The beginning of a connection: CONNECT, accepted by CONNACK.

use super::packet::Version;
use super::read::{Property, properties, property_bytes};
use crate::decode::wire::Reader;
use crate::decode::{SessionStart, Sink};
use crate::model::claim::Salt;
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, Operation, Slot, Strength};

/// What a client said of itself (MQTT 5 §3.1, MQTT 3.1.1 §3.1).
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) version: Version,
    /// What is not settled at the connection's end is delivered again to the same client.
    pub(super) keeps: bool,
    client: Claim,
    user: Option<(Claim, Fingerprint)>,
    /// The server has something to check the user's name by.
    proves: bool,
}

/// Reads a CONNECT; `None`: malformed.
pub(super) fn connect(rest: &[u8], salt: Salt, sink: &mut dyn Sink) -> Option<Opening> {
    let mut b = Reader::new(rest);
    let (name, level, flags) = (b.u16_bytes()?, b.u8()?, b.u8()?);
    b.u16()?;
    let version = match (name, level) {
        (b"MQTT", 5) => Version::Five,
        // A bridge marks itself by the highest bit (Mosquitto).
        (b"MQTT" | b"MQIsdp", level) if matches!(level & 0x7f, 3 | 4) => Version::Three,
        _ => return None,
    };
    let mut keeps = flags & 2 == 0;
    if version == Version::Five {
        keeps = false;
        properties(property_bytes(&mut b)?, &mut |p| {
            if let Property::SessionExpiry(seconds) = p {
                keeps = seconds > 0;
            }
        })?;
    }
    let client = b.u16_bytes()?;
    let client = text(client).map_or(Claim::Neutral, |id| sink.marker(MarkerPlace::KeyPrefix, "", id));
    if flags & 4 != 0 {
        if version == Version::Five {
            property_bytes(&mut b)?;
        }
        b.u16_bytes()?;
        b.u16_bytes()?;
    }
    let user = if flags & 0x80 != 0 { Some(b.u16_bytes()?) } else { None };
    let password = if flags & 0x40 != 0 { Some(b.u16_bytes()?) } else { None };
    let user = user.map(|name| {
        let mut claim = text(name).map_or(Claim::Unreadable, |name| sink.claim(Slot::User, "", name));
        if claim == Claim::Neutral
            && let Some(tenant) = secret(password.unwrap_or_default(), sink)
        {
            claim = tenant;
        }
        (claim, salt.fingerprint(name))
    });
    Some(Opening { version, keeps, client, user, proves: password.is_some() })
}

/// Whom a password or authentication data names that is a token.
pub(super) fn secret(password: &[u8], sink: &mut dyn Sink) -> Option<Claim> {
    let token = text(password)?;
    if !token.starts_with("eyJ") || token.bytes().filter(|b| *b == b'.').count() != 2 {
        return None;
    }
    sink.token("Bearer", token).filter(|t| t.readable).map(|t| t.tenant)
}

impl Opening {
    /// The server has accepted it.
    pub(super) fn accepted(&self, salt: Salt, at: Nanos, sink: &mut dyn Sink) {
        let nobody = (Claim::Neutral, salt.fingerprint(b""));
        let (user, print) = self.user.unwrap_or(nobody);
        sink.started(SessionStart { at, user: print, database: nobody.1 });
        // Without a password there is nothing to check the name by: many servers take any.
        let strength = if self.proves { Strength::V3 } else { Strength::V1 };
        bind("user", Slot::User, user, strength, at, sink);
        let name = sink.word("client_id");
        bind("client_id", Slot::Setting(name), self.client, Strength::V1, at, sink);
    }
}

fn bind(target: &'static str, slot: Slot, claim: Claim, strength: Strength, at: Nanos, sink: &mut dyn Sink) {
    if claim == Claim::Neutral {
        return;
    }
    let (verb, target) = (sink.word("CONNECT"), sink.word(target));
    sink.done(&Operation::startup(at, verb, target, slot, claim, strength));
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
