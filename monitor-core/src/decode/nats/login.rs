//! Logins: what CONNECT presents, and whether the server took it.

use std::borrow::Cow;

use serde::Deserialize;

use super::Nats;
use crate::decode::{DecodeError, SessionStart, Sink};
use crate::model::token::Verified;
use crate::model::{Claim, Effect, Fingerprint, Nanos, OpKind, Operation, Outcome, Scope, Slot, Strength};

/// A login that the server has not answered.
#[derive(Debug)]
pub(super) struct Login {
    request: u64,
    begun: Nanos,
    user: Fingerprint,
    claim: Claim,
    credential: Option<Fingerprint>,
    presents: bool,
}

#[derive(Deserialize, Default)]
struct ConnectText<'a> {
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    nkey: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    jwt: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    auth_token: Option<Cow<'a, str>>,
    #[serde(default)]
    verbose: bool,
}

impl Nats {
    /// The client logs in.
    pub(super) fn connect(&mut self, json: &[u8], at: Nanos, sink: &mut dyn Sink) {
        let text = serde_json::from_slice::<ConnectText<'_>>(json);
        if text.is_err() {
            sink.decode_error(DecodeError::Connect);
        }
        let text = text.unwrap_or_default();
        self.verbose = text.verbose;
        let token = text.jwt.as_deref().and_then(|jwt| sink.token("Bearer", jwt));
        // The server checks all of these. Whose account it is says a signed claim only if it can be checked here, too.
        let name = text.user.as_deref().or(text.nkey.as_deref()).or(text.auth_token.as_deref());
        let proved = token.as_ref().filter(|t| t.verified == Verified::Yes).map(|t| t.tenant);
        let claim = match (proved, name) {
            (Some(claim), _) => claim,
            (None, Some(name)) => sink.claim(Slot::User, "", name),
            (None, None) => Claim::Neutral,
        };
        let who = name.or(text.jwt.as_deref());
        self.latest += 1;
        // Credentials are not part of what is compared.
        sink.begun(self.latest, at, None);
        let login = Login {
            request: self.latest,
            begun: at,
            user: self.salt.fingerprint(who.unwrap_or_default().as_bytes()),
            claim,
            credential: token.map(|t| t.print),
            presents: who.is_some(),
        };
        if let Some(before) = self.login.replace(login) {
            self.logged_in(before, Outcome::Unknown, at, sink);
        }
    }

    /// The server has answered that, or nobody will know.
    pub(super) fn logged_in(&mut self, login: Login, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        if outcome == Outcome::Ok {
            let database = self.salt.fingerprint(b"");
            sink.started(SessionStart { at, user: login.user, database });
        }
        let effect =
            Effect::Bind { slot: Slot::User, claim: login.claim, scope: Scope::Startup, strength: Strength::V3 };
        let op = Operation {
            kind: if login.presents { OpKind::Bind } else { OpKind::Control },
            effect: if login.presents { effect } else { Effect::None },
            credential: login.credential,
            ..Operation::control(login.request, login.begun, at, sink.word("CONNECT"), outcome)
        };
        sink.done(&op);
        sink.answered(login.request, at, None);
        self.rest(outcome, at, sink);
    }
}
