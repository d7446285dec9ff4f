//! The engine: composes the rooms. Events in, findings and operations out; one thread, no clock.

mod again;
mod by_unit;
mod caches;
mod conn;
mod downstream;
mod elsewhere;
mod exchanges;
mod feed;
mod follows;
mod gone;
mod habits;
mod held;
mod index;
mod jars;
mod jobs;
mod judging;
mod lookups;
mod lost;
mod messages;
mod open_jobs;
mod output;
mod owners;
mod reconfigure;
mod selectors;
mod services;
mod session;
mod shared;
mod stats;
mod stretches;
mod table;
mod through;
mod tools;
mod undecided;
mod upkeep;
mod weight;

pub use downstream::{DownstreamView, Habit};
pub use output::{
    AddressFact, OperationView, Output, OwnerFact, ServiceView, TenantView, ToolView, Wanted, WorkloadFact,
};
pub use stats::{HitLabels, Stats, TableLevel};

use std::net::{IpAddr, SocketAddr};

use crate::decode::token::Verifier;
use crate::detect::RuleEvent;
use crate::model::identity::AddressRule;
use crate::model::settings::Suppression;
use crate::model::{CgroupId, Directory, Event, Finding, Nanos, ServiceId, Settings};

use index::Party;
use shared::Shared;
use table::Table;

/// How long an operation waits for its tenant before it is nobody's.
const PATIENCE: Nanos = Nanos::secs(2);
/// How often timeouts are looked at.
const TURN: Nanos = Nanos::millis(250);

/// The pure pipeline from events to findings.
pub struct Engine {
    shared: Shared,
    table: Table,
    last_turn: Nanos,
    last_tick: Nanos,
}

impl Engine {
    /// An engine with the operator's decisions.
    pub fn new(settings: Settings) -> Self {
        let table = Table::new(settings.limits);
        Self { shared: Shared::new(settings), table, last_turn: Nanos(0), last_tick: Nanos(0) }
    }

    /// Handles one event.
    pub fn handle(&mut self, event: &Event<'_>, out: &mut dyn Output) {
        self.shared.now = event.at();
        match *event {
            Event::Segment(ref segment) => self.table.segment(segment, &mut self.shared, out),
            Event::Opened { at, cookie, cgroup, local, peer, role, tx_start, rx_start } => {
                let opened = table::Opened { at, cookie, cgroup, local, peer, role, tx_start, rx_start };
                self.table.opened(&opened, &mut self.shared, out);
            }
            Event::Closed { at, cookie, .. } => self.table.closed(at, cookie, &mut self.shared, out),
            Event::Lost { at, stage, reason, count, of } => {
                *self.shared.stats.lost.entry((stage, reason)).or_default() += count;
                self.shared.lost(at, of);
            }
            Event::Reader { cookie, thread, .. } => self.table.read_by(cookie, thread, &mut self.shared, out),
            Event::TlsSecret(_) => self.shared.stats.tls_secrets += 1,
            // Identity comes through `learn_cgroup`, once somebody has looked the path up.
            Event::CgroupSeen { .. } | Event::CgroupGone { .. } | Event::Tick { .. } => {}
        }
        self.table.settle(&mut self.shared, out);
        let now = event.at();
        self.table.look_through(now, &mut self.shared, out);
        self.table.check_answers(now, &mut self.shared, out);
        self.shared.age_jobs(now, out);
        if now.since(self.last_turn) >= TURN {
            self.last_turn = now;
            self.turn(now, out);
        }
    }

    /// Timeouts, and the rules' sense of time.
    fn turn(&mut self, now: Nanos, out: &mut dyn Output) {
        self.shared.forwarding.age(now);
        self.shared.age_deserted(now);
        self.table.expire(now, PATIENCE, &mut self.shared, out);
        self.shared.release(now, false, out);
        self.shared.contradicted(out);
        if now.since(self.last_tick) >= Nanos::secs(1) {
            self.shared.exceptions_end(self.last_tick, now);
            self.last_tick = now;
            self.forget_gone(now);
            self.shared.detect(&RuleEvent::Tick(now), out);
            self.shared.names.refresh();
            self.shared.hand_out(now, false, out);
        }
    }

    /// Identity found out who lives in a cgroup, or found out more.
    pub fn learn_cgroup(&mut self, at: Nanos, id: CgroupId, fact: &WorkloadFact) {
        let before = self.shared.directory.of_cgroup(id);
        let tenant = |s: &Shared, w| s.directory.get(w).and_then(|w| w.tenant);
        let labelled = before.and_then(|w| tenant(&self.shared, w));
        let workload = self.shared.workload(fact);
        let left = self.shared.directory.learn_cgroup(id, workload);
        self.leaves(at, left);
        self.table.identified(id, &mut self.shared);
        if let Some(before) = before
            && (before != workload || labelled != tenant(&self.shared, workload))
        {
            self.table.identify_again(&mut self.shared, &[Party::Cgroup(id), Party::Workload(workload)]);
        }
    }

    /// A cgroup is gone.
    pub fn forget_cgroup(&mut self, at: Nanos, id: CgroupId) {
        if let Some(workload) = self.shared.directory.forget_cgroup(id) {
            self.shared.forget_listeners(workload);
            self.leaves(at, Some(workload));
        }
    }

    /// Identity found out who has an address.
    pub fn learn_address(&mut self, at: Nanos, ip: IpAddr, fact: &WorkloadFact) {
        let before = self.shared.directory.at_ip(ip);
        let tenant = |s: &Shared, w| s.directory.get(w).and_then(|w| w.tenant);
        let labelled = before.and_then(|w| tenant(&self.shared, w));
        let workload = self.shared.workload(fact);
        let left = self.shared.directory.learn_address(ip, workload);
        self.leaves(at, left);
        if let Some(bare) = self.shared.forget_bare(ip) {
            // Connections that were there first knew only the address.
            self.table.named_late(ip, bare, &mut self.shared);
        }
        if before == Some(workload) && labelled != tenant(&self.shared, workload) {
            self.table.identify_again(&mut self.shared, &[Party::Workload(workload)]);
        }
    }

    /// Whoever had an address has it no more.
    pub fn forget_address(&mut self, at: Nanos, ip: IpAddr) {
        let left = self.shared.directory.forget_address(ip);
        self.leaves(at, left);
    }

    /// Identity found out the name of the service at an address.
    pub fn learn_service(&mut self, addr: SocketAddr, name: &str) {
        let name = self.shared.names.intern(name);
        self.shared.directory.learn_service(addr, name);
    }

    /// No service has this address any more.
    pub fn forget_service(&mut self, addr: SocketAddr) {
        self.shared.directory.forget_service(addr);
    }

    /// The configuration says who is behind an address.
    pub fn add_address(&mut self, fact: &AddressFact) {
        let workload = self.shared.workload(&fact.fact);
        let rule = AddressRule { net: fact.net, prefix: fact.prefix, port: fact.port, workload };
        self.shared.directory.add_address(rule);
    }

    /// The input has ended at `at`: everything that waits is decided with what there is.
    pub fn finish(&mut self, at: Nanos, out: &mut dyn Output) {
        self.table.finish(at, &mut self.shared, out);
        self.shared.contradicted(out);
        self.shared.detect(&RuleEvent::End(at), out);
        self.shared.release(at, true, out);
        self.shared.names.refresh();
        self.shared.hand_out(at, true, out);
    }

    /// Counters and levels.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Bounded tables, with how full they are.
    pub fn tables(&self) -> Vec<TableLevel> {
        let s = &self.shared;
        let level = |table, (entries, limit)| TableLevel { table, entries, limit };
        vec![
            TableLevel { table: "flows", entries: self.table.len(), limit: s.settings.limits.flows },
            TableLevel { table: "memory_bytes", entries: self.table.memory(), limit: s.settings.limits.memory },
            TableLevel { table: "names", entries: s.names.len(), limit: s.names.limit() },
            level("words", s.names.words()),
            TableLevel { table: "workloads", entries: s.directory.len(), limit: Directory::limit() },
            TableLevel { table: "findings", entries: s.store.len(), limit: s.store.limit() },
            TableLevel { table: "services", entries: s.services.len(), limit: s.settings.limits.services },
            TableLevel { table: "forwarded_requests", entries: s.forwarding.len(), limit: s.forwarding.limit() },
            TableLevel {
                table: "requests_in_flight",
                entries: s.places.values().map(|p| p.len()).sum(),
                limit: 65_536,
            },
            TableLevel { table: "opaque_ids", entries: s.owners.len(), limit: owners::Owners::limit() },
            level("looked_up_tables", s.lookups.level()),
            level("chosen_values", s.selectors.level()),
            level("cookies", s.jars.level()),
            TableLevel { table: "tokens", entries: s.tokens.len(), limit: Verifier::limit() },
            TableLevel { table: "messages", entries: s.messages.len(), limit: messages::Messages::limit() },
            TableLevel { table: "bound_tables", entries: s.habits.len(), limit: habits::Habits::limit() },
            TableLevel { table: "tools", entries: s.tools.len(), limit: tools::Tools::limit() },
            TableLevel { table: "statement_shapes", entries: s.decoders.postgres.n_shapes(), limit: 4096 },
        ]
    }

    /// Findings so far, suppressed ones left out, oldest first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.all_findings().filter(|f| f.suppressed.is_none())
    }

    /// Findings so far, suppressed ones too, oldest first.
    pub fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        self.shared.store.iter()
    }

    /// Hits that a suppression kept silent.
    pub fn n_suppressed(&self) -> u64 {
        self.shared.store.n_suppressed()
    }

    /// Findings that were forgotten to make room, those that had been quiet for longest first.
    pub fn n_findings_aged(&self) -> u64 {
        self.shared.store.n_aged()
    }

    /// The operator's exceptions.
    pub fn suppressions(&self) -> &[Suppression] {
        self.shared.store.suppressions()
    }

    /// The name of a service, for a metric label.
    pub fn service_name(&self, id: crate::model::ServiceId) -> &str {
        self.shared.services.get(id.0 as usize).map_or("_other", |s| self.shared.names.name(s.name))
    }

    /// The name of a tenant, for a metric label.
    pub fn tenant_name(&self, id: crate::model::TenantId) -> &str {
        self.shared.tenants.name(id)
    }

    /// Distinct tenants seen on each service since `since`: service, protocol, tenants.
    pub fn tenants_per_service(&self, since: Nanos) -> Vec<(&str, &'static str, usize)> {
        let s = &self.shared;
        s.services.iter().map(|v| (s.names.name(v.name), v.protocol.name(), v.tenants_since(since))).collect()
    }

    /// Tools that servers were seen to list, sorted.
    pub fn tools(&self) -> Vec<ToolView> {
        self.shared.tools.views(&self.shared.services, &self.shared.names)
    }

    /// The discovered service map.
    pub fn services(&self) -> Vec<ServiceView> {
        let s = &self.shared;
        s.services
            .iter()
            .enumerate()
            .map(|(index, service)| {
                let mut tenants: Vec<_> = service.tenants.iter().collect();
                tenants.sort_by_key(|(t, u)| (u.first_seen, **t));
                ServiceView {
                    name: s.names.name(service.name).to_owned(),
                    protocol: service.protocol.name(),
                    address: service.address,
                    workload: service
                        .workload
                        .and_then(|w| s.directory.get(w))
                        .map(|w| s.names.name(w.name).to_owned()),
                    relay: service.relay,
                    tenants: tenants.into_iter().map(|(t, u)| services::tenant_view(s, *t, u)).collect(),
                    unattributed: service.n_unattributed,
                    bindings: service.n_bindings,
                    tools: s.downstream.views(
                        ServiceId(u32::try_from(index).unwrap_or(u32::MAX)),
                        &s.services,
                        &s.names,
                    ),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
