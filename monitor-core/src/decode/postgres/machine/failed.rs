//! What fails: the oldest request, what is skipped with it, and what nobody will answer any more.

use super::{Entry, Lost, Machine, Out, Portal};
use crate::decode::postgres::bodies::field;
use crate::decode::postgres::frame::{Message, Passing};
use crate::decode::sql::Call;
use crate::decode::sql::plan::run;
use crate::model::{Claim, Effect, Nanos, Operation, Outcome};

impl Machine {
    /// The server refused the oldest request.
    pub(super) fn error(&mut self, m: &Message<'_>, passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
        self.copying = false;
        self.warned = false;
        if let Some(code) = field(m.body, b'C') {
            passing.add(code);
        }
        let fatal = field(m.body, b'V').or_else(|| field(m.body, b'S')).is_some_and(|s| s == b"FATAL" || s == b"PANIC");
        match self.pending.front_mut() {
            // The server ends the connection by itself, for a reason of its own.
            None if fatal => Ok(()),
            None => Err(Lost::UnexpectedReply),
            Some(Entry::Startup(_)) => {
                self.pending.pop_front();
                Ok(())
            }
            Some(Entry::Query { failed: true, .. } | Entry::Function { done: true, .. }) if !fatal => {
                Err(Lost::UnexpectedReply)
            }
            Some(Entry::Query { request, begun, plans, next, failed, .. }) => {
                *failed = true;
                let at = std::mem::replace(next, plans.len());
                if at < plans.len() {
                    let plan = plans.swap_remove(at);
                    let outcome = if self.unsure { Outcome::Unknown } else { Outcome::Error };
                    let call = Call { outcome, ..error_call(*request, *begun, out.at) };
                    run(&plan, &[], &call, &mut self.memory, out.sink);
                }
                Ok(())
            }
            Some(Entry::Function { request, begun, done }) => {
                *done = true;
                let (request, begun) = (*request, *begun);
                self.function_done(request, begun, Outcome::Error, out);
                Ok(())
            }
            // The transaction failed at its implicit commit: what its statements did is undone.
            Some(Entry::Sync) => {
                let verb = out.sink.word("SYNC");
                let begun = out.at;
                let plain = Operation::control(self.n_requests, begun, out.at, verb, Outcome::Ok);
                out.sink.done(&Operation { effect: Effect::Rollback, ..plain });
                Ok(())
            }
            Some(_) => {
                self.skip(passing, out);
                Ok(())
            }
        }
    }

    /// Ends everything up to the next Sync: the first request failed, the others never ran.
    fn skip(&mut self, passing: &mut Passing, out: &mut Out<'_>) {
        let mut print = passing.take();
        loop {
            match self.pending.pop_front() {
                None => {
                    self.skipping = true;
                    return;
                }
                Some(Entry::Sync) => {
                    self.pending.push_front(Entry::Sync);
                    return;
                }
                Some(Entry::Execute { request, begun, portal, .. }) => {
                    let outcome = self.outcome(Outcome::Error);
                    self.fail_portal(request, begun, portal.as_deref(), outcome, out);
                    self.answer(request, print.take(), out);
                }
                Some(entry) => {
                    self.give_up(&entry, self.outcome(Outcome::Error), out);
                    print = None;
                }
            }
        }
    }

    /// Ends a request that ran not at all, or whose reply will not be seen.
    pub(super) fn give_up(&mut self, entry: &Entry, outcome: Outcome, out: &mut Out<'_>) {
        match entry {
            Entry::Query { request, begun, plans, next, .. } => {
                for plan in plans.iter().skip(*next) {
                    let call = Call { outcome, ..error_call(*request, *begun, out.at) };
                    run(plan, &[], &call, &mut self.memory, out.sink);
                }
                self.answer(*request, None, out);
            }
            Entry::Execute { request, begun, portal, .. } => {
                self.fail_portal(*request, *begun, portal.as_deref(), outcome, out);
                self.answer(*request, None, out);
            }
            Entry::Function { request, begun, done } => {
                if !done {
                    self.function_done(*request, *begun, outcome, out);
                }
                self.answer(*request, None, out);
            }
            _ => {}
        }
    }

    fn fail_portal(
        &mut self,
        request: u64,
        begun: Nanos,
        portal: Option<&Portal>,
        outcome: Outcome,
        out: &mut Out<'_>,
    ) {
        let call = Call { outcome, ..error_call(request, begun, out.at) };
        match portal.and_then(|p| Some((p, p.prepared.as_ref()?.plan.as_ref()?))) {
            Some((portal, plan)) => run(plan, &portal.params, &call, &mut self.memory, out.sink),
            None => self.unseen(&call, b"", out),
        }
    }
}

fn error_call(request: u64, begun: Nanos, ended: Nanos) -> Call {
    let (outcome, marker) = (Outcome::Error, Claim::Neutral);
    Call { request, begun, ended, outcome, rows: None, rolled_back: false, warned: false, marker }
}
