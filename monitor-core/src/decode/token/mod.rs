//! Tokens: what may be known of one that was presented. The token itself stops here.
//!
//! A JSON Web Token (RFC 7519) is read, and verified against the configured keys; nothing is ever fetched. Anything
//! else is opaque: it has a fingerprint, and no more is known of it. Time is the events'.

mod cache;
mod claims;
pub mod fuzz;
mod keys;

pub use keys::KeyProblem;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use crate::model::claim::Salt;
use crate::model::token::{Token, TokenPolicy, Verified};
use crate::model::{Claim, Fingerprint, Nanos};
use cache::Cache;
use claims::{Facts, Named, audience};
use keys::{Keys, Signature};

/// Longest token that is read, in bytes; what is longer is opaque. Servers refuse headers of this size.
pub const MAX_TOKEN: usize = 16 << 10;
/// How far clocks may be apart.
const LEEWAY: Nanos = Nanos::secs(60);
/// Most tokens looked at for the first time in one second of the events' time: who sends a new one with every request
/// must not keep the engine busy with signatures.
const MAX_FRESH: u32 = 1000;
/// Schemes of `Authorization` (RFC 9110 §11.4, RFC 6750, RFC 9449) whose credentials are tokens. None: a token from
/// elsewhere.
const SCHEMES: [&str; 5] = ["", "bearer", "dpop", "jwt", "token"];

/// Whether a claim of this name says which application a token was given to, or for whom it is meant: such a claim is
/// never taken for the tenant's.
pub fn names_no_tenant(claim: &str) -> bool {
    let last = claim.rsplit('/').next().unwrap_or(claim);
    claims::NEVER_TENANT.contains(&last)
}

/// What is kept of a token.
#[derive(Debug)]
enum Known {
    Opaque,
    Readable { signature: Signature, facts: Box<Facts> },
}

/// Reads and verifies tokens.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    tenant_claims: Vec<String>,
    /// Fingerprints of the audiences that a service accepts, by its name.
    audiences: FxHashMap<String, Vec<Fingerprint>>,
    salt: Salt,
    cache: Cache<Known>,
    /// The second that is counted, and tokens looked at for the first time in it.
    fresh: (u64, u32),
    n_unchecked: u64,
}

impl Verifier {
    /// A verifier for a policy, with all keys that can be used, and what is wrong with the others.
    pub fn new(policy: &TokenPolicy, salt: Salt) -> (Self, Vec<KeyProblem>) {
        let (keys, problems) = Keys::read(&policy.keys);
        let mut audiences: FxHashMap<String, Vec<Fingerprint>> = FxHashMap::default();
        for (service, accepted) in &policy.audiences {
            audiences.entry(service.clone()).or_default().extend(accepted.iter().map(|a| audience(salt, a)));
        }
        let this = Self {
            keys,
            tenant_claims: policy.tenant_claims.clone(),
            audiences,
            salt,
            cache: Cache::default(),
            fresh: (0, 0),
            n_unchecked: 0,
        };
        (this, problems)
    }

    /// What may be known of `token`, presented at `now` to `service` in a header of this `scheme` (empty: not in such a
    /// header). `tenant` tells whom a claim's value names. `None`: this is no token but another credential.
    pub fn inspect(
        &mut self,
        scheme: &str,
        token: &str,
        now: Nanos,
        service: Option<&str>,
        tenant: &mut dyn FnMut(&str) -> Claim,
    ) -> Option<Token> {
        let token = token.trim();
        if token.is_empty() || !SCHEMES.iter().any(|s| scheme.eq_ignore_ascii_case(s)) {
            return None;
        }
        let print = self.salt.fingerprint(token.as_bytes());
        let opaque = Token {
            print,
            readable: false,
            verified: Verified::NoKey,
            tenant: Claim::Neutral,
            audience: None,
            has_audience: false,
            lifetime: None,
            has_scope: false,
        };
        if !looks_like_jwt(token) {
            return Some(opaque);
        }
        if !self.cache.holds(print) && !self.take_look(now) {
            self.n_unchecked += 1;
            return Some(opaque);
        }
        let (keys, names, salt) = (&self.keys, &self.tenant_claims, self.salt);
        let known = self.cache.get(print, now, || read(token, keys, names, salt).unwrap_or(Known::Opaque));
        let Known::Readable { signature, facts } = known else { return Some(opaque) };
        let accepted = service.and_then(|s| self.audiences.get(s));
        Some(Token {
            readable: true,
            verified: match signature {
                Signature::Bad => Verified::Failed,
                _ if !facts.valid_at(now, LEEWAY) => Verified::Failed,
                Signature::Good => Verified::Yes,
                Signature::NoKey => Verified::NoKey,
            },
            tenant: match &facts.tenant {
                Named::One(value) => tenant(value),
                Named::Nobody => Claim::Neutral,
                Named::Unreadable => Claim::Unreadable,
            },
            audience: accepted.map(|list| facts.audiences.iter().any(|a| list.contains(a))),
            has_audience: facts.has_audience,
            lifetime: facts.lifetime(now),
            has_scope: facts.has_scope,
            ..opaque
        })
    }

    /// Tokens that were taken for opaque because too many new ones came at once.
    pub fn n_unchecked(&self) -> u64 {
        self.n_unchecked
    }

    /// Tokens remembered.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.cache.len() == 0
    }

    /// Most tokens remembered.
    pub fn limit() -> usize {
        Cache::<Known>::limit()
    }

    /// Counts one more token to be verified this second. False: too many were.
    fn take_look(&mut self, now: Nanos) -> bool {
        let second = now.0 / 1_000_000_000;
        if self.fresh.0 != second {
            self.fresh = (second, 0);
        }
        self.fresh.1 = self.fresh.1.saturating_add(1);
        self.fresh.1 <= MAX_FRESH
    }
}

/// Whether it is worth reading: of a size that is sent, and three parts of base64url. A JWE has five and cannot be read.
fn looks_like_jwt(token: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    token.len() <= MAX_TOKEN && token.bytes().filter(|b| *b == b'.').count() == 2 && token.bytes().all(legal)
}

/// Reads and verifies a token; `None`: it is no JWT.
fn read(token: &str, keys: &Keys, tenant_claims: &[String], salt: Salt) -> Option<Known> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header = object(header)?;
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    let algorithm = text("alg")?;
    let facts = Box::new(Facts::of(&object(payload)?, tenant_claims, salt));
    let signature = if header.contains_key("crit") {
        // Extensions that must be understood (RFC 7515 §4.1.11), and are not.
        Signature::Bad
    } else {
        keys.check(algorithm, text("kid"), message, signature)
    };
    Some(Known::Readable { signature, facts })
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match serde_json::from_slice(&base64url(part)?) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

/// Bytes of base64url without padding (RFC 7515 §2).
fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;
