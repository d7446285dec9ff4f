//! How commands end: done, refused, or never answered. What they did is told.

use std::hash::Hasher;

use super::{Does, Entry, Lost, Machine, Out};
use crate::decode::mysql::answer::{AUTOCOMMIT, Done, IN_TRANSACTION};
use crate::decode::sql::plan::{DATABASE, run};
use crate::decode::sql::shape::Act;
use crate::decode::sql::value::Value;
use crate::decode::sql::{Call, Plan};
use crate::model::claim::is_custom_setting;
use crate::model::{Claim, Effect, Fingerprint, Nanos, OpKind, Operation, Outcome, Scope, Slot, Strength, TxStatus};

/// Whether what a statement sets may name a tenant.
fn may_bind(name: &str) -> bool {
    is_custom_setting(name) || matches!(name, "role" | DATABASE)
}

/// Rows wait at the server until they are fetched.
const CURSOR: u16 = 1 << 6;

impl Machine {
    /// Whether a result's rows wait until they are fetched.
    pub(super) fn has_cursor(&self, done: &Done<'_>) -> bool {
        done.status & CURSOR != 0 && matches!(self.pending.front(), Some(Entry::Execute { fetches: false, .. }))
    }

    /// A result has ended, and with the last of them its command.
    pub(super) fn end(&mut self, done: &Done<'_>, rows: Option<u64>, out: &mut Out<'_>) -> Result<(), Lost> {
        let Some(mut entry) = self.pending.pop_front() else { return Err(Lost::UnexpectedReply) };
        let (ended, outcome) = (out.at, self.outcome(Outcome::Ok));
        let gave_rows = self.stage != super::Stage::Start;
        match &mut entry {
            Entry::Query { request, begun, plans, next, more, marker } => {
                let call = Call {
                    request: *request,
                    begun: *begun,
                    ended,
                    outcome,
                    rows,
                    rolled_back: false,
                    warned: false,
                    marker: *marker,
                };
                match plans.get(*next) {
                    // Its results come before its end.
                    Some(plan) if gave_rows && done.more() && &*plan.template.verb == "CALL" => {}
                    Some(plan) => {
                        self.did(plan, &[], &call, out);
                        *next += 1;
                    }
                    None if *more => self.unseen(&call, out),
                    // What a statement gives beyond what it said itself: code of a procedure.
                    None if plans.is_empty() => self.unseen(&call, out),
                    None => {}
                }
            }
            Entry::Execute { request, begun, statement, params, fetches } => {
                let marker = statement.as_ref().map_or(Claim::Neutral, |s| s.noted.marker);
                let (request, begun) = (*request, *begun);
                let call = Call { request, begun, ended, outcome, rows, rolled_back: false, warned: false, marker };
                match statement.as_ref().and_then(|s| s.plan.as_ref()) {
                    // The statement was done when it was executed; of its rows, these are more.
                    Some(plan) if *fetches => self.fetched(plan, &call, out),
                    Some(plan) if gave_rows && done.more() && &*plan.template.verb == "CALL" => {}
                    Some(plan) => self.did(plan, params, &call, out),
                    None => self.unseen(&call, out),
                }
            }
            Entry::Command { request, begun, verb, does } => {
                let verb = out.sink.word(verb);
                let plain = Operation::control(*request, *begun, ended, verb, outcome);
                match does {
                    Does::Uses(claim) => self.use_database(*claim, &plain, out),
                    Does::Becomes(login) => self.change_user(login, &plain, out),
                    Does::Resets => self.reset(&plain, out),
                    Does::Nothing | Does::SaysText | Does::Lists => out.sink.done(&plain),
                }
            }
            Entry::Prepare { .. } => return Err(Lost::UnexpectedReply),
        }
        self.told_database(done, &entry, out);
        if done.more() {
            self.stage = super::Stage::Start;
            self.pending.push_front(entry);
            return Ok(());
        }
        let says_status = !matches!(entry, Entry::Command { does: Does::SaysText, .. });
        if let Entry::Query { request, .. } | Entry::Execute { request, .. } | Entry::Command { request, .. } = entry {
            self.answer(request, out);
        }
        if says_status {
            self.tell_status(done, out);
        } else {
            out.sink.status(out.at, self.status);
        }
        Ok(())
    }

    /// The server says which database is in use from now on, though no statement here has chosen it.
    fn told_database(&mut self, done: &Done<'_>, entry: &Entry, out: &mut Out<'_>) {
        let Some(name) = done.database else { return };
        let (request, begun) = match entry {
            Entry::Command { .. } | Entry::Prepare { .. } => return,
            Entry::Query { plans, .. } if plans.iter().any(|p| &*p.template.verb == "USE") => return,
            Entry::Query { request, begun, .. } | Entry::Execute { request, begun, .. } => (*request, *begun),
        };
        let claim = out.sink.claim(Slot::SearchPath, "", &String::from_utf8_lossy(name));
        let verb = out.sink.word("USE");
        self.use_database(claim, &Operation::control(request, begun, out.at, verb, self.outcome(Outcome::Ok)), out);
    }

    /// A statement was done.
    fn did(&mut self, plan: &Plan, params: &[crate::decode::sql::plan::Param], call: &Call, out: &mut Out<'_>) {
        for act in &plan.template.acts {
            match act {
                Act::Set { name: Value::Fixed(name), .. } => self.bound |= may_bind(name),
                Act::Commit => self.bound = false,
                _ => {}
            }
        }
        run(plan, params, call, &mut self.memory, out.sink);
    }

    /// Rows of a statement that was done before were fetched.
    fn fetched(&mut self, plan: &Plan, call: &Call, out: &mut Out<'_>) {
        let verb = out.sink.word("FETCH");
        let target = if plan.template.target.is_empty() {
            crate::model::Sym::EMPTY
        } else {
            out.sink.intern(&plan.template.target)
        };
        let kind = if plan.template.data { OpKind::Data } else { OpKind::Control };
        out.sink.done(&Operation { kind, target, ..call.control(verb) });
    }

    /// A statement whose text was never seen: it may have done anything.
    fn unseen(&mut self, call: &Call, out: &mut Out<'_>) {
        let verb = out.sink.word("EXECUTE");
        out.sink.done(&Operation { kind: OpKind::Data, effect: Effect::Unknown, ..call.control(verb) });
    }

    /// The server has refused the oldest command.
    pub(super) fn refuse(&mut self, out: &mut Out<'_>) {
        let Some(entry) = self.pending.pop_front() else { return };
        let outcome = self.outcome(Outcome::Error);
        // What has been told of its results stays; the first that was not is the one that failed, the others never ran.
        self.tell_failed(&entry, outcome, out);
        match entry {
            Entry::Query { request, .. } | Entry::Execute { request, .. } | Entry::Command { request, .. } => {
                self.answer(request, out);
                out.sink.status(out.at, self.status);
            }
            Entry::Prepare { .. } => self.next_answer(),
        }
    }

    /// Ends a command whose answer will not be seen.
    pub(super) fn give_up(&mut self, entry: &Entry, outcome: Outcome, out: &mut Out<'_>) {
        self.reply = None;
        self.tell_failed(entry, outcome, out);
        if let Entry::Query { request, .. } | Entry::Execute { request, .. } | Entry::Command { request, .. } = entry {
            self.answer(*request, out);
        }
    }

    fn tell_failed(&mut self, entry: &Entry, outcome: Outcome, out: &mut Out<'_>) {
        let of = |request: u64, begun: Nanos, ended: Nanos, marker: Claim| Call {
            request,
            begun,
            ended,
            outcome,
            rows: None,
            rolled_back: false,
            warned: false,
            marker,
        };
        match entry {
            Entry::Query { request, begun, plans, next, more, marker } => {
                let call = of(*request, *begun, out.at, *marker);
                for plan in plans.iter().skip(*next) {
                    run(plan, &[], &call, &mut self.memory, out.sink);
                }
                if plans.is_empty() && *more {
                    self.unseen(&call, out);
                }
            }
            Entry::Execute { request, begun, statement, params, fetches } => {
                let call = of(*request, *begun, out.at, statement.as_ref().map_or(Claim::Neutral, |s| s.noted.marker));
                match statement.as_ref().and_then(|s| s.plan.as_ref()) {
                    Some(plan) if *fetches => self.fetched(plan, &call, out),
                    Some(plan) => run(plan, params, &call, &mut self.memory, out.sink),
                    None => self.unseen(&call, out),
                }
            }
            Entry::Command { request, begun, verb, does } => {
                let verb = out.sink.word(verb);
                let plain = Operation::control(*request, *begun, out.at, verb, outcome);
                let bind = |slot, claim, strength| Effect::Bind { slot, claim, scope: Scope::Session, strength };
                // What it was to do matters where it is not known whether it did.
                let effect = match does {
                    Does::Uses(claim) => bind(Slot::SearchPath, *claim, Strength::V2),
                    Does::Becomes(login) => bind(Slot::SessionUser, login.user, Strength::V3),
                    Does::Resets => Effect::Unknown,
                    Does::Nothing | Does::SaysText | Does::Lists => Effect::None,
                };
                out.sink.done(&Operation { effect, ..plain });
            }
            Entry::Prepare { .. } => {}
        }
    }

    /// The command is answered.
    fn answer(&mut self, request: u64, out: &mut Out<'_>) {
        self.n_answered += 1;
        let print = self.reply.take().map(|reply| Fingerprint(reply.finish()));
        out.sink.answered(request, out.at, print);
        self.next_answer();
    }

    /// The next packet begins another command's answer.
    pub(super) fn next_answer(&mut self) {
        self.stage = super::Stage::Start;
        self.fresh = true;
        self.reply = Some(self.salt.hasher());
        self.rows.restart();
        self.unsure &= !self.pending.is_empty();
    }

    /// The server says in which state the session is. Without autocommit a transaction begins with the first statement,
    /// and the server says so only once a table was touched: what was bound for it belongs to it.
    pub(super) fn tell_status(&mut self, done: &Done<'_>, out: &mut Out<'_>) {
        self.backslash = Some(done.backslash());
        let open = done.status & IN_TRANSACTION != 0 || (done.status & AUTOCOMMIT == 0 && self.bound);
        self.bound &= open;
        self.status = if open { TxStatus::Open } else { TxStatus::Idle };
        out.sink.status(out.at, self.status);
    }
}
