//! Findings: deduplicated by fingerprint, counted instead of repeated, suppressed where the operator said so.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{Detail, Hit, Rule, Step, World};
use crate::model::settings::{RuleSpec, Suppression};
use crate::model::steps::step;
use crate::model::{
    Evidence, EvidenceClass, Finding, FlowRef, Nanos, ServiceId, ServiceRef, Severity, SocketCookie, Sym, TenantId,
    TenantPair, WorkloadId, WorkloadRef,
};

/// Why a finding is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingEvent {
    /// First time.
    New,
    /// It happened again since it was last handed out; at most once a minute.
    Repeated,
    /// The input has ended and it had happened again.
    Ended,
}

type Key = (&'static str, Option<ServiceId>, Option<WorkloadId>, Option<TenantId>, Option<TenantId>, Sym);

#[derive(Debug)]
struct Entry {
    finding: Finding,
    /// What it was made of: names in it are shown as they may be shown by the time it is handed out.
    hit: Hit,
    /// The names' epoch when its words were last written ([`crate::model::Interner::epoch`]).
    epoch: u32,
    suppressed: bool,
    handed_out: Nanos,
    /// Units of work, at most one a connection, in which at least two inferred bases agreed.
    agreed: SmallVec<[(SocketCookie, Nanos); 3]>,
}

/// Units of work in which inferred bases must agree before they count for more.
const SEVERAL: usize = 3;

/// How often a repeated finding is handed out again.
const AGAIN: Nanos = Nanos::secs(60);
/// Hits on one connection that are so far apart are of different units of work.
const APART: Nanos = Nanos::millis(100);
/// What a message ends with when nobody has renewed the exception.
const EXPIRED: &str = " (A suppression of this finding has expired.)";
/// Findings whose words are looked at in one turn.
const REFRESHED: usize = 1_000;
/// Most different findings held.
const MAX_FINDINGS: usize = 10_000;

/// The findings so far.
#[derive(Debug)]
pub struct Store {
    entries: Vec<Entry>,
    by_key: FxHashMap<Key, usize>,
    /// Those to be handed out again, by when.
    due: BTreeSet<(Nanos, usize)>,
    rules: Vec<RuleSpec>,
    suppress: Vec<Suppression>,
    n_suppressed: u64,
    n_forgotten: u64,
    /// Where the next [`Store::refresh`] goes on.
    hand: usize,
}

impl Entry {
    /// Writes message and evidence with the names as they may be shown by now.
    fn write(&mut self, rule: &dyn Rule, world: &World<'_>) {
        if self.epoch == world.names.epoch() {
            return;
        }
        self.epoch = world.names.epoch();
        let expired = self.finding.message.ends_with(EXPIRED);
        self.finding.message = rule.message(&self.hit, world);
        if expired {
            self.finding.message.push_str(EXPIRED);
        }
        self.finding.evidence = self.hit.steps.iter().map(|s| evidence(s, world)).collect();
    }

    fn write_by(&mut self, rules: &[Box<dyn Rule>], world: &World<'_>) {
        if let Some(rule) = rules.iter().find(|r| r.info().id == self.hit.rule) {
            self.write(rule.as_ref(), world);
        }
    }
}

impl Store {
    /// An empty store with the operator's decisions.
    pub fn new(rules: Vec<RuleSpec>, suppress: Vec<Suppression>) -> Self {
        Self {
            entries: Vec::new(),
            by_key: FxHashMap::default(),
            due: BTreeSet::new(),
            rules,
            suppress,
            n_suppressed: 0,
            n_forgotten: 0,
            hand: 0,
        }
    }

    /// Whether the operator left `rule` on.
    pub fn enabled(&self, rule: &str) -> bool {
        self.rules.iter().find(|r| r.rule == rule).is_none_or(|r| r.enabled)
    }

    /// Counts a hit; hands its finding to `out` when that is due. Says how severe the finding is, unless suppressed.
    pub fn add(
        &mut self,
        hit: &Hit,
        rule: &dyn Rule,
        world: &World<'_>,
        out: &mut dyn FnMut(&Finding, FindingEvent),
    ) -> Option<Severity> {
        let key = (hit.rule, hit.site.service, hit.site.workload, hit.used, hit.bound, hit.subject);
        if let Some(&at) = self.by_key.get(&key) {
            let entry = self.entries.get_mut(at)?;
            let f = &mut entry.finding;
            f.count += 1;
            f.last_seen = f.last_seen.max(hit.at);
            let agreed = agree(&mut entry.agreed, hit);
            let severity = severity_of(&self.rules, hit, agreed);
            if agreed && severity > f.severity {
                let agreeing = hit.corroborated.map(|bases| {
                    let detail = Detail::Agree(bases);
                    Step { at: hit.at, what: "bases", detail, tenant: hit.used, basis: None }
                });
                f.evidence.extend(agreeing.iter().map(|step| evidence(step, world)));
                entry.hit.steps.extend(agreeing);
            }
            // What happens again may be worse, or better known, than the first time.
            let worse = severity > f.severity || hit.class > f.class;
            f.severity = f.severity.max(severity);
            f.class = f.class.max(hit.class);
            if entry.suppressed {
                self.n_suppressed += 1;
                return None;
            }
            if worse || hit.at.since(entry.handed_out) >= AGAIN {
                self.due.remove(&(entry.handed_out + AGAIN, at));
                entry.handed_out = hit.at;
                entry.write(rule, world);
                out(&entry.finding, FindingEvent::Repeated);
            } else {
                self.due.insert((entry.handed_out + AGAIN, at));
            }
            return Some(entry.finding.severity);
        }
        if self.entries.len() >= MAX_FINDINGS {
            self.n_forgotten += 1;
            return None;
        }
        let mut finding = describe(hit, rule, world, severity_of(&self.rules, hit, false));
        let mut suppressed = false;
        if let Some(s) = self.suppress.iter().find(|s| covers(s, &finding)) {
            if hit.at < s.until {
                suppressed = true;
                self.n_suppressed += 1;
            } else {
                finding.message.push_str(EXPIRED);
            }
        }
        if !suppressed {
            out(&finding, FindingEvent::New);
        }
        let severity = finding.severity;
        self.by_key.insert(key, self.entries.len());
        let mut agreed = SmallVec::new();
        agree(&mut agreed, hit);
        let (hit, epoch, handed_out) = (hit.clone(), world.names.epoch(), hit.at);
        self.entries.push(Entry { finding, hit, epoch, suppressed, handed_out, agreed });
        (!suppressed).then_some(severity)
    }

    /// Writes the words of findings anew of whose names more, or less, may be shown by now: some at a time.
    pub fn refresh(&mut self, rules: &[Box<dyn Rule>], world: &World<'_>) {
        let n = self.entries.len();
        for _ in 0..n.min(REFRESHED) {
            self.hand = (self.hand + 1) % n.max(1);
            if let Some(entry) = self.entries.get_mut(self.hand) {
                entry.write_by(rules, world);
            }
        }
    }

    /// Hands out what has repeated: all of it when the input `ended`, else what is due.
    pub fn flush(
        &mut self,
        now: Nanos,
        ended: bool,
        rules: &[Box<dyn Rule>],
        world: &World<'_>,
        out: &mut dyn FnMut(&Finding, FindingEvent),
    ) {
        let mut all: Vec<usize> = Vec::new();
        while let Some((_, at)) = self.due.first().copied().filter(|(due, _)| ended || *due <= now) {
            step();
            self.due.pop_first();
            all.push(at);
        }
        // The oldest finding first.
        all.sort_unstable();
        for at in all {
            let Some(entry) = self.entries.get_mut(at) else { continue };
            entry.handed_out = now;
            entry.write_by(rules, world);
            out(&entry.finding, if ended { FindingEvent::Ended } else { FindingEvent::Repeated });
        }
    }

    /// Every finding that is not suppressed, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.entries.iter().filter(|e| !e.suppressed).map(|e| &e.finding)
    }

    /// Different findings held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Most different findings held.
    pub fn limit(&self) -> usize {
        MAX_FINDINGS
    }

    /// Hits that a suppression kept silent.
    pub fn n_suppressed(&self) -> u64 {
        self.n_suppressed
    }

    /// Hits that found no room.
    pub fn n_forgotten(&self) -> u64 {
        self.n_forgotten
    }
}

/// The operator's severity, else the hit's; inference alone never goes beyond medium.
fn severity_of(rules: &[RuleSpec], hit: &Hit, agreed: bool) -> Severity {
    let wanted = rules.iter().find(|r| r.rule == hit.rule).and_then(|r| r.severity).unwrap_or(hit.severity);
    match hit.class {
        EvidenceClass::Inferred if agreed => wanted.min(Severity::High),
        EvidenceClass::Inferred => wanted.min(Severity::Medium),
        EvidenceClass::Endpoint | EvidenceClass::Wire => wanted,
    }
}

/// Notes a hit on which inferred bases agree; whether they have done so in several units of work.
fn agree(agreed: &mut SmallVec<[(SocketCookie, Nanos); 3]>, hit: &Hit) -> bool {
    if let (Some(_), Some((cookie, ..))) = (hit.corroborated, hit.site.flow)
        && agreed.len() < SEVERAL
        && agreed.last().is_none_or(|(c, at)| *c != cookie || hit.at.since(*at) >= APART)
    {
        agreed.push((cookie, hit.at));
    }
    agreed.len() >= SEVERAL && hit.corroborated.is_some()
}

fn covers(s: &Suppression, f: &Finding) -> bool {
    let tenants = [f.tenants.used.as_deref(), f.tenants.bound.as_deref()];
    s.rule == f.rule
        && s.service.as_ref().is_none_or(|name| f.service.as_ref().is_some_and(|x| x.name == *name))
        && s.tenant.as_ref().is_none_or(|name| tenants.contains(&Some(name.as_str())))
        && s.finding.as_ref().is_none_or(|id| f.id == *id)
}

fn describe(hit: &Hit, rule: &dyn Rule, world: &World<'_>, severity: Severity) -> Finding {
    let service = hit.site.service.and_then(|s| world.service(s)).map(|s| ServiceRef {
        name: world.names.name(s.name).to_owned(),
        protocol: s.protocol.name(),
        address: Some(s.address),
    });
    let workload = hit.site.workload.and_then(|w| world.directory.get(w)).map_or_else(WorkloadRef::default, |w| {
        let cgroup = world.names.name(w.cgroup);
        WorkloadRef {
            name: world.names.name(w.name).to_owned(),
            cgroup: (!cgroup.is_empty()).then(|| cgroup.to_owned()),
        }
    });
    let name = |t: Option<TenantId>| t.map(|t| world.tenants.name(t).to_owned());
    let tenants = TenantPair { used: name(hit.used), bound: name(hit.bound) };
    let mut parts = vec![
        hit.rule,
        &workload.name,
        workload.cgroup.as_deref().unwrap_or_default(),
        service.as_ref().map_or("", |s| &s.name),
        service.as_ref().map_or("", |s| s.protocol),
        tenants.used.as_deref().unwrap_or_default(),
        tenants.bound.as_deref().unwrap_or_default(),
    ];
    // Rules without a subject keep the ids they have always had.
    if hit.subject != Sym::EMPTY {
        parts.push(world.names.exact(hit.subject));
    }
    let id = fingerprint(&parts);
    Finding {
        id,
        rule: hit.rule,
        severity,
        class: hit.class,
        first_seen: hit.steps.last().map_or(hit.at, |s| s.at.min(hit.at)),
        last_seen: hit.at,
        count: 1,
        tenants,
        workload,
        service,
        flow: hit.site.flow.map(|(cookie, local, peer)| FlowRef { cookie, local, peer }),
        evidence: hit.steps.iter().map(|s| evidence(s, world)).collect(),
        message: rule.message(hit, world),
        remediation: rule.info().remediation,
    }
}

fn evidence(step: &Step, world: &World<'_>) -> Evidence {
    Evidence {
        at: step.at,
        what: step.what,
        detail: step.words(world),
        tenant: step.tenant.map(|t| world.tenants.name(t).to_owned()),
        basis: step.basis.map(|b| b.name()),
    }
}

/// 128 bits over the parts, as 32 hexadecimal digits: stable across runs, hosts and versions.
fn fingerprint(parts: &[&str]) -> String {
    use std::hash::Hasher as _;
    let mut h = siphasher::sip128::SipHasher24::new_with_keys(0x6c65_6173_6577_6172, 0x6465_6e2f_6669_6e64);
    for part in parts {
        h.write(part.as_bytes());
        h.write_u8(0);
    }
    let h = siphasher::sip128::Hasher128::finish128(&h);
    format!("{:016x}{:016x}", h.h1, h.h2)
}
