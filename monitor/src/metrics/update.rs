//! From the engine's and the source's counters to metrics, about once a second.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use monitor_core::engine::{Engine, ServiceView};
use monitor_core::model::settings::Suppression;
use monitor_core::model::tls::Unread;
use monitor_core::model::{Finding, LossStage, Nanos};

use super::{Metric, Metrics};
use crate::capture::SourceStats;
use crate::export::otlp::Totals;
use crate::identity::Resolver;
use crate::identity::facts::SourceKind;
use crate::tls;

/// What further tenants and services share when a label has as many values as configured.
const OTHER: &str = "_other";

/// Most pairs of service and tenant told apart.
const MAX_PAIRS: usize = 4_096;

/// A reason as a label's value: in matchers, legends and links a space is a nuisance (`no tenant` is `no_tenant`). Names that
/// others have given stay as they are.
fn word(reason: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if reason.chars().all(fits) {
        return Cow::Borrowed(reason);
    }
    // What belongs to a word goes, what stands between words becomes one stroke.
    let parts = reason.split(|c: char| !fits(c) && c != '\'').filter(|part| !part.is_empty());
    Cow::Owned(parts.map(|part| part.replace('\'', "")).collect::<Vec<_>>().join("_"))
}

/// How far back a tenant counts as using a service.
const RECENT: Nanos = Nanos::secs(3600);

/// Label values told apart, up to a limit: first come, first kept.
#[derive(Debug)]
struct Bounded {
    seen: HashSet<String>,
    limit: usize,
}

impl Bounded {
    fn new(limit: usize) -> Self {
        Self { seen: HashSet::new(), limit }
    }

    fn label<'v>(&mut self, value: &'v str) -> &'v str {
        if value.is_empty() || self.seen.contains(value) {
            return value;
        }
        if self.seen.len() >= self.limit {
            return OTHER;
        }
        self.seen.insert(value.to_owned());
        value
    }
}

/// What the numbers are read from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Its service map.
    pub services: &'a [ServiceView],
    /// The source's counters.
    pub source: &'a SourceStats,
    /// Who is where, and who tells it.
    pub identity: Option<&'a Resolver>,
    /// Bytes of events that wait for a label, and how many may.
    pub waiting: (usize, usize),
    /// Lines that could not be written, by sink.
    pub unwritten: u64,
    /// What has become of what an OpenTelemetry collector should get, if there is one.
    pub otlp: Option<Totals>,
    /// What is known of files with TLS, and what came of calls of probed functions, where TLS is read.
    pub tls: Option<(&'a tls::Status, &'a [(&'static str, u64)])>,
    /// Now.
    pub now: Nanos,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Copies counters into [`Metrics`].
#[derive(Debug)]
pub struct Updater {
    metrics: Arc<Metrics>,
    tenants: Bounded,
    services: Bounded,
    /// Pairs of service and tenant.
    pairs: Bounded,
    /// Pairs of tenants, of findings.
    victims: Bounded,
    /// Kinds of findings that have series.
    kinds: Vec<[String; 6]>,
}

/// Sums by label values: different services may share `_other`.
type Sums<'v, const N: usize> = BTreeMap<[&'v str; N], f64>;

impl Updater {
    /// Tells apart at most so many tenants and services.
    pub fn new(metrics: Arc<Metrics>, tenants: usize, services: usize) -> Self {
        let (pairs, victims) = (Bounded::new(MAX_PAIRS), Bounded::new(MAX_PAIRS));
        Self {
            metrics,
            tenants: Bounded::new(tenants),
            services: Bounded::new(services),
            pairs,
            victims,
            kinds: Vec::new(),
        }
    }

    /// Tells apart at most so many tenants and services from now on; those that are told apart stay.
    pub fn decide(&mut self, tenants: usize, services: usize) {
        self.tenants.limit = tenants;
        self.services.limit = services;
    }

    /// Copies everything.
    pub fn update(&mut self, from: Sources<'_>) {
        self.engine(from.engine, from.now);
        self.kept(from.engine.findings());
        self.exceptions(from.engine.suppressions(), from.now);
        self.uses(from.services);
        self.losses(from);
        self.source(from.source);
        if let Some(identity) = from.identity {
            self.identity(identity);
        }
        if let Some(totals) = from.otlp {
            self.otlp(&totals);
        }
        if let Some((status, secrets)) = from.tls {
            self.tls(status, secrets);
        }
        self.table("waiting_bytes", to_f64(from.waiting.0), to_f64(from.waiting.1));
        let tables = from.engine.tables();
        for t in &tables {
            self.table(t.table, to_f64(t.entries), to_f64(t.limit));
        }
        let labels = [
            ("metric_tenants", &self.tenants),
            ("metric_services", &self.services),
            ("metric_pairs", &self.pairs),
            ("metric_victims", &self.victims),
        ];
        for (table, bounded) in labels {
            self.table(table, to_f64(bounded.seen.len()), to_f64(bounded.limit));
        }
    }

    /// Which exceptions hold, and until when.
    fn exceptions(&self, all: &[Suppression], now: Nanos) {
        let active = || all.iter().filter(|s| now < s.until);
        let n = active().count();
        self.metrics.set(Metric::Suppressions, &["active"], to_f64(n));
        self.metrics.set(Metric::Suppressions, &["expired"], to_f64(all.len() - n));
        let mut next: BTreeMap<&str, Nanos> = BTreeMap::new();
        for s in active() {
            next.entry(&s.rule).and_modify(|at| *at = (*at).min(s.until)).or_insert(s.until);
        }
        self.metrics.clear(Metric::SuppressionNextExpiry);
        for (rule, at) in next {
            self.metrics.set(Metric::SuppressionNextExpiry, &[rule], at.0 as f64 / 1e9);
        }
    }

    /// How many findings of each kind there are, since when and until when.
    fn kept<'f>(&mut self, findings: impl Iterator<Item = &'f Finding>) {
        let mut kinds: BTreeMap<[&str; 6], (usize, Nanos, Nanos)> = BTreeMap::new();
        for f in findings {
            let service = f.service.as_ref().map_or("", |s| self.services.label(&s.name));
            let [tenant, bound] = self.tenants_of(f.tenants.used.as_deref(), f.tenants.bound.as_deref());
            let kind = [f.rule, f.severity.name(), f.class.name(), service, tenant, bound];
            let (n, first, last) = kinds.entry(kind).or_insert((0, f.first_seen, f.last_seen));
            (*n, *first, *last) = (*n + 1, (*first).min(f.first_seen), (*last).max(f.last_seen));
        }
        let seconds = |at: Nanos| at.0 as f64 / 1e9;
        for (labels, (n, first, last)) in &kinds {
            self.metrics.set(Metric::FindingsKept, labels, to_f64(*n));
            self.metrics.set(Metric::FindingFirstSeen, labels, seconds(*first));
            self.metrics.set(Metric::FindingLastSeen, labels, seconds(*last));
        }
        // Findings are aged, silenced, and become more severe: what there is none of any more is no series.
        if !self.kinds.iter().map(|old| old.each_ref().map(String::as_str)).eq(kinds.keys().copied()) {
            for old in &self.kinds {
                let old = old.each_ref().map(String::as_str);
                if !kinds.contains_key(&old) {
                    let all = [Metric::FindingsKept, Metric::FindingFirstSeen, Metric::FindingLastSeen];
                    all.into_iter().for_each(|metric| self.metrics.remove(metric, &old));
                }
            }
            self.kinds = kinds.into_keys().map(|kind| kind.map(str::to_owned)).collect();
        }
    }

    /// The labels `tenant` and `bound` of a finding.
    fn tenants_of<'v>(&mut self, used: Option<&'v str>, bound: Option<&'v str>) -> [&'v str; 2] {
        let tenant = used.map_or("", |t| self.tenants.label(t));
        let bound = bound.map_or("", |t| self.tenants.label(t));
        // No name holds a line end: the pair is unmistakable.
        let pair = if bound.is_empty() { String::new() } else { format!("{tenant}\n{bound}") };
        [tenant, if self.victims.label(&pair) == OTHER { OTHER } else { bound }]
    }

    fn identity(&self, identity: &Resolver) {
        let bit = |b: bool| f64::from(u8::from(b));
        let kinds: HashSet<SourceKind> = identity.sources().iter().map(|s| s.kind).collect();
        for kind in SourceKind::ALL.into_iter().filter(|k| kinds.contains(k)) {
            let ours = || identity.sources().iter().filter(|s| s.kind == kind);
            self.metrics.set(Metric::IdentitySynced, &[kind.name()], bit(ours().all(|s| s.synced)));
            self.metrics.set(Metric::IdentityStale, &[kind.name()], bit(ours().any(|s| s.stale.is_some())));
        }
        for (kind, what, n) in identity.objects().into_iter().filter(|(kind, ..)| kinds.contains(kind)) {
            self.metrics.set(Metric::IdentityObjects, &[kind.name(), what], to_f64(n));
        }
        for (end, n) in identity.waits() {
            self.metrics.set(Metric::IdentityWaitsTotal, &[end.name()], count(n));
        }
        self.metrics.set(Metric::IdentityOverflowTotal, &[], count(identity.overflowed()));
    }

    fn otlp(&self, t: &Totals) {
        let records = [
            ("sent", t.sent),
            ("queue_full", t.queue_full),
            ("refused", t.refused),
            ("rejected", t.rejected),
            ("shutdown", t.shutdown),
        ];
        self.counts(Metric::OtlpRecordsTotal, records);
        let requests = [
            ("ok", t.requests_ok),
            ("refused", t.requests_refused),
            ("busy", t.requests_busy),
            ("timeout", t.requests_timeout),
            ("unreachable", t.requests_unreachable),
        ];
        self.counts(Metric::OtlpRequestsTotal, requests);
        self.table("otlp_records", to_f64(t.waiting), to_f64(t.bounds.records));
        self.table("otlp_bytes", to_f64(t.waiting_bytes), to_f64(t.bounds.bytes));
    }

    /// Counts by their only label.
    fn counts<'l>(&self, metric: Metric, all: impl IntoIterator<Item = (&'l str, u64)>) {
        for (label, n) in all {
            self.metrics.set(metric, &[label], count(n));
        }
    }

    fn set_all<const N: usize>(&self, metric: Metric, sums: &Sums<'_, N>) {
        for (labels, value) in sums {
            self.metrics.set(metric, labels, *value);
        }
    }

    /// Who uses which service, and what proved it.
    fn uses(&mut self, services: &[ServiceView]) {
        let (mut operations, mut bindings) = (Sums::new(), Sums::new());
        for view in services {
            let service = self.services.label(&view.name);
            for used in &view.tenants {
                let tenant = self.tenants.label(&used.tenant);
                // No name holds a line end: the pair is unmistakable.
                let pair = format!("{service}\n{tenant}");
                let tenant = if self.pairs.label(&pair) == OTHER { OTHER } else { tenant };
                for &(verdict, n) in used.verdicts.iter().filter(|(_, n)| *n > 0) {
                    *operations.entry([service, view.protocol, tenant, verdict]).or_default() += count(n);
                }
                let bound: u64 = used.bindings.iter().map(|(_, n)| n).sum();
                if bound > 0 {
                    *bindings.entry([service, view.protocol, tenant]).or_default() += count(bound);
                }
            }
        }
        self.tls_of_services(services);
        self.set_all(Metric::TenantOperationsTotal, &operations);
        self.set_all(Metric::TenantBindingsTotal, &bindings);
    }

    /// What is read of whose TLS.
    fn tls_of_services(&mut self, services: &[ServiceView]) {
        let (mut bytes, mut connections, mut restart) = (Sums::new(), Sums::new(), Sums::new());
        for view in services {
            let Some(tls) = &view.tls else { continue };
            let service = self.services.label(&view.name);
            for &(result, n) in tls.bytes_unread.iter().chain(&[("read", tls.bytes_read)]) {
                *bytes.entry([service, result]).or_default() += count(n);
            }
            for &(result, n) in tls.unread.iter().chain(&[("read", tls.read)]) {
                *connections.entry([service, result]).or_default() += count(n);
            }
            // Nought is told as well: they are opened anew, one after the other.
            for why in [Unread::OlderThanAgent, Unread::NoSecret, Unread::Lost] {
                let all = tls.restart.iter().filter(|r| r.reason == why.name()).map(|r| r.connections).sum();
                *restart.entry([service, why.name()]).or_default() += count(all);
            }
        }
        self.set_all(Metric::TlsServiceBytesTotal, &bytes);
        self.set_all(Metric::TlsServiceConnectionsTotal, &connections);
        self.set_all(Metric::TlsRestartConnections, &restart);
    }

    fn engine(&mut self, engine: &Engine, now: Nanos) {
        let stats = engine.stats();
        let mut sums = Sums::new();
        for (&(service, protocol, kind, verdict), &n) in &stats.operations {
            let service = self.services.label(engine.service_name(service));
            *sums.entry([service, protocol.name(), kind.name(), verdict.name()]).or_default() += count(n);
        }
        self.set_all(Metric::OperationsTotal, &sums);

        let mut sums = Sums::new();
        for (&(service, protocol, verdict), &n) in &stats.switches {
            let service = self.services.label(engine.service_name(service));
            *sums.entry([service, protocol.name(), verdict.name()]).or_default() += count(n);
        }
        self.set_all(Metric::TenantSwitchesTotal, &sums);

        for (&(basis, result), &n) in &stats.bases {
            self.metrics.set(Metric::AttributionBasesTotal, &[basis.name(), &word(result)], count(n));
        }

        let mut sums = Sums::new();
        for (&(rule, severity, class, service, tenant, bound), &n) in &stats.findings {
            let service = service.map_or("", |s| self.services.label(engine.service_name(s)));
            let named = |t| engine.tenant_name(t);
            let [tenant, bound] = self.tenants_of(tenant.map(named), bound.map(named));
            *sums.entry([rule, severity.name(), class.name(), service, tenant, bound]).or_default() += count(n);
        }
        self.set_all(Metric::FindingsTotal, &sums);

        let mut sums = Sums::new();
        for (service, protocol, tenants) in engine.tenants_per_service(Nanos(now.0.saturating_sub(RECENT.0))) {
            // Of services that share a name the busiest speaks: adding them up would count a tenant twice.
            let most: &mut f64 = sums.entry([self.services.label(service), protocol]).or_default();
            *most = most.max(to_f64(tenants));
        }
        self.set_all(Metric::SharedServiceTenants, &sums);

        let unreported = [("suppressed", engine.n_suppressed()), ("table_full", engine.n_findings_aged())];
        self.counts(Metric::FindingsUnreportedTotal, unreported);
        for (&(protocol, error), &n) in &stats.decode_errors {
            self.metrics.set(Metric::DecodeErrorsTotal, &[protocol.name(), &word(error.name())], count(n));
        }
        self.counts(Metric::FlowDisturbancesTotal, stats.disturbances.iter().map(|(kind, n)| (*kind, *n)));
        for (&(rule, reason), &n) in &stats.insufficient {
            self.metrics.set(Metric::RuleInsufficientTotal, &[rule, &word(reason)], count(n));
        }
        let flows = [
            ("decoded", stats.flows_decoded),
            ("opaque", stats.flows_opaque),
            ("undecided", stats.flows_undecided),
            ("mid_stream", stats.flows_mid_stream),
        ];
        self.counts(Metric::Flows, flows);
        let bytes = [
            ("decoded", stats.bytes_decoded),
            ("opaque", stats.bytes_opaque.saturating_sub(stats.bytes_tls_unread.values().sum())),
            ("opaque_tls", stats.bytes_tls_unread.values().sum()),
            ("truncated", stats.bytes_truncated),
            ("lost", stats.bytes_lost),
            ("unfollowed", stats.bytes_unfollowed),
        ];
        self.counts(Metric::CoverageBytesTotal, bytes);
        self.counts(
            Metric::TlsUnreadBytesTotal,
            Unread::ALL.map(|why| (why.name(), stats.bytes_tls_unread.get(&why).copied().unwrap_or(0))),
        );
        let unread = Unread::ALL.map(|why| (why.name(), stats.tls_unread.get(&why).copied().unwrap_or(0)));
        self.counts(Metric::TlsConnectionsTotal, unread.into_iter().chain([("read", stats.tls_read)]));
    }

    /// Losses reach us twice, as events through the engine and as the source's totals: the larger figure counts.
    fn losses(&self, from: Sources<'_>) {
        let mut source = Sums::new();
        for lost in &from.source.lost {
            *source.entry([stage(lost.stage), lost.reason]).or_default() += count(lost.count);
        }
        let stats = from.engine.stats();
        for (&(at, reason), &n) in &stats.lost {
            let total: &mut f64 = source.entry([stage(at), reason]).or_default();
            *total = total.max(count(n));
        }
        *source.entry(["agent", "flow_evicted"]).or_default() += count(stats.flows_evicted);
        *source.entry(["agent", "unannounced_flow"]).or_default() += count(stats.orphans);
        *source.entry(["export", "unwritten"]).or_default() += count(from.unwritten);
        self.set_all(Metric::EventsLostTotal, &source);
    }

    fn tls(&self, status: &tls::Status, secrets: &[(&'static str, u64)]) {
        self.metrics.set(Metric::TlsProbes, &[], to_f64(status.probes));
        self.metrics.set(Metric::TlsProcesses, &[], to_f64(status.processes));
        let with = |reason: Option<tls::Reason>| status.files.iter().filter(|f| f.reason == reason).count();
        self.metrics.set(Metric::TlsFiles, &["probed"], to_f64(with(None)));
        for reason in tls::Reason::ALL {
            self.metrics.set(Metric::TlsFiles, &[reason.name()], to_f64(with(Some(reason))));
        }
        for (result, n) in secrets {
            self.metrics.set(Metric::TlsSecretsTotal, &[result], count(*n));
        }
    }

    fn source(&self, stats: &SourceStats) {
        for (direction, segments, bytes) in
            [("sent", stats.segments[0], stats.bytes[0]), ("received", stats.segments[1], stats.bytes[1])]
        {
            self.metrics.set(Metric::CaptureSegmentsTotal, &[direction], count(segments));
            self.metrics.set(Metric::CaptureBytesTotal, &[direction], count(bytes));
        }
        for hook in &stats.hooks {
            self.metrics.set(Metric::HookAttached, &[hook.hook], f64::from(u8::from(hook.attached)));
        }
        for program in &stats.programs {
            self.metrics.set(Metric::BpfRunsTotal, &[program.program], count(program.runs));
            self.metrics.set(Metric::BpfRunSecondsTotal, &[program.program], program.time.as_secs_f64());
        }
        for t in &stats.tables {
            self.table(t.table, count(t.entries), count(t.limit));
        }
    }

    fn table(&self, table: &str, entries: f64, limit: f64) {
        self.metrics.set(Metric::TableEntries, &[table], entries);
        self.metrics.set(Metric::TableLimit, &[table], limit);
    }
}

fn stage(stage: LossStage) -> &'static str {
    match stage {
        LossStage::Kernel => "kernel",
        LossStage::Agent => "agent",
        LossStage::Capture => "capture",
    }
}

/// Prometheus counts in floating point: exact up to 2^53.
fn count(n: u64) -> f64 {
    n as f64
}

fn to_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{HookStatus, LossCount};
    use monitor_core::engine::TenantView;
    use monitor_core::model::{EvidenceClass, Settings, Severity, TenantPair, WorkloadRef};

    #[test]
    fn reasons_are_single_words() {
        for (reason, is) in [
            ("no tenant", "no_tenant"),
            ("no other tenant's work on this connection", "no_other_tenants_work_on_this_connection"),
            ("argument (of a tool), cut", "argument_of_a_tool_cut"),
            ("mid_stream", "mid_stream"),
            ("", ""),
        ] {
            assert_eq!(word(reason), is);
        }
    }

    #[test]
    fn label_values_are_bounded() {
        let mut b = Bounded::new(2);
        assert_eq!([b.label("a"), b.label("b"), b.label("c"), b.label("a"), b.label("")], ["a", "b", OTHER, "a", ""]);
    }

    /// Findings are counted, not hits; when there is none of a kind any more, its series is gone.
    #[test]
    fn findings_are_told_by_kind_with_victim_and_times() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut updater = Updater::new(metrics.clone(), 10, 10);
        let finding = |id: &str, severity, (first, last), bound: Option<&str>| Finding {
            id: id.to_owned(),
            rule: "pool-stale-binding",
            severity,
            class: EvidenceClass::Wire,
            first_seen: Nanos::secs(first),
            last_seen: Nanos::secs(last),
            count: 10_000,
            tenants: TenantPair { used: Some("globex".to_owned()), bound: bound.map(str::to_owned) },
            workload: WorkloadRef { name: "app".to_owned(), cgroup: None, owner: None, pod: None },
            service: None,
            flow: None,
            evidence: Vec::new(),
            message: String::new(),
            remediation: "",
            suppressed: None,
        };
        let high = [
            finding("a", Severity::High, (100, 200), Some("acme")),
            finding("b", Severity::High, (90, 150), Some("acme")),
            finding("c", Severity::High, (300, 400), Some("initech")),
        ];
        updater.kept(high.iter());
        let kind = |name: &str, severity: &str, bound: &str| {
            format!(
                "leasewarden_{name}{{bound=\"{bound}\",evidence_class=\"wire\",rule=\"pool-stale-binding\",service=\"\",\
                 severity=\"{severity}\",tenant=\"globex\"}}"
            )
        };
        let text = metrics.render().unwrap();
        for (name, bound, is) in [
            ("findings_kept", "acme", 2),
            ("finding_first_seen_timestamp_seconds", "acme", 90),
            ("finding_last_seen_timestamp_seconds", "acme", 200),
            ("findings_kept", "initech", 1),
        ] {
            assert!(text.contains(&format!("{} {is}\n", kind(name, "high", bound))), "{name} of {bound}: {text}");
        }

        // One has become worse, the others were forgotten.
        updater.kept([finding("c", Severity::Critical, (300, 500), Some("initech"))].iter());
        let text = metrics.render().unwrap();
        assert!(text.contains(&kind("findings_kept", "critical", "initech")), "{text}");
        assert!(!text.contains("severity=\"high\""), "{text}");
    }

    #[test]
    fn source_counters_become_metrics() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut updater = Updater::new(metrics.clone(), 10, 10);
        let engine = Engine::new(Settings::default());
        let used = TenantView {
            tenant: "acme".to_owned(),
            first_seen: Nanos(0),
            last_seen: Nanos(0),
            verdicts: vec![("unbound", 3), ("revalidated", 0)],
            bindings: vec![("app.tenant_id".to_owned(), 2), ("role".to_owned(), 1)],
        };
        let services = [ServiceView {
            name: "orders-db".to_owned(),
            protocol: "postgres",
            address: "127.0.0.1:5432".parse().unwrap(),
            workload: None,
            relay: false,
            tenants: vec![used],
            unattributed: 0,
            bindings: 3,
            tools: Vec::new(),
            tls: Some(crate::testing::tls_view()),
        }];
        let lost =
            |shard, count| LossCount { stage: LossStage::Kernel, reason: "ring_full", shard: Some(shard), count };
        let source = SourceStats {
            segments: [3, 4],
            lost: vec![lost(0, 5), lost(1, 6)],
            hooks: vec![HookStatus { hook: "sock_ops", attached: false, problem: None }],
            ..SourceStats::default()
        };
        updater.update(Sources {
            engine: &engine,
            services: &services,
            source: &source,
            identity: None,
            waiting: (0, 0),
            unwritten: 2,
            otlp: Some(Totals { sent: 7, queue_full: 2, requests_busy: 1, waiting: 4, ..Totals::default() }),
            tls: None,
            now: Nanos(0),
        });
        updater.update(Sources {
            engine: &engine,
            services: &services,
            source: &source,
            identity: None,
            waiting: (0, 0),
            unwritten: 2,
            otlp: Some(Totals { sent: 7, queue_full: 2, requests_busy: 1, waiting: 4, ..Totals::default() }),
            tls: None,
            now: Nanos(0),
        });
        let text = metrics.render().unwrap();
        for line in [
            "leasewarden_events_lost_total{reason=\"ring_full\",stage=\"kernel\"} 11",
            "leasewarden_events_lost_total{reason=\"unwritten\",stage=\"export\"} 2",
            "leasewarden_capture_segments_total{direction=\"received\"} 4",
            "leasewarden_hook_attached{hook=\"sock_ops\"} 0",
            "leasewarden_otlp_records_total{result=\"sent\"} 7",
            "leasewarden_otlp_records_total{result=\"queue_full\"} 2",
            "leasewarden_otlp_requests_total{result=\"busy\"} 1",
            "leasewarden_table_entries{table=\"otlp_records\"} 4",
            "leasewarden_tenant_operations_total{protocol=\"postgres\",service=\"orders-db\",tenant=\"acme\",verdict=\"unbound\"} 3",
            "leasewarden_tenant_bindings_total{protocol=\"postgres\",service=\"orders-db\",tenant=\"acme\"} 3",
            "leasewarden_tls_service_bytes_total{result=\"read\",service=\"orders-db\"} 8000",
            "leasewarden_tls_service_bytes_total{result=\"older_than_agent\",service=\"orders-db\"} 100",
            "leasewarden_tls_service_connections_total{result=\"older_than_agent\",service=\"orders-db\"} 2",
            "leasewarden_tls_restart_connections{reason=\"older_than_agent\",service=\"orders-db\"} 2",
            "leasewarden_tls_restart_connections{reason=\"lost\",service=\"orders-db\"} 0",
            "leasewarden_table_entries{table=\"metric_pairs\"} 1",
            "leasewarden_table_limit{table=\"metric_tenants\"} 10",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
