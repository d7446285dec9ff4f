//! Who a client says it is, and when the broker has believed it (KIP-43, KIP-152; RFC 4616, RFC 5802, RFC 7628).

use crate::decode::Sink;
use crate::model::claim::Salt;
use crate::model::{Claim, Fingerprint, Slot};

/// Longest step of an authentication that is looked at.
pub(super) const MAX_STEP: usize = 64 << 10;

/// An authentication in progress.
#[derive(Debug, Default)]
pub(super) struct Login {
    mechanism: Mechanism,
    user: Option<(Claim, Fingerprint)>,
    /// The connection was authenticated before.
    pub(super) again: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mechanism {
    #[default]
    Unknown,
    Plain,
    Scram,
    OauthBearer,
}

impl Login {
    /// The client chooses a mechanism.
    pub(super) fn begin(&mut self, mechanism: &[u8]) {
        self.mechanism = match mechanism {
            b"PLAIN" => Mechanism::Plain,
            b"OAUTHBEARER" => Mechanism::OauthBearer,
            m if m.starts_with(b"SCRAM-") => Mechanism::Scram,
            _ => Mechanism::Unknown,
        };
        self.user = None;
    }

    /// The client's next step. Secrets in it are not kept. Whether the broker's consent to it ends the authentication.
    pub(super) fn step(&mut self, said: &[u8], salt: Salt, sink: &mut dyn Sink) -> bool {
        match self.mechanism {
            Mechanism::Plain => {
                // Authorization identity, user, password.
                self.user = said.split(|b| *b == 0).nth(1).map(|user| named(user, salt, sink));
                true
            }
            Mechanism::Scram => {
                // `n,a=AUTHZID,n=USER,r=NONCE`, later `c=BINDING,r=NONCE,p=PROOF`.
                let field = |name: &[u8]| said.split(|b| *b == b',').find_map(|f| f.strip_prefix(name));
                if field(b"p=").is_some() && field(b"c=").is_some() {
                    return true;
                }
                // The first part of a client's first message may be `n` alone, but not `n=`.
                self.user = field(b"n=").map(|user| named(&unescape(user), salt, sink));
                false
            }
            Mechanism::OauthBearer => {
                let text = std::str::from_utf8(said).unwrap_or_default();
                let auth = text.split('\x01').find_map(|f| f.strip_prefix("auth="));
                let token = auth.and_then(|a| a.split_once(' ')).and_then(|(s, t)| sink.token(s, t.trim()));
                self.user = token.filter(|t| t.readable).map(|t| (t.tenant, t.print));
                // After a refusal the client says one byte more, which ends nothing.
                said.len() > 1
            }
            Mechanism::Unknown => {
                self.user = None;
                true
            }
        }
    }

    /// The broker has consented: whom the connection is authenticated as.
    pub(super) fn accepted(&mut self) -> (Claim, Fingerprint) {
        self.user.take().unwrap_or((Claim::Unreadable, Fingerprint(0)))
    }
}

fn named(user: &[u8], salt: Salt, sink: &mut dyn Sink) -> (Claim, Fingerprint) {
    let claim = std::str::from_utf8(user).map_or(Claim::Unreadable, |user| sink.claim(Slot::User, "", user));
    (claim, salt.fingerprint(user))
}

/// SCRAM writes a comma in a name as `=2C` and an equals sign as `=3D`.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, n) = match rest {
            [b'=', b'2', b'C', ..] => (b',', 2),
            [b'=', b'3', b'D', ..] => (b'=', 2),
            _ => (*first, 0),
        };
        out.push(byte);
        rest = after.get(n..).unwrap_or_default();
    }
    out
}
