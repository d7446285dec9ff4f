//! What the HTTP server shows: written by the engine's thread at most once a second or per finding, read by requests.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use monitor_core::model::{Finding, Nanos, Severity};

use crate::metrics::Metrics;

/// Most findings shown over HTTP; the ones not seen for longest go first.
pub const MAX_FINDINGS: usize = 10_000;

/// Whether the agent does its work.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Readiness {
    /// The hooks that capture cannot do without are attached.
    pub hooks: bool,
    /// Every cgroup that existed at the start is known, and every source of identity that the agent was told to ask (or
    /// that made it a pod) has told what it knows once.
    pub identity: bool,
    /// Coverage that is lost, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// Sources of identity that cannot be asked now, in words: what they told last still holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
}

impl Readiness {
    /// Whether it is ready.
    pub fn ready(&self) -> bool {
        self.hooks && self.identity
    }
}

/// Which findings are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this rule.
    pub rule: Option<String>,
    /// Only with this tenant, as user or as bound.
    pub tenant: Option<String>,
    /// Only of this severity.
    pub severity: Option<Severity>,
}

impl Filter {
    fn passes(&self, f: &Finding) -> bool {
        let tenants = [f.tenants.used.as_deref(), f.tenants.bound.as_deref()];
        self.rule.as_ref().is_none_or(|r| *r == f.rule)
            && self.tenant.as_ref().is_none_or(|t| tenants.contains(&Some(t.as_str())))
            && self.severity.is_none_or(|s| s == f.severity)
    }
}

/// Findings by id, with their order in time.
#[derive(Debug, Default)]
struct Findings {
    by_id: HashMap<String, Arc<Finding>>,
    by_time: BTreeSet<(Nanos, String)>,
}

impl Findings {
    fn put(&mut self, f: &Finding) {
        if let Some(old) = self.by_id.insert(f.id.clone(), Arc::new(f.clone())) {
            self.by_time.remove(&(old.last_seen, old.id.clone()));
        }
        self.by_time.insert((f.last_seen, f.id.clone()));
        while self.by_id.len() > MAX_FINDINGS {
            let Some((_, id)) = self.by_time.pop_first() else { break };
            self.by_id.remove(&id);
        }
    }

    fn newest(&self, filter: &Filter, limit: usize) -> Vec<Arc<Finding>> {
        let all = self.by_time.iter().rev().filter_map(|(_, id)| self.by_id.get(id));
        all.filter(|f| filter.passes(f)).take(limit).cloned().collect()
    }
}

/// Shared between the engine's thread and the HTTP server.
#[derive(Debug)]
pub struct Shared {
    metrics: Arc<Metrics>,
    findings: Mutex<Findings>,
    services: Mutex<Arc<str>>,
    tools: Mutex<Arc<str>>,
    readiness: Mutex<Readiness>,
    /// When the engine's thread last came by.
    beat: Mutex<Instant>,
}

/// A poisoned lock only means that a thread ended while it held it; what it guards is replaced as a whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            findings: Mutex::default(),
            services: Mutex::new("[]".into()),
            tools: Mutex::new("[]".into()),
            readiness: Mutex::default(),
            beat: Mutex::new(Instant::now()),
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Adds or updates a finding.
    pub fn put_finding(&self, f: &Finding) {
        locked(&self.findings).put(f);
    }

    /// Brings the counts of repeated findings up to date: they are handed out at most once a minute, and asked for at
    /// any time. Copies only what has changed.
    pub fn refresh<'f>(&self, current: impl Iterator<Item = &'f Finding>) {
        let mut findings = locked(&self.findings);
        for f in current {
            if findings.by_id.get(&f.id).is_some_and(|known| known.count != f.count) {
                findings.put(f);
            }
        }
    }

    /// Findings, newest first.
    pub fn findings(&self, filter: &Filter, limit: usize) -> Vec<Arc<Finding>> {
        locked(&self.findings).newest(filter, limit)
    }

    /// Replaces the service map (a JSON array).
    pub fn set_services(&self, json: String) {
        *locked(&self.services) = json.into();
    }

    /// Replaces the tools that servers list (a JSON array).
    pub fn set_tools(&self, json: String) {
        *locked(&self.tools) = json.into();
    }

    /// The tools that servers list, as JSON.
    pub fn tools(&self) -> Arc<str> {
        locked(&self.tools).clone()
    }

    /// The service map as JSON.
    pub fn services(&self) -> Arc<str> {
        locked(&self.services).clone()
    }

    /// The engine's thread is alive.
    pub fn beat(&self) {
        *locked(&self.beat) = Instant::now();
    }

    /// How long ago the engine's thread was last known to be alive.
    pub fn silent_for(&self) -> Duration {
        locked(&self.beat).elapsed()
    }

    /// Replaces the readiness.
    pub fn set_readiness(&self, readiness: Readiness) {
        *locked(&self.readiness) = readiness;
    }

    /// The readiness.
    pub fn readiness(&self) -> Readiness {
        locked(&self.readiness).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::sample;

    #[test]
    fn newest_first_bounded_and_updated_in_place() {
        let mut all = Findings::default();
        for i in 0..MAX_FINDINGS as u64 + 5 {
            let mut f = sample::finding();
            f.id = format!("{i}");
            f.last_seen = Nanos(i);
            all.put(&f);
        }
        let mut again = sample::finding();
        again.id = "7".into();
        again.last_seen = Nanos(1 << 40);
        again.count = 9;
        all.put(&again);
        assert_eq!(all.by_id.len(), MAX_FINDINGS);
        assert_eq!(all.by_time.len(), MAX_FINDINGS);
        let newest = all.newest(&Filter::default(), 2);
        assert_eq!(newest.iter().map(|f| (f.id.as_str(), f.count)).collect::<Vec<_>>(), [("7", 9), ("10004", 3)]);
        assert!(!all.by_id.contains_key("4"), "the oldest went first");
    }

    #[test]
    fn filters_are_exact() {
        let mut all = Findings::default();
        all.put(&sample::finding());
        let count = |filter: Filter| all.newest(&filter, 10).len();
        assert_eq!(count(Filter { tenant: Some("acme".into()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { tenant: Some("globex".into()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { tenant: Some("acm".into()), ..Filter::default() }), 0);
        assert_eq!(count(Filter { rule: Some("pool-stale-binding".into()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { severity: Some(Severity::High), ..Filter::default() }), 0);
    }
}
