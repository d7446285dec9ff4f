//! Findings: deduplicated by what they are about, counted instead of repeated, silenced while the operator says so.
//!
//! A finding is known by its id: rule, workload, service, tenants. A workload that is one of many (a pod of a
//! Deployment, a container of an image) counts by what it is one of, so that the same problem on each replica, and after
//! each rollout, is one finding.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::remedy::remedy;
use super::{Detail, Hit, Rule, Step, World};
use crate::model::settings::{RuleSpec, Suppression};
use crate::model::steps::step;
use crate::model::{
    Evidence, EvidenceClass, Finding, FlowRef, Nanos, OwnerRef, Service, ServiceId, ServiceRef, Severity, SocketCookie,
    Suppressed, Sym, TenantId, TenantPair, WorkloadId, WorkloadRef,
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

/// Receives findings.
pub trait FindingSink {
    /// A finding is new or has happened again.
    fn finding(&mut self, finding: &Finding, event: FindingEvent);

    /// The same for one that an exception keeps silent.
    fn suppressed(&mut self, finding: &Finding);
}

/// What is the same for every hit of one process at one service: a short cut to the finding's id.
type Key = (&'static str, Option<ServiceId>, Option<WorkloadId>, Option<TenantId>, Option<TenantId>, Sym);

/// A finding's number: in the order of their making.
type No = u64;

#[derive(Debug)]
struct Entry {
    finding: Finding,
    /// What it was made of: names in it are shown as they may be shown by the time it is handed out.
    hit: Hit,
    /// The names' epoch when its words were last written ([`crate::model::Interner::epoch`]).
    epoch: u32,
    /// It was handed out as a finding, whether or not it is silent now.
    told: bool,
    /// When it was last handed out, silent or not.
    handed_out: Nanos,
    /// It has happened since.
    behind: bool,
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
/// Most short cuts to findings: each process and service that it used has its own.
const MAX_KEYS: usize = 4 * MAX_FINDINGS;

/// The findings so far.
#[derive(Debug)]
pub struct Store {
    entries: BTreeMap<No, Entry>,
    by_id: FxHashMap<String, No>,
    by_key: FxHashMap<Key, No>,
    /// Those to be handed out again, by when.
    due: BTreeSet<(Nanos, No)>,
    /// All of them, by when they last happened; put right when room is needed.
    quiet: BTreeSet<(Nanos, No)>,
    next: No,
    rules: Vec<RuleSpec>,
    suppress: Vec<Suppression>,
    limit: usize,
    n_suppressed: u64,
    n_aged: u64,
    /// Where the next [`Store::refresh`] goes on.
    hand: No,
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

    fn write_by(&mut self, rules: &[(bool, Box<dyn Rule>)], world: &World<'_>) {
        if let Some((_, rule)) = rules.iter().find(|(_, r)| r.info().id == self.hit.rule) {
            self.write(rule.as_ref(), world);
        }
    }
}

impl Store {
    /// An empty store with the operator's decisions.
    pub fn new(rules: Vec<RuleSpec>, suppress: Vec<Suppression>) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_id: FxHashMap::default(),
            by_key: FxHashMap::default(),
            due: BTreeSet::new(),
            quiet: BTreeSet::new(),
            next: 0,
            rules,
            suppress,
            limit: MAX_FINDINGS,
            n_suppressed: 0,
            n_aged: 0,
            hand: 0,
        }
    }

    /// The operator has decided otherwise at `now`. What is held is silent from now on where an exception covers it; where
    /// none does any more, it is told when it happens again.
    pub fn decide(&mut self, rules: Vec<RuleSpec>, suppress: Vec<Suppression>, now: Nanos) {
        self.rules = rules;
        self.suppress = suppress;
        // Services may have other names now.
        self.by_key.clear();
        for entry in self.entries.values_mut() {
            let f = &mut entry.finding;
            let (silence, _) = silence(&self.suppress, f, now);
            // An exception that was taken back ends now, and is asked about no more.
            f.suppressed = silence.or(f.suppressed.take().map(|s| Suppressed { until: s.until.min(now), ..s }));
        }
    }

    /// Whether the operator left `rule` on.
    pub fn enabled(&self, rule: &str) -> bool {
        self.rules.iter().find(|r| r.rule == rule).is_none_or(|r| r.enabled)
    }

    /// The operator's exceptions.
    pub fn suppressions(&self) -> &[Suppression] {
        &self.suppress
    }

    /// Counts a hit; hands its finding to `out` when that is due. Says how severe the finding is, unless suppressed.
    pub fn add(
        &mut self,
        hit: &Hit,
        rule: &dyn Rule,
        world: &World<'_>,
        out: &mut dyn FindingSink,
    ) -> Option<Severity> {
        let key = (hit.rule, hit.site.service, hit.site.workload, hit.used, hit.bound, hit.subject);
        if let Some(no) = self.by_key.get(&key).copied().filter(|no| self.entries.contains_key(no)) {
            return self.again(no, hit, rule, world, out);
        }
        let mut finding = describe(hit, rule, world, severity_of(&self.rules, hit, false));
        if self.by_key.len() >= MAX_KEYS {
            self.by_key.clear();
        }
        // The same problem of a replica, or of a predecessor.
        if let Some(&no) = self.by_id.get(&finding.id) {
            self.by_key.insert(key, no);
            return self.again(no, hit, rule, world, out);
        }
        while self.entries.len() >= self.limit && self.age(world, out) {}
        let no = self.next;
        self.next += 1;
        self.by_key.insert(key, no);
        self.by_id.insert(finding.id.clone(), no);
        self.quiet.insert((hit.at, no));
        let mut agreed = SmallVec::new();
        agree(&mut agreed, hit);
        let (silence, expired) = silence(&self.suppress, &finding, hit.at);
        finding.suppressed = silence;
        if expired {
            finding.message.push_str(EXPIRED);
        }
        let severity = finding.severity;
        let told = finding.suppressed.is_none();
        if told {
            out.finding(&finding, FindingEvent::New);
        } else {
            self.n_suppressed += 1;
            out.suppressed(&finding);
        }
        let (hit, epoch) = (hit.clone(), world.names.epoch());
        self.entries.insert(no, Entry { finding, told, handed_out: hit.at, hit, epoch, behind: false, agreed });
        told.then_some(severity)
    }

    /// A finding that is held has happened again.
    fn again(
        &mut self,
        no: No,
        hit: &Hit,
        rule: &dyn Rule,
        world: &World<'_>,
        out: &mut dyn FindingSink,
    ) -> Option<Severity> {
        let entry = self.entries.get_mut(&no)?;
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
        // Each hit asks anew: an exception has an end.
        if f.suppressed.as_ref().is_some_and(|s| s.until <= hit.at) {
            let (silence, expired) = silence(&self.suppress, f, hit.at);
            f.suppressed = silence;
            if expired && !f.message.ends_with(EXPIRED) {
                f.message.push_str(EXPIRED);
            }
        }
        let silent = f.suppressed.is_some();
        let first = !silent && !entry.told;
        if first || worse || hit.at.since(entry.handed_out) >= AGAIN {
            // Handed out now: the turn that it had is for nothing.
            self.due.remove(&(entry.handed_out + AGAIN, no));
            entry.handed_out = hit.at;
            entry.behind = false;
            entry.told |= !silent;
            entry.write(rule, world);
            let f = &entry.finding;
            match (silent, first) {
                (true, _) => out.suppressed(f),
                (false, true) => out.finding(f, FindingEvent::New),
                (false, false) => out.finding(f, FindingEvent::Repeated),
            }
        } else {
            entry.behind = true;
            self.due.insert((entry.handed_out + AGAIN, no));
        }
        if silent {
            self.n_suppressed += 1;
            return None;
        }
        Some(entry.finding.severity)
    }

    /// Makes room: the finding that has been quiet for longest is forgotten. `false`: there is none.
    fn age(&mut self, world: &World<'_>, out: &mut dyn FindingSink) -> bool {
        while let Some((at, no)) = self.quiet.pop_first() {
            step();
            let Some(entry) = self.entries.get(&no) else { continue };
            if entry.finding.last_seen > at {
                self.quiet.insert((entry.finding.last_seen, no));
                continue;
            }
            let Some(entry) = self.entries.remove(&no) else { continue };
            self.by_id.remove(&entry.finding.id);
            self.due.remove(&(entry.handed_out + AGAIN, no));
            self.n_aged += 1;
            // Not with names that may not be shown any more.
            if entry.behind && entry.finding.suppressed.is_none() && entry.epoch == world.names.epoch() {
                out.finding(&entry.finding, FindingEvent::Repeated);
            }
            return true;
        }
        false
    }

    /// Writes the words of findings anew of whose names more, or less, may be shown by now: some at a time.
    pub fn refresh(&mut self, rules: &[(bool, Box<dyn Rule>)], world: &World<'_>) {
        for _ in 0..self.entries.len().min(REFRESHED) {
            let next = self.entries.range_mut(self.hand..).next();
            self.hand = next.map_or(0, |(no, entry)| {
                entry.write_by(rules, world);
                no + 1
            });
        }
    }

    /// Hands out what has repeated: all of it when the input `ended`, else what is due.
    pub fn flush(
        &mut self,
        now: Nanos,
        ended: bool,
        rules: &[(bool, Box<dyn Rule>)],
        world: &World<'_>,
        out: &mut dyn FindingSink,
    ) {
        let mut all: Vec<No> = Vec::new();
        while let Some((_, no)) = self.due.first().copied().filter(|(due, _)| ended || *due <= now) {
            step();
            self.due.pop_first();
            all.push(no);
        }
        // The oldest finding first.
        all.sort_unstable();
        for no in all {
            let Some(entry) = self.entries.get_mut(&no) else { continue };
            entry.handed_out = now;
            entry.behind = false;
            entry.write_by(rules, world);
            if entry.finding.suppressed.is_some() {
                out.suppressed(&entry.finding);
            } else {
                out.finding(&entry.finding, if ended { FindingEvent::Ended } else { FindingEvent::Repeated });
            }
        }
    }

    /// Every finding, silent ones too, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.entries.values().map(|e| &e.finding)
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
        self.limit
    }

    /// Hits that a suppression kept silent.
    pub fn n_suppressed(&self) -> u64 {
        self.n_suppressed
    }

    /// Findings that made room for new ones.
    pub fn n_aged(&self) -> u64 {
        self.n_aged
    }
}

/// The exception that covers a finding at `at`, if any; and whether one did that has ended.
fn silence(all: &[Suppression], f: &Finding, at: Nanos) -> (Option<Suppressed>, bool) {
    let mut expired = false;
    for s in all.iter().filter(|s| covers(s, f)) {
        if at < s.until {
            let (owner, ticket) = (s.owner.clone(), s.ticket.clone());
            return (Some(Suppressed { reason: s.reason.clone(), owner, ticket, until: s.until }), false);
        }
        expired = true;
    }
    (None, expired)
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
    let at = hit.site.service.and_then(|s| world.service(s));
    let service = at.map(|s| ServiceRef {
        name: world.names.name(s.name).to_owned(),
        protocol: s.protocol.name(),
        address: Some(s.address),
    });
    let workload = hit.site.workload.map_or_else(WorkloadRef::default, |w| workload(w, world));
    let name = |t: Option<TenantId>| t.map(|t| world.tenants.name(t).to_owned());
    let tenants = TenantPair { used: name(hit.used), bound: name(hit.bound) };
    let served_by = at.and_then(|s| named_after(s, world));
    let mut parts = vec![hit.rule];
    match &workload.owner {
        Some(owner) => parts.extend(owner_parts(owner)),
        None => parts.extend([workload.name.as_str(), workload.cgroup.as_deref().unwrap_or_default()]),
    }
    match &served_by {
        Some(owner) => parts.extend(owner_parts(owner)),
        None => parts.push(service.as_ref().map_or("", |s| &s.name)),
    }
    parts.extend([
        service.as_ref().map_or("", |s| s.protocol),
        tenants.used.as_deref().unwrap_or_default(),
        tenants.bound.as_deref().unwrap_or_default(),
    ]);
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
        remediation: remedy(rule.info(), at.map(|s| s.protocol)),
        suppressed: None,
    }
}

fn workload(id: WorkloadId, world: &World<'_>) -> WorkloadRef {
    let Some(w) = world.directory.get(id) else { return WorkloadRef::default() };
    let shown = |sym: Sym| Some(world.names.name(sym)).filter(|n| !n.is_empty()).map(str::to_owned);
    WorkloadRef {
        name: world.names.name(w.name).to_owned(),
        cgroup: shown(w.cgroup),
        owner: owner(id, world),
        pod: w.owner.and_then(|o| shown(o.pod)),
    }
}

/// What a workload is one of. A name that found no room in the table of names is nobody's.
fn owner(id: WorkloadId, world: &World<'_>) -> Option<OwnerRef> {
    let o = world.directory.get(id)?.owner?;
    let shown = |sym: Sym| world.names.name(sym).to_owned();
    (o.name != Sym::OTHER && o.namespace != Sym::OTHER).then(|| OwnerRef {
        kind: shown(o.kind),
        namespace: Some(shown(o.namespace)).filter(|n| !n.is_empty()),
        name: shown(o.name),
    })
}

/// What the workload behind a service is one of, where the service has no name but the workload's.
fn named_after(s: &Service, world: &World<'_>) -> Option<OwnerRef> {
    let behind = s.workload?;
    world.directory.get(behind).filter(|w| w.name == s.name).and_then(|_| owner(behind, world))
}

fn owner_parts(owner: &OwnerRef) -> [&str; 3] {
    [&owner.kind, owner.namespace.as_deref().unwrap_or_default(), &owner.name]
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

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
