//! What a token says: the few facts of its claims that matter, without their values where a fingerprint will do.

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::model::claim::Salt;
use crate::model::{Fingerprint, Nanos};

/// Longest value that may name a tenant, in bytes.
const MAX_TENANT: usize = 256;
/// Most audiences of one token that are looked at.
const MAX_AUDIENCES: usize = 32;
/// Claims that name the application or the receiver, never the tenant, whatever the configuration says.
pub(super) const NEVER_TENANT: [&str; 3] = ["azp", "client_id", "aud"];
/// Claims that limit a token to something: OAuth scopes as different issuers write them, RFC 9396, capability tokens.
const SCOPES: [&str; 9] = [
    "scope",
    "scp",
    "scopes",
    "permissions",
    "authorization_details",
    "resource",
    "resources",
    "tools",
    "capabilities",
];

/// Whom a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Nobody,
    One(Box<str>),
    /// Somebody, but not one: several, or a value that is no name.
    Unreadable,
}

/// What matters of a token's claims.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) tenant: Named,
    /// Fingerprints of its audiences.
    pub(super) audiences: SmallVec<[Fingerprint; 2]>,
    pub(super) has_audience: bool,
    pub(super) has_scope: bool,
    pub(super) not_before: Option<Nanos>,
    pub(super) expires: Option<Nanos>,
    pub(super) issued: Option<Nanos>,
    /// One of these times is there and is no time.
    pub(super) bad_times: bool,
}

impl Facts {
    /// Reads the claims. `tenant_claims`: names of those that name the tenant, first match first.
    pub(super) fn of(claims: &Map<String, Value>, tenant_claims: &[String], salt: Salt) -> Self {
        let (not_before, expires, issued) = (date(claims, "nbf"), date(claims, "exp"), date(claims, "iat"));
        let bad_times = [not_before, expires, issued].contains(&Err(()));
        let audiences: SmallVec<[Fingerprint; 2]> = match claims.get("aud") {
            Some(Value::String(one)) => SmallVec::from_elem(audience(salt, one), 1),
            Some(Value::Array(all)) => {
                all.iter().filter_map(Value::as_str).take(MAX_AUDIENCES).map(|a| audience(salt, a)).collect()
            }
            _ => SmallVec::new(),
        };
        Self {
            tenant: tenant(claims, tenant_claims),
            has_audience: !audiences.is_empty(),
            audiences,
            has_scope: SCOPES.iter().any(|name| claims.get(*name).is_some_and(says_something)),
            not_before: not_before.unwrap_or_default(),
            expires: expires.unwrap_or_default(),
            issued: issued.unwrap_or_default(),
            bad_times,
        }
    }

    /// Whether the token is valid at `now`, give or take `leeway` between clocks.
    pub(super) fn valid_at(&self, now: Nanos, leeway: Nanos) -> bool {
        !self.bad_times
            && self.not_before.is_none_or(|from| from.0 <= now.0.saturating_add(leeway.0))
            && self.expires.is_none_or(|until| now.0 < until.0.saturating_add(leeway.0))
    }

    /// From issue to expiry; where it does not say when it was issued (RFC 7519 §4.1.6: optional), from the beginning of
    /// its validity, or what is left of it at `now`. `None`: it never expires.
    pub(super) fn lifetime(&self, now: Nanos) -> Option<Nanos> {
        let from = self.issued.or(self.not_before).unwrap_or(now);
        Some(Nanos(self.expires?.0.saturating_sub(from.0)))
    }
}

/// Fingerprint of an audience. A closing slash makes no difference: clients and servers disagree on it.
pub(super) fn audience(salt: Salt, text: &str) -> Fingerprint {
    salt.fingerprint(text.trim_end_matches('/').as_bytes())
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a fraction.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Nanos>, ()> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(n)) => match (n.as_u64(), n.as_f64()) {
            (Some(seconds), _) => Ok(Some(Nanos(seconds.saturating_mul(1_000_000_000)))),
            // Beyond the range it saturates, which is what is meant.
            (None, Some(seconds)) if seconds >= 0.0 => Ok(Some(Nanos((seconds * 1e9) as u64))),
            _ => Err(()),
        },
        Some(_) => Err(()),
    }
}

fn tenant(claims: &Map<String, Value>, names: &[String]) -> Named {
    for name in names {
        for (_, value) in claims.iter().filter(|(claim, _)| matches(name, claim)) {
            let value = match value {
                Value::Array(all) => match all.as_slice() {
                    [] => continue,
                    [one] => one,
                    _ => return Named::Unreadable,
                },
                other => other,
            };
            return match value {
                Value::Null => continue,
                Value::String(text) if text.trim().is_empty() => continue,
                Value::String(text) if text.len() <= MAX_TENANT => Named::One(text.trim().into()),
                Value::Number(n) if n.is_u64() => Named::One(n.to_string().into()),
                _ => Named::Unreadable,
            };
        }
    }
    Named::Nobody
}

/// Whether a claim is the one that `name` means: that very one, or, for `https://*/tenant`, a namespaced claim whose
/// last segment is `tenant`.
fn matches(name: &str, claim: &str) -> bool {
    if NEVER_TENANT.contains(&claim) {
        return false;
    }
    match name.split_once("*/") {
        Some((scheme, last)) => claim
            .strip_prefix(scheme)
            .and_then(|rest| rest.rsplit_once('/'))
            .is_some_and(|(namespace, end)| !namespace.is_empty() && end == last && !NEVER_TENANT.contains(&end)),
        None => name == claim,
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(s) => !s.trim().is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(claims: &Value) -> Facts {
        let names = ["tid", "org_id", "https://*/tenant", "azp", "https://*/client_id"].map(str::to_owned);
        Facts::of(claims.as_object().unwrap(), &names, Salt(1, 2))
    }

    #[test]
    fn the_tenant_is_what_the_first_configured_claim_names() {
        let one = |name: &str| Named::One(name.into());
        for (claims, want) in [
            (json!({"tid": "acme", "org_id": "globex"}), one("acme")),
            (json!({"tid": "", "org_id": "globex"}), one("globex")),
            (json!({"tid": null, "org_id": ["globex"]}), one("globex")),
            (json!({"tid": 42}), one("42")),
            (json!({"https://orders.example/claims/tenant": "acme"}), one("acme")),
            (json!({"tid": ["acme", "globex"]}), Named::Unreadable),
            (json!({"tid": {"id": "acme"}}), Named::Unreadable),
            (json!({"tid": "x".repeat(300)}), Named::Unreadable),
            (json!({"tid": []}), Named::Nobody),
            (json!({"https:///tenant": "acme"}), Named::Nobody),
            (json!({"https://orders.example/subtenant": "acme"}), Named::Nobody),
            // These name the application, even where somebody has configured them.
            (json!({"azp": "acme", "client_id": "acme", "aud": "acme"}), Named::Nobody),
            (json!({"https://orders.example/client_id": "acme"}), Named::Nobody),
        ] {
            assert_eq!(facts(&claims).tenant, want, "{claims}");
        }
    }

    #[test]
    fn times_hold_within_the_leeway() {
        let at = Nanos::secs;
        let f = facts(&json!({"nbf": 1000, "exp": 2000.5, "iat": 1000}));
        for (now, want) in [(939, false), (940, true), (1500, true), (2060, true), (2061, false)] {
            assert_eq!(f.valid_at(at(now), at(60)), want, "{now}");
        }
        assert_eq!(f.lifetime(at(0)), Some(Nanos(1_000_500_000_000)));
        assert_eq!(facts(&json!({"exp": 5, "iat": 9})).lifetime(at(0)), Some(Nanos(0)));
        assert_eq!(facts(&json!({"exp": 9})).lifetime(at(4)), Some(Nanos::secs(5)), "what is left");
        assert_eq!(facts(&json!({"iat": 9})).lifetime(at(0)), None, "for ever");
        assert!(facts(&json!({})).valid_at(at(0), at(0)));
        assert!(facts(&json!({"exp": u64::MAX})).valid_at(Nanos(u64::MAX - 1), at(60)));
        for bad in [json!({"exp": "tomorrow"}), json!({"exp": -1}), json!({"nbf": []})] {
            assert!(!facts(&bad).valid_at(at(0), at(60)), "{bad}");
        }
    }

    #[test]
    fn scopes_and_audiences() {
        for (claims, want) in [
            (json!({"scope": "orders.read"}), true),
            (json!({"scp": ["a"]}), true),
            (json!({"authorization_details": [{"type": "t"}]}), true),
            (json!({"scope": " ", "scp": [], "roles": ["admin"]}), false),
        ] {
            assert_eq!(facts(&claims).has_scope, want, "{claims}");
        }
        let salt = Salt(1, 2);
        let f = facts(&json!({"aud": ["https://a.example/", 7, "b"]}));
        assert_eq!(f.audiences.as_slice(), [audience(salt, "https://a.example"), audience(salt, "b")]);
        assert!(f.has_audience && !facts(&json!({"aud": []})).has_audience);
    }
}
