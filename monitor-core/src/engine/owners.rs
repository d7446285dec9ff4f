//! Whose is a credential, or an id that is no known tenant's name? Learned from whom it goes with. And whom a value in
//! payload names.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::ledger::CredentialOwner;
use crate::model::claim::Salt;
use crate::model::{EvidenceClass, Fingerprint, OpaqueId, TenantId};

/// Most ids remembered. Beyond, what is new stays unknown.
const MAX_IDS: usize = 65_536;
/// Most spellings of tenants' names looked for in payload.
const MAX_SPELLINGS: usize = 65_536;
/// Most tenants told apart per id.
const MAX_TENANTS: usize = 8;
/// Uses by inference that say as much as one that is certain, if they agree.
const MANY: u32 = 8;
/// Inference errs: a second tenant counts from so many uses on …
const SECOND: u32 = 3;
/// … which are at least one of so many of all.
const SHARE: u32 = 5;

#[derive(Clone, Copy, Debug)]
struct Uses {
    tenant: TenantId,
    /// By wire or endpoint evidence.
    certain: u32,
    /// By inference.
    inferred: u32,
    /// By a process of the tenant's own, which sent it itself.
    own: bool,
}

/// Ids and whom they went with.
#[derive(Debug, Default)]
pub(super) struct Owners {
    ids: FxHashMap<OpaqueId, SmallVec<[Uses; 1]>>,
}

impl Owners {
    fn uses(&mut self, id: OpaqueId, tenant: TenantId) -> Option<&mut Uses> {
        if self.ids.len() >= MAX_IDS && !self.ids.contains_key(&id) {
            return None;
        }
        let uses = self.ids.entry(id).or_default();
        if uses.iter().all(|u| u.tenant != tenant) && uses.len() < MAX_TENANTS {
            uses.push(Uses { tenant, certain: 0, inferred: 0, own: false });
        }
        uses.iter_mut().find(|u| u.tenant == tenant)
    }

    /// `id` was used for `tenant`.
    pub(super) fn learn(&mut self, id: OpaqueId, tenant: TenantId, class: EvidenceClass) {
        if let Some(u) = self.uses(id, tenant) {
            let n = if class == EvidenceClass::Inferred { &mut u.inferred } else { &mut u.certain };
            *n = n.saturating_add(1);
        }
    }

    /// A process of `tenant`'s own has sent `id`.
    pub(super) fn presented(&mut self, id: OpaqueId, tenant: TenantId) {
        if let Some(u) = self.uses(id, tenant) {
            u.own = true;
        }
    }

    /// Whose `id` is, as far as it matters to `tenant`: what only its own processes present is its own, whoever else a
    /// proxy or gateway sends it for.
    pub(super) fn owner_for(&self, id: OpaqueId, tenant: TenantId) -> CredentialOwner {
        let presented = || {
            let uses = self.ids.get(&id).map_or(&[][..], |uses| uses);
            uses.iter().all(|u| u.own == (u.tenant == tenant)) && !uses.is_empty()
        };
        match self.owner(id) {
            CredentialOwner::Shared if presented() => CredentialOwner::One(tenant),
            owner => owner,
        }
    }

    /// Whose `id` is.
    pub(super) fn owner(&self, id: OpaqueId) -> CredentialOwner {
        let Some(uses) = self.ids.get(&id) else { return CredentialOwner::Unknown };
        let mut certain = uses.iter().filter(|u| u.certain > 0).map(|u| u.tenant);
        let first = match (certain.next(), certain.next()) {
            (Some(_), Some(_)) => return CredentialOwner::Shared,
            (first, _) => first,
        };
        let total: u32 = uses.iter().map(|u| u.inferred).fold(0, u32::saturating_add);
        let best = first.or_else(|| uses.iter().max_by_key(|u| u.inferred).map(|u| u.tenant));
        let Some(best) = best else { return CredentialOwner::Unknown };
        let others: u32 = uses.iter().filter(|u| u.tenant != best).map(|u| u.inferred).fold(0, u32::saturating_add);
        if others >= SECOND && others.saturating_mul(SHARE) >= total {
            return CredentialOwner::Shared;
        }
        if first.is_some() || total >= MANY { CredentialOwner::One(best) } else { CredentialOwner::Unknown }
    }

    /// The one tenant `id` goes with.
    pub(super) fn one(&self, id: OpaqueId) -> Option<TenantId> {
        match self.owner(id) {
            CredentialOwner::One(tenant) => Some(tenant),
            CredentialOwner::Unknown | CredentialOwner::Shared => None,
        }
    }

    /// Ids held.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Most ids held.
    pub(super) fn limit() -> usize {
        MAX_IDS
    }
}

/// Tenants by the fingerprints of their names, as values in payload have them.
#[derive(Debug, Default)]
pub(super) struct TenantValues(FxHashMap<Fingerprint, TenantId>);

impl TenantValues {
    /// `spelling` names `tenant`.
    pub(super) fn add(&mut self, salt: Salt, spelling: &str, tenant: TenantId) {
        if self.0.len() < MAX_SPELLINGS {
            self.0.entry(salt.fingerprint(spelling.as_bytes())).or_insert(tenant);
        }
    }

    /// Whom a value names.
    pub(super) fn named(&self, value: Fingerprint) -> Option<TenantId> {
        self.0.get(&value).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantId = TenantId(0);
    const B: TenantId = TenantId(1);
    const ID: OpaqueId = OpaqueId(7);

    fn after(uses: &[(TenantId, EvidenceClass, u32)]) -> CredentialOwner {
        let mut owners = Owners::default();
        for (tenant, class, n) in uses {
            for _ in 0..*n {
                owners.learn(ID, *tenant, *class);
            }
        }
        owners.owner(ID)
    }

    #[test]
    fn certain_uses_decide_and_inference_needs_many() {
        use EvidenceClass::{Endpoint, Inferred};
        assert_eq!(after(&[]), CredentialOwner::Unknown);
        assert_eq!(after(&[(A, Endpoint, 1)]), CredentialOwner::One(A));
        assert_eq!(after(&[(A, Endpoint, 1), (B, Endpoint, 1)]), CredentialOwner::Shared);
        assert_eq!(after(&[(A, Inferred, 3)]), CredentialOwner::Unknown);
        assert_eq!(after(&[(A, Inferred, 8)]), CredentialOwner::One(A));
        assert_eq!(
            after(&[(A, Inferred, 60), (B, Inferred, 4)]),
            CredentialOwner::One(A),
            "inference errs now and then"
        );
        assert_eq!(after(&[(A, Inferred, 6), (B, Inferred, 4)]), CredentialOwner::Shared);
        assert_eq!(after(&[(A, Endpoint, 2), (B, Inferred, 2)]), CredentialOwner::One(A));
    }

    #[test]
    fn what_only_ones_own_processes_present_is_ones_own() {
        let mut owners = Owners::default();
        owners.learn(ID, A, EvidenceClass::Wire);
        owners.learn(ID, B, EvidenceClass::Wire);
        assert_eq!(owners.owner_for(ID, A), CredentialOwner::Shared);
        owners.presented(ID, A);
        assert_eq!(
            (owners.owner_for(ID, A), owners.owner_for(ID, B)),
            (CredentialOwner::One(A), CredentialOwner::Shared)
        );
        owners.presented(ID, B);
        assert_eq!(
            (owners.owner_for(ID, A), owners.owner_for(ID, B)),
            (CredentialOwner::Shared, CredentialOwner::Shared)
        );
    }
}
