//! Rule: `cache-key-unscoped`.
//!
//! A key without a tenant in it holds what was written for one tenant, and hands it to another: what the first cached, or
//! appended, the second gets. Told by what is handed over: each value, member, field and entry that was written is
//! remembered with its writer, and whoever receives another's is told.
//!
//! What is compared or counted and not read is nobody's (locks, leases, counters, limits), and so is what somebody wrote
//! of whom nothing is known. A random word that turns up in the names of other keys is a name; where that shows only
//! after somebody was handed it, the hit, which waits a little anyway, is withdrawn. A write that wrote nothing changes
//! nothing.
//!
//! Source: `docs/domain.md#what-a-key-holds`.

use smallvec::{SmallVec, smallvec};

use crate::detect::contents::{Contents, Key, Written};
use crate::detect::recent::Recent;
use crate::detect::{Detail, Hit, KeyWork, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, World, tables};
use crate::model::keys::{KeyChange, KeyUse};
use crate::model::{Attribution, Nanos, ServiceId, Severity, SocketCookie, Sym, Unseen, Where};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "cache-key-unscoped",
    severity: Severity::High,
    needs: "a store with keys in clear text (Redis, memcached), and the tenants of writer and reader",
    why: "A key that names no tenant was written for one tenant and then read for another. Whatever is cached under \
          it crosses between them.",
    remediation: "Begin every key with the tenant (tenant:acme:…), and let the server enforce it where it can. Suppress \
                  the rule for keys that are global on purpose.",
    source: "[What a key holds](domain.md#what-a-key-holds)",
};

/// The rule: who wrote what each key holds.
#[derive(Debug)]
pub struct CacheKeyUnscoped {
    contents: Contents,
    /// Of which key each hit of late is.
    handed: Recent<Handed, Key>,
}

/// Most hits of which the key is remembered.
const MAX_HANDED: usize = 1_024;

/// A hit: where it was found, and when.
type Handed = (Option<SocketCookie>, Nanos);

impl Default for CacheKeyUnscoped {
    fn default() -> Self {
        Self { contents: Contents::default(), handed: Recent::new(MAX_HANDED) }
    }
}

impl CacheKeyUnscoped {
    fn worked(&mut self, w: &KeyWork<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let Some(service) = w.site.service else { return RuleOutcome::Clear };
        let by = w.answer.attribution();
        let mut found = RuleOutcome::Clear;
        // A key that names its tenant is scoped; whether to the right one is the verdict's business.
        for u in w.uses.iter().filter(|u| w.whole && !u.scoped && !u.received.is_empty()) {
            let Some(reader) = by else {
                found = RuleOutcome::Insufficient("no tenant");
                break;
            };
            let Some(writer) = self.contents.anothers(service, &reader, u) else { continue };
            let Some(author) = writer.by else { continue };
            if world.missed.may_hide(&written_since(service, writer.at)) {
                found = RuleOutcome::Insufficient("a later write may have been missed");
                continue;
            }
            let hit = hit(w, &writer, author, reader);
            self.handed.insert(handed(&hit), (service, u.key));
            hits.push(hit);
            found = RuleOutcome::Found;
            break;
        }
        let by = Written { by, at: w.at, verb: w.verb, target: w.target };
        // What is made from another key is made from it as it was.
        let (from, rest): (SmallVec<[_; 2]>, SmallVec<[&KeyUse; 2]>) = w
            .uses
            .iter()
            .filter(|u| !u.scoped || matches!(u.change, KeyChange::From { .. }))
            .partition(|u| matches!(u.change, KeyChange::From { .. }));
        for u in from.into_iter().chain(rest) {
            self.contents.changes(service, w.uses, u, by);
        }
        found
    }
}

fn handed(hit: &Hit) -> Handed {
    (hit.site.flow.map(|(cookie, ..)| cookie), hit.at)
}

/// Somebody else may have written a key unseen since then.
fn written_since(service: ServiceId, since: Nanos) -> Unseen {
    Unseen { place: Where::Service(service), since }
}

fn hit(w: &KeyWork<'_>, writer: &Written, author: Attribution, reader: Attribution) -> Hit {
    let agree = author.corroborated() && reader.corroborated();
    let step = |at, what, verb, target, a: Attribution| Step {
        at,
        what,
        detail: Detail::Operation(verb, target),
        tenant: Some(a.tenant),
        basis: Some(a.basis),
    };
    Hit {
        rule: INFO.id,
        severity: Severity::High,
        class: reader.class.min(author.class),
        corroborated: agree.then_some(reader.bases),
        subject: Sym::EMPTY,
        at: w.at,
        site: w.site,
        used: Some(reader.tenant),
        bound: Some(author.tenant),
        steps: smallvec![
            step(writer.at, "write", writer.verb, writer.target, author),
            step(w.at, "read", w.verb, w.target, reader),
        ],
    }
}

impl Rule for CacheKeyUnscoped {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.contents.keys, &mut self.contents.elements, &mut self.handed])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        match event {
            RuleEvent::Keys(work) => self.worked(work, world, hits),
            _ => RuleOutcome::Clear,
        }
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        // Another tenant may have written the key since, so its value may not be this tenant's any more.
        let written = hit.steps.first().map_or(hit.at, |s| s.at);
        hit.site.service.map_or_else(SmallVec::new, |service| smallvec![written_since(service, written)])
    }

    fn withdraws(&self, hit: &Hit) -> bool {
        self.handed.get(&handed(hit)).is_some_and(|key| self.contents.names(key))
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (reader, writer) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!("A key that names no tenant was written for {writer} and read for {reader}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::keys::{Elements, KeyUses};
    use crate::model::{Answer, Basis, Fingerprint, Missed, TenantId};

    const KEY: Fingerprint = Fingerprint(9);
    const OTHER: Fingerprint = Fingerprint(10);
    const X: Fingerprint = Fingerprint(100);
    const Y: Fingerprint = Fingerprint(101);

    fn holds(x: Fingerprint) -> KeyChange {
        KeyChange::Holds(smallvec![x])
    }

    fn adds(x: Fingerprint) -> KeyChange {
        KeyChange::Adds(smallvec![x])
    }

    fn of(key: Fingerprint, change: KeyChange) -> KeyUse {
        KeyUse { key, scoped: false, received: Elements::new(), change }
    }

    fn gets(received: &[Fingerprint]) -> KeyUse {
        KeyUse { received: Elements::from_slice(received), ..of(KEY, KeyChange::None) }
    }

    /// One test's rule and clock.
    #[derive(Default)]
    struct Play {
        rule: CacheKeyUnscoped,
        now: u64,
    }

    impl Play {
        fn with(&mut self, answer: Answer, whole: bool, uses: &[KeyUse]) -> Vec<Hit> {
            self.now += 1;
            let uses = KeyUses::from_vec(uses.to_vec());
            let at = Nanos(self.now);
            let work = KeyWork { site: SITE, at, verb: SELECT, target: ORDERS, answer, whole, uses: &uses };
            run_event(&mut self.rule, &RuleEvent::Keys(&work))
        }

        fn by(&mut self, tenant: TenantId, uses: &[KeyUse]) -> Vec<Hit> {
            self.with(Answer::Tenant(Attribution::new(tenant, Basis::Bracketed)), true, uses)
        }

        fn change(&mut self, tenant: TenantId, change: KeyChange) {
            assert!(self.by(tenant, &[of(KEY, change)]).is_empty());
        }
    }

    #[test]
    fn positive_written_for_one_read_for_another() {
        let mut p = Play::default();
        p.change(A, holds(X));
        let hits = p.by(B, &[gets(&[X])]);
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
    }

    #[test]
    fn positive_both_add_and_read() {
        let mut p = Play::default();
        p.change(A, adds(X));
        p.change(B, adds(Y));
        assert_eq!(p.by(B, &[gets(&[X, Y])])[0].bound, Some(A));
        assert_eq!(p.by(A, &[gets(&[X, Y])])[0].bound, Some(B));
    }

    #[test]
    fn positive_a_text_that_both_added_to() {
        let mut p = Play::default();
        p.change(A, KeyChange::Grows(X));
        p.change(B, KeyChange::Grows(Y));
        assert_eq!(p.by(B, &[gets(&[Y])])[0].bound, Some(A), "the last piece is B's, the first is not");
        assert_eq!(p.by(A, &[gets(&[Y])])[0].bound, Some(B));
    }

    #[test]
    fn positive_another_key_took_it_over() {
        for adds in [false, true] {
            let mut p = Play::default();
            p.change(A, holds(X));
            let taken = KeyChange::From { keys: smallvec![0], adds };
            p.by(A, &[of(KEY, KeyChange::Holds(smallvec![])), of(OTHER, taken)]);
            assert!(p.by(B, &[gets(&[X])]).is_empty(), "it is not there any more");
            assert_eq!(p.by(B, &[KeyUse { key: OTHER, ..gets(&[X]) }]).len(), 1);
        }
    }

    #[test]
    fn near_miss_own_key_or_overwritten_or_named_or_something_else() {
        let mut p = Play::default();
        p.change(A, holds(X));
        assert!(p.by(A, &[gets(&[X])]).is_empty());
        assert!(p.by(B, &[gets(&[Y])]).is_empty(), "what it got is not what A wrote");
        assert!(p.by(B, &[gets(&[])]).is_empty(), "nothing was there");
        assert!(p.by(B, &[KeyUse { scoped: true, ..gets(&[X]) }]).is_empty());
        p.change(B, holds(X));
        assert!(p.by(B, &[gets(&[X])]).is_empty(), "its own from now on");
        assert!(p.with(Answer::Unknown, true, &[of(KEY, holds(Y))]).is_empty());
        assert!(p.by(B, &[gets(&[Y])]).is_empty(), "nobody knows whose it is");
    }

    #[test]
    fn near_miss_what_is_compared_or_counted_is_nobodys() {
        let mut p = Play::default();
        p.change(A, KeyChange::Nobodys);
        p.change(A, KeyChange::PerhapsNobodys(smallvec![X]));
        assert!(p.by(B, &[gets(&[X])]).is_empty());
        p.change(A, holds(X));
        assert_eq!(p.by(B, &[gets(&[X])]).len(), 1, "no longer a counter");
        let mut p = Play::default();
        p.change(A, KeyChange::PerhapsNobodys(smallvec![X]));
        assert_eq!(p.by(B, &[gets(&[X])]).len(), 1, "a number that nobody counts");
    }

    #[test]
    fn lossy_nobody_or_an_unknown_write_or_one_that_was_missed() {
        let mut p = Play::default();
        p.change(A, holds(X));
        let uses: KeyUses = smallvec![gets(&[X])];
        let mut work = KeyWork {
            site: SITE,
            at: Nanos(5),
            verb: SELECT,
            target: ORDERS,
            answer: Answer::Several,
            whole: true,
            uses: &uses,
        };
        assert_eq!(outcome_of(&mut p.rule, &RuleEvent::Keys(&work)), RuleOutcome::Insufficient("no tenant"));
        work.answer = Answer::Tenant(Attribution::new(B, Basis::Bracketed));
        work.whole = false;
        assert_eq!(outcome_of(&mut p.rule, &RuleEvent::Keys(&work)), RuleOutcome::Clear);
        work.whole = true;
        let mut missed = Missed::default();
        missed.on(SITE.service, None, None, Nanos(4));
        let late = RuleOutcome::Insufficient("a later write may have been missed");
        assert_eq!(outcome_missing(&mut p.rule, &RuleEvent::Keys(&work), &missed), late);
        let mut p = Play::default();
        p.change(A, holds(X));
        p.with(by_label(B), false, &[of(KEY, KeyChange::Unknown)]);
        assert!(p.by(B, &[gets(&[X])]).is_empty(), "perhaps it was overwritten");
    }

    #[test]
    fn what_is_remembered_has_bounds() {
        let mut p = Play::default();
        for i in 0..200_000 {
            p.by(A, &[of(Fingerprint(i), holds(X))]);
        }
        assert!(p.rule.contents.level().into_iter().all(|(n, most)| n <= most));
        assert!(p.by(B, &[KeyUse { key: Fingerprint(0), ..gets(&[X]) }]).is_empty(), "forgotten");
        assert_eq!(p.by(B, &[KeyUse { key: Fingerprint(199_999), ..gets(&[X]) }]).len(), 1);
    }
}
