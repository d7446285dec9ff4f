//! The operator decides otherwise while the agent runs: all of it at once, and what connections have proved stays.
//!
//! What is known of connections, tenants and services is kept. Where a decision changes what an earlier observation
//! means, the observation is doubted: it can make a verdict indeterminate, never clean and never a finding.

use super::Engine;
use super::index::Party;
use super::output::{AddressFact, Output};
use super::owners::TenantValues;
use super::shared::Shared;
use crate::decode::canary::CanarySet;
use crate::decode::token::Verifier;
use crate::model::identity::AddressRule;
use crate::model::settings::Suppression;
use crate::model::{BindPolicy, Nanos, ServiceId, Settings, Slot, WorkloadId};

impl Engine {
    /// Decides by `new` from `at` on. Salt, hand-out of operations, what may be shown and the number of connections
    /// followed stay as they are. `addresses` takes the place of all that [`Engine::add_address`] said. Gives how many workloads would be
    /// another tenant's than before, by address: they count as nobody's until the agent is started anew.
    pub fn reconfigure(&mut self, at: Nanos, new: Settings, addresses: &[AddressFact], out: &mut dyn Output) -> usize {
        let old = &self.shared.settings;
        let mut new = Settings { salt: old.salt, operations: old.operations, show: old.show.clone(), ..new };
        new.limits.flows = old.limits.flows;
        self.table.limits = new.limits;
        let all = |s: &Shared| -> Vec<BindPolicy> {
            (0u32..).zip(&s.services).map(|(i, _)| s.policy(Some(ServiceId(i))).clone()).collect()
        };
        let before = all(&self.shared);
        let respelled = self.shared.decide(new, at);
        self.shared.place_services();
        self.doubt_bindings(&before, &all(&self.shared), respelled);
        let moved = self.move_addresses(addresses);
        for workload in &moved {
            self.table.identify_again(&mut self.shared, &[Party::Workload(*workload)]);
        }
        // What was kept silent may be wanted now.
        for finding in self.shared.store.iter().filter(|f| f.suppressed.is_some()) {
            out.suppressed(finding);
        }
        moved.len()
    }

    /// What binds is decided otherwise: what connections had set may count now, and did not then.
    fn doubt_bindings(&mut self, before: &[BindPolicy], after: &[BindPolicy], respelled: bool) {
        let names = &self.shared.names;
        for conn in self.table.conns.values_mut() {
            let Some(at) = conn.core.service.map(|s| s.0 as usize) else { continue };
            let (Some(before), Some(after)) = (before.get(at), after.get(at)) else { continue };
            if before == after && !respelled {
                continue;
            }
            conn.core.ledger.decide_anew(&|slot| match slot {
                Slot::Setting(name) => before.gucs == after.gucs || after.setting_binds(names.name(name)),
                Slot::Role => before.roles == after.roles,
                Slot::SessionUser | Slot::User => before.users == after.users,
                _ => true,
            });
        }
    }

    /// Address rules by another configuration. A rule that says of the same addresses what it did not say before
    /// speaks of the same processes: whose they are is in doubt.
    fn move_addresses(&mut self, addresses: &[AddressFact]) -> Vec<WorkloadId> {
        let before = self.shared.directory.addresses().to_vec();
        self.shared.directory.clear_addresses();
        let mut moved = Vec::new();
        for fact in addresses {
            let tenant = match fact.fact.tenants.as_slice() {
                [one] => Some(self.shared.tenants.intern(one)),
                _ => None,
            };
            let same = |r: &&AddressRule| (r.net, r.prefix, r.port) == (fact.net, fact.prefix, fact.port);
            let changed = before.iter().find(same).map(|r| r.workload).filter(|w| {
                let known = self.shared.directory.get(*w);
                known.is_some_and(|w| w.conflicting || (w.tenant.is_some() && w.tenant != tenant))
            });
            match changed {
                Some(workload) => {
                    self.shared.directory.doubt(workload);
                    let rule = AddressRule { net: fact.net, prefix: fact.prefix, port: fact.port, workload };
                    self.shared.directory.add_address(rule);
                    moved.push(workload);
                }
                None => self.add_address(fact),
            }
        }
        moved
    }
}

impl Shared {
    /// Takes `new` for the settings. Says whether a spelling names a tenant that it did not name before.
    fn decide(&mut self, new: Settings, now: Nanos) -> bool {
        let respelled = new.tenants != self.settings.tenants && self.tenants.respell(&new.tenants);
        let mut values = TenantValues::default();
        for spec in &new.tenants {
            let id = self.tenants.intern(&spec.name);
            for spelling in std::iter::once(&spec.name).chain(&spec.aliases) {
                values.add(new.salt, spelling, id);
            }
        }
        for (id, name) in self.tenants.iter() {
            values.add(new.salt, name, id);
        }
        self.tenant_values = values;
        self.canaries = CanarySet::new(&new.canaries, &mut |name| self.tenants.intern(name));
        (self.tokens, _) = Verifier::new(&new.tokens, new.salt);
        self.decoders.set_headers(&new.headers);
        self.store.decide(new.rules.clone(), new.suppress.clone(), now);
        for (on, rule) in &mut self.rules {
            *on = self.store.enabled(rule.info().id);
            rule.tell_again();
            rule.tables().iter_mut().for_each(|table| table.bound(new.limits.memory));
        }
        self.settings = new;
        respelled
    }

    /// Exceptions that have ended between two moments: what their rules told once for all is told again.
    pub(super) fn exceptions_end(&mut self, since: Nanos, now: Nanos) {
        let ended = |s: &&Suppression| since < s.until && s.until <= now;
        for s in self.settings.suppress.iter().filter(ended) {
            for (_, rule) in self.rules.iter_mut().filter(|(_, r)| r.info().id == s.rule) {
                rule.tell_again();
            }
        }
    }
}
