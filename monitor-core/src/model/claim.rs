//! Whom a bound value names: known tenants by name or alias, unknown ones by an opaque id.

use std::hash::Hasher;

use rustc_hash::FxHashMap;
use siphasher::sip::SipHasher13;

use super::settings::TenantSpec;
use super::{Fingerprint, MarkerPlace, Slot, TenantId};

/// A value that binds, but is no known tenant's name: equal values give equal ids, and the value cannot be had back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpaqueId(pub u64);

/// Whom a value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Says nothing about a tenant.
    Neutral,
    /// Names a known tenant.
    Tenant(TenantId),
    /// Names somebody unknown.
    Opaque(OpaqueId),
    /// A value of something that many applications choose for other reasons (a schema, the number of a database, a
    /// user): says something only where each tenant has consistently gone with its own.
    Chosen(OpaqueId),
    /// Empty: names nobody any more.
    Cleared,
    /// Would name somebody, but could not be read (truncated, computed by the server).
    Unreadable,
}

/// Salted 64-bit hash of content, for equality only. Flooding needs the salt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Salt(pub u64, pub u64);

impl Salt {
    /// A hasher with this salt.
    pub fn hasher(self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }

    /// Fingerprint of one byte string.
    pub fn fingerprint(self, bytes: &[u8]) -> Fingerprint {
        let mut h = self.hasher();
        h.write(bytes);
        Fingerprint(h.finish())
    }
}

/// The tenants known by name. Names and aliases compare without regard to case.
#[derive(Clone, Debug, Default)]
pub struct TenantTable {
    names: Vec<String>,
    exact: FxHashMap<String, TenantId>,
    /// Names as word sequences, for recognition inside identifiers (`tenant_acme_corp`), longest first.
    words: Vec<(Vec<String>, TenantId)>,
}

impl TenantTable {
    /// The tenant called `name`, new or known.
    pub fn intern(&mut self, name: &str) -> TenantId {
        let key = name.to_lowercase();
        if let Some(&id) = self.exact.get(&key) {
            return id;
        }
        let id = TenantId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name.to_owned());
        self.add_spelling(id, key);
        id
    }

    /// Another spelling of `tenant` on the wire. The first owner of a spelling keeps it.
    pub fn alias(&mut self, tenant: TenantId, spelling: &str) {
        let key = spelling.to_lowercase();
        if !key.is_empty() && !self.exact.contains_key(&key) {
            self.add_spelling(tenant, key);
        }
    }

    /// Takes the spellings of `specs` for those that were given before; tenants that are known stay. Says whether a
    /// spelling names a tenant that it did not name before.
    pub fn respell(&mut self, specs: &[TenantSpec]) -> bool {
        let before = std::mem::take(&mut self.exact);
        self.words.clear();
        let known: FxHashMap<String, TenantId> =
            (0u32..).map(TenantId).zip(&self.names).map(|(id, name)| (name.to_lowercase(), id)).collect();
        // What the configuration says comes first, as it does at the start.
        for spec in specs {
            let id = match known.get(&spec.name.to_lowercase()) {
                Some(id) => *id,
                None => self.intern(&spec.name),
            };
            for spelling in std::iter::once(&spec.name).chain(&spec.aliases) {
                self.alias(id, spelling);
            }
        }
        for (id, name) in (0u32..).map(TenantId).zip(self.names.clone()) {
            self.alias(id, &name);
        }
        self.exact.iter().any(|(spelling, id)| before.get(spelling) != Some(id))
    }

    /// Every tenant and its name.
    pub fn iter(&self) -> impl Iterator<Item = (TenantId, &str)> {
        (0u32..).map(TenantId).zip(self.names.iter().map(String::as_str))
    }

    fn add_spelling(&mut self, id: TenantId, key: String) {
        let words: Vec<String> = words_of(&key).map(str::to_owned).collect();
        if !words.is_empty() {
            self.words.push((words, id));
            self.words.sort_by_key(|(w, id)| (std::cmp::Reverse(w.len()), id.0));
        }
        self.exact.insert(key, id);
    }

    /// The tenant whose name or alias is exactly `value`.
    pub fn exact(&self, value: &str) -> Option<TenantId> {
        self.exact.get(&value.to_lowercase()).copied()
    }

    /// The tenant whose name `identifier` is or contains as whole words (`tenant_acme`, `acme-rw`). `None` when no
    /// tenant or more than one equally long one is named.
    pub fn within(&self, identifier: &str) -> Option<TenantId> {
        if let Some(id) = self.exact(identifier) {
            return Some(id);
        }
        let lower = identifier.to_lowercase();
        let have: Vec<&str> = words_of(&lower).collect();
        let mut best: Option<(usize, TenantId)> = None;
        for (name, id) in &self.words {
            if best.is_some_and(|(len, _)| name.len() < len) {
                break;
            }
            if have.windows(name.len()).any(|w| w.iter().zip(name).all(|(a, b)| a == b)) {
                match best {
                    Some((_, other)) if other != *id => return None,
                    _ => best = Some((name.len(), *id)),
                }
            }
        }
        best.map(|(_, id)| id)
    }

    /// The name of `tenant`.
    pub fn name(&self, tenant: TenantId) -> &str {
        self.names.get(tenant.0 as usize).map_or("_other", |n| n)
    }

    /// Tenants known.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no tenant is known.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty())
}

/// What binds on one service: settings, roles and users, by configuration or by the defaults of the interface page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindPolicy {
    /// Settings that bind, in lower case, MySQL's variables (`@tenant_id`) with or without their sign. `None`: any custom
    /// setting ([`is_custom_setting`]) whose name speaks of a tenant,
    /// organisation, account or customer, or whose value is a known tenant's name.
    pub gucs: Option<Vec<String>>,
    /// Role patterns with `{tenant}`. `None`: roles that contain a known tenant's name as whole words.
    pub roles: Option<Vec<String>>,
    /// User patterns with `{tenant}`. `None`: as for roles.
    pub users: Option<Vec<String>>,
}

impl BindPolicy {
    /// Whether a setting of this (lower-case) name binds whatever its value.
    pub fn setting_binds(&self, name: &str) -> bool {
        match &self.gucs {
            Some(list) => list.iter().any(|g| g == name || name.strip_prefix('@') == Some(g)),
            None => is_custom_setting(name) && (speaks_of_tenant(name) || speaks_of_group(name)),
        }
    }

    /// Whom `value` in `slot` names. `name` is the setting's name in lower case, and unused for other slots.
    pub fn claim(&self, tenants: &TenantTable, salt: Salt, slot: Slot, name: &str, value: &str) -> Claim {
        let opaque = || {
            let kind = match slot {
                Slot::Setting(_) => name.as_bytes(),
                Slot::Role | Slot::SessionUser | Slot::User => b"\0user",
                _ => b"\0schema",
            };
            opaque(salt, kind, value)
        };
        match slot {
            Slot::Setting(_) if self.setting_binds(name) => {
                if value.is_empty() {
                    Claim::Cleared
                } else if let Some(id) = tenants.exact(value).or_else(|| tenants.within(value)) {
                    Claim::Tenant(id)
                } else if is_switch(value) && !name.ends_with("id") && self.gucs.is_none() {
                    Claim::Neutral
                } else {
                    opaque()
                }
            }
            Slot::Setting(_) if self.gucs.is_none() && is_custom_setting(name) => match tenants.exact(value) {
                Some(tenant) => Claim::Tenant(tenant),
                None if value.trim_start().starts_with('{') => claims_in(tenants, salt, name, value),
                None if speaks_of_user(name) && !value.is_empty() => chosen(salt, name.as_bytes(), value),
                None => Claim::Neutral,
            },
            Slot::Setting(_) => Claim::Neutral,
            Slot::Role | Slot::SessionUser | Slot::User => {
                let patterns = if slot == Slot::Role { &self.roles } else { &self.users };
                match patterns {
                    None => match tenants.within(value) {
                        Some(tenant) => Claim::Tenant(tenant),
                        // Words (`reader`, `authenticated`) say what may be done; a number or an id may say for whom.
                        None if slot != Slot::User && has_id(value) => chosen(salt, b"\0user", value),
                        None => Claim::Neutral,
                    },
                    Some(list) => match list.iter().find_map(|p| captured(p, value)) {
                        Some(t) => tenants.exact(t).map_or_else(opaque, Claim::Tenant),
                        None => Claim::Neutral,
                    },
                }
            }
            Slot::Database if value.is_empty() => Claim::Neutral,
            Slot::Database => tenants.within(value).map_or_else(|| chosen(salt, b"\0database", value), Claim::Tenant),
            // The server looks through them in order; those that are everybody's say nothing.
            Slot::SearchPath | Slot::Schema => {
                let own = || value.split(',').map(|s| s.trim().trim_matches('"')).find(|s| !is_common_schema(s));
                let unknown = || own().map_or(Claim::Neutral, |schema| chosen(salt, b"\0schema", schema));
                tenants.within(value).map_or_else(unknown, Claim::Tenant)
            }
            // These are claimed by `marker`, or by their fingerprint alone.
            Slot::ConnectionAuth | Slot::Credential | Slot::Marker => Claim::Neutral,
        }
    }

    /// Whom a declared marker names. `name` is the header's, column's or comment key's name in lower case.
    pub fn marker(&self, tenants: &TenantTable, salt: Salt, place: MarkerPlace, name: &str, value: &str) -> Claim {
        let known = || tenants.exact(value).map(Claim::Tenant);
        match place {
            MarkerPlace::KeyPrefix => key_prefix(tenants, value).map_or(Claim::Neutral, Claim::Tenant),
            // The operator or the default list says that this header names the tenant.
            MarkerPlace::Header if value.is_empty() => Claim::Neutral,
            MarkerPlace::Header => known().unwrap_or_else(|| opaque(salt, name.as_bytes(), value)),
            MarkerPlace::Predicate | MarkerPlace::Comment if speaks_of_tenant(name) && !value.is_empty() => {
                known().unwrap_or_else(|| opaque(salt, name.as_bytes(), value))
            }
            MarkerPlace::Predicate | MarkerPlace::Comment => Claim::Neutral,
        }
    }
}

fn id(salt: Salt, name: &[u8], value: &str) -> OpaqueId {
    let mut h = salt.hasher();
    h.write(name);
    h.write_u8(0);
    h.write(value.as_bytes());
    OpaqueId(h.finish())
}

fn opaque(salt: Salt, name: &[u8], value: &str) -> Claim {
    Claim::Opaque(id(salt, name, value))
}

fn chosen(salt: Salt, name: &[u8], value: &str) -> Claim {
    Claim::Chosen(id(salt, name, value))
}

/// Whether an identifier holds a number or an id of its own: `c_1842`, `u7`, `tenant-5f3a…`. Not the version of a thing.
fn has_id(name: &str) -> bool {
    let mut digits = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| w.bytes().any(|b| b.is_ascii_digit()));
    digits.any(|w| !w.strip_prefix(['v', 'V']).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())))
}

/// Longest value that is looked into for claims, in bytes.
const MAX_CLAIMS: usize = 8 << 10;

/// Whom a setting names that holds the claims of a token as JSON (PostgREST's and Supabase's `request.jwt.claims`): its
/// tenant, in the claims themselves or in an object among them, else its subject.
fn claims_in(tenants: &TenantTable, salt: Salt, name: &str, value: &str) -> Claim {
    use serde_json::{Map, Value};
    let text = |v: &Value| match v {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    let tenant = |map: &Map<String, Value>| {
        let mut all = map.iter().filter(|(key, _)| speaks_of_tenant(&key.to_lowercase()) || *key == "tid");
        all.find_map(|(key, v)| Some((key.clone(), text(v)?)))
    };
    let Some(Value::Object(claims)) =
        Some(value).filter(|v| v.len() <= MAX_CLAIMS).and_then(|v| serde_json::from_str(v).ok())
    else {
        return Claim::Neutral;
    };
    let inner = || claims.values().filter_map(Value::as_object).find_map(tenant);
    match (tenant(&claims).or_else(inner), claims.get("sub").and_then(text)) {
        (Some((_, tenant)), _) if tenants.exact(&tenant).is_some() => {
            tenants.exact(&tenant).map_or(Claim::Neutral, Claim::Tenant)
        }
        (Some((key, tenant)), _) => opaque(salt, key.as_bytes(), &tenant),
        (None, Some(subject)) => chosen(salt, name.as_bytes(), &subject),
        (None, None) => Claim::Neutral,
    }
}

/// Schemas that are there in every database, or that name what is everybody's.
fn is_common_schema(name: &str) -> bool {
    let common = ["", "$user", "public", "shared", "common", "extensions", "information_schema"];
    common.contains(&name) || name.starts_with("pg_")
}

/// Whether a (lower-case) setting's name speaks of a group that a tenant may be called by.
fn speaks_of_group(name: &str) -> bool {
    const GROUPS: [&str; 11] =
        ["team", "merchant", "school", "shop", "store", "site", "firm", "agency", "clinic", "realm", "brand"];
    if ["company", "workspace"].iter().any(|w| name.contains(w)) {
        return true;
    }
    // One of these alone may be about anything (`app.site_url`); the id of one, or the current one, is who is meant.
    let words = || words_of(name);
    words().any(|w| GROUPS.contains(&w)) && words().any(|w| matches!(w, "id" | "uuid" | "slug" | "key" | "current"))
}

/// Whether a (lower-case) setting's name speaks of the user that a request is for.
fn speaks_of_user(name: &str) -> bool {
    words_of(name).any(|w| matches!(w, "user" | "userid" | "uid" | "sub" | "person" | "member"))
}

/// Longest beginning of a key that is looked at, in bytes.
const MAX_PREFIX: usize = 128;

/// The tenant that a key begins with: one of its first two segments names it, or a later one right after a segment that
/// speaks of tenants (`acme:profile`, `cache:acme:profile`, `app:v2:tenant:acme:profile`). What comes later in a key is
/// data, and data may name anybody.
fn key_prefix(tenants: &TenantTable, key: &str) -> Option<TenantId> {
    let key = key.get(..MAX_PREFIX.min(key.len())).unwrap_or(key);
    let mut before = "";
    for (i, segment) in key.split([':', '/', '|', '.', '{', '}']).filter(|s| !s.is_empty()).take(6).enumerate() {
        let announced = i > 0 && (speaks_of_tenant(&before.to_ascii_lowercase()) || before == "t");
        if (i < 2 || announced)
            && let Some(tenant) = tenants.within(segment)
        {
            return Some(tenant);
        }
        // The tenant's place is here, and whoever is named is nobody we know.
        if announced {
            return None;
        }
        before = segment;
    }
    None
}

/// What `{tenant}` stands for when `value` matches `pattern`.
fn captured<'v>(pattern: &str, value: &'v str) -> Option<&'v str> {
    let (before, after) = pattern.split_once("{tenant}")?;
    let inner = value.strip_prefix(before)?.strip_suffix(after)?;
    (!inner.is_empty()).then_some(inner)
}

/// Whether a setting is an application's own: PostgreSQL's have a dot in their names, MySQL's variables an at sign before
/// them.
pub fn is_custom_setting(name: &str) -> bool {
    name.contains('.') || name.starts_with('@')
}

/// Whether a (lower-case) name speaks of a tenant, organisation, account or customer.
pub fn speaks_of_tenant(name: &str) -> bool {
    ["tenant", "organisation", "organization", "customer", "account"].iter().any(|w| name.contains(w))
        || words_of(name).any(|w| matches!(w, "org" | "orgid"))
}

fn is_switch(value: &str) -> bool {
    ["on", "off", "true", "false", "yes", "no", "none", "null", "strict", "default"]
        .iter()
        .any(|s| value.eq_ignore_ascii_case(s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sym;

    fn claim(policy: &BindPolicy, slot: Slot, name: &str, value: &str) -> Claim {
        let mut tenants = TenantTable::default();
        let acme = tenants.intern("acme");
        tenants.intern("acme-east");
        tenants.alias(acme, "org_42");
        policy.claim(&tenants, Salt(1, 2), slot, name, value)
    }

    #[test]
    fn settings_bind_by_name_or_by_a_known_value() {
        let p = BindPolicy::default();
        let s = Slot::Setting(Sym(9));
        assert_eq!(claim(&p, s, "app.tenant_id", "ACME"), Claim::Tenant(TenantId(0)));
        assert_eq!(claim(&p, s, "app.tenant_id", "org_42"), Claim::Tenant(TenantId(0)));
        assert_eq!(claim(&p, s, "app.who", "acme"), Claim::Tenant(TenantId(0)));
        assert_eq!(claim(&p, s, "app.who", "7"), Claim::Neutral);
        assert!(matches!(claim(&p, s, "app.tenant_id", "7"), Claim::Opaque(_)));
        assert_eq!(claim(&p, s, "app.tenant_id", ""), Claim::Cleared);
        assert_eq!(claim(&p, s, "app.tenant_isolation", "on"), Claim::Neutral);
        assert_eq!(claim(&p, s, "statement_timeout", "acme"), Claim::Neutral);
    }

    #[test]
    fn roles_bind_by_whole_words_and_the_longest_name_wins() {
        let p = BindPolicy::default();
        assert_eq!(claim(&p, Slot::Role, "", "tenant_acme"), Claim::Tenant(TenantId(0)));
        assert_eq!(claim(&p, Slot::Role, "", "tenant_acme_east"), Claim::Tenant(TenantId(1)));
        assert_eq!(claim(&p, Slot::Role, "", "acmeology"), Claim::Neutral);
        assert_eq!(claim(&p, Slot::Role, "", "app_rw"), Claim::Neutral);
    }

    #[test]
    fn roles_with_an_id_may_be_somebodys_and_words_are_nobodys() {
        let p = BindPolicy::default();
        for slot in [Slot::Role, Slot::SessionUser] {
            let of = |value| claim(&p, slot, "", value);
            assert!(matches!(of("c_1842"), Claim::Chosen(_)) && of("c_1842") == of("c_1842"));
            assert!(of("c_1842") != of("c_2077"));
            assert!(matches!(of("0f3a9c77-5d2e-4c1b-9a51-2f7d6b1c8e90"), Claim::Chosen(_)));
            for value in ["authenticated", "reader", "app_v2", "none", ""] {
                assert_eq!(of(value), Claim::Neutral, "{value}");
            }
            assert_eq!(of("tenant_acme_2"), Claim::Tenant(TenantId(0)));
        }
        // Who authenticated at the start is who the process is.
        assert_eq!(claim(&p, Slot::User, "", "app_1842"), Claim::Neutral);
    }

    #[test]
    fn a_key_names_its_tenant_at_its_beginning_only() {
        let (mut tenants, p) = (TenantTable::default(), BindPolicy::default());
        let acme = tenants.intern("acme");
        tenants.intern("globex");
        let of = |key: &str| p.marker(&tenants, Salt(1, 2), MarkerPlace::KeyPrefix, "", key);
        for key in ["acme:profile", "cache:acme:1", "tenant_acme:x", "app:v2:tenant:acme:x", "{acme}.jobs"] {
            assert_eq!(of(key), Claim::Tenant(acme), "{key}");
        }
        for key in ["session:1:acme", "profile:1", "app:tenant:zenith:acme", "", "supplier:by:name:acme"] {
            assert_eq!(of(key), Claim::Neutral, "{key}");
        }
    }

    #[test]
    fn headers_and_predicates_name_known_tenants_or_somebody() {
        let (mut tenants, p) = (TenantTable::default(), BindPolicy::default());
        let acme = tenants.intern("acme");
        let of = |place, name: &str, value: &str| p.marker(&tenants, Salt(1, 2), place, name, value);
        assert_eq!(of(MarkerPlace::Header, "x-tenant-id", "Acme"), Claim::Tenant(acme));
        assert!(matches!(of(MarkerPlace::Header, "x-tenant-id", "77"), Claim::Opaque(_)));
        assert_eq!(of(MarkerPlace::Predicate, "tenant_id", "acme"), Claim::Tenant(acme));
        assert_eq!(of(MarkerPlace::Predicate, "supplier", "acme"), Claim::Neutral, "data may name anybody");
    }

    #[test]
    fn configured_patterns_replace_the_defaults() {
        let p = BindPolicy { gucs: Some(vec!["x.y".into()]), roles: Some(vec!["t_{tenant}_rw".into()]), users: None };
        let s = Slot::Setting(Sym(9));
        assert_eq!(claim(&p, s, "app.tenant_id", "acme"), Claim::Neutral);
        assert_eq!(claim(&p, s, "x.y", "acme"), Claim::Tenant(TenantId(0)));
        assert_eq!(claim(&p, Slot::Role, "", "t_acme_rw"), Claim::Tenant(TenantId(0)));
        assert!(matches!(claim(&p, Slot::Role, "", "t_9_rw"), Claim::Opaque(_)));
        assert_eq!(claim(&p, Slot::Role, "", "tenant_acme"), Claim::Neutral);
    }
}
