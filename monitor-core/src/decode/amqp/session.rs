//! The beginning of a connection: who it is and which virtual host it opens.

use super::table::{Field, fields};
use crate::decode::{SessionStart, Sink};
use crate::model::claim::Salt;
use crate::model::{Claim, Fingerprint, Nanos, Operation, Slot, Strength};

/// What the client has said of itself and the server has not yet accepted.
#[derive(Debug, Default)]
pub(super) struct Opening {
    user: Option<(Claim, Fingerprint)>,
    vhost: Option<Claim>,
    by_token: bool,
}

impl Opening {
    /// The client authenticates. Its password is looked at only where it is a token, and not kept.
    pub(super) fn login(&mut self, mechanism: &[u8], response: &[u8], salt: Salt, sink: &mut dyn Sink) {
        let (user, password) = match mechanism {
            // authorization identity, user, password (RFC 4616)
            b"PLAIN" => {
                let mut parts = response.splitn(3, |b| *b == 0);
                parts.next();
                (parts.next(), parts.next())
            }
            b"AMQPLAIN" => {
                let (mut user, mut password) = (None, None);
                fields(response, &mut |name, field| match (name, field) {
                    (b"LOGIN", Field::Text(text)) => user = Some(text),
                    (b"PASSWORD", Field::Text(text)) => password = Some(text),
                    _ => {}
                });
                (user, password)
            }
            _ => (None, None),
        };
        let user = user.unwrap_or_default();
        let mut claim = std::str::from_utf8(user).map_or(Claim::Unreadable, |user| sink.claim(Slot::User, "", user));
        if let Some(tenant) = secret(password.unwrap_or_default(), sink) {
            self.by_token = true;
            if claim == Claim::Neutral {
                claim = tenant;
            }
        }
        self.user = Some((claim, salt.fingerprint(user)));
    }

    /// The client asks for a virtual host.
    pub(super) fn open(&mut self, vhost: &[u8], sink: &mut dyn Sink) {
        let claim = std::str::from_utf8(vhost).map_or(Claim::Unreadable, |name| sink.claim(Slot::Database, "", name));
        self.vhost = Some(claim);
    }

    /// The server has accepted both. Whether it was a token that it accepted.
    pub(super) fn accepted(self, vhost: &[u8], salt: Salt, at: Nanos, sink: &mut dyn Sink) -> bool {
        let (Some((user, print)), Some(database)) = (self.user, self.vhost) else { return false };
        sink.started(SessionStart { at, user: print, database: salt.fingerprint(vhost) });
        let login = ("connection.start-ok", "user", Slot::User, user, Strength::V3);
        let opening = ("connection.open", "vhost", Slot::Database, database, Strength::V2);
        for (verb, target, slot, claim, strength) in [login, opening] {
            if !matches!(claim, Claim::Neutral | Claim::Chosen(_)) {
                let (verb, target) = (sink.word(verb), sink.word(target));
                sink.done(&Operation::startup(at, verb, target, slot, claim, strength));
            }
        }
        self.by_token
    }
}

/// Whom a password names that is a token (RabbitMQ's OAuth 2 plug-in).
pub(super) fn secret(password: &[u8], sink: &mut dyn Sink) -> Option<Claim> {
    let token = std::str::from_utf8(password).ok()?;
    if !token.starts_with("eyJ") || token.bytes().filter(|b| *b == b'.').count() != 2 {
        return None;
    }
    sink.token("Bearer", token).filter(|t| t.readable).map(|t| t.tenant)
}
