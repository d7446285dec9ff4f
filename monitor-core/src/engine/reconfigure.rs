//! The operator decides otherwise while the agent runs: all of it at once, and what connections have proved stays.
//!
//! What is known of connections, tenants and services is kept. Where a decision changes what an earlier observation
//! means, the observation is doubted: it can make a verdict indeterminate, never clean and never a finding.

use super::Engine;
use super::index::Party;
use super::output::{AddressFact, Output};
use super::parts::Parts;
use crate::model::identity::AddressRule;
use crate::model::{BindPolicy, Nanos, ServiceId, Settings, Slot, WorkloadId};

impl Engine {
    /// Decides by `new` from `at` on. Salt, hand-out of operations, what may be shown and the number of connections
    /// followed stay as they are. `addresses` takes the place of all that [`Engine::add_address`] said. Gives how many workloads would be
    /// another tenant's than before, by address: they count as nobody's until the agent is started anew.
    pub fn reconfigure(&mut self, at: Nanos, new: Settings, addresses: &[AddressFact], out: &mut dyn Output) -> usize {
        let old = &self.parts.ctx.settings;
        let mut new = Settings { salt: old.salt, operations: old.operations, show: old.show.clone(), ..new };
        new.limits.flows = old.limits.flows;
        self.table.limits = new.limits;
        let all = |s: &Parts| -> Vec<BindPolicy> {
            (0u32..).zip(&s.map.services).map(|(i, _)| s.map.policy(&s.ctx, Some(ServiceId(i))).clone()).collect()
        };
        let before = all(&self.parts);
        let respelled = self.parts.decide(new, at);
        self.parts.map.place_services(&mut self.parts.ctx);
        let (map, ctx) = (&self.parts.map, &self.parts.ctx);
        self.parts.sealing.uses.place(|addr, workload| map.key_at(ctx, addr, workload));
        self.doubt_bindings(&before, &all(&self.parts), respelled);
        let moved = self.move_addresses(addresses);
        for workload in &moved {
            self.table.identify_again(&mut self.parts, &[Party::Workload(*workload)]);
        }
        // What was kept silent may be wanted now.
        for finding in self.parts.judge.store.iter().filter(|f| f.suppressed.is_some()) {
            out.suppressed(finding);
        }
        moved.len()
    }

    /// What binds is decided otherwise: what connections had set may count now, and did not then.
    fn doubt_bindings(&mut self, before: &[BindPolicy], after: &[BindPolicy], respelled: bool) {
        let names = &self.parts.ctx.names;
        for conn in self.table.conns.values_mut() {
            let Some(at) = conn.state.facts.service.map(|s| s.0 as usize) else { continue };
            let (Some(before), Some(after)) = (before.get(at), after.get(at)) else { continue };
            if before == after && !respelled {
                continue;
            }
            conn.state.ledger.decide_anew(&|slot| match slot {
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
        let before = self.parts.ctx.directory.addresses().to_vec();
        self.parts.ctx.directory.clear_addresses();
        let mut moved = Vec::new();
        for fact in addresses {
            let tenant = match fact.fact.tenants.as_slice() {
                [one] => Some(self.parts.ctx.tenants.intern(one)),
                _ => None,
            };
            let same = |r: &&AddressRule| (r.net, r.prefix, r.port) == (fact.net, fact.prefix, fact.port);
            let changed = before.iter().find(same).and_then(|r| r.workload).filter(|w| {
                let known = self.parts.ctx.directory.get(*w);
                known.is_some_and(|w| w.conflicting || (w.tenant.is_some() && w.tenant != tenant))
            });
            match changed {
                Some(workload) => {
                    self.parts.ctx.directory.doubt(workload);
                    let (net, prefix, port) = (fact.net, fact.prefix, fact.port);
                    let rule = AddressRule { net, prefix, port, workload: Some(workload) };
                    self.parts.ctx.directory.add_address(rule);
                    moved.push(workload);
                }
                None => self.add_address(fact),
            }
        }
        moved
    }
}
