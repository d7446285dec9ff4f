//! Whose is the value of a selector that names nobody: a schema `c_1842`, the number of a database, a virtual host?
//!
//! Applications choose such values for many reasons. It is a tenant's alias where each tenant has consistently gone
//! with one of its own: the value was chosen for this tenant alone, and another tenant has another. Only choices count
//! for that (the first work after the value was set); work under a value that was left behind counts against it, since
//! what was set once for a whole pool is everybody's. See `docs/decisions/0017-what-a-binding-decides.md`.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::ledger::Standing;
use crate::model::{Bound, Claim, OpaqueId, Scope, ServiceId, Slot, TenantId};

/// Most values, and most tenants with a value, over all services. Beyond, what is new says nothing.
const MAX: usize = 65_536;
/// Most tenants told apart per value.
const MAX_TENANTS: usize = 8;
/// Most tenants of a service that are asked whether they go with values of their own.
const SAMPLE: usize = 16;
/// Choices that make a value a tenant's own.
const ENOUGH: u32 = 3;
/// The same for what a connection was opened with: a pool's first users may be one tenant by chance.
const ENOUGH_AT_START: u32 = 8;
/// Another's uses, of which so many to one choice make it everybody's.
const SHARE: u32 = 2;
/// A tenant has its own value where at most one of so many choices is another.
const STEADY: u32 = 8;

#[derive(Clone, Copy, Debug)]
struct Uses {
    tenant: TenantId,
    /// Times the value was chosen for it.
    chosen: u32,
    /// Times it worked under the value as it was left.
    left: u32,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    value: OpaqueId,
    n: u32,
    others: u32,
}

impl Own {
    fn is_steady(&self, enough: u32) -> bool {
        self.n >= enough && self.others.saturating_mul(STEADY) <= self.n
    }
}

/// One kind of value at one service.
type Selector = (ServiceId, Slot);

/// Values and whom they were chosen for.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    values: FxHashMap<(Selector, OpaqueId), SmallVec<[Uses; 1]>>,
    own: FxHashMap<(Selector, TenantId), Own>,
    /// What tenants go with as far as anybody can tell, by inference as well: it may excuse, and never accuses.
    tends: FxHashMap<(Selector, TenantId), Own>,
    sample: FxHashMap<Selector, SmallVec<[TenantId; 4]>>,
}

/// A schema is the same one, whether it was set or is named.
fn selector(service: ServiceId, slot: Slot) -> Selector {
    (service, if slot == Slot::Schema { Slot::SearchPath } else { slot })
}

fn value(bound: &Bound) -> Option<OpaqueId> {
    match bound.claim {
        Claim::Chosen(id) => Some(id),
        _ => None,
    }
}

/// Notes which value a tenant went with. False: there is no room.
fn note(all: &mut FxHashMap<(Selector, TenantId), Own>, selector: Selector, tenant: TenantId, id: OpaqueId) -> bool {
    if all.len() >= MAX && !all.contains_key(&(selector, tenant)) {
        return false;
    }
    let own = all.entry((selector, tenant)).or_insert(Own { value: id, n: 0, others: 0 });
    if own.value == id {
        own.n = own.n.saturating_add(1);
    } else {
        own.others = own.others.saturating_add(1);
        // It went with this by accident: the first value that it keeps to counts.
        if own.others > own.n {
            *own = Own { value: id, n: 1, others: own.n };
        }
    }
    true
}

impl Selectors {
    /// A tenant worked under a value: one that was `chosen` for this work, or one that was left.
    pub(super) fn used(&mut self, service: ServiceId, bound: &Bound, tenant: TenantId, chosen: bool) {
        let (selector, Some(id)) = (selector(service, bound.slot), value(bound)) else { return };
        if self.values.len() >= MAX && !self.values.contains_key(&(selector, id)) {
            return;
        }
        let uses = self.values.entry((selector, id)).or_default();
        if uses.iter().all(|u| u.tenant != tenant) && uses.len() < MAX_TENANTS {
            uses.push(Uses { tenant, chosen: 0, left: 0 });
        }
        if let Some(u) = uses.iter_mut().find(|u| u.tenant == tenant) {
            let n = if chosen { &mut u.chosen } else { &mut u.left };
            *n = n.saturating_add(1);
        }
        if !chosen {
            return;
        }
        note(&mut self.tends, selector, tenant, id);
        if note(&mut self.own, selector, tenant, id) {
            self.sample(selector, tenant);
        }
    }

    /// A tenant chose a value, as far as can be inferred.
    pub(super) fn tended(&mut self, service: ServiceId, bound: &Bound, tenant: TenantId) {
        let (selector, Some(id)) = (selector(service, bound.slot), value(bound)) else { return };
        if note(&mut self.tends, selector, tenant, id) {
            self.sample(selector, tenant);
        }
    }

    /// Takes a tenant among those that are asked what they go with.
    fn sample(&mut self, selector: Selector, tenant: TenantId) {
        let sample = self.sample.entry(selector).or_default();
        if sample.len() < SAMPLE && !sample.contains(&tenant) {
            sample.push(tenant);
        }
    }

    /// The only tenant that a value was chosen for, how often, and whether it is kept to itself.
    fn keeper(&self, selector: Selector, id: OpaqueId) -> Option<(TenantId, u32)> {
        let uses = self.values.get(&(selector, id))?;
        let best = uses.iter().max_by_key(|u| u.chosen).filter(|u| u.chosen > 0)?;
        let others: u32 = uses
            .iter()
            .filter(|u| u.tenant != best.tenant)
            .map(|u| u.chosen.saturating_add(u.left))
            .fold(0, u32::saturating_add);
        (others == 0 || others.saturating_mul(SHARE) < best.chosen).then_some((best.tenant, best.chosen))
    }

    /// Tenants of a service go with values of their own: two of them at least, each with another.
    pub(super) fn is_divided(&self, service: ServiceId, slot: Slot) -> bool {
        let selector = selector(service, slot);
        let keeps = |tenant: &TenantId| {
            let own = self.own.get(&(selector, *tenant));
            own.is_some_and(|own| self.keeper(selector, own.value).is_some_and(|(keeper, _)| keeper == *tenant))
        };
        self.sample.get(&selector).is_some_and(|tenants| tenants.iter().filter(|t| keeps(t)).take(2).count() == 2)
    }

    /// Whether the tenant goes with this value alone, and another goes with others, too, or may still show that it does: the
    /// value is not everybody's, whoever else was seen to use it.
    fn goes_with(&self, selector: Selector, id: OpaqueId, tenant: TenantId) -> bool {
        let own = |tenant| self.tends.get(&(selector, tenant));
        let elsewhere =
            |other: &TenantId| *other != tenant && own(*other).is_some_and(|own| own.value != id || own.others > 0);
        let others_do = || self.sample.get(&selector).is_some_and(|tenants| tenants.iter().any(elsewhere));
        own(tenant).is_some_and(|own| own.value == id && own.is_steady(1) && (own.n < ENOUGH || others_do()))
    }

    /// Whose the value is, for an operation of `tenant`.
    pub(super) fn standing(&self, service: ServiceId, bound: &Bound, tenant: TenantId) -> Standing {
        let Some(id) = value(bound) else { return Standing::Nobody };
        let selector = selector(service, bound.slot);
        if !self.is_divided(service, bound.slot) {
            // Whose it is shows when tenants are seen to go with their own. What another went with is everybody's, and
            // so is what a connection was opened with.
            let others = self.values.get(&(selector, id)).is_some_and(|uses| uses.iter().any(|u| u.tenant != tenant));
            let may_be = bound.scope != Scope::Startup && (!others || self.goes_with(selector, id, tenant));
            return if may_be { Standing::Unsure } else { Standing::Nobody };
        }
        if !self.values.contains_key(&(selector, id)) {
            return Standing::Unsure;
        }
        let Some((keeper, n)) = self.keeper(selector, id) else { return Standing::Nobody };
        let enough = if bound.scope == Scope::Startup { ENOUGH_AT_START } else { ENOUGH };
        if n < enough {
            return Standing::Unsure;
        }
        if keeper == tenant {
            return Standing::Of(keeper);
        }
        // Another's, if that one has none but this, and this tenant has its own. What a condition of a query compares
        // with may be anybody's for good reasons.
        let steady = |tenant| self.own.get(&(selector, tenant)).filter(|own| own.is_steady(enough));
        let crossed = steady(keeper).is_some_and(|own| own.value == id) && steady(tenant).is_some();
        if crossed && bound.slot != Slot::Marker { Standing::Of(keeper) } else { Standing::Unsure }
    }

    /// Values held, and most of them.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.values.len().max(self.own.len()).max(self.tends.len()), MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Nanos, Strength, UnitNo};

    const A: TenantId = TenantId(0);
    const B: TenantId = TenantId(1);
    const HERE: ServiceId = ServiceId(0);

    fn db(n: u64, scope: Scope) -> Bound {
        let claim = Claim::Chosen(OpaqueId(n));
        Bound { slot: Slot::Database, claim, scope, strength: Strength::V2, at: Nanos(0), unit: UnitNo(1) }
    }

    fn after(choices: &[(TenantId, u64, bool, u32)]) -> Selectors {
        let mut all = Selectors::default();
        for (tenant, n, chosen, times) in choices {
            for _ in 0..*times {
                all.used(HERE, &db(*n, Scope::Session), *tenant, *chosen);
            }
        }
        all
    }

    fn of(all: &Selectors, n: u64, tenant: TenantId) -> Standing {
        all.standing(HERE, &db(n, Scope::Session), tenant)
    }

    #[test]
    fn each_tenant_with_its_own_value() {
        let all = after(&[(A, 1, true, 3), (B, 2, true, 3)]);
        assert_eq!(of(&all, 1, A), Standing::Of(A));
        assert_eq!(of(&all, 1, B), Standing::Of(A));
        assert_eq!(of(&all, 2, A), Standing::Of(B));
        assert_eq!(of(&all, 3, A), Standing::Unsure, "a new one may be anybody's");
        assert_eq!(all.standing(HERE, &db(1, Scope::Startup), B), Standing::Unsure, "a pool needs more");
    }

    #[test]
    fn before_that_nothing_is_sure_and_what_all_use_is_nobodys() {
        let few = after(&[(A, 1, true, 1), (B, 2, true, 1)]);
        assert_eq!((of(&few, 1, A), of(&few, 1, B)), (Standing::Unsure, Standing::Unsure));
        let one = after(&[(A, 1, true, 9)]);
        assert_eq!((of(&one, 1, A), of(&one, 1, B)), (Standing::Unsure, Standing::Nobody));
        assert_eq!(of(&one, 2, B), Standing::Unsure, "it may turn out to be its own");
        assert_eq!(one.standing(HERE, &db(1, Scope::Startup), A), Standing::Nobody);
        let both = after(&[(A, 1, true, 9), (B, 1, true, 9)]);
        assert_eq!(of(&both, 1, B), Standing::Nobody);
        // Two kinds of data, each in its own database, for everybody.
        let kinds = after(&[(A, 1, true, 9), (B, 2, true, 9), (A, 2, true, 6), (B, 1, true, 6)]);
        assert_eq!((of(&kinds, 1, B), of(&kinds, 2, A)), (Standing::Nobody, Standing::Nobody));
    }

    #[test]
    fn what_was_set_once_for_a_pool_is_everybodys() {
        let all = after(&[(A, 1, true, 3), (B, 2, true, 3), (B, 1, false, 4), (A, 2, false, 4)]);
        assert_eq!((of(&all, 1, B), of(&all, 2, A)), (Standing::Nobody, Standing::Nobody));
        // A slip now and then is none.
        let all = after(&[(A, 1, true, 30), (B, 2, true, 30), (B, 1, false, 4)]);
        assert_eq!(of(&all, 1, B), Standing::Of(A));
    }

    #[test]
    fn who_keeps_to_a_value_that_another_uses_at_times_is_not_accused_of_it() {
        // B uses A's as often as A does, and has one of its own.
        let all = after(&[(A, 1, true, 9), (B, 2, true, 30), (B, 1, true, 9)]);
        assert_eq!(
            (of(&all, 1, A), of(&all, 1, B), of(&all, 2, B)),
            (Standing::Unsure, Standing::Nobody, Standing::Unsure)
        );
        // No tenant has a value of its own.
        let all = after(&[(A, 1, true, 9), (B, 1, true, 9)]);
        assert_eq!(of(&all, 1, A), Standing::Nobody);
        // Nor does A keep to it.
        let all = after(&[(A, 1, true, 9), (A, 3, true, 6), (B, 2, true, 30), (B, 1, true, 9)]);
        assert_eq!(of(&all, 1, A), Standing::Nobody);
    }

    #[test]
    fn what_is_inferred_excuses_and_never_accuses() {
        let tended = |of_a: &[u64]| {
            let mut all = after(&[(B, 2, true, 30), (B, 1, true, 9)]);
            for n in of_a.iter().cycle().take(9) {
                all.used(HERE, &db(*n, Scope::Session), A, false);
                all.tended(HERE, &db(*n, Scope::Session), A);
            }
            all
        };
        // A keeps to what B uses at times, as far as can be inferred.
        let all = tended(&[1]);
        assert_eq!((of(&all, 1, A), of(&all, 1, B)), (Standing::Unsure, Standing::Nobody));
        // A does not keep to it.
        assert_eq!(of(&tended(&[1, 3]), 1, A), Standing::Nobody);
        // It is never A's by inference.
        let mut all = after(&[(B, 2, true, 9)]);
        for _ in 0..9 {
            all.tended(HERE, &db(1, Scope::Session), A);
        }
        assert!(!all.is_divided(HERE, Slot::Database));
        assert_eq!(of(&all, 1, B), Standing::Unsure);
    }

    #[test]
    fn who_has_no_value_of_its_own_is_not_said_to_cross() {
        let all = after(&[(A, 1, true, 9), (B, 2, true, 9)]);
        assert_eq!(of(&all, 1, TenantId(7)), Standing::Unsure);
    }
}
