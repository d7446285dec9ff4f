//! The verdict on one data operation: what the ledger says of it, for whom it is, and whom that is told.

use smallvec::SmallVec;

use super::conn::{LocalBind, MAX_USERS, Pending};
use super::session::Session;
use crate::detect::{Ineffective, KeyWork, LiveBinding, RuleEvent, Use};
use crate::ledger::{Owner, Question, View, judge};
use crate::model::{
    Answer, Attribution, Bound, Claim, EvidenceClass, OpKind, OpaqueId, Operation, OtherUse, Outcome, Ruling, Scope,
    Slot, Strength, UnitNo, Verdict,
};

/// What an operation says of its tenant itself: credential and declared marker.
fn of_its_own(op: &Operation, unit: UnitNo) -> SmallVec<[Bound; 2]> {
    let bound = |slot, claim, strength| Bound { slot, claim, scope: Scope::Transaction, strength, at: op.begun, unit };
    // What was verified here names its tenant itself; any other credential names whom it goes with.
    let credential = match op.proved {
        Some(tenant) => Some(bound(Slot::Credential, Claim::Tenant(tenant), Strength::V3)),
        None => op.credential.map(|c| bound(Slot::Credential, Claim::Opaque(OpaqueId(c.0)), Strength::V3)),
    };
    let marker =
        matches!(op.marker, Claim::Tenant(_) | Claim::Opaque(_)).then(|| bound(Slot::Marker, op.marker, Strength::V1));
    credential.into_iter().chain(marker).collect()
}

impl Session<'_> {
    /// Several tenants are served with this credential.
    fn is_shared(&self, bound: &Bound) -> bool {
        match bound.claim {
            Claim::Opaque(id) if bound.slot == Slot::Credential => self.shared.owners.owner(id) == Owner::Shared,
            _ => false,
        }
    }

    /// Whose the operation's credential is, by what is known without it.
    fn learn_credential(&mut self, pending: &Pending) {
        let Some(credential) = pending.op.credential.filter(|_| pending.op.outcome == Outcome::Ok) else { return };
        if let Some((tenant, class)) = self.core.known_without_bindings(pending.unit) {
            self.shared.owners.learn(OpaqueId(credential.0), tenant, class);
        }
    }

    /// Whether it is already known for whom the current unit is.
    pub(super) fn known(&self) -> bool {
        self.core.endpoint.is_some()
    }

    /// Counts and hands out an operation that needs no verdict.
    fn tell(&mut self, op: &Operation, answer: Answer) {
        if op.kind == OpKind::Publish && op.outcome != Outcome::Error {
            // A queue is used by whoever publishes to it; a verdict is due on the message, not on the connection.
            let (service, tenant) = (self.service(), answer.attribution().map(|a| a.tenant));
            let credential = self.core.session.map(|s| (s.user, s.database));
            let client = self.core.client_workload;
            self.shared.note_use(service, client, tenant, Verdict::None, credential, op.ended);
        }
        self.shared.note_operation(self.core, op, answer, Verdict::None, self.out);
    }

    /// Judges one data operation, now that it is known for whom it was, or that it never will be.
    pub(super) fn judge(&mut self, pending: &Pending) {
        let op = &pending.op;
        let own = of_its_own(op, pending.unit);
        let Some(view) = &pending.view else {
            // What a worker takes and gives back is not for whom it happens to work at the moment.
            let of_queue = matches!(op.kind, OpKind::Deliver | OpKind::Ack) && self.core.endpoint.is_none();
            let answer = if of_queue { Answer::Unknown } else { self.answer(pending.unit, op.begun, &own, &own) };
            self.tell(op, answer);
            self.tell_keys(pending, answer);
            self.tell_check(pending);
            return;
        };
        // What the operation says itself counts as bound for just this operation.
        let mut view = view.clone();
        let left = view.live.clone();
        view.live.extend(own.iter().copied());
        let view = &view;
        let answer = self.answer(pending.unit, op.begun, &left, &own);
        if let Some(by) = self.bound_by_unit(pending.unit, &left, &[]) {
            self.compare(pending.unit, by.tenant, op.ended);
        }
        let service = self.service();
        let minimum = self.minimum();
        // Where two took part in it, one of them may have bound it and the other gone on.
        let torn = self.core.through_of(pending.unit).is_some_and(|t| t.torn);
        let fresh = |b: &Bound| !torn && b.unit == pending.unit && b.strength >= minimum;
        let (ruling, other) = match answer {
            Answer::Tenant(a) => self.rule_on(pending, view, a),
            // Nobody is named, but this very unit has bound the connection for somebody, and was acknowledged.
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
        // A reply that was not seen whole proves nothing.
        let ruling = if op.outcome == Outcome::Unknown {
            Ruling { verdict: Verdict::Indeterminate, other: None, binding: None, learned: None }
        } else {
            ruling
        };
        let attribution = answer.attribution();
        let tenant = attribution.map(|a| a.tenant);
        if let Some(tenant) = tenant {
            if self.core.last_user.is_some_and(|last| last != tenant) {
                let key = (service, self.core.protocol, ruling.verdict);
                *self.shared.stats.switches.entry(key).or_default() += 1;
            }
            self.core.last_user = Some(tenant);
        }
        if let Some(a) = attribution {
            match ruling.learned {
                Some(id) if a.class == EvidenceClass::Inferred => self.shared.owners.learn(id, a.tenant, a.class),
                Some(id) => self.shared.learn_alias(service, id, a.tenant),
                None => {}
            }
            self.note_user(op, view, a);
        }
        self.learn_credential(pending);
        let credential = self.core.session.map(|s| (s.user, s.database));
        self.shared.note_use(service, self.core.client_workload, tenant, ruling.verdict, credential, op.ended);
        self.shared.note_operation(self.core, op, answer, ruling.verdict, self.out);

        if let Some((local, whose)) = self.core.ineffective.take() {
            self.went_uncovered(local, whose, op, answer, &ruling);
        }
        let live = view
            .live
            .iter()
            .map(|b| {
                let by = self.core.known_for(b.unit);
                LiveBinding { bound: *b, author: by.map(|a| a.tenant), client: by.and_then(|a| a.client) }
            })
            .collect();
        let (marker, cause) = (op.marker, self.cause_of(pending.unit));
        let job = self.job_of(pending.unit);
        let unit = pending.unit;
        let (site, at, verb, target) = (self.site(), op.ended, op.verb, op.target);
        let event = Use { site, at, verb, target, answer, ruling, marker, other, live, cause, job, unit };
        if let (Some(cause), Some(service)) = (&event.cause, self.core.service) {
            self.shared.downstream.note(cause.service, cause.name, service, event.scoped().ok());
        }
        self.shared.detect(&RuleEvent::Use(&event), self.out);
        self.tell_keys(pending, answer);
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
        self.shared.detect(&RuleEvent::Keys(&event), self.out);
    }

    fn rule_on(&self, pending: &Pending, view: &View, a: Attribution) -> (Ruling, Option<OtherUse>) {
        let service = self.service();
        let other = self
            .core
            .users
            .iter()
            .filter(|u| u.by.tenant != a.tenant && u.order < view.order)
            .max_by_key(|u| u.order)
            .copied();
        let ruling = judge(&Question {
            view,
            unit: pending.unit,
            tenant: a.tenant,
            author: &|no| self.core.known_for(no).map(|a| a.tenant),
            alias: &|id| self.shared.alias(service, id, Some(a.tenant)),
            credential: &|id| self.shared.owners.owner(id),
            minimum: self.minimum(),
            other,
            binds_sessions: self.shared.binds_sessions(self.core.client_workload, service),
        });
        (ruling, other)
    }

    fn note_user(&mut self, op: &Operation, view: &View, a: Attribution) {
        let this = OtherUse { by: a, order: view.order, at: op.ended, verb: op.verb, target: op.target };
        match self.core.users.iter_mut().find(|u| u.by.tenant == a.tenant) {
            Some(u) if u.order > this.order => {}
            Some(u) => *u = this,
            None => {
                if self.core.users.len() >= MAX_USERS {
                    self.core.users.remove(0);
                }
                self.core.users.push(this);
            }
        }
    }

    /// A local binding had no effect, and then a data operation came: was that one covered otherwise?
    pub(super) fn went_uncovered(
        &mut self,
        local: LocalBind,
        whose: Answer,
        op: &Operation,
        answer: Answer,
        ruling: &Ruling,
    ) {
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
        self.shared.detect(&RuleEvent::Ineffective(&event), self.out);
    }
}
