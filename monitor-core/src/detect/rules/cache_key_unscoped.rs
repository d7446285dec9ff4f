//! Rule: `cache-key-unscoped`.
//!
//! A key without a tenant in it was written for one tenant and read for another: what the first cached, the second
//! gets.
//!
//! Source: domain document §2; seed 0, myth 1 (cached intermediates, reasoning keys).

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use smallvec::smallvec;

use crate::detect::{Detail, Hit, Outcome, Rule, RuleEvent, RuleInfo, Step, World};
use crate::model::{Attribution, Claim, Fingerprint, Nanos, ServiceId, Severity, Sym, Verdict};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "cache-key-unscoped",
    severity: Severity::High,
    needs: "a store with keys in clear text (Redis), and the tenants of writer and reader",
    why: "A key that names no tenant was written for one tenant and then read for another. Whatever is cached under \
          it crosses between them.",
    remediation: "Begin every key with the tenant (tenant:acme:…) and let the server enforce it: one user per tenant \
                  with ACL ~tenant:acme:*. Suppress the rule for keys that are global on purpose.",
    source: "domain document §2",
};

/// Most keys remembered as written.
const MAX_KEYS: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Written {
    by: Attribution,
    at: Nanos,
    verb: Sym,
    target: Sym,
}

/// The rule: who wrote each key last.
#[derive(Debug, Default)]
pub struct CacheKeyUnscoped {
    written: FxHashMap<(ServiceId, Fingerprint), Written>,
    /// In order of first writing, for forgetting.
    order: VecDeque<(ServiceId, Fingerprint)>,
}

impl Rule for CacheKeyUnscoped {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> Outcome {
        let RuleEvent::Use(u) = event else { return Outcome::Clear };
        let (Some(key), Some(service)) = (u.key, u.site.service) else { return Outcome::Clear };
        // A key that names its tenant is scoped; whether to the right one is the verdict's business.
        if u.marker != Claim::Neutral || u.ruling.verdict == Verdict::None {
            return Outcome::Clear;
        }
        let Some(by) = u.answer.attribution() else { return Outcome::Insufficient("no tenant") };
        let id = (service, key.print);
        let mut found = Outcome::Clear;
        if let Some(w) = self.written.get(&id)
            && w.by.tenant != by.tenant
            && !key.write
        {
            let agree = w.by.corroborated() && by.corroborated();
            hits.push(Hit {
                rule: INFO.id,
                severity: Severity::High,
                class: by.class.min(w.by.class),
                corroborated: agree.then_some(by.bases),
                subject: Sym::EMPTY,
                at: u.at,
                site: u.site,
                used: Some(by.tenant),
                bound: Some(w.by.tenant),
                steps: smallvec![
                    Step {
                        at: w.at,
                        what: "write",
                        detail: Detail::Operation(w.verb, w.target),
                        tenant: Some(w.by.tenant),
                        basis: Some(w.by.basis)
                    },
                    Step { what: "read", ..Step::of_use(u) }
                ],
            });
            found = Outcome::Found;
        }
        if key.write {
            if self.written.len() >= MAX_KEYS
                && !self.written.contains_key(&id)
                && let Some(oldest) = self.order.pop_front()
            {
                self.written.remove(&oldest);
            }
            if self.written.insert(id, Written { by, at: u.at, verb: u.verb, target: u.target }).is_none() {
                self.order.push_back(id);
            }
        }
        found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (reader, writer) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!("A key that names no tenant was written for {writer} and read for {reader}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Use;
    use crate::detect::testing::*;
    use crate::model::{Answer, Basis, KeyUse, TenantId};

    fn key(tenant: TenantId, write: bool) -> Use {
        let mut u = a_use(Verdict::Unbound);
        u.answer = Answer::Tenant(Attribution::new(tenant, Basis::Bracketed));
        u.key = Some(KeyUse { print: Fingerprint(9), write });
        u
    }

    #[test]
    fn positive_written_for_one_read_for_another() {
        let mut rule = CacheKeyUnscoped::default();
        assert!(run(&mut rule, &key(A, true)).is_empty());
        let hits = run(&mut rule, &key(B, false));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
    }

    #[test]
    fn near_miss_own_key_or_overwritten_or_named() {
        let mut rule = CacheKeyUnscoped::default();
        assert!(run(&mut rule, &key(A, true)).is_empty());
        assert!(run(&mut rule, &key(A, false)).is_empty());
        let named = Use { marker: Claim::Tenant(B), ..key(B, false) };
        assert!(run(&mut rule, &named).is_empty());
        assert!(run(&mut rule, &key(B, true)).is_empty(), "its own from now on");
        assert!(run(&mut rule, &key(B, false)).is_empty());
    }

    #[test]
    fn lossy_nobody_is_not_enough() {
        let mut rule = CacheKeyUnscoped::default();
        run(&mut rule, &key(A, true));
        let unknown = Use { answer: Answer::Several, ..key(B, false) };
        assert_eq!(outcome(&mut rule, &unknown), Outcome::Insufficient("no tenant"));
    }
}
