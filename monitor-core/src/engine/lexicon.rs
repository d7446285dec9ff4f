//! What a decoder may ask while it reads: whom a value names, what a name is called here.

use smallvec::SmallVec;

use super::facts::{ConnFacts, is_http};
use super::parts::Parts;
use crate::decode::{DecodeError, Lexicon};
use crate::model::mcp::Sender;
use crate::model::token::Token;
use crate::model::{Claim, MarkerPlace, Protocol, Side, Slot, Sym, TenantId};

/// Answers for one connection, of which it changes nothing.
pub(super) struct ConnLexicon<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) facts: &'a ConnFacts,
    /// What the connection speaks by now: what was told of it is not yet applied.
    pub(super) protocol: Protocol,
}

impl Lexicon for ConnLexicon<'_> {
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim {
        let policy = self.parts.map.policy(&self.parts.ctx, self.facts.service);
        policy.claim(&self.parts.ctx.tenants, self.parts.ctx.settings.salt, slot, name, value)
    }

    fn setting_binds(&self, name: &str) -> bool {
        self.parts.map.policy(&self.parts.ctx, self.facts.service).setting_binds(name)
    }

    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim {
        let policy = self.parts.map.policy(&self.parts.ctx, self.facts.service);
        policy.marker(&self.parts.ctx.tenants, self.parts.ctx.settings.salt, place, name, value)
    }

    fn wants_values(&self, from: Side) -> bool {
        let by_value = self.parts.ctx.settings.bases.value;
        self.parts.attributor.wants_values(self.facts, from, by_value)
    }

    fn wants_cached(&self) -> bool {
        let attributor = &self.parts.attributor;
        is_http(self.protocol) && (attributor.is_served(self.facts) || attributor.is_fetched(self.facts))
    }

    fn intern(&mut self, name: &str) -> Sym {
        self.parts.ctx.names.hear(name, self.protocol)
    }

    fn word(&mut self, word: &'static str) -> Sym {
        self.parts.ctx.names.intern(word)
    }

    fn token(&mut self, scheme: &str, token: &str) -> Option<Token> {
        let before = self.parts.tokens.n_unchecked();
        let known = self.parts.token(self.facts.service, scheme, token);
        if self.parts.tokens.n_unchecked() > before {
            *self.parts.stats.decode_errors.entry((self.protocol, DecodeError::TokenUnchecked)).or_default() += 1;
        }
        known
    }

    fn canaries(&mut self, text: &str) -> SmallVec<[TenantId; 1]> {
        self.parts.ctx.canaries.within(text)
    }

    fn sender(&self) -> Sender {
        Sender { workload: self.facts.client_workload, by: self.facts.endpoint }
    }

    fn speaks(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }
}
