//! Which cookies are sessions, and whose? Learned from the answers that set them, and from their use.
//!
//! A cookie is a session where it is called one, where an answer set it with the attributes of one, or where several
//! tenants have each consistently used a value of their own. One value that is set twice for requests that do not carry
//! it is no session: it says which server is asked. A session that was opened with a credential is that credential's.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::detect::Site;
use crate::detect::recent::Recent;
use crate::model::cookies::{Cookie, Cookies, Crossing};
use crate::model::{Attribution, Fingerprint, Nanos, ServiceId, Sym, TenantId};

/// Most names of cookies remembered over all services. Beyond, what is new says nothing.
const MAX_NAMES: usize = 16_384;
/// Most values remembered.
const MAX_VALUES: usize = 65_536;
/// Most tenants told apart per name or value.
const MAX_TENANTS: usize = 4;
/// Uses of a value by one tenant alone that make it its own.
const ENOUGH: u32 = 3;
/// So many values that were set, and none came back: nobody uses them as sessions.
const UNUSED: u32 = 3;

/// What is known of all cookies of one name at a service.
#[derive(Debug, Default)]
pub(super) struct Kind {
    /// Values that were set for requests without one.
    n_set: u32,
    /// Whether one of them came back.
    came_back: bool,
    /// By name or attributes, they are sessions.
    by_form: bool,
    /// One value was set twice.
    repeated: bool,
    /// Tenants that have a value of their own.
    owners: SmallVec<[TenantId; 2]>,
    /// Tenants whose requests were answered with a value.
    given: SmallVec<[TenantId; 2]>,
}

impl Kind {
    fn is_session(&self) -> bool {
        !self.repeated && (self.by_form || self.owners.len() > 1)
    }
}

fn add(tenants: &mut SmallVec<[TenantId; 2]>, tenant: TenantId) {
    if tenants.len() < MAX_TENANTS && !tenants.contains(&tenant) {
        tenants.push(tenant);
    }
}

/// A request that carried a value or was answered with one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) by: Option<Attribution>,
    pub(super) begun: Nanos,
    pub(super) ended: Nanos,
    pub(super) verb: Sym,
    pub(super) target: Sym,
    pub(super) credential: Option<Fingerprint>,
    pub(super) logs_in: bool,
    pub(super) site: Site,
}

#[derive(Clone, Copy, Debug)]
struct User {
    by: Attribution,
    n: u32,
    first: Request,
    last: Request,
}

/// What is known of one value.
#[derive(Debug, Default)]
struct Value {
    set: Option<Request>,
    first_carried: Option<Nanos>,
    users: SmallVec<[User; 1]>,
}

/// Cookies by service, name and value.
#[derive(Debug)]
pub(super) struct Jars {
    kinds: FxHashMap<(ServiceId, Fingerprint), Kind>,
    values: Recent<(ServiceId, Fingerprint), Value>,
}

impl Default for Jars {
    fn default() -> Self {
        Self { kinds: FxHashMap::default(), values: Recent::new(MAX_VALUES) }
    }
}

impl Jars {
    fn kind(&mut self, service: ServiceId, name: Fingerprint) -> Option<&mut Kind> {
        if self.kinds.len() >= MAX_NAMES && !self.kinds.contains_key(&(service, name)) {
            return None;
        }
        Some(self.kinds.entry((service, name)).or_default())
    }

    /// The session that a request carries, as far as is known by now.
    pub(super) fn session(&self, service: ServiceId, cookies: &Cookies) -> Option<Fingerprint> {
        let is = |c: &&Cookie| {
            self.kinds.get(&(service, c.name)).map_or(c.named, |k| k.is_session() || c.named && !k.repeated)
        };
        cookies.carried.iter().find(is).map(|c| c.value)
    }

    /// Whether the answer opens a session for a request that has none.
    pub(super) fn opens(&self, service: ServiceId, cookies: &Cookies) -> bool {
        let used = |name| {
            let kind = self.kinds.get(&(service, name));
            kind.is_none_or(|k| !k.repeated && (k.came_back || k.n_set < UNUSED))
        };
        cookies.credential.is_none()
            && self.session(service, cookies).is_none()
            && cookies.set.iter().any(|s| s.is_session() && used(s.cookie.name))
    }

    /// Notes a request and its answer; gives what it shows of requests that carry another's session, and where.
    pub(super) fn note(
        &mut self,
        service: ServiceId,
        cookies: &Cookies,
        r: &Request,
    ) -> SmallVec<[(Crossing, Request); 1]> {
        let mut found = SmallVec::new();
        for cookie in &cookies.carried {
            self.carried(service, cookie, r);
            found.extend(self.crossing(service, cookie));
        }
        for set in &cookies.set {
            self.set(service, &set.cookie, set.is_session(), r);
            found.extend(self.crossing(service, &set.cookie));
        }
        found
    }

    fn carried(&mut self, service: ServiceId, cookie: &Cookie, r: &Request) {
        let key = (service, cookie.value);
        let Some(value) = self.values.entry(key, Value::default) else { return };
        value.first_carried = Some(value.first_carried.map_or(r.begun, |at| at.min(r.begun)));
        let was_set = value.set.is_some();
        if let Some(by) = r.by {
            let room = value.users.len() < MAX_TENANTS;
            match value.users.iter_mut().find(|u| u.by.tenant == by.tenant) {
                Some(u) => {
                    u.n = u.n.saturating_add(1);
                    u.last = *r;
                    u.by.class = u.by.class.max(by.class);
                }
                None if room => value.users.push(User { by, n: 1, first: *r, last: *r }),
                None => {}
            }
        }
        let owner = match value.users.as_slice() {
            [only] if only.n == ENOUGH => Some(only.by.tenant),
            _ => None,
        };
        let Some(kind) = self.kind(service, cookie.name) else { return };
        kind.by_form |= cookie.named;
        kind.came_back |= was_set;
        if let Some(owner) = owner {
            add(&mut kind.owners, owner);
        }
    }

    fn set(&mut self, service: ServiceId, cookie: &Cookie, by_form: bool, r: &Request) {
        let key = (service, cookie.value);
        let Some(value) = self.values.entry(key, Value::default) else { return };
        let again = value.set.is_some();
        let came_back = value.first_carried.is_some();
        value.set.get_or_insert(*r);
        let Some(kind) = self.kind(service, cookie.name) else { return };
        kind.by_form |= by_form;
        kind.repeated |= again;
        kind.came_back |= came_back;
        kind.n_set = kind.n_set.saturating_add(1);
        if let Some(by) = r.by {
            add(&mut kind.given, by.tenant);
        }
    }

    /// Whether somebody's requests carry this value though it is another's.
    fn crossing(&self, service: ServiceId, cookie: &Cookie) -> Option<(Crossing, Request)> {
        let kind = self.kinds.get(&(service, cookie.name)).filter(|k| k.is_session())?;
        let value = self.values.get(&(service, cookie.value))?;
        let told = |owner: Attribution, user: &User, from: &Request, was_set| {
            let from = (from.ended, from.verb, from.target);
            (Crossing { used: user.by, owner, from, was_set }, user.last)
        };
        let (owner, from, was_set) = match &value.set {
            // The value was carried before it was set, so the answer that set it does not tell whose session it is.
            Some(set) if value.first_carried.is_some_and(|at| at >= set.ended) => (set.by?, set, true),
            _ => {
                let (first, rest) = value.users.split_first()?;
                let own = first.n >= ENOUGH && rest.iter().all(|u| u.n == 1) && kind.owners.contains(&first.by.tenant);
                (own.then_some(first.by)?, &first.first, false)
            }
        };
        let shared_credential = |u: &User| {
            from.credential.is_some() && from.credential != Some(cookie.value) && from.credential == u.last.credential
        };
        // Who logs in may do so as a program that works for everybody. Not where everybody logs in.
        let has_own =
            |u: &User| if was_set { kind.given.contains(&u.by.tenant) } else { kind.owners.contains(&u.by.tenant) };
        let needs_own = !was_set || from.logs_in;
        let user = value
            .users
            .iter()
            .find(|u| u.by.tenant != owner.tenant && !shared_credential(u) && (!needs_own || has_own(u)))?;
        Some(told(owner, user, from, was_set))
    }

    /// Names and values held, and most of them.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.kinds.len().max(self.values.len()), MAX_VALUES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Basis;
    use crate::model::cookies::SetCookie;
    use smallvec::smallvec;

    const HERE: ServiceId = ServiceId(0);
    const A: TenantId = TenantId(0);
    const B: TenantId = TenantId(1);

    fn cookie(value: u64, named: bool) -> Cookie {
        Cookie { name: Fingerprint(1), value: Fingerprint(value), named }
    }

    struct Play {
        jars: Jars,
        now: u64,
        named: bool,
        credential: Option<u64>,
        logs_in: bool,
    }

    impl Play {
        fn new(named: bool) -> Self {
            Self { jars: Jars::default(), now: 0, named, credential: None, logs_in: false }
        }

        fn request(&mut self, tenant: TenantId) -> Request {
            self.now += 10;
            Request {
                by: Some(Attribution::new(tenant, Basis::OwnContainer)),
                begun: Nanos(self.now),
                ended: Nanos(self.now + 5),
                verb: Sym::EMPTY,
                target: Sym::EMPTY,
                credential: self.credential.map(Fingerprint),
                logs_in: self.logs_in,
                site: Site { service: Some(HERE), workload: None, flow: None },
            }
        }

        fn carries(&mut self, tenant: TenantId, value: u64) -> Vec<(TenantId, TenantId, bool)> {
            let r = self.request(tenant);
            let cookies = Cookies { carried: smallvec![cookie(value, self.named)], ..Cookies::default() };
            let found = self.jars.note(HERE, &cookies, &r);
            found.iter().map(|(c, _)| (c.used.tenant, c.owner.tenant, c.was_set)).collect()
        }

        fn give(&mut self, tenant: TenantId, value: u64, as_session: bool) {
            let r = self.request(tenant);
            let set = SetCookie { cookie: cookie(value, self.named), as_session };
            let found = self.jars.note(HERE, &Cookies { set: smallvec![set], ..Cookies::default() }, &r);
            assert!(found.is_empty());
        }
    }

    #[test]
    fn what_was_set_for_one_is_that_ones() {
        for (named, as_session) in [(true, false), (false, true)] {
            let mut p = Play::new(named);
            p.give(A, 7, as_session);
            assert_eq!(p.carries(A, 7), []);
            assert_eq!(p.carries(B, 7), [(B, A, true)]);
        }
        let mut neither = Play::new(false);
        neither.give(A, 7, false);
        assert_eq!(neither.carries(B, 7), []);
    }

    #[test]
    fn what_is_set_twice_or_was_there_before_is_nobodys() {
        let mut p = Play::new(true);
        p.give(A, 7, true);
        p.give(B, 7, true);
        assert_eq!(p.carries(B, 7), []);
        assert_eq!(p.jars.session(HERE, &Cookies { carried: smallvec![cookie(7, true)], ..Cookies::default() }), None);
        let mut p = Play::new(true);
        p.carries(B, 7);
        p.give(A, 7, true);
        assert_eq!(p.carries(B, 7), []);
    }

    #[test]
    fn a_session_of_a_credential_that_all_use_is_that_ones() {
        let mut p = Play::new(true);
        p.credential = Some(99);
        p.give(A, 7, true);
        assert_eq!(p.carries(B, 7), []);
        p.credential = Some(98);
        assert_eq!(p.carries(B, 7), [(B, A, true)]);
    }

    #[test]
    fn a_program_that_logs_in_once_does_so_for_everybody() {
        let mut p = Play::new(true);
        p.logs_in = true;
        p.give(A, 7, true);
        p.logs_in = false;
        assert_eq!(p.carries(B, 7), []);
        p.logs_in = true;
        p.give(B, 8, true);
        p.logs_in = false;
        assert_eq!(p.carries(B, 7), [(B, A, true)], "everybody logs in");
    }

    #[test]
    fn each_with_its_own_shows_what_nobody_was_seen_to_set() {
        let mut p = Play::new(false);
        for _ in 0..3 {
            assert_eq!(p.carries(A, 7), []);
            assert_eq!(p.carries(B, 8), []);
        }
        assert_eq!(p.carries(B, 7), [(B, A, false)]);
        let mut all = Play::new(false);
        for _ in 0..9 {
            assert_eq!(all.carries(A, 7), []);
            assert_eq!(all.carries(B, 7), [], "one for all");
        }
        let mut spread = Play::new(false);
        for n in 0..9 {
            assert_eq!(spread.carries([A, B][n % 2], [7, 7, 8, 8, 9][n % 5]), [], "spread over all");
        }
    }

    #[test]
    fn what_never_comes_back_opens_nothing() {
        let mut p = Play::new(true);
        let opens = |p: &Play| {
            let set = SetCookie { cookie: cookie(99, true), as_session: true };
            p.jars.opens(HERE, &Cookies { set: smallvec![set], ..Cookies::default() })
        };
        assert!(opens(&p));
        for n in 0..3 {
            p.give(A, n, true);
        }
        assert!(!opens(&p));
        p.carries(A, 2);
        assert!(opens(&p));
    }

    #[test]
    fn it_is_bounded() {
        let mut p = Play::new(true);
        for n in 0..200_000 {
            p.give(A, n, true);
        }
        let (n, most) = p.jars.level();
        assert!(n <= most);
    }
}
