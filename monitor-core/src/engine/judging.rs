//! The verdict on one data operation: what the connection had proved, for whom the operation is, and which rules see it.

use smallvec::SmallVec;

use super::attributor::is_contradicted;
use super::follows::Fate;
use super::lookups::{self, Kind};
use super::map::ServiceUse;
use super::on_conn::OnConn;
use super::units::{CameIn, LocalBind, MAX_USERS, Pending};
use crate::detect::{Ineffective, KeyWork, LiveBinding, RuleEvent, Use};
use crate::ledger::{CredentialOwner, Question, Standing, View, judge};
use crate::model::{
    Answer, Attribution, Bound, Claim, ConnId, EvidenceClass, OpKind, OpaqueId, Operation, OtherUse, Outcome, Ruling,
    Scope, ServiceId, Slot, Strength, Sym, TenantId, UnitNo, Verdict,
};

/// What an operation says of its tenant itself: credential and declared marker.
fn of_its_own(op: &Operation, unit: UnitNo) -> SmallVec<[Bound; 2]> {
    let bound = |slot, claim, strength| Bound { slot, claim, scope: Scope::Transaction, strength, at: op.begun, unit };
    // A claim that was verified here names its tenant. Any other credential stands for the tenant it was learned to be of.
    let credential = match op.proved {
        Some(tenant) => Some(bound(Slot::Credential, Claim::Tenant(tenant), Strength::V3)),
        None => op.credential.map(|c| bound(Slot::Credential, Claim::Opaque(OpaqueId(c.0)), Strength::V3)),
    };
    // A condition that all rows fulfil is enforced by the server. Any other marker is a label that anybody can write.
    let held = op.tables.is_some_and(|t| t.held) && matches!(op.marker, Claim::Tenant(_));
    let strength = if held { Strength::V2 } else { Strength::V1 };
    let marker =
        matches!(op.marker, Claim::Tenant(_) | Claim::Opaque(_)).then(|| bound(Slot::Marker, op.marker, strength));
    // A qualified name touches that schema and no other, whatever the search path says.
    let schemas = op.tables.into_iter().flat_map(|t| t.schemas).filter(|c| matches!(c, Claim::Tenant(_)));
    let schemas = schemas.map(|claim| bound(Slot::Schema, claim, Strength::V2));
    credential.into_iter().chain(marker).chain(schemas).collect()
}

/// Whether a claim names a tenant, known or not.
fn marker_of(op: &Operation, unit: UnitNo, claim: Claim) -> Bound {
    let (slot, scope, strength) = (Slot::Marker, Scope::Transaction, Strength::V1);
    Bound { slot, claim, scope, strength, at: op.begun, unit }
}

/// Values in an operation itself that may be some tenant's: schemas, and what all rows have in common.
fn chosen_of_its_own(op: &Operation, unit: UnitNo) -> SmallVec<[Bound; 2]> {
    let Some(tables) = op.tables else { return SmallVec::new() };
    let bound =
        |slot, claim| Bound { slot, claim, scope: Scope::Transaction, strength: Strength::V2, at: op.begun, unit };
    let schemas = tables.schemas.into_iter().filter(|c| matches!(c, Claim::Chosen(_)));
    let held = match op.marker {
        Claim::Opaque(id) if tables.held => Some(bound(Slot::Marker, Claim::Chosen(id))),
        _ => None,
    };
    schemas.map(|claim| bound(Slot::Schema, claim)).chain(held).collect()
}

/// A binding of the connection, not of the one operation.
fn is_of_connection(slot: Slot) -> bool {
    !matches!(slot, Slot::Credential | Slot::Marker | Slot::Schema)
}

impl OnConn<'_> {
    /// A request has been answered: where each proves itself anew and the connection is one tenant's own, what was missed
    /// before can hide neither another's use nor a binding, and what comes is known as on a new connection.
    pub(super) fn begin_ledger_again(&mut self, op: &Operation) {
        let Some(service) = self.state.facts.service else { return };
        let certain = op.kind == OpKind::Data && op.outcome != Outcome::Unknown;
        if certain
            && self.state.facts.endpoint.is_some()
            && !self.parts.learned.binds_sessions(self.state.facts.client_workload, service)
        {
            self.state.ledger.begin_again();
        }
    }

    /// Several tenants are served with this credential.
    fn is_shared(&self, bound: &Bound) -> bool {
        match bound.claim {
            Claim::Opaque(id) if bound.slot == Slot::Credential => {
                self.parts.learned.owners.owner(id) == CredentialOwner::Shared
            }
            _ => false,
        }
    }

    /// Whose the operation's credential is, by what is known without it.
    fn learn_credential(&mut self, pending: &Pending) {
        let Some(credential) = pending.op.credential.filter(|_| pending.op.outcome == Outcome::Ok) else { return };
        if let Some((tenant, class)) = self.state.known_without_bindings(pending.unit) {
            self.parts.learned.owners.learn(OpaqueId(credential.0), tenant, class);
        }
        if let Some(own) = self.state.facts.endpoint {
            self.parts.learned.owners.presented(OpaqueId(credential.0), own.tenant);
        }
    }

    /// Whether it is already known for whom the current unit is.
    pub(super) fn known(&self) -> bool {
        self.state.facts.endpoint.is_some()
    }

    /// Counts and hands out an operation that needs no verdict.
    fn record_unjudged(&mut self, pending: &Pending, answer: Answer) {
        let op = &pending.op;
        if op.kind == OpKind::Publish && op.outcome != Outcome::Error {
            // Every tenant may publish on a queue's connection, so the message is judged and the connection is not.
            let tenant = answer.attribution().map(|a| a.tenant);
            let credential = self.state.facts.session.map(|s| (s.user, s.database));
            let client = self.state.facts.client_workload;
            let used = ServiceUse { client, tenant, verdict: Verdict::None, credential, at: op.ended };
            if let Some(service) = self.service() {
                self.parts.map.note_use(&self.parts.ctx.directory, service, used);
            }
        }
        self.parts.note_operation(&self.state.facts, pending, answer, Verdict::None, self.out);
    }

    /// Whether it is contradicted whose the client is: this connection's, or one whose request a relay may have passed on
    /// here.
    fn in_doubt(&self, unit: UnitNo) -> bool {
        let Some(known) = self.state.units.known.iter().rev().find(|u| u.no == unit) else {
            return is_contradicted(self.state.facts.client_workload, &self.parts.ctx.directory);
        };
        let doubted = |origin: &ConnId| self.parts.attributor.is_doubted(*origin);
        let passed_on = match (&known.came_in, known.said.filter(|_| !known.contradicted).and_then(|a| a.client)) {
            (_, Some(origin)) => doubted(&origin),
            (CameIn::OneOf(origins), None) => origins.iter().any(|(origin, _)| doubted(origin)),
            (CameIn::Anywhere | CameIn::Broken, None) => self.parts.attributor.doubts_any(),
        };
        passed_on || is_contradicted(self.state.facts.client_workload, &self.parts.ctx.directory)
    }

    /// Judges one data operation, now that it is known for whom it was, or that it never will be.
    pub(super) fn judge(&mut self, pending: &Pending) {
        self.judge_knowing(pending, None);
    }

    /// Judges a read that was held, now that it is known, or that it never will be, what followed.
    pub(super) fn judge_held(&mut self, pending: &Pending, fate: Fate) {
        self.judge_knowing(pending, Some(fate));
    }

    fn judge_knowing(&mut self, pending: &Pending, fate: Option<Fate>) {
        let op = &pending.op;
        let own = of_its_own(op, pending.unit);
        let Some(view) = &pending.view else {
            // A worker fetches and confirms jobs beside the work on them, so these operations are for no tenant.
            let of_queue = matches!(op.kind, OpKind::Deliver | OpKind::Ack) && self.state.facts.endpoint.is_none();
            let answer = if of_queue { Answer::Unknown } else { self.answer(pending.unit, op.begun, &own, &own) };
            self.record_unjudged(pending, answer);
            self.tell_keys(pending, answer);
            self.tell_cookies(pending, answer);
            self.tell_served(pending, answer);
            self.tell_check(pending);
            return;
        };
        // Credential and marker of the operation count as bindings of this operation alone.
        let mut view = view.clone();
        let left = view.live.clone();
        view.live.extend(own.iter().copied());
        view.chosen.extend(chosen_of_its_own(op, pending.unit));
        view.chosen.extend(self.chosen_at_start());
        let answer = self.answer(pending.unit, op.begun, &left, &own);
        // If one part of the operation names another tenant, the whole operation does.
        let others = answer.attribution().map(|a| op.named.into_iter().flatten().filter(move |t| *t != a.tenant));
        view.live.extend(others.into_iter().flatten().map(|t| marker_of(op, pending.unit, Claim::Tenant(t))));
        let view = &view;
        if fate.is_none() {
            if let Some(by) = self.bound_by_unit(pending.unit, &left, &[]) {
                self.compare(pending.unit, by.tenant, op.ended);
            }
            if let Some(a) = answer.attribution() {
                self.used_by(a.tenant, view.order);
            }
        }
        let Some(service) = self.service() else { return };
        let minimum = self.minimum();
        // If two borrowers may have shared the unit, one may have bound the connection and the other used it.
        let torn = self.state.units.through_of(pending.unit).is_some_and(|t| t.torn);
        let fresh = |b: &Bound| !torn && b.unit == pending.unit && b.strength >= minimum;
        let (ruling, other) = match answer {
            Answer::Tenant(a) => {
                let (before, other) = self.rule_on(service, pending, view, a, fate.is_none());
                match self.as_look_up(pending, view, a, before, fate) {
                    Some(ruling) => (ruling, other),
                    None => {
                        self.note_user(op, view, a);
                        self.uncover(op, answer, &before);
                        return;
                    }
                }
            }
            // No basis names a tenant, but this unit has bound the connection itself and the server acknowledged it.
            Answer::Unknown | Answer::Several
                if left.iter().all(fresh)
                    && (!left.is_empty() || own.iter().any(|b| fresh(b) && !self.is_shared(b))) =>
            {
                (Ruling { verdict: Verdict::Revalidated, other: None, binding: None, learned: None }, None)
            }
            Answer::Unknown | Answer::Several => {
                (Ruling { verdict: Verdict::Indeterminate, other: None, binding: None, learned: None }, None)
            }
        };
        // An operation without a whole reply proves nothing, and one that two tenants may have sent cannot be clean.
        let clean = matches!(ruling.verdict, Verdict::Revalidated | Verdict::SingleTenant);
        let ruling = if op.outcome == Outcome::Unknown || (clean && self.in_doubt(pending.unit)) {
            Ruling { verdict: Verdict::Indeterminate, other: None, binding: None, learned: None }
        } else {
            ruling
        };
        let attribution = answer.attribution();
        let tenant = attribution.map(|a| a.tenant);
        if let Some(tenant) = tenant {
            if self.state.history.last_user.is_some_and(|last| last != tenant) {
                let key = (service, pending.protocol, ruling.verdict);
                *self.parts.stats.switches.entry(key).or_default() += 1;
            }
            self.state.history.last_user = Some(tenant);
        }
        if let Some(a) = attribution {
            match ruling.learned {
                Some(id) if a.class == EvidenceClass::Inferred => {
                    self.parts.learned.owners.learn(id, a.tenant, a.class)
                }
                Some(id) => self.parts.learned.learn_alias(service, id, a.tenant),
                None => {}
            }
            self.note_user(op, view, a);
        }
        self.learn_credential(pending);
        let credential = self.state.facts.session.map(|s| (s.user, s.database));
        let client = self.state.facts.client_workload;
        let used = ServiceUse { client, tenant, verdict: ruling.verdict, credential, at: op.ended };
        self.parts.map.note_use(&self.parts.ctx.directory, service, used);
        self.parts.note_operation(&self.state.facts, pending, answer, ruling.verdict, self.out);

        self.uncover(op, answer, &ruling);
        let live = view
            .live
            .iter()
            .map(|b| {
                let by = self.state.known_for(b.unit);
                LiveBinding { bound: *b, author: by.map(|a| a.tenant), client: by.and_then(|a| a.client) }
            })
            .collect();
        let (marker, ending, cause) = (op.marker, op.outcome, self.cause_of(pending.unit));
        let job = self.job_of(pending.unit);
        let unit = pending.unit;
        let (site, at, verb, target) = (self.site(), op.ended, op.verb, op.target);
        let otherwise_bound = self.habit(pending, view, attribution, ruling.verdict);
        let event = Use {
            site,
            at,
            verb,
            target,
            ids: op.ids,
            answer,
            ruling,
            marker,
            other,
            live,
            ending,
            cause,
            job,
            unit,
            otherwise_bound,
        };
        if let (Some(cause), Some(service)) = (&event.cause, self.state.facts.service) {
            self.parts.map.downstream.note(cause.service, cause.name, service, event.scoped().ok());
        }
        self.parts.detect(&RuleEvent::Use(&event), self.out);
        self.tell_keys(pending, answer);
        self.tell_cookies(pending, answer);
        self.tell_served(pending, answer);
        self.tell_next(pending, answer);
    }

    /// What the operation did with keys.
    fn tell_keys(&mut self, pending: &Pending, answer: Answer) {
        if pending.keys.is_empty() {
            return;
        }
        let op = &pending.op;
        let (at, verb, target) = (op.ended, op.verb, op.target);
        let whole = op.outcome == Outcome::Ok;
        let event = KeyWork { site: self.site(), at, verb, target, answer, whole, uses: &pending.keys };
        self.parts.detect(&RuleEvent::Keys(&event), self.out);
    }

    /// The database that the connection was opened with, as a value that may be some tenant's.
    fn chosen_at_start(&self) -> Option<Bound> {
        let start = self.state.facts.session.filter(|_| self.state.facts.endpoint.is_none())?;
        Some(Bound {
            slot: Slot::Database,
            claim: Claim::Chosen(OpaqueId(start.database.0)),
            scope: Scope::Startup,
            strength: Strength::V2,
            at: start.at,
            unit: UnitNo(0),
        })
    }

    /// Whether a value was chosen for this very operation, and not left behind by another.
    fn is_chosen_for(&self, bound: &Bound, pending: &Pending, view: &View) -> bool {
        match bound.scope {
            Scope::Startup => self.state.history.users.is_empty(),
            _ => bound.unit == pending.unit || self.state.history.follows.is_first_after(bound, view.order),
        }
    }

    /// Notes whom the values in force go with. A value that was chosen for this very operation counts at once, unless it
    /// is known to be another's; the rest is given back, to be noted once the operation is judged.
    fn note_choices(&mut self, pending: &Pending, view: &View, a: Attribution) -> SmallVec<[(Bound, bool); 2]> {
        let mut later = SmallVec::new();
        if pending.op.outcome != Outcome::Ok {
            return later;
        }
        let Some(service) = self.service() else { return later };
        if a.class == EvidenceClass::Inferred {
            // An inferred tenant teaches no choice of a value. It may teach that several tenants use the value.
            for bound in &view.chosen {
                if self.is_chosen_for(bound, pending, view) {
                    self.parts.learned.selectors.tended(service, bound, a.tenant);
                }
            }
            later.extend(view.chosen.iter().map(|b| (*b, false)));
            return later;
        }
        for bound in &view.chosen {
            let chosen = self.is_chosen_for(bound, pending, view);
            let selectors = &mut self.parts.learned.selectors;
            match selectors.standing(service, bound, a.tenant) {
                Standing::Of(t) if t != a.tenant => later.push((*bound, chosen)),
                _ if chosen => selectors.used(service, bound, a.tenant, true),
                _ => later.push((*bound, false)),
            }
        }
        later
    }

    /// Whether an operation can only touch what is nobody's, on a service that is divided by schemas alone or by keys.
    fn is_common(&self, pending: &Pending, view: &View, a: Attribution) -> bool {
        let Some(service) = self.service() else { return false };
        let op = &pending.op;
        let divided = |slot| self.parts.learned.selectors.is_divided(service, slot);
        // A read that found nothing reports no key. It counts as a use of a key all the same.
        let names_key = pending.protocol.is_by_key() && op.target != Sym::EMPTY;
        if names_key || !pending.keys.is_empty() {
            // Where connections carry nothing of a tenant's, only what a key holds can be somebody's, and that is told
            // by what is handed over: a lock, a counter, a session under its own id are used by everybody in turn.
            return !self.parts.learned.lookups.binds_connections(service)
                && ![Slot::Database, Slot::User].into_iter().any(divided);
        }
        let nobodys = |b: &Bound| {
            b.slot != Slot::Schema || self.parts.learned.selectors.standing(service, b, a.tenant) == Standing::Nobody
        };
        let named = |claim: &Claim| matches!(claim, Claim::Tenant(_));
        // A name without a schema is in a schema of all tenants if the search path names no tenant's.
        let default =
            || !self.parts.learned.lookups.by_path(service) && view.chosen.iter().all(|b| b.slot != Slot::SearchPath);
        op.tables.is_some_and(|t| !t.schemas.iter().any(named) && (!t.unqualified || default()))
            && self
                .parts
                .learned
                .lookups
                .by_schema_only(service, divided(Slot::Schema) || self.may_name_own_schemas(view.order, a.tenant))
            && view.chosen.iter().all(nobodys)
    }

    /// Whether statements of this connection, up to the use of that order, name schemas of which it has not shown yet whose
    /// they are.
    fn may_name_own_schemas(&self, order: u32, tenant: TenantId) -> bool {
        let Some(service) = self.service() else { return false };
        let unsure = |b: Bound| self.parts.learned.selectors.standing(service, &b, tenant) == Standing::Unsure;
        self.state.history.follows.names_schemas && self.state.history.follows.schema_before(order).is_none_or(unsure)
    }

    /// A read may be a look-up of the tenant that is bound next ([`super::lookups`]): then that settles its verdict.
    /// `None`: it is held until that is known.
    fn as_look_up(
        &mut self,
        pending: &Pending,
        view: &View,
        a: Attribution,
        ruling: Ruling,
        fate: Option<Fate>,
    ) -> Option<Ruling> {
        let Some(service) = self.service() else { return Some(ruling) };
        let (op, first) = (&pending.op, fate.is_none());
        if first {
            self.parts.learned.lookups.used(service);
        }
        if ruling.verdict == Verdict::Revalidated {
            if let Some(bound) = ruling.binding.filter(|_| first) {
                self.worked_bound(pending, view, a, &bound);
            }
            return Some(ruling);
        }
        let left_behind =
            |b: Bound| is_of_connection(b.slot) && b.unit != pending.unit && b.slot != Slot::ConnectionAuth;
        let open_to_doubt = match ruling.verdict {
            Verdict::Unbound | Verdict::ResetOnly => true,
            Verdict::StaleBound => ruling.binding.is_some_and(left_behind),
            _ => false,
        };
        // The look-up of a session notes that it was used: no use of what was left there either, but not sure to be none.
        let touches = lookups::writes(op)
            && (self.parts.learned.lookups.is_looked_up(service, op)
                || self.state.history.follows.holds_read_of(op.target, a.tenant));
        if !lookups::reads(op) {
            if open_to_doubt && first && op.tables.is_some_and(|t| t.writes) {
                self.parts.learned.lookups.wrote_unbound(service, op);
            }
            if !touches {
                return Some(ruling);
            }
        }
        let of = |unit| self.state.known_for(unit).map(|a| a.tenant);
        let amid = touches || self.state.history.follows.is_amid(view.order, a.tenant, of);
        if amid && first && !touches {
            self.parts.learned.lookups.read_amid(service, op);
        }
        if !open_to_doubt || self.parts.learned.lookups.is_no_look_up(service, op) {
            if first && !amid {
                self.learn_look_up(pending, view, a);
            }
            return Some(ruling);
        }
        let unknown = Ruling { verdict: Verdict::Indeterminate, other: None, binding: None, learned: None };
        match fate.unwrap_or_else(|| self.fate(view.order, a.tenant)) {
            Fate::Open if self.hold(a.tenant, pending) => None,
            Fate::Bound(bound) => {
                if !amid {
                    self.parts.learned.lookups.read_before(service, op, a.tenant);
                }
                Some(match self.parts.learned.lookups.kind(service, op) {
                    Kind::Directory if !touches => {
                        Ruling { verdict: Verdict::Revalidated, other: None, binding: Some(bound), learned: None }
                    }
                    Kind::Directory | Kind::Unknown => unknown,
                    Kind::Data => ruling,
                })
            }
            // A connection that is never bound may serve look-ups only, while its tenants are bound on other connections.
            Fate::Not if !self.state.history.follows.ever_bound => Some(unknown),
            Fate::Unclear => Some(unknown),
            Fate::Not | Fate::Open => Some(ruling),
        }
    }

    /// Learns from a read whose verdict does not depend on it whether it was a look-up.
    fn learn_look_up(&mut self, pending: &Pending, view: &View, a: Attribution) {
        match self.fate(view.order, a.tenant) {
            Fate::Bound(_) => {
                let Some(service) = self.service() else { return };
                self.parts.learned.lookups.read_before(service, &pending.op, a.tenant);
            }
            Fate::Open => self.learn_later(a.tenant, pending),
            Fate::Not | Fate::Unclear => {}
        }
    }

    /// Learns from an operation that worked under `bound`.
    fn worked_bound(&mut self, pending: &Pending, view: &View, a: Attribution, bound: &Bound) {
        let Some(service) = self.service() else { return };
        let op = &pending.op;
        if !is_of_connection(bound.slot) || matches!(bound.claim, Claim::Chosen(_)) {
            // Other bindings are told when they are made.
            self.parts.map.note_binding(service, bound.slot, Some(a.tenant), op.ended);
            self.parts.learned.lookups.bound_by(service, bound.slot);
        }
        // What was left behind for the same tenant may meet its next look-up.
        if bound.unit == pending.unit || self.state.history.follows.is_first_after(bound, view.order) {
            self.parts.learned.lookups.used_bound(service, op);
        }
    }

    fn rule_on(
        &mut self,
        service: ServiceId,
        pending: &Pending,
        view: &View,
        a: Attribution,
        first: bool,
    ) -> (Ruling, Option<OtherUse>) {
        let later = if first { self.note_choices(pending, view, a) } else { SmallVec::new() };
        let common = self.is_common(pending, view, a);
        let other = self
            .state
            .history
            .users
            .iter()
            .filter(|u| u.by.tenant != a.tenant && u.order < view.order)
            .max_by_key(|u| u.order)
            .copied();
        let ruling = judge(&Question {
            view,
            unit: pending.unit,
            tenant: a.tenant,
            author: &|no| self.state.known_for(no).map(|a| a.tenant),
            alias: &|id| self.parts.learned.alias(service, id, Some(a.tenant)),
            credential: &|id| self.parts.learned.owners.owner_for(id, a.tenant),
            // The search path decides which table an unqualified name stands for. Qualified names do not depend on it.
            governs: &|b| b.slot != Slot::SearchPath || pending.op.tables.is_none_or(|t| t.unqualified),
            standing: &|b| self.parts.learned.selectors.standing(service, b, a.tenant),
            common,
            minimum: self.minimum(),
            other,
            binds_sessions: self.parts.learned.binds_sessions(self.state.facts.client_workload, service),
        });
        for (bound, chosen) in later {
            self.parts.learned.selectors.used(service, &bound, a.tenant, chosen);
        }
        // The value tells that this service keeps tenants apart, even while its tenant is not known.
        let unsure = |b: &&Bound| self.parts.learned.selectors.standing(service, b, a.tenant) == Standing::Unsure;
        if first && let Some(bound) = view.chosen.iter().find(unsure) {
            self.parts.map.note_binding(service, bound.slot, None, pending.op.ended);
        }
        (ruling, other)
    }

    fn note_user(&mut self, op: &Operation, view: &View, a: Attribution) {
        let this = OtherUse { by: a, order: view.order, at: op.ended, verb: op.verb, target: op.target };
        match self.state.history.users.iter_mut().find(|u| u.by.tenant == a.tenant) {
            Some(u) if u.order > this.order => {}
            Some(u) => *u = this,
            None => {
                if self.state.history.users.len() >= MAX_USERS {
                    self.state.history.users.remove(0);
                }
                self.state.history.users.push(this);
            }
        }
    }

    /// A local binding may have had no effect, and this is the first data operation after it.
    fn uncover(&mut self, op: &Operation, answer: Answer, ruling: &Ruling) {
        if let Some((local, whose)) = self.state.history.ineffective.take() {
            self.went_uncovered(local, whose, op, answer, ruling);
        }
    }

    /// What a statement says itself of whom it is for follows on the reads before it, as a binding does.
    pub(super) fn states_itself(&mut self, op: &Operation) {
        let unit = self.unit_of(op.request);
        let own =
            of_its_own(op, unit).into_iter().filter(|b| b.slot != Slot::Credential && b.strength >= self.minimum());
        let all: SmallVec<[Bound; 2]> = own.chain(chosen_of_its_own(op, unit)).collect();
        let order = self.state.ledger.order();
        let Some(service) = self.service() else { return };
        for bound in &all {
            self.state.history.follows.bound(order, *bound, false);
            // Whoever it was for: a statement that names a tenant shows how the service is divided, and so does a number
            // in a tenant's column.
            let names = matches!(bound.claim, Claim::Tenant(_)) || bound.slot == Slot::Marker;
            if names && op.outcome == Outcome::Ok {
                self.parts.learned.lookups.bound_by(service, bound.slot);
            }
        }
        if !all.is_empty() {
            self.something_followed();
        }
    }

    /// A local binding had no effect, and then a data operation came: was that one covered otherwise?
    fn went_uncovered(&mut self, local: LocalBind, whose: Answer, op: &Operation, answer: Answer, ruling: &Ruling) {
        let (whose_tenant, tenant) = (whose.attribution().map(|a| a.tenant), answer.attribution().map(|a| a.tenant));
        let another = whose_tenant.is_some() && tenant.is_some() && whose_tenant != tenant;
        if another || matches!(ruling.verdict, Verdict::Revalidated) {
            return;
        }
        let event = Ineffective {
            site: self.site(),
            at: local.at,
            slot: local.slot,
            warned: local.warned,
            answer: if whose_tenant.is_some() { whose } else { answer },
            uncovered: Some((op.ended, op.verb, op.target)),
        };
        self.parts.detect(&RuleEvent::Ineffective(&event), self.out);
    }
}
