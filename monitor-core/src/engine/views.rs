//! What the engine tells of itself when asked: counters, levels, services, tools, findings.

use super::context::Context;
use super::output::{ServiceView, ToolView};
use super::stats::{Stats, TableLevel};
use super::{Engine, TenantView, habits, messages, owners, tools};
use crate::decode::token::Verifier;
use crate::model::settings::Suppression;
use crate::model::{Directory, Finding, Nanos, Protocol, ServiceId, Slot, TenantId, TenantUse, Verdict};

impl Engine {
    /// Counters and levels.
    pub fn stats(&self) -> &Stats {
        &self.parts.stats
    }

    /// Bounded tables, with how full they are.
    pub fn tables(&self) -> Vec<TableLevel> {
        let s = &self.parts;
        let level = |table, (entries, limit)| TableLevel { table, entries, limit };
        vec![
            TableLevel { table: "flows", entries: self.table.len(), limit: s.ctx.settings.limits.flows },
            TableLevel { table: "memory_bytes", entries: self.table.memory(), limit: s.ctx.settings.limits.memory },
            TableLevel { table: "names", entries: s.ctx.names.len(), limit: s.ctx.names.limit() },
            level("words", s.ctx.names.words()),
            TableLevel { table: "workloads", entries: s.ctx.directory.len(), limit: Directory::limit() },
            TableLevel { table: "findings", entries: s.judge.store.len(), limit: s.judge.store.limit() },
            TableLevel { table: "services", entries: s.map.services.len(), limit: s.ctx.settings.limits.services },
            TableLevel {
                table: "forwarded_requests",
                entries: s.attributor.forwarding.len(),
                limit: s.attributor.forwarding.limit(),
            },
            TableLevel { table: "requests_in_flight", entries: s.attributor.n_requests(), limit: 65_536 },
            TableLevel { table: "opaque_ids", entries: s.learned.owners.len(), limit: owners::Owners::limit() },
            level("looked_up_tables", s.learned.lookups.level()),
            level("chosen_values", s.learned.selectors.level()),
            level("cookies", s.learned.jars.level()),
            level("tls_secrets", s.sealing.join.level()),
            level("tls_services", s.sealing.uses.level()),
            TableLevel { table: "tokens", entries: s.tokens.len(), limit: Verifier::limit() },
            TableLevel { table: "messages", entries: s.queues.messages.len(), limit: messages::Messages::limit() },
            TableLevel { table: "bound_tables", entries: s.learned.habits.len(), limit: habits::Habits::limit() },
            TableLevel { table: "tools", entries: s.map.tools.len(), limit: tools::Tools::limit() },
            TableLevel { table: "statement_shapes", entries: s.decoders.postgres.n_shapes(), limit: 4096 },
        ]
    }

    /// Findings so far, suppressed ones left out, oldest first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.all_findings().filter(|f| f.suppressed.is_none())
    }

    /// Findings so far, suppressed ones too, oldest first.
    pub fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        self.parts.judge.store.iter()
    }

    /// Hits that a suppression kept silent.
    pub fn n_suppressed(&self) -> u64 {
        self.parts.judge.store.n_suppressed()
    }

    /// Findings that were forgotten to make room, those that had been quiet for longest first.
    pub fn n_findings_aged(&self) -> u64 {
        self.parts.judge.store.n_aged()
    }

    /// The operator's exceptions.
    pub fn suppressions(&self) -> &[Suppression] {
        self.parts.judge.store.suppressions()
    }

    /// The name of a service, for a metric label.
    pub fn service_name(&self, id: crate::model::ServiceId) -> &str {
        self.parts.map.services.get(id.0 as usize).map_or("_other", |s| self.parts.ctx.names.name(s.name))
    }

    /// The name of a tenant, for a metric label.
    pub fn tenant_name(&self, id: crate::model::TenantId) -> &str {
        self.parts.ctx.tenants.name(id)
    }

    /// Distinct tenants seen on each service since `since`: service, protocol, tenants.
    pub fn tenants_per_service(&self, since: Nanos) -> Vec<(&str, &'static str, usize)> {
        let s = &self.parts;
        s.map.services.iter().map(|v| (s.ctx.names.name(v.name), v.protocol.name(), v.tenants_since(since))).collect()
    }

    /// Tools that servers were seen to list, sorted.
    pub fn tools(&self) -> Vec<ToolView> {
        self.parts.map.tools.views(&self.parts.map.services, &self.parts.ctx.names)
    }

    /// The discovered service map.
    pub fn services(&self) -> Vec<ServiceView> {
        let s = &self.parts;
        let mut views: Vec<ServiceView> = s
            .map
            .services
            .iter()
            .enumerate()
            .map(|(index, service)| {
                let mut tenants: Vec<_> = service.tenants.iter().collect();
                tenants.sort_by_key(|(t, u)| (u.first_seen, **t));
                ServiceView {
                    name: s.ctx.names.name(service.name).to_owned(),
                    protocol: service.protocol.name(),
                    address: service.address,
                    workload: service
                        .workload
                        .and_then(|w| s.ctx.directory.get(w))
                        .map(|w| s.ctx.names.name(w.name).to_owned()),
                    relay: service.relay,
                    tenants: tenants.into_iter().map(|(t, u)| tenant_view(&s.ctx, *t, u, service.protocol)).collect(),
                    unattributed: service.n_unattributed,
                    bindings: service.n_bindings,
                    tools: s.map.downstream.views(
                        ServiceId(u32::try_from(index).unwrap_or(u32::MAX)),
                        &s.map.services,
                        &s.ctx.names,
                    ),
                    tls: None,
                }
            })
            .collect();
        s.sealing.uses.join(&s.map, &s.ctx, &mut views);
        views
    }
}

/// One tenant's use of a service, with names.
fn tenant_view(ctx: &Context, tenant: TenantId, u: &TenantUse, protocol: Protocol) -> TenantView {
    TenantView {
        tenant: ctx.tenants.name(tenant).to_owned(),
        first_seen: u.first_seen,
        last_seen: u.last_seen,
        verdicts: Verdict::ALL.iter().zip(u.verdicts).filter(|(_, n)| *n > 0).map(|(v, n)| (v.name(), n)).collect(),
        bindings: u
            .bindings
            .iter()
            .map(|(slot, n)| {
                let name = match slot {
                    Slot::Setting(name) => ctx.names.name(*name).to_owned(),
                    Slot::Role => "role".to_owned(),
                    Slot::SessionUser if protocol == Protocol::MySql => "user".to_owned(),
                    Slot::SearchPath if protocol == Protocol::MySql => "database".to_owned(),
                    Slot::SessionUser => "session_authorization".to_owned(),
                    Slot::User => "user".to_owned(),
                    Slot::Database => "database".to_owned(),
                    Slot::SearchPath => "search_path".to_owned(),
                    Slot::ConnectionAuth => "connection_auth".to_owned(),
                    Slot::Credential => "credential".to_owned(),
                    Slot::Marker => "marker".to_owned(),
                    Slot::Schema => "schema".to_owned(),
                };
                (name, *n)
            })
            .collect(),
    }
}
