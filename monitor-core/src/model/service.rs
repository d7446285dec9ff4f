//! What is known of one service: who uses it and what proved their tenants. The discovered service map.

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{Fingerprint, Nanos, Protocol, Slot, Strength, Sym, TenantId, Verdict, WorkloadId};

/// One tenant's use of a service.
#[derive(Clone, Debug, Default)]
pub struct TenantUse {
    /// First data operation.
    pub first_seen: Nanos,
    /// Last one.
    pub last_seen: Nanos,
    /// Data operations by verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// Acknowledged bindings that named this tenant, by slot; the commonest few.
    pub bindings: SmallVec<[(Slot, u64); 2]>,
    /// Credentials (user, database) this tenant's connections were opened with; at most a handful are kept.
    pub credentials: SmallVec<[(Fingerprint, Fingerprint); 2]>,
    /// Some connection of this tenant's was not seen from its start, or its credentials did not fit: they are not all
    /// known.
    pub credentials_incomplete: bool,
}

impl TenantUse {
    /// All data operations.
    pub fn n_data(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// Those of which it is known what their connection had proved: where something was missed, so may a binding be.
    pub fn n_known(&self) -> u64 {
        Verdict::ALL.iter().zip(self.verdicts).filter(|(v, _)| **v != Verdict::Indeterminate).map(|(_, n)| n).sum()
    }
}

/// A service: a listening endpoint and its protocol.
#[derive(Clone, Debug)]
pub struct Service {
    /// By configuration, else the workload's name, else the address.
    pub name: Sym,
    /// As decoded.
    pub protocol: Protocol,
    /// Where it listens, as first seen.
    pub address: SocketAddr,
    /// The workload behind it, if known.
    pub workload: Option<WorkloadId>,
    /// Weakest binding that counts.
    pub minimum: Strength,
    /// Which [`super::settings::ServiceSpec`] it is by, if any.
    pub spec: Option<usize>,
    /// It passes requests on to another service unchanged: enforcement is not its business.
    pub relay: bool,
    /// Tenants that used it.
    pub tenants: FxHashMap<TenantId, TenantUse>,
    /// Client workloads that used it, with their data operations for no known tenant.
    pub clients: FxHashMap<WorkloadId, u64>,
    /// Data operations for no known tenant.
    pub n_unattributed: u64,
    /// Operations of unlabelled client workloads after two tenants were seen, by workload.
    pub unlabelled: FxHashMap<WorkloadId, u64>,
    /// When the second tenant was first seen.
    pub shared_since: Option<Nanos>,
    /// Findings of at least high severity made here.
    pub n_findings: u64,
    /// Acknowledged bindings of sufficient strength that named someone, whoever made them.
    pub n_bindings: u64,
    /// Tenants that used it more than in passing, and what follows from their credentials.
    pub regulars: Regulars,
}

/// Data operations, on connections of which enough is known, that make a tenant a regular user.
const REGULAR: u64 = 3;

/// Tenants that used a service more than in passing: kept up to date with each use, so that nobody has to look through
/// all tenants.
#[derive(Clone, Debug, Default)]
pub struct Regulars {
    /// How many.
    pub n: usize,
    /// Two of them come in with the same user and database.
    pub share_credentials: bool,
    whose: FxHashMap<(Fingerprint, Fingerprint), TenantId>,
}

impl Regulars {
    /// `tenant` has used the service again, as `u` says, with this `verdict`. `new`: a credential that it had not come in
    /// with before.
    pub fn used(&mut self, tenant: TenantId, u: &TenantUse, verdict: Verdict, new: Option<(Fingerprint, Fingerprint)>) {
        match u.n_known() {
            ..REGULAR => {}
            REGULAR if verdict != Verdict::Indeterminate => {
                self.n += 1;
                for credential in &u.credentials {
                    self.comes_in_with(tenant, *credential);
                }
            }
            _ => new.into_iter().for_each(|credential| self.comes_in_with(tenant, credential)),
        }
    }

    fn comes_in_with(&mut self, tenant: TenantId, credential: (Fingerprint, Fingerprint)) {
        self.share_credentials |= *self.whose.entry(credential).or_insert(tenant) != tenant;
    }
}

impl Service {
    /// Its regular users, told from all of its tenants.
    #[cfg(test)]
    pub(crate) fn count_regulars(&mut self) {
        self.regulars = Regulars::default();
        for (tenant, u) in self.tenants.iter().filter(|(_, u)| u.n_known() >= REGULAR) {
            self.regulars.n += 1;
            for credential in &u.credentials {
                self.regulars.comes_in_with(*tenant, *credential);
            }
        }
    }

    /// Distinct tenants with data operations not before `since`.
    pub fn tenants_since(&self, since: Nanos) -> usize {
        self.tenants.values().filter(|t| t.last_seen >= since && t.n_data() > 0).count()
    }
}
