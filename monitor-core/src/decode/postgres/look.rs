//! Do these bytes belong to a connection of PostgreSQL, and who says them?

use super::resync;
use super::startup::{Look as Start, Opening, look};
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// What PostgreSQL is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Postgres
    }
    fn starts(&self, bytes: &[u8]) -> Look {
        match look(bytes) {
            Start::Is(Opening::Tls, _) => Look::Other("tls"),
            Start::Is(..) => Look::Is(Side::Client),
            Start::NeedMore => Look::NeedMore,
            Start::Not => Look::Not,
        }
    }
    /// The server speaks second: what it says first is either one byte about encryption or typed messages.
    fn answers(&self, bytes: &[u8]) -> Look {
        match bytes {
            [b'S' | b'N' | b'G'] => Look::NeedMore,
            _ if greets(bytes) => Look::Is(Side::Server),
            _ => Look::Not,
        }
    }
    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        if resync::requests(bytes) { Some(Side::Client) } else { resync::replies(bytes).then_some(Side::Server) }
    }
    fn begins(&self, bytes: &[u8]) -> bool {
        matches!(look(bytes), Start::Is(Opening::Start(_) | Opening::Encrypt, _))
    }
    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream, &shared.postgres)
    }
}

/// An authentication request, the first typed message of every server.
fn greets(bytes: &[u8]) -> bool {
    let bytes = match bytes {
        [b'N', rest @ ..] if rest.first() == Some(&b'R') => rest,
        _ => bytes,
    };
    matches!(bytes, [b'R', 0, 0, 0, 8..=64, 0, 0, 0, 0..=12, ..])
}
