//! Jobs: from the publication of a message to the end of the work on it. Whose it is, and who was given it.

use super::elsewhere::Name;
use super::messages::{Broker, Found, Origin};
use super::on_conn::OnConn;
use super::open_jobs::OpenJob;
use super::timers::{Due, LINGER};
use super::units::Pending;
use crate::attribute::forwarded::Relay;
use crate::attribute::through::Whom;
use crate::detect::{Checked, Ended, Handed, Posted, RuleEvent};
use crate::model::queue::{Confirmation, Delivery, Job, JobWork, Message, Passed, QueueEvent, Settled, Settlement};
use crate::model::steps::walk;
use crate::model::{
    Answer, Attribution, Basis, Claim, Effect, EvidenceClass, Nanos, Outcome, Protocol, RequestKey, RequestNo, Slot,
    Strength, UnitNo,
};

/// Most deliveries outstanding on one connection that are followed.
const MAX_JOBS: usize = 4_096;
/// Most publications of one connection that wait for their tenant.
const MAX_WAITING: usize = 256;
/// Most deliveries of one message that wait for its publisher.
const MAX_LATER: usize = 8;
/// Who says so itself.
const OWN_WORD: [Basis; 4] = [Basis::OwnContainer, Basis::PeerContainer, Basis::ForwardedContent, Basis::SignedClaim];
impl OnConn<'_> {
    /// Something happened to a message.
    pub(super) fn queue_event(&mut self, event: QueueEvent) {
        match event {
            // A chore (a heartbeat, an order to workers) is no job and belongs to no tenant.
            QueueEvent::Published(m) if m.chore => {}
            QueueEvent::Delivered(d) if d.message.chore => {}
            QueueEvent::Published(m) => self.published(m),
            QueueEvent::Delivered(d) => self.delivered(d),
            QueueEvent::Settled(s) => self.end_job_of(s),
            QueueEvent::Passed(p) => self.passed(p),
        }
    }

    fn broker(&self) -> Option<Broker> {
        let service = self.service()?;
        Some(if self.state.facts.protocol == Protocol::Kafka { Broker::Kafka } else { Broker::At(service) })
    }

    fn published(&mut self, m: Message) {
        let Some(broker) = self.broker() else { return };
        let no = self.state.units.current.no;
        // Units end in order: if this one is over, it was the last.
        let waits = self.state.units.borrow.is_some() || self.state.units.lent.back().is_some_and(|lent| lent.no == no);
        let entry = match self.parts.queues.messages.find(broker, &m, false) {
            // Its delivery was quicker.
            Found::One(entry) => entry,
            _ => {
                let before = self.parts.queues.messages.named(broker, &m);
                let entry = self.parts.queues.messages.make(broker, &m, Origin::NOT_YET, true);
                if let (Some(before), Some(e)) = (before, self.parts.queues.messages.get_mut(entry)) {
                    e.before = before;
                }
                entry
            }
        };
        self.parts.queues.messages.record_published(entry);
        if waits && !self.known() && m.proved.is_none() && self.state.jobs.posts.len() < MAX_WAITING {
            self.state.jobs.posts.push(no, (no, entry, m));
        } else {
            self.tell_post(no, entry, &m);
        }
    }

    /// Tells the publications of unit `no`, or of all units.
    pub(super) fn tell_posts(&mut self, no: Option<UnitNo>) {
        let due = match no {
            Some(no) => self.state.jobs.posts.take(no),
            None => self.state.jobs.posts.take_all(None),
        };
        for (no, entry, m) in walk(due) {
            self.tell_post(no, entry, &m);
        }
    }

    fn tell_post(&mut self, no: UnitNo, entry: u64, m: &Message) {
        let answer = self.whose(no, m);
        let before = self.parts.queues.messages.get(entry).map_or(Origin::NOBODY, |e| e.before);
        // The message belongs to the tenant that wrote its content, even if a scheduler or a retrying worker puts its id
        // into the queue later. An exception is a publisher known by its own workload to be another tenant's.
        let answer = match (before.attribution(), answer.attribution()) {
            (Some(author), by) if by.is_none_or(|by| !OWN_WORD.contains(&by.basis)) => Answer::Tenant(author),
            _ => answer,
        };
        let origin = answer.attribution().map_or(Origin::NOBODY, |a| Origin::of(&a));
        self.identify_message(entry, origin);
        if m.labelled || m.proved.is_some() || m.marker != Claim::Neutral {
            let tenant = answer.attribution().map(|a| a.tenant);
            if let Some(service) = self.service() {
                self.parts.map.note_binding(service, Slot::Marker, tenant, m.at);
            }
        }
        if m.body {
            return;
        }
        let event = Posted { site: self.site(), message: m, answer };
        self.parts.detect(&RuleEvent::Posted(&event), self.out);
    }

    /// Whose message it is, published in unit `no`: by a signed claim, by whoever published it, by the credential of
    /// the connection, and at last by what it says of itself.
    fn whose(&self, no: UnitNo, m: &Message) -> Answer {
        if let Some(tenant) = m.proved {
            return Answer::Tenant(Attribution::new(tenant, Basis::SignedClaim));
        }
        match self.answer(no, m.at, &[], &[]) {
            Answer::Unknown => {}
            known => return known,
        }
        let view = self.state.ledger.bindings(Strength::V3);
        let credential = view.iter().find_map(|b| match b.claim {
            Claim::Tenant(t) => Some(t),
            _ => None,
        });
        match (credential, m.marker) {
            (Some(tenant), _) => Answer::Tenant(Attribution::new(tenant, Basis::Binding)),
            (None, Claim::Tenant(tenant)) => Answer::Tenant(Attribution::new(tenant, Basis::Marker)),
            _ => Answer::Unknown,
        }
    }

    /// It is now known whose a message is, or that nobody can say.
    fn identify_message(&mut self, entry: u64, origin: Origin) {
        let Some((given, later)) = self.parts.queues.messages.identify(entry, origin) else { return };
        for (relay, key) in given {
            if let Some(process) = self.parts.attributor.processes.get_mut(&relay) {
                process.identified(key, origin.whom);
            }
            self.parts.record_work_at(relay, origin);
        }
        for handed in later {
            let event = Handed { origin: origin.attribution(), ..handed };
            self.parts.detect(&RuleEvent::Handed(&event), self.out);
        }
    }

    fn delivered(&mut self, d: Delivery) {
        let (m, Some(broker), Some(service)) = (&d.message, self.broker(), self.service()) else { return };
        let found = self.parts.queues.messages.find(broker, m, true);
        let own_word = match (m.proved, m.marker) {
            (Some(t), _) => Origin::of(&Attribution::new(t, Basis::SignedClaim)),
            (None, Claim::Tenant(t)) => Origin::of(&Attribution::new(t, Basis::Marker)),
            _ => Origin::NOBODY,
        };
        let entry = match found {
            Found::One(no) => Some(no),
            // Several messages may be the one delivered, so only its own word can name the tenant.
            Found::Several => None,
            Found::None => {
                let messages = &mut self.parts.queues.messages;
                let no = match messages.find(broker, m, false) {
                    Found::One(no) => no,
                    Found::None | Found::Several => messages.make(broker, m, Origin::NOT_YET, false),
                };
                self.parts.timers.set(m.at + LINGER, Due::Unpublished(no));
                Some(no)
            }
        };
        let mut origin = entry
            .and_then(|no| self.parts.queues.messages.get(no))
            .map_or(Origin::NOBODY, |e| if m.proved.is_some() { own_word } else { e.origin });
        if origin == Origin::NOBODY {
            origin = own_word;
        }
        let worker = self.state.facts.leaves.filter(|_| self.state.facts.endpoint.is_none());
        let before = match entry.and_then(|no| self.parts.queues.messages.get_mut(no)) {
            Some(e) => {
                let before = e.to.contains(&worker);
                if !before && e.to.len() < MAX_LATER {
                    e.to.push(worker);
                }
                before
            }
            None => false,
        };
        let again = d.again || before;
        let waited =
            entry.and_then(|no| self.parts.queues.messages.get(no)).filter(|e| e.published).map(|e| m.at.since(e.at));
        let consumer = self.state.facts.endpoint;
        let event = Handed {
            site: self.site(),
            at: m.at,
            queue: m.queue,
            address: m.address,
            id: m.ids.first().copied().or(m.print),
            consumer,
            origin: origin.attribution(),
            again,
            awaits_ack: d.confirmation.is_awaited(),
            keyed: m.idempotency.is_some(),
            waited,
        };
        if origin.whom == Whom::NotYet {
            if let Some(e) = entry.and_then(|no| self.parts.queues.messages.get_mut(no))
                && e.later.len() < MAX_LATER
            {
                e.later.push(event);
            }
        } else {
            self.parts.detect(&RuleEvent::Handed(&event), self.out);
        }
        if let Some(relay) = worker {
            self.parts.record_work_at(relay, origin);
            let verb = self.state.jobs.delivered_by;
            let job = Job {
                service,
                queue: m.queue,
                verb,
                at: m.at,
                id: m.ids.first().copied().or(m.print),
                again,
                keyed: m.idempotency.is_some(),
            };
            self.open_job(relay, &d, job, origin, entry);
        }
    }

    fn open_job(&mut self, relay: Relay, d: &Delivery, job: Job, origin: Origin, entry: Option<u64>) {
        let Some(process) = self.parts.attributor.processes.get_mut(&relay) else { return };
        let no = self.state.jobs.n + 1;
        let open = OpenJob { no, at: job.at, message: entry };
        let name = match d.confirmation {
            Confirmation::Anywhere(handle) => Some(Name::Handle(handle)),
            Confirmation::Past(position) => Some(Name::Position(position)),
            Confirmation::None | Confirmation::Here(_) => None,
        };
        let elsewhere = &mut self.parts.queues.elsewhere;
        let followed = name.is_none_or(|name| elsewhere.delivered(relay, name, self.state.facts.id, open));
        if !followed || self.state.jobs.open.len() >= MAX_JOBS {
            process.miss(job.at);
            return;
        }
        self.state.jobs.n += 1;
        let key = (self.state.facts.id, RequestNo::Delivery(no));
        process.arrived(key, origin.whom, self.state.facts.protocol, job.at);
        process.record_job(key, job, !d.confirmation.is_awaited());
        for trace in &d.message.traces {
            process.carries_trace(key, *trace);
        }
        for value in &d.message.values {
            process.carries_value(key, *value);
        }
        if origin.whom == Whom::NotYet
            && let Some(e) = entry.and_then(|no| self.parts.queues.messages.get_mut(no))
            && e.given.len() < MAX_LATER
        {
            e.given.push((relay, key));
        }
        match d.confirmation {
            Confirmation::None => self.parts.timers.set(job.at + LINGER, Due::JobOver(relay, key)),
            Confirmation::Here(handle) => self.state.jobs.open.push(handle, open),
            Confirmation::Anywhere(_) | Confirmation::Past(_) => {}
        }
    }

    fn end_job_of(&mut self, s: Settled) {
        let here = self.state.jobs.open.take(s.handle);
        let found = match (here, self.state.facts.leaves.filter(|_| self.state.facts.endpoint.is_none())) {
            (Some(job), _) => Some((self.state.facts.id, job)),
            (None, Some(worker)) => self.parts.queues.elsewhere.settled(worker, s.handle),
            (None, None) => None,
        };
        if let Some((conn, open)) = found {
            self.end_job((conn, RequestNo::Delivery(open.no)), open, s.at, s.how);
        }
    }

    /// A reader of a log has told how far it has come.
    fn passed(&mut self, p: Passed) {
        let Some(reader) = self.state.facts.leaves.filter(|_| self.state.facts.endpoint.is_none()) else { return };
        for (conn, open) in walk(self.parts.queues.elsewhere.passed(reader, p.to)) {
            self.end_job((conn, RequestNo::Delivery(open.no)), open, p.at, Settlement::Done);
        }
    }

    fn end_job(&mut self, key: RequestKey, open: OpenJob, at: Nanos, how: Settlement) {
        let thread = self.state.facts.threads[0];
        let origin =
            open.message.and_then(|no| self.parts.queues.messages.get(no)).and_then(|e| e.origin.attribution());
        let event = Ended { site: self.site(), begun: open.at, at, how, origin };
        self.parts.detect(&RuleEvent::Ended(&event), self.out);
        if how == Settlement::Done
            && let Some(no) = open.message
            && self.parts.queues.messages.get(no).is_some_and(|e| e.ids.is_empty())
        {
            // A confirmed message is not delivered again, so the same content is another message from now on.
            self.parts.queues.messages.forget(no);
        }
        let Some(relay) = self.state.facts.leaves else { return };
        let Some(process) = self.parts.attributor.processes.get_mut(&relay) else { return };
        let over = process.confirmed(key, at, thread) || how != Settlement::Done;
        if over {
            process.answered(key, at, thread);
        } else {
            // The job was confirmed before any work on it was seen, so the work may still come. It stays in flight a while.
            self.parts.timers.set(at.max(open.at) + LINGER, Due::JobOver(relay, key));
        }
    }

    /// The connection that the jobs came on is of no use any more: how they end will not be seen.
    pub(super) fn lose_jobs(&mut self, at: Nanos) {
        let relay = self.state.facts.leaves;
        for open in walk(self.state.jobs.open.take_all()) {
            if let Some(process) = relay.and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
                process.abandoned((self.state.facts.id, RequestNo::Delivery(open.no)), at);
            }
        }
        if self.state.jobs.n > 0 {
            for (reader, open) in walk(self.parts.queues.elsewhere.lost(self.state.facts.id)) {
                if let Some(process) = self.parts.attributor.processes.get_mut(&reader) {
                    process.abandoned((self.state.facts.id, RequestNo::Delivery(open.no)), at);
                }
            }
        }
    }

    /// The job that unit `no` is part of the work on; `None` where that is not known.
    pub(super) fn job_of(&self, no: UnitNo) -> Option<JobWork> {
        let through = self.state.units.through_of(no).filter(|t| !t.torn)?;
        let process = self.parts.attributor.processes.get(&self.state.facts.leaves?)?;
        let settled = through.settled.map(|a| (a.basis, a.tenant));
        let (basis, tenant) = settled.or_else(|| through.votes.first().copied())?;
        if through.votes.iter().any(|(_, t)| *t != tenant) {
            return None;
        }
        let mut latest: Option<JobWork> = None;
        for key in &through.requests {
            let request = process.request(*key)?;
            let (job, Whom::Tenant(whose, class)) = (request.job?, request.whom) else { return None };
            if whose != tenant {
                return None;
            }
            let class = class.min(through.settled.map_or(EvidenceClass::Inferred, |a| a.class));
            if latest.is_none_or(|before| before.job.at <= job.at) {
                latest = Some(JobWork { key: *key, job, tenant, basis, class });
            }
        }
        latest
    }

    /// A policy was asked: whoever works on the job has checked.
    pub(super) fn tell_check(&mut self, pending: &Pending) {
        if pending.op.effect != Effect::Check || pending.op.outcome != Outcome::Ok {
            return;
        }
        let Some(work) = self.job_of(pending.unit) else { return };
        let named = self.state.units.through_of(pending.unit).map(|t| t.named.clone()).unwrap_or_default();
        let event = Checked { work, at: pending.op.ended, named };
        self.parts.detect(&RuleEvent::Checked(&event), self.out);
    }
}

impl super::parts::Parts {
    /// A job of this origin is worked on at `relay`.
    fn record_work_at(&mut self, relay: Relay, origin: Origin) {
        if let (Relay::Workload(worker), Whom::Tenant(tenant, _)) = (relay, origin.whom) {
            self.map.works_for(worker, tenant);
        }
    }

    /// The publication of a message will not be seen any more: whose it is nobody can say.
    pub(super) fn unpublished(&mut self, no: u64, out: &mut dyn super::output::Output) {
        if self.queues.messages.get(no).is_none_or(|e| e.published) {
            return;
        }
        let Some((given, later)) = self.queues.messages.identify(no, Origin::NOBODY) else { return };
        for (relay, key) in given {
            if let Some(process) = self.attributor.processes.get_mut(&relay) {
                process.identified(key, Whom::Nobody);
            }
        }
        for event in later {
            self.detect(&RuleEvent::Handed(&event), out);
        }
    }
}
