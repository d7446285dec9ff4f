//! Tokens in requests: what may be known of one, never the token.

use super::{Claim, Fingerprint, Nanos};

/// Whether a token's signature was checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verified {
    /// Against a configured key, and its times hold: what it claims is evidence.
    Yes,
    /// There is no key for it: what it claims is a claim.
    NoKey,
    /// The signature or the times are wrong: it proves nothing.
    Failed,
}

/// A presented token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Salted fingerprint: equal tokens, equal fingerprints.
    pub print: Fingerprint,
    /// It can be read (a JWT); else it is opaque and all below says nothing.
    pub readable: bool,
    /// Whether its signature was checked.
    pub verified: Verified,
    /// Whom its tenant claim names; [`Claim::Neutral`]: it has none.
    pub tenant: Claim,
    /// Whether it is meant for this service; `None`: not known what that would be.
    pub audience: Option<bool>,
    /// It names an audience at all.
    pub has_audience: bool,
    /// From issue to expiry, or at least so long; `None`: it never expires.
    pub lifetime: Option<Nanos>,
    /// It names scopes, tools or resources.
    pub has_scope: bool,
}

/// How tokens are read. Keys are in the form of the JWKS document (RFC 7517), parsed once by the verifier.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// JWKS documents or PEM public keys. Never shown: a key may be a secret shared with the issuer.
    pub keys: Vec<String>,
    /// Claims that name the tenant, first match wins. Never `azp` or `client_id`: those name the application.
    pub tenant_claims: Vec<String>,
    /// Audiences that services accept, by service name; a service without an entry is not checked.
    pub audiences: Vec<(String, Vec<String>)>,
    /// Longest lifetime of a token that is not called weak.
    pub max_lifetime: Nanos,
}

impl std::fmt::Debug for TokenPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenPolicy").field("n_keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Default for TokenPolicy {
    fn default() -> Self {
        let list = ["tid", "org_id", "tenant_id", "tenant", "https://*/tenant", "https://*/tenant_id"];
        Self {
            keys: Vec::new(),
            tenant_claims: list.map(str::to_owned).to_vec(),
            audiences: Vec::new(),
            max_lifetime: Nanos::secs(15 * 60),
        }
    }
}
