//! The parts of the engine beside its connections, each with its own state. What happens on a connection goes through
//! them; none of them knows of connections.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::attributor::Attributor;
use super::context::Context;
use super::elsewhere::Elsewhere;
use super::facts::ConnFacts;
use super::judge::{Judge, Seen};
use super::learned::Learned;
use super::map::ServiceMap;
use super::messages::Messages;
use super::output::{OperationView, Output};
use super::sealing::Sealing;
use super::stats::Stats;
use super::timers::Timers;
use super::units::Pending;
use crate::attribute::forwarded::Relay;
use crate::decode::WireEvent;
use crate::decode::canary::CanarySet;
use crate::decode::infer;
use crate::decode::token::Verifier;
use crate::detect::{Contradiction, RuleEvent};
use crate::model::shown::with_ids;
use crate::model::token::Token;
use crate::model::{
    Answer, CgroupId, MarkerPlace, Nanos, OpKind, Owner, RequestKey, ServiceId, Settings, Sym, TenantId, Verdict,
    Workload, WorkloadId,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) ctx: Context,
    pub(super) map: ServiceMap,
    pub(super) attributor: Attributor,
    pub(super) learned: Learned,
    pub(super) queues: Queues,
    pub(super) judge: Judge,
    pub(super) sealing: Sealing,
    pub(super) timers: Timers,
    pub(super) stats: Stats,
    pub(super) decoders: infer::Shared,
    /// What decoders tell goes through it; empty between two segments.
    pub(super) events: Vec<WireEvent>,
    /// Reads tokens.
    pub(super) tokens: Verifier,
    /// Workloads without a cgroup or an address, and since when, oldest first.
    pub(super) gone: VecDeque<(Nanos, WorkloadId)>,
}

/// Messages on their way, and jobs made of them.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Messages on their way.
    pub(super) messages: Messages,
    /// Jobs that may be confirmed on another connection.
    pub(super) elsewhere: Elsewhere,
}

impl Parts {
    pub(super) fn new(settings: Settings) -> Self {
        let judge = Judge::new(&settings);
        let decoders = infer::Shared::new(settings.salt, &settings.headers);
        // The configuration has refused what is wrong with keys; what is left is used.
        let (tokens, _) = Verifier::new(&settings.tokens, settings.salt);
        let mut ctx = Context::new(settings);
        let sealing = Sealing::new(ctx.settings.salt);
        let mut learned = Learned::default();
        learned.spell(&ctx.settings, &mut ctx.tenants, false);
        Self {
            ctx,
            map: ServiceMap::default(),
            attributor: Attributor::default(),
            learned,
            queues: Queues::default(),
            judge,
            sealing,
            timers: Timers::default(),
            stats: Stats::default(),
            decoders,
            events: Vec::new(),
            tokens,
            gone: VecDeque::new(),
        }
    }

    /// The workload of a fact from identity, if there is room for it.
    pub(super) fn workload(&mut self, fact: &super::WorkloadFact) -> Option<WorkloadId> {
        // Two spellings of one tenant are no contradiction.
        let mut named: SmallVec<[TenantId; 2]> = SmallVec::new();
        for one in &fact.tenants {
            let id = self.ctx.tenants.intern(one);
            self.learned.tenant_values.add(self.ctx.settings.salt, one, id);
            if !named.contains(&id) {
                named.push(id);
            }
        }
        let tenant = named.first().copied().filter(|_| named.len() == 1);
        // Workloads come and go, and their names with them.
        let names = &mut self.ctx.names;
        let (name, cgroup) = (names.intern_passing(&fact.name), names.intern_passing(&fact.cgroup));
        let conflicting = named.len() > 1;
        let owner = fact.owner.as_ref().map(|o| Owner {
            kind: names.intern_passing(&o.kind),
            namespace: names.intern_passing(&o.namespace),
            name: names.intern_passing(&o.name),
            pod: names.intern_passing(&o.pod),
        });
        let known = self.ctx.directory.len();
        let new = Workload { name, cgroup, tenant, conflicting, bare: false, role: fact.role, owner };
        let workload = self.ctx.directory.workload(new);
        if self.ctx.directory.len() > known {
            self.ctx.names.hold(name);
            self.ctx.names.hold(cgroup);
            for name in owner.into_iter().flat_map(Owner::names) {
                self.ctx.names.hold(name);
            }
        }
        if let (Some(workload), [first, other, ..]) = (workload, named.as_slice()) {
            let (first, other) = (*first, *other);
            let pod = owner.is_some_and(|o| o.pod != Sym::EMPTY);
            self.judge.contradicts(Contradiction { workload, at: self.ctx.now, first, other, pod });
        }
        workload
    }

    /// What may be known of a token that was presented to `service`.
    pub(super) fn token(&mut self, service: Option<ServiceId>, scheme: &str, token: &str) -> Option<Token> {
        let spec = service.and_then(|s| self.map.service(s)).and_then(|s| s.spec);
        let name = service.and_then(|s| self.map.service(s)).map(|s| self.ctx.names.name(s.name));
        let ctx = &self.ctx;
        let (tenants, salt) = (&ctx.tenants, ctx.settings.salt);
        let policy = ctx.policy_of(spec);
        let mut whom = |value: &str| policy.marker(tenants, salt, MarkerPlace::Header, "tenant", value);
        self.tokens.inspect(scheme, token, ctx.now, name, &mut whom)
    }

    /// The judge, and what it needs to see of the rest.
    pub(super) fn judging(&mut self) -> (&mut Judge, Seen<'_>) {
        (&mut self.judge, Seen { ctx: &self.ctx, map: &mut self.map, stats: &mut self.stats })
    }

    /// Shows an event to every rule.
    pub(super) fn detect(&mut self, event: &RuleEvent<'_>, out: &mut dyn Output) {
        let (judge, mut seen) = self.judging();
        judge.detect(event, &mut seen, out);
    }

    /// Events were lost; `of`: what the sockets of this cgroup received, else nobody can say whose. Only whom it can
    /// concern is disturbed: else whoever can make the agent lose something of his own would blind it for everybody.
    pub(super) fn lose(&mut self, at: Nanos, of: Option<CgroupId>) {
        let workload = of.and_then(|id| self.ctx.directory.of_cgroup(id));
        self.attributor.lose(workload, at);
        let Some(workload) = workload else {
            self.judge.missed.anywhere(at);
            return;
        };
        for id in self.map.of_workload(workload) {
            self.judge.missed.on(Some(id), None, None, at);
        }
        // The sender of what was lost is not known, so every sender may have sent it.
        self.judge.missed.on(None, None, None, at);
    }

    /// A request, or a job, does not count as in flight any more.
    pub(super) fn counts_no_more(&mut self, relay: Relay, key: RequestKey, at: Nanos) {
        if let Some(process) = self.attributor.processes.get_mut(&relay) {
            process.answered(key, at, None);
        }
    }

    /// Forgets what was learned of workloads.
    pub(super) fn forget_workloads(&mut self, gone: &FxHashSet<WorkloadId>) {
        self.attributor.forget_relays(|relay| !matches!(relay, Relay::Workload(w) if gone.contains(w)));
        self.learned.forget_clients(|w| !gone.contains(&w));
        self.map.forget_workloads(gone);
        self.sealing.uses.forget(gone);
    }

    /// Takes `new` for the settings. Says whether a spelling names a tenant that it did not name before.
    pub(super) fn decide(&mut self, new: Settings, now: Nanos) -> bool {
        let ctx = &mut self.ctx;
        let respelled = new.tenants != ctx.settings.tenants && ctx.tenants.respell(&new.tenants);
        self.learned.spell(&new, &mut ctx.tenants, true);
        ctx.canaries = CanarySet::new(&new.canaries, &mut |name| ctx.tenants.intern(name));
        (self.tokens, _) = Verifier::new(&new.tokens, new.salt);
        self.decoders.set_headers(&new.headers);
        self.judge.decide(&new, now);
        ctx.settings = new;
        respelled
    }

    /// Counts an operation of a connection and hands it out, if wanted.
    pub(super) fn note_operation(
        &mut self,
        facts: &ConnFacts,
        pending: &Pending,
        answer: Answer,
        verdict: Verdict,
        out: &mut dyn Output,
    ) {
        let Some(service) = facts.service else { return };
        let (op, protocol) = (&pending.op, pending.protocol);
        if op.outcome == crate::model::Outcome::Ok {
            // What a server refuses may be anything: only what it accepts says how it calls its things.
            let tenant = answer.attribution().map(|a| a.tenant);
            for name in [op.verb, op.target] {
                self.ctx.names.used(name, tenant, facts.id, !self.ctx.tenants.is_empty());
            }
        }
        *self.stats.operations.entry((service, protocol, op.kind, verdict)).or_default() += 1;
        if self.ctx.settings.operations {
            let tenant = answer.attribution().map(|a| self.ctx.tenants.name(a.tenant));
            out.operation(&OperationView {
                flow: (facts.client, facts.server),
                protocol,
                op,
                verb: self.ctx.names.name(op.verb),
                target: &with_ids(self.ctx.names.name(op.target), op.ids),
                answer,
                tenant,
                verdict: if op.kind == OpKind::Data { verdict } else { Verdict::None },
            });
        }
    }
}
