//! What the HTTP server shows: written by the engine's thread at most once a second or per finding, read by requests.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use monitor_core::model::{Finding, Nanos, Severity};

use super::json::About;
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
    /// Where findings cannot be written now, in words: they are here, and nowhere else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwritten: Vec<String>,
}

impl Readiness {
    /// Whether it is ready.
    pub fn ready(&self) -> bool {
        self.hooks && self.identity && self.unwritten.is_empty()
    }
}

/// Which findings are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this rule.
    pub rule: Option<String>,
    /// Only with this tenant, as user or as bound.
    pub tenant: Option<String>,
    /// Only of this service.
    pub service: Option<String>,
    /// Only of this severity.
    pub severity: Option<Severity>,
    /// Only of this severity, or worse.
    pub min_severity: Option<Severity>,
    /// Only those that were seen then or later.
    pub since: Option<Nanos>,
    /// Only those that were seen then or earlier.
    pub until: Option<Nanos>,
    /// Those that an exception keeps silent: without them, only them, or both.
    pub suppressed: Silent,
}

/// What to do with findings that an exception keeps silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silent {
    /// Leave them out.
    #[default]
    Without,
    /// Show nothing else.
    Only,
    /// Show them among the others.
    With,
}

impl Filter {
    fn passes(&self, f: &Finding) -> bool {
        let tenants = [f.tenants.used.as_deref(), f.tenants.bound.as_deref()];
        self.rule.as_ref().is_none_or(|r| *r == f.rule)
            && self.tenant.as_ref().is_none_or(|t| tenants.contains(&Some(t.as_str())))
            && self.service.as_ref().is_none_or(|n| f.service.as_ref().is_some_and(|s| s.name == *n))
            && self.severity.is_none_or(|s| s == f.severity)
            && self.min_severity.is_none_or(|s| s <= f.severity)
            && self.since.is_none_or(|at| f.last_seen >= at)
            && self.until.is_none_or(|at| f.first_seen <= at)
            && match self.suppressed {
                Silent::Without => f.suppressed.is_none(),
                Silent::Only => f.suppressed.is_some(),
                Silent::With => true,
            }
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

    fn newest(&self, filter: &Filter, after: Option<&(Nanos, String)>, limit: usize) -> Vec<Arc<Finding>> {
        let upto = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self
            .by_time
            .range::<(Nanos, String), _>((Bound::Unbounded, upto))
            .rev()
            .filter_map(|(_, id)| self.by_id.get(id));
        all.filter(|f| filter.passes(f)).take(limit).cloned().collect()
    }
}

/// Shared between the engine's thread and the HTTP server.
#[derive(Debug)]
pub struct Shared {
    metrics: Arc<Metrics>,
    findings: Mutex<Findings>,
    services: Mutex<Bytes>,
    tools: Mutex<Bytes>,
    readiness: Mutex<Readiness>,
    about: Mutex<Arc<About>>,
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
            services: Mutex::new(Bytes::from_static(b"[]\n")),
            tools: Mutex::new(Bytes::from_static(b"[]\n")),
            readiness: Mutex::default(),
            about: Mutex::default(),
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
            if findings.by_id.get(&f.id).is_some_and(|known| {
                known.count != f.count
                    || known.message != f.message
                    || known.evidence != f.evidence
                    || known.suppressed != f.suppressed
            }) {
                findings.put(f);
            }
        }
    }

    /// Whose findings these are.
    pub fn set_about(&self, about: Arc<About>) {
        *locked(&self.about) = about;
    }

    /// Whose findings these are.
    pub fn about(&self) -> Arc<About> {
        locked(&self.about).clone()
    }

    /// Findings, newest first; `after`: only those behind the one with this time of last sight and id.
    pub fn findings(&self, filter: &Filter, after: Option<&(Nanos, String)>, limit: usize) -> Vec<Arc<Finding>> {
        locked(&self.findings).newest(filter, after, limit)
    }

    /// The finding with this id.
    pub fn finding(&self, id: &str) -> Option<Arc<Finding>> {
        locked(&self.findings).by_id.get(id).cloned()
    }

    /// Replaces the service map (a JSON array).
    pub fn set_services(&self, json: String) {
        *locked(&self.services) = (json + "\n").into();
    }

    /// Replaces the tools that servers list (a JSON array).
    pub fn set_tools(&self, json: String) {
        *locked(&self.tools) = (json + "\n").into();
    }

    /// The tools that servers list, as a line of JSON. Shared with all who ask, however slowly they read.
    pub fn tools(&self) -> Bytes {
        locked(&self.tools).clone()
    }

    /// The service map, as a line of JSON. Shared like [`Self::tools`].
    pub fn services(&self) -> Bytes {
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
        let newest = all.newest(&Filter::default(), None, 2);
        assert_eq!(newest.iter().map(|f| (f.id.as_str(), f.count)).collect::<Vec<_>>(), [("7", 9), ("10004", 3)]);
        assert!(!all.by_id.contains_key("4"), "the oldest went first");
    }

    #[test]
    fn filters_are_exact() {
        let mut all = Findings::default();
        all.put(&sample::finding());
        let count = |filter: Filter| all.newest(&filter, None, 10).len();
        assert_eq!(count(Filter { tenant: Some("acme".into()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { tenant: Some("globex".into()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { tenant: Some("acm".into()), ..Filter::default() }), 0);
        assert_eq!(count(Filter { rule: Some("pool-stale-binding".into()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { severity: Some(Severity::High), ..Filter::default() }), 0);
        assert_eq!(count(Filter { min_severity: Some(Severity::High), ..Filter::default() }), 1);
        assert_eq!(count(Filter { service: Some("orders-db".into()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { service: Some("orders".into()), ..Filter::default() }), 0);
        let f = sample::finding();
        let later = |at: Nanos| Some(Nanos(at.0 + 1));
        assert_eq!(count(Filter { since: Some(f.last_seen), until: Some(f.first_seen), ..Filter::default() }), 1);
        assert_eq!(count(Filter { since: later(f.last_seen), ..Filter::default() }), 0);
        assert_eq!(count(Filter { until: Some(Nanos(f.first_seen.0 - 1)), ..Filter::default() }), 0);
        all.put(&sample::of_a_pod());
        let count = |filter: Filter| all.newest(&filter, None, 10).len();
        let silent = |suppressed| count(Filter { suppressed, ..Filter::default() });
        assert_eq!([silent(Silent::Without), silent(Silent::Only), silent(Silent::With)], [1, 1, 2]);
    }
}
