//! Rule: `http-cache-shared`.
//!
//! A proxy answered one tenant out of its cache with what it had fetched for another. Known by four things that are seen on
//! the wire: the bytes of the answer are those of an answer that the proxy had fetched with the other's credential (or
//! other header that tells who asks); while this request was open the proxy sent nothing upstream that could have been for
//! it; the origin did not say that anybody may have the answer; and it does not differ by a header that tells the two apart.
//!
//! A proxy that asks upstream for one with the credential of another has no cache, though the bytes are alike: what was
//! fetched while the request was open must have been given to the other, too.
//!
//! Silent where the answer is nobody's: the proxy fetched the same bytes for several tenants, or for this one as well;
//! styles, scripts and images; errors, health checks, what is empty or says hardly more than "ok".
//!
//! Whether a request went upstream shows a little later than its answer: so an answer is looked at when that must have
//! shown, and told only if nothing of the proxy's connections was missed.
//!
//! Source: `docs/domain.md#caches`.

use std::collections::{BTreeMap, VecDeque};

use smallvec::{SmallVec, smallvec};

use crate::detect::recent::Recent;
use crate::detect::{
    Detail, Fetched, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Served, Site, Step, World, tables,
};
use crate::model::http::{Caching, HeaderName, Identities, Identity, Sharing, Varies};
use crate::model::{
    Attribution, EvidenceClass, Fingerprint, Nanos, Severity, Sym, TenantId, Unseen, Where, WorkloadId,
};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "http-cache-shared",
    severity: Severity::High,
    needs: "HTTP in clear text on both sides of a proxy, requests that carry a credential, a session or a tenant's name, and \
            the tenants of both requests",
    why: "A proxy answered a request for one tenant out of its cache with what it had fetched for another. The origin was \
          not asked, and never saw who was asking.",
    remediation: "Put what tells tenants apart into the cache's key (the credential, the tenant), or do not cache answers \
                  to requests that carry one (nginx: proxy_cache_bypass and proxy_no_cache; Varnish: pass). Let the \
                  origin say Cache-Control: private, or Vary. What is the same for everybody should say public.",
    source: "[Caches](domain.md#caches); \
             [RFC 9111 §3.5](https://www.rfc-editor.org/rfc/rfc9111#section-3.5)",
};

/// Most answers that are remembered as fetched.
const MAX_BODIES: usize = 32_768;
/// Most of those who had one answer fetched that are told apart.
const MAX_FETCHES: usize = 4;
/// Most credentials and the like remembered.
const MAX_IDENTITIES: usize = 65_536;
/// Most proxies whose latest requests upstream are remembered, and most requests of one.
const MAX_PROXIES: usize = 64;
const MAX_SENT: usize = 2_048;
/// Most answers that wait to be looked at.
const MAX_WAITING: usize = 4_096;
/// How long they wait: longer than it takes until a request upstream has shown.
const WAIT: Nanos = Nanos::secs(1);
/// So long before an answer was fetched for one, it may have been fetched for another: then it is nobody's.
const ALIKE: Nanos = Nanos::secs(600);
/// A shorter answer says nothing that could be somebody's, in bytes: `{"status": "ok"}`, an empty list.
const MIN_BODY: u64 = 24;

/// Something that was fetched.
#[derive(Clone, Debug)]
struct Fetch {
    begun: Nanos,
    ended: Nanos,
    verb: Sym,
    path: Sym,
    identities: Identities,
    sharing: Sharing,
    varies: Varies,
    /// Who asks so was answered with it, by a request that was open all the while: it was for that one.
    given: bool,
}

/// Who presents a credential or the like to a proxy.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// This tenant alone.
    One(Attribution),
    /// Several do, or somebody who is not known.
    Others,
}

/// What a proxy has sent upstream.
#[derive(Debug, Default)]
struct Sent {
    /// By when it began, and a number that tells apart what began at once.
    latest: BTreeMap<(Nanos, u64), Identities>,
    n: u64,
    /// What began up to then is not all known any more.
    forgotten: Option<Nanos>,
}

impl Sent {
    fn note(&mut self, begun: Nanos, identities: &Identities) {
        self.n += 1;
        self.latest.insert((begun, self.n), identities.clone());
        if self.latest.len() > MAX_SENT
            && let Some(((at, _), _)) = self.latest.pop_first()
        {
            self.forgotten = self.forgotten.max(Some(at));
        }
    }

    /// What began while a request was open; `Err`: that is not known any more.
    fn during(&self, begun: Nanos, ended: Nanos) -> Result<impl Iterator<Item = &Identities>, &'static str> {
        if self.forgotten.is_some_and(|at| at >= begun) {
            return Err("too many requests upstream");
        }
        Ok(self.latest.range((begun, 0)..=(ended, u64::MAX)).map(|(_, identities)| identities))
    }
}

/// An answer that waits to be looked at.
#[derive(Clone, Debug)]
struct Waiting {
    site: Site,
    server: WorkloadId,
    by: Attribution,
    body: Fingerprint,
    begun: Nanos,
    ended: Nanos,
    verb: Sym,
    path: Sym,
    identities: Identities,
    caching: Caching,
}

/// The rule: what each proxy fetched, and for whom.
#[derive(Debug)]
pub struct HttpCacheShared {
    fetched: Recent<(WorkloadId, Fingerprint), SmallVec<[Fetch; 1]>>,
    holders: Recent<(WorkloadId, Identity), Holder>,
    sent: Recent<WorkloadId, Sent>,
    waiting: VecDeque<Waiting>,
    /// What was found just now: when and for whom it was answered, by which proxy, and when it was fetched.
    found: Vec<(Nanos, TenantId, WorkloadId, Nanos)>,
}

impl Default for HttpCacheShared {
    fn default() -> Self {
        Self {
            fetched: Recent::new(MAX_BODIES),
            holders: Recent::new(MAX_IDENTITIES),
            sent: Recent::new(MAX_PROXIES),
            waiting: VecDeque::new(),
            found: Vec::new(),
        }
    }
}

impl HttpCacheShared {
    /// A proxy has fetched something.
    fn fetched(&mut self, f: &Fetched<'_>) {
        let e = f.exchange;
        if let Some(sent) = self.sent.entry(f.by, Sent::default) {
            sent.note(e.begun, &e.identities);
        }
        let Some(body) = e.body.filter(|_| is_told_apart(e)) else { return };
        let fetch = Fetch {
            begun: e.begun,
            ended: e.ended,
            verb: e.verb,
            path: e.path,
            identities: e.identities.clone(),
            sharing: e.caching.sharing,
            varies: e.caching.varies.clone(),
            given: false,
        };
        let Some(all) = self.fetched.entry((f.by, body), SmallVec::new) else { return };
        // The latest for each who asks.
        all.retain(|f| f.identities != fetch.identities);
        if all.len() >= MAX_FETCHES {
            all.remove(0);
        }
        all.push(fetch);
    }

    /// A proxy has answered: whose the credentials are that came with the request, and whether the answer may be another's.
    fn served(&mut self, s: &Served<'_>) -> RuleOutcome {
        let e = s.exchange;
        let by = s.answer.attribution();
        for i in &e.identities {
            let Some(holder) = self.holders.entry((s.server, *i), || by.map_or(Holder::Others, Holder::One)) else {
                continue;
            };
            if matches!(*holder, Holder::One(of) if by.is_none_or(|by| by.tenant != of.tenant)) {
                *holder = Holder::Others;
            }
        }
        let Some(body) = e.body.filter(|_| is_told_apart(e)) else { return RuleOutcome::Clear };
        let Some(all) = self.fetched.get_mut(&(s.server, body)) else { return RuleOutcome::Clear };
        let mut own = all.iter_mut().filter(|f| is_own(&f.identities, &e.identities)).peekable();
        if own.peek().is_some() {
            own.for_each(|f| f.given |= e.begun <= f.begun && f.ended <= e.ended);
            return RuleOutcome::Clear;
        }
        let Some(by) = by else { return RuleOutcome::Insufficient("no tenant") };
        if self.waiting.len() >= MAX_WAITING {
            return RuleOutcome::Insufficient("too many answers to look at");
        }
        self.waiting.push_back(Waiting {
            site: s.site,
            server: s.server,
            by,
            body,
            begun: e.begun,
            ended: e.ended,
            verb: e.verb,
            path: e.path,
            identities: e.identities.clone(),
            caching: e.caching.clone(),
        });
        RuleOutcome::Clear
    }

    /// For whom a proxy sent something upstream, by what it carries. What several present says nothing.
    fn whose(&self, server: WorkloadId, carried: &Identities) -> Option<Attribution> {
        let mut holders = carried.iter().filter_map(|i| match self.holders.get(&(server, *i)) {
            Some(Holder::One(by)) => Some(*by),
            Some(Holder::Others) | None => None,
        });
        let first = holders.next()?;
        holders.all(|by| by.tenant == first.tenant).then_some(first)
    }

    /// Whether a request that could have been `w` went upstream while it was open; `Err`: that is not known.
    fn went_upstream(&self, w: &Waiting) -> Result<bool, &'static str> {
        let Some(sent) = self.sent.get(&w.server) else { return Err("requests upstream are not known") };
        let anothers = |carried: &Identities| self.whose(w.server, carried).is_some_and(|by| by.tenant != w.by.tenant);
        Ok(!sent.during(w.begun, w.ended)?.all(anothers))
    }

    /// What there is to tell of an answer, and when it had been asked for upstream.
    fn look_at(&self, w: &Waiting) -> Result<Option<(Hit, Nanos)>, &'static str> {
        let Some(all) = self.fetched.get(&(w.server, w.body)) else { return Ok(None) };
        let Some(latest) = all.iter().rev().find(|f| f.ended <= w.ended) else { return Ok(None) };
        let mut owner: Option<Attribution> = None;
        for f in all.iter().filter(|f| f.ended + ALIKE >= latest.begun) {
            if is_own(&f.identities, &w.identities) {
                return Ok(None);
            }
            match self.whose(w.server, &f.identities) {
                None => return Err("for whom it was fetched is not known"),
                Some(by) if by.tenant == w.by.tenant => return Ok(None),
                // Several identities were given the same answer, so it belongs to none of them.
                Some(by) if owner.is_some_and(|o| o.tenant != by.tenant) => return Ok(None),
                Some(by) => owner = Some(by),
            }
        }
        let Some(owner) = owner else { return Ok(None) };
        if latest.sharing == Sharing::Public && w.caching.sharing != Sharing::Private
            || w.caching.sharing == Sharing::Public && latest.sharing != Sharing::Private
            || [&latest.varies, &w.caching.varies].iter().any(|v| tells_apart(v, &latest.identities, &w.identities))
            || !asks_as_somebody(&latest.identities, &w.identities)
        {
            return Ok(None);
        }
        if self.went_upstream(w)? {
            return Ok(None);
        }
        // It went upstream while this one was being answered, and perhaps for this one, with a credential of another's.
        if latest.begun >= w.begun && !latest.given {
            return Err("for whom it was fetched is not known");
        }
        Ok(Some((hit(w, latest, owner), latest.begun)))
    }

    /// Looks at the answers that have waited long enough; `all`: at every one.
    fn look_through(&mut self, now: Nanos, all: bool, hits: &mut Vec<Hit>) -> RuleOutcome {
        self.found.clear();
        let mut outcome = RuleOutcome::Clear;
        while let Some(w) = self.waiting.pop_front_if(|w| all || now.since(w.ended) >= WAIT) {
            match self.look_at(&w) {
                Ok(Some((hit, fetched))) => {
                    self.found.push((w.ended, w.by.tenant, w.server, fetched));
                    hits.push(hit);
                }
                Ok(None) => {}
                Err(why) => outcome = RuleOutcome::Insufficient(why),
            }
        }
        if hits.is_empty() { outcome } else { RuleOutcome::Found }
    }
}

/// Whether an answer may be somebody's own.
fn is_told_apart(e: &crate::model::http::Exchange) -> bool {
    matches!(e.status, Some(200 | 203)) && e.bytes >= MIN_BODY && !e.control && !e.caching.asset
}

/// Whether something that went upstream may be a request's own, by all that it carries.
fn is_own(carried: &Identities, presented: &Identities) -> bool {
    !carried.is_empty() && carried.iter().all(|i| presented.contains(i))
}

fn of_header(all: &Identities, header: HeaderName) -> impl Iterator<Item = &Identity> {
    all.iter().filter(move |i| i.header == header)
}

/// Whether an answer that differs so is another one for who asks with `b` than for who asks with `a`, for all that a cache
/// knows.
fn tells_apart(varies: &Varies, a: &Identities, b: &Identities) -> bool {
    varies.unknown || varies.headers.iter().any(|h| !of_header(a, *h).eq(of_header(b, *h)))
}

/// Whether the other asks as somebody, too. Without that, the answer to a credential is not for him either (RFC 9111 §3.5);
/// what a browser was given while it happened to have a session may be.
fn asks_as_somebody(owner: &Identities, other: &Identities) -> bool {
    !other.is_empty() || owner.iter().any(|i| !i.cookie)
}

fn hit(w: &Waiting, fetch: &Fetch, owner: Attribution) -> Hit {
    let step = |at, what, verb, path, a: Attribution| Step {
        at,
        what,
        detail: Detail::Operation(verb, path),
        tenant: Some(a.tenant),
        basis: Some(a.basis),
    };
    let forbidden = fetch.sharing == Sharing::Private || w.caching.sharing == Sharing::Private;
    let words = match (forbidden, w.caching.hit) {
        (true, _) => "the same bytes, and nothing went upstream; the origin had forbidden to share the answer",
        (false, true) => "the same bytes, and nothing went upstream; the proxy itself says that its cache answered",
        (false, false) => "the same bytes, and nothing went upstream",
    };
    let agree = w.by.corroborated() && owner.corroborated();
    Hit {
        rule: INFO.id,
        severity: if forbidden { Severity::Critical } else { Severity::High },
        class: w.by.class.min(owner.class).min(EvidenceClass::Wire),
        corroborated: agree.then_some(w.by.bases),
        subject: w.path,
        at: w.ended,
        site: w.site,
        used: Some(w.by.tenant),
        bound: Some(owner.tenant),
        steps: smallvec![
            step(fetch.ended, "fetched", fetch.verb, fetch.path, owner),
            step(w.ended, "answered", w.verb, w.path, w.by),
            Step { at: w.ended, what: "cache", detail: Detail::Words(words), tenant: None, basis: None },
        ],
    }
}

impl Rule for HttpCacheShared {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.fetched, &mut self.holders, &mut self.sent, &mut self.waiting, &mut self.found])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        match event {
            RuleEvent::Fetched(f) => {
                self.fetched(f);
                RuleOutcome::Clear
            }
            RuleEvent::Served(s) => self.served(s),
            RuleEvent::Tick(now) => self.look_through(*now, false, hits),
            RuleEvent::End(now) => self.look_through(*now, true, hits),
            _ => RuleOutcome::Clear,
        }
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let of = self.found.iter().find(|(at, by, ..)| *at == hit.at && Some(*by) == hit.used);
        let (Some((.., proxy, fetched)), Some(service)) = (of, hit.site.service) else { return SmallVec::new() };
        // Its request may have gone upstream, or the same have been fetched for it before, or who else presents what came
        // with either may be what was missed.
        let since = Nanos(fetched.0.saturating_sub(ALIKE.0));
        smallvec![Unseen { place: Where::SentBy(*proxy), since }, Unseen { place: Where::Service(service), since },]
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, owner, path) = (world.tenant(hit.used), world.tenant(hit.bound), world.names.name(hit.subject));
        let forbidden = if hit.severity == Severity::Critical { ", though the origin forbids that" } else { "" };
        format!("A cache answered {path} for {used} with what was fetched for {owner}{forbidden}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::http::Exchange;
    use crate::model::{Answer, Basis};

    const PROXY: WorkloadId = SERVER;
    const BODY: Fingerprint = Fingerprint(100);
    const AUTHORIZATION: HeaderName = HeaderName(Fingerprint(1));
    const COOKIE: HeaderName = HeaderName(Fingerprint(2));
    const TENANT: HeaderName = HeaderName(Fingerprint(3));

    fn token(n: u64) -> Identity {
        Identity { header: AUTHORIZATION, value: Fingerprint(n), cookie: false }
    }

    fn an_answer(second: u64, identities: &[Identity]) -> Exchange {
        let begun = Nanos::secs(second);
        Exchange {
            begun,
            ended: begun + Nanos::millis(10),
            verb: SELECT,
            path: ORDERS,
            control: false,
            identities: Identities::from_slice(identities),
            status: Some(200),
            body: Some(BODY),
            bytes: 500,
            caching: Caching::default(),
        }
    }

    #[derive(Default)]
    struct Play(HttpCacheShared);

    impl Play {
        fn fetches(&mut self, exchange: &Exchange) {
            let up = Exchange { begun: exchange.begun + Nanos::millis(1), ..exchange.clone() };
            let event = Fetched { by: PROXY, exchange: &up };
            assert!(run_event(&mut self.0, &RuleEvent::Fetched(&event)).is_empty());
        }

        fn serves(&mut self, exchange: &Exchange, answer: Answer) -> RuleOutcome {
            let event = Served { site: SITE, server: PROXY, exchange, answer };
            outcome_of(&mut self.0, &RuleEvent::Served(&event))
        }

        /// Answered with what was fetched for it.
        fn fresh(&mut self, exchange: &Exchange, answer: Answer) {
            self.fetches(exchange);
            self.serves(exchange, answer);
        }

        fn end(&mut self) -> Vec<Hit> {
            run_event(&mut self.0, &RuleEvent::End(Nanos::secs(10_000)))
        }
    }

    /// What is found when A's answer is fetched and B is given the same.
    fn crossed(a: &Exchange, b: &Exchange) -> Vec<Hit> {
        let mut p = Play::default();
        p.fresh(a, by_label(A));
        p.serves(b, by_label(B));
        p.end()
    }

    #[test]
    fn positive_the_others_answer_without_asking() {
        let hits = crossed(&an_answer(1, &[token(1)]), &an_answer(5, &[token(2)]));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        assert_eq!(hits[0].class, EvidenceClass::Endpoint);
        // Anonymous, with another kind of name, and beside a key that all share.
        let session = Identity { header: COOKIE, value: Fingerprint(7), cookie: true };
        assert_eq!(crossed(&an_answer(1, &[token(1)]), &an_answer(5, &[])).len(), 1);
        assert_eq!(crossed(&an_answer(1, &[session]), &an_answer(5, &[token(2)])).len(), 1);
        let named = |n| Identity { header: TENANT, value: Fingerprint(n), cookie: false };
        let hits = crossed(&an_answer(1, &[token(1), named(1)]), &an_answer(5, &[token(1), named(2)]));
        assert_eq!(hits.len(), 1);
    }

    #[test]
    fn positive_while_the_others_request_is_under_way() {
        let mut p = Play::default();
        p.serves(&an_answer(0, &[token(1)]), by_label(A));
        let a = Exchange { ended: Nanos::secs(2), ..an_answer(1, &[token(1)]) };
        p.fetches(&a);
        let b = Exchange { begun: Nanos::secs(1), ended: Nanos(2_000_000_001), ..an_answer(1, &[token(2)]) };
        p.serves(&b, by_label(B));
        p.serves(&Exchange { ended: Nanos::secs(3), ..a }, by_label(A));
        assert_eq!(p.end().len(), 1, "what went upstream meanwhile was A's");
    }

    #[test]
    fn near_miss_asked_for_with_the_others_credential() {
        let mut p = Play::default();
        p.serves(&an_answer(0, &[token(1)]), by_label(A));
        p.fetches(&Exchange { begun: Nanos::secs(1), ended: Nanos::secs(2), ..an_answer(1, &[token(1)]) });
        let b = Exchange { begun: Nanos::secs(1), ended: Nanos(2_000_000_001), ..an_answer(1, &[token(2)]) };
        p.serves(&b, by_label(B));
        assert!(p.end().is_empty(), "nobody else was given it: it was fetched for B");
    }

    #[test]
    fn positive_what_the_origin_forbids_is_worse() {
        let mut a = an_answer(1, &[token(1)]);
        a.caching.sharing = Sharing::Private;
        assert_eq!(crossed(&a, &an_answer(5, &[token(2)]))[0].severity, Severity::Critical);
    }

    #[test]
    fn near_miss_public_or_nobodys_or_short_or_an_error() {
        let (a, b) = (an_answer(1, &[token(1)]), an_answer(5, &[token(2)]));
        let both = |change: fn(&mut Exchange)| {
            let (mut a, mut b) = (a.clone(), b.clone());
            change(&mut a);
            change(&mut b);
            crossed(&a, &b)
        };
        assert_eq!(both(|_| {}).len(), 1);
        assert!(both(|e| e.caching.sharing = Sharing::Public).is_empty());
        assert!(both(|e| e.caching.asset = true).is_empty());
        assert!(both(|e| e.control = true).is_empty());
        assert!(both(|e| e.bytes = 15).is_empty());
        assert!(both(|e| e.status = Some(404)).is_empty());
        assert!(both(|e| (e.status, e.body, e.bytes) = (Some(304), None, 0)).is_empty());
        let session = Identity { header: COOKIE, value: Fingerprint(7), cookie: true };
        assert!(crossed(&an_answer(1, &[session]), &an_answer(5, &[])).is_empty(), "a page that a browser fetched");
        assert!(crossed(&an_answer(1, &[]), &b).is_empty(), "fetched for nobody");
    }

    #[test]
    fn near_miss_it_differs_by_who_asks() {
        let with = |header, second, n| {
            let mut e = an_answer(second, &[token(n)]);
            e.caching.varies.headers.push(header);
            e
        };
        assert!(crossed(&with(AUTHORIZATION, 1, 1), &with(AUTHORIZATION, 5, 2)).is_empty());
        assert_eq!(crossed(&with(COOKIE, 1, 1), &with(COOKIE, 5, 2)).len(), 1, "but not by the cookie, which none has");
    }

    #[test]
    fn near_miss_it_was_asked_for_or_fetched_for_it_too() {
        let (a, b) = (an_answer(1, &[token(1)]), an_answer(5, &[token(2)]));
        // Validated: 304.
        let mut p = Play::default();
        p.fresh(&a, by_label(A));
        p.fetches(&Exchange { status: Some(304), body: None, bytes: 0, ..b.clone() });
        p.serves(&b, by_label(B));
        assert!(p.end().is_empty());
        // Something without a name went upstream meanwhile.
        let mut p = Play::default();
        p.fresh(&a, by_label(A));
        p.fetches(&Exchange { identities: Identities::new(), body: Some(Fingerprint(5)), ..b.clone() });
        p.serves(&b, by_label(B));
        assert!(p.end().is_empty());
        // The same was fetched for B before, or afterwards, or for a third.
        for (second, identity, whom) in [(0, token(2), B), (0, token(3), crate::model::TenantId(2))] {
            let mut p = Play::default();
            p.fresh(&an_answer(second, &[identity]), by_label(whom));
            p.fresh(&a, by_label(A));
            p.serves(&b, by_label(B));
            assert!(p.end().is_empty(), "{whom:?}");
        }
        // However often for A since.
        let mut p = Play::default();
        p.fresh(&an_answer(0, &[token(2)]), by_label(B));
        for second in 1..9 {
            p.fresh(&an_answer(second, &[token(1)]), by_label(A));
        }
        p.serves(&an_answer(20, &[token(2)]), by_label(B));
        assert!(p.end().is_empty());
        // Its own.
        assert!(crossed(&a, &an_answer(5, &[token(1)])).is_empty());
        let mut p = Play::default();
        p.fresh(&a, by_label(A));
        p.serves(&an_answer(5, &[token(9)]), by_label(A));
        assert!(p.end().is_empty());
    }

    #[test]
    fn lossy_whose_it_is_or_what_it_was_is_not_known() {
        let (a, b) = (an_answer(1, &[token(1)]), an_answer(5, &[token(2)]));
        let mut p = Play::default();
        p.fresh(&a, by_label(A));
        assert_eq!(p.serves(&b, Answer::Several), RuleOutcome::Insufficient("no tenant"));
        assert!(p.end().is_empty());
        // Whose credential it was fetched with is not known.
        let mut p = Play::default();
        p.fetches(&a);
        p.serves(&b, by_label(B));
        assert_eq!(
            outcome_of(&mut p.0, &RuleEvent::Tick(Nanos::secs(100))),
            RuleOutcome::Insufficient("for whom it was fetched is not known")
        );
        // Not seen whole.
        assert!(crossed(&Exchange { body: None, ..a.clone() }, &b).is_empty());
        assert!(crossed(&a, &Exchange { body: None, ..b.clone() }).is_empty());
        // Inference stays inference.
        let mut p = Play::default();
        p.fresh(&a, by_label(A));
        p.serves(&b, Answer::Tenant(Attribution::new(B, Basis::OnlyTenant)));
        assert_eq!(p.end()[0].class, EvidenceClass::Inferred);
        // And it rests on nothing having been missed of what the proxy was asked and asked.
        let mut p = Play::default();
        p.fresh(&a, by_label(A));
        p.serves(&b, by_label(B));
        let hits = p.end();
        let rests =
            with_settings(&[shared_service()], crate::model::Settings::default(), |w| p.0.rests_on(&hits[0], w));
        let places: Vec<Where> = rests.iter().map(|u| u.place).collect();
        assert_eq!(places, [Where::SentBy(PROXY), Where::Service(crate::model::ServiceId(0))]);
    }

    #[test]
    fn what_is_remembered_has_bounds() {
        let mut p = Play::default();
        for n in 0..100_000 {
            let e = Exchange { body: Some(Fingerprint(n)), ..an_answer(1, &[token(n)]) };
            p.fetches(&e);
            p.serves(&Exchange { body: Some(Fingerprint(n)), ..an_answer(1, &[token(n + 1)]) }, by_label(A));
        }
        assert!(p.0.fetched.iter().count() <= MAX_BODIES && p.0.holders.iter().count() <= MAX_IDENTITIES);
        assert!(p.0.waiting.len() <= MAX_WAITING && p.0.sent.get(&PROXY).unwrap().latest.len() <= MAX_SENT);
    }
}
