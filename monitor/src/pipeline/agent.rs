//! One engine with its identity and outputs, whichever source feeds it.

use std::collections::{BTreeMap, BTreeSet};

use monitor_core::engine::{Engine, WorkloadFact};
use monitor_core::model::{CgroupId, Event, Nanos, Settings};

use super::outputs::{Outputs, budget};
use crate::capture::Source;
use crate::capture::ebpf::LiveSource;
use crate::identity::{IdentityConfig, Pending, Resolver, SourceInfo, Told, Update, WaitConfig, WaitEnd};
use crate::tls::TlsConfig;

/// Takes events, gives results to its outputs.
pub(super) struct Agent {
    pub(super) engine: Engine,
    pub(super) out: Outputs,
    pub(super) identity: Resolver,
    /// A source of identity should be asked now.
    pub(super) wanted: bool,
    /// Tenants of cgroups and addresses that were there at the start; none once that was said.
    pub(super) first_tenants: Option<BTreeSet<String>>,
    /// Whose TLS is read.
    tls: TlsConfig,
    /// Cgroups with their paths and the names of their workloads, as far as they are known; none where no TLS is read.
    cgroups: BTreeMap<CgroupId, (String, Option<String>)>,
    /// Whether TLS of a cgroup's processes is read, as decided since the source was told last.
    tls_news: Vec<(CgroupId, bool)>,
    pending: Pending,
    wait: WaitConfig,
    last: Nanos,
}

/// Most tenants that the first log line names.
const FIRST_TENANTS: usize = 50;

impl Agent {
    /// An agent whose identity comes from the configuration and paths alone.
    pub(super) fn new(settings: Settings, identity: IdentityConfig, out: Outputs) -> Self {
        Self::with_sources(settings, identity, Vec::new(), out)
    }

    /// An agent that is told more by `sources`.
    pub(super) fn with_sources(
        settings: Settings,
        identity: IdentityConfig,
        sources: Vec<SourceInfo>,
        out: Outputs,
    ) -> Self {
        let mut engine = Engine::new(settings);
        for fact in identity.addresses() {
            engine.add_address(&fact);
        }
        let wait = identity.wait;
        let identity = Resolver::new(identity, sources);
        let first_tenants = Some(BTreeSet::new());
        Self {
            engine,
            out,
            identity,
            wanted: false,
            first_tenants,
            tls: TlsConfig::default(),
            cgroups: BTreeMap::new(),
            tls_news: Vec::new(),
            pending: Pending::default(),
            wait,
            last: Nanos(0),
        }
    }

    /// Whose TLS is read, from now on.
    pub(super) fn decide_tls(&mut self, tls: TlsConfig) {
        self.tls = tls;
        let all = self.cgroups.iter().map(|(id, (path, name))| (*id, self.tls.reads(name.as_deref(), path)));
        self.tls_news.extend(all);
    }

    /// A cgroup is there, or its workload's name is known.
    fn decide_tls_of(&mut self, id: CgroupId, path: Option<&str>, name: Option<&str>) {
        if !self.tls.enabled {
            return;
        }
        if let Some(path) = path {
            self.cgroups.entry(id).or_default().0 = path.to_owned();
        }
        let Some((path, known)) = self.cgroups.get_mut(&id) else { return };
        if let Some(name) = name {
            *known = Some(name.to_owned());
        }
        self.tls_news.push((id, self.tls.reads(known.as_deref(), path)));
    }

    /// Handles one event, or keeps it while an earlier one waits for a label.
    pub(super) fn event(&mut self, event: &Event<'_>) {
        self.last = self.last.max(event.at());
        if let Event::CgroupSeen { path, .. } = *event {
            self.wanted |= self.identity.unknown(path);
        }
        if self.pending.is_empty() && self.blocker(event).is_none() {
            self.pass(event);
            return;
        }
        self.pending.push(event);
        self.release(event.at());
    }

    /// Sources of identity have told something.
    pub(super) fn told(&mut self, facts: impl Iterator<Item = Told>) {
        let mut any = false;
        for (source, fact) in facts {
            any = true;
            self.identity.apply(source, fact);
        }
        if any {
            let updates = self.identity.updates();
            self.learn(updates);
        }
    }

    /// Decides otherwise from now on. Says how many workloads would be another tenant's: they count as nobody's.
    pub(super) fn decide(&mut self, settings: Settings, identity: IdentityConfig) -> usize {
        self.wait = identity.wait;
        let addresses = identity.addresses();
        let by_address = self.engine.reconfigure(self.last, settings, &addresses, &mut self.out);
        let (updates, by_cgroup) = self.identity.decide(identity);
        self.learn(updates);
        by_address + by_cgroup
    }

    /// Whether events wait for a label.
    pub(super) fn waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes of events that wait, and how many may.
    pub(super) fn waiting_bytes(&self) -> (usize, usize) {
        (self.pending.bytes(), self.wait.bytes)
    }

    /// Hands on what no longer has to wait at `now`.
    pub(super) fn release(&mut self, now: Nanos) {
        while let Some(first) = self.pending.first() {
            let at = first.at();
            if let Some(cgroup) = self.blocker(&first) {
                let late = now.since(at) >= self.wait.at_most;
                let full = self.pending.bytes() > self.wait.bytes;
                if !late && !full {
                    self.identity.blocks(cgroup);
                    self.wanted = true;
                    return;
                }
                self.give_up(cgroup, if late { WaitEnd::Timeout } else { WaitEnd::Overflow });
            }
            let mut pending = std::mem::take(&mut self.pending);
            pending.pop(|event| self.pass(event));
            self.pending = pending;
        }
    }

    /// The cgroup whose label this event has to wait for.
    fn blocker(&self, event: &Event<'_>) -> Option<CgroupId> {
        match *event {
            Event::Opened { cgroup: Some(id), .. } if self.identity.awaited(id) => Some(id),
            _ => None,
        }
    }

    fn give_up(&mut self, id: CgroupId, end: WaitEnd) {
        if let Some(fact) = self.identity.give_up(id, end) {
            self.engine.learn_cgroup(self.last, id, &fact);
        }
    }

    /// Notes whose a cgroup or an address is, until the start is over.
    fn note(&mut self, fact: &WorkloadFact) {
        let Some(first) = &mut self.first_tenants else { return };
        let room = FIRST_TENANTS.saturating_sub(first.len());
        first.extend(fact.tenants.iter().take(room).cloned());
    }

    fn learn(&mut self, updates: Vec<Update>) {
        let at = self.last;
        for update in updates {
            if let Update::Cgroup(_, fact) | Update::Address(_, Some(fact)) = &update {
                self.note(fact);
            }
            match update {
                Update::Cgroup(id, fact) => {
                    self.decide_tls_of(id, None, Some(&fact.name));
                    self.engine.learn_cgroup(at, id, &fact);
                }
                Update::Address(ip, Some(fact)) => self.engine.learn_address(at, ip, &fact),
                Update::Address(ip, None) => self.engine.forget_address(at, ip),
                Update::Service(addr, Some(name)) => self.engine.learn_service(addr, &name),
                Update::Service(addr, None) => self.engine.forget_service(addr),
            }
        }
    }

    fn pass(&mut self, event: &Event<'_>) {
        self.out.bytes_at = matches!(event, Event::Segment(_)).then_some(event.at());
        match *event {
            Event::CgroupSeen { at, id, path } => {
                let fact = self.identity.seen(id, path);
                self.decide_tls_of(id, Some(path), fact.as_ref().map(|f| f.name.as_str()));
                if let Some(fact) = fact {
                    self.note(&fact);
                    self.engine.learn_cgroup(at, id, &fact);
                }
            }
            Event::CgroupGone { at, id } => {
                if self.cgroups.remove(&id).is_some() {
                    self.tls_news.push((id, false));
                }
                self.identity.gone(id);
                self.engine.forget_cgroup(at, id);
            }
            Event::Opened { local, peer, .. } => {
                let updates = self.identity.flow(local, peer);
                self.learn(updates);
            }
            _ => {}
        }
        self.engine.handle(event, &mut self.out);
    }

    /// Passes on what the engine wants captured.
    pub(super) fn apply_budgets(&mut self, source: &mut dyn Source) {
        for (cookie, wanted) in self.out.wanted.drain(..) {
            source.set_budget(cookie, budget(wanted.sent), budget(wanted.received), wanted.reads);
        }
        for cookie in self.out.forgotten.drain(..) {
            source.forget(cookie);
        }
    }

    /// Passes on of whose processes TLS is read.
    pub(super) fn apply_tls(&mut self, source: &mut LiveSource) {
        for (id, on) in self.tls_news.drain(..) {
            source.set_tls(id, on);
        }
    }

    /// The input has ended.
    pub(super) fn finish(&mut self) {
        // Whoever has no label now gets none.
        self.release(Nanos(u64::MAX));
        self.out.bytes_at = None;
        self.engine.finish(self.last, &mut self.out);
        self.out.flush();
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
