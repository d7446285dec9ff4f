//! What the server answers: requests end, and what they did is told.

use std::rc::Rc;

use smallvec::SmallVec;

use super::{Entry, Lost, MAX_PORTALS, Machine, Out, Portal};
use crate::decode::postgres::bodies::field;
use crate::decode::postgres::frame::{Message, Passing};
use crate::decode::postgres::kinds::server;
use crate::decode::postgres::resync::tx_status;
use crate::decode::postgres::session;
use crate::decode::sql::Call;
use crate::decode::sql::commands::COMMANDS;
use crate::decode::sql::noted::Noted;
use crate::decode::sql::plan::run;
use crate::decode::sql::shape::Tag;
use crate::decode::wire::Reader;
use crate::decode::{Mark, word_of};
use crate::model::operation::ResetScope;
use crate::model::{Claim, Effect, Fingerprint, Nanos, OpKind, Operation, Outcome, Scope, Side, TxStatus};

impl Machine {
    /// A message from the server. `passing` has hashed what it said.
    pub(in crate::decode::postgres) fn server(
        &mut self,
        m: &Message<'_>,
        passing: &mut Passing,
        out: &mut Out<'_>,
    ) -> Result<(), Lost> {
        let front = self.pending.front();
        let in_statement = matches!(front, Some(Entry::Query { .. } | Entry::Execute { .. }));
        if m.kind == server::DATA_ROW
            && let Some(Entry::Query { request, .. } | Entry::Execute { request, .. }) = front
        {
            let request = *request;
            passing.rows.take(&mut |value| out.sink.mark(request, Side::Server, Mark::Value(value)));
        }
        let fits = match m.kind {
            server::DATA_ROW | server::COPY_DATA | server::COPY_DONE | server::COPY_OUT_RESPONSE => in_statement,
            server::COPY_IN_RESPONSE | server::COPY_BOTH_RESPONSE => {
                if in_statement {
                    self.begin_copy();
                }
                in_statement
            }
            server::COMMAND_COMPLETE if m.cut => return Err(Lost::Gap),
            server::COMMAND_COMPLETE => return self.complete(m.body, passing, out),
            server::EMPTY_QUERY_RESPONSE => return self.empty(passing, out),
            server::PORTAL_SUSPENDED => return self.suspended(passing, out),
            server::ERROR_RESPONSE => return self.error(m, passing, out),
            server::READY_FOR_QUERY => return self.ready(m, passing, out),
            server::FUNCTION_CALL_RESPONSE => match self.pending.front_mut() {
                Some(Entry::Function { done, request, begun }) if !*done => {
                    *done = true;
                    let (request, begun) = (*request, *begun);
                    self.function_done(request, begun, Outcome::Ok, out);
                    true
                }
                _ => false,
            },
            server::PARSE_COMPLETE => matches!(front, Some(Entry::Parse { .. })) && self.parsed(),
            server::BIND_COMPLETE => matches!(front, Some(Entry::Bind { .. })) && self.bound(),
            server::CLOSE_COMPLETE => matches!(front, Some(Entry::Close { .. })) && self.closed(),
            server::PARAMETER_DESCRIPTION => matches!(front, Some(Entry::Describe)),
            server::ROW_DESCRIPTION => matches!(front, Some(Entry::Query { .. })) || self.described(),
            server::NO_DATA => self.described(),
            server::NOTICE_RESPONSE => match field(m.body, b'C') {
                Some(code) => {
                    self.warned |= code == b"25P01";
                    true
                }
                // Whether it was the one that matters is not known.
                None if m.cut => return Err(Lost::Gap),
                None => true,
            },
            server::PARAMETER_STATUS => {
                let mut rest = Reader::new(m.body);
                match rest.cstr() {
                    Some(b"standard_conforming_strings") => {
                        self.backslash = rest.cstr().map(|value| value == b"off");
                    }
                    None => self.backslash = None,
                    Some(_) => {}
                }
                true
            }
            server::AUTHENTICATION => matches!(front, Some(Entry::Startup(_))),
            _ => true,
        };
        if fits { Ok(()) } else { Err(Lost::UnexpectedReply) }
    }

    /// The server reads COPY data from now on, and passes over a Sync that was sent before.
    fn begin_copy(&mut self) {
        self.copying = true;
        let mut first = true;
        self.pending.retain(|e| std::mem::take(&mut first) || !matches!(e, Entry::Sync));
    }

    fn parsed(&mut self) -> bool {
        if let Some(Entry::Parse { name, statement }) = self.pending.pop_front() {
            self.memory.prepare(name, statement);
        }
        true
    }

    fn bound(&mut self) -> bool {
        if let Some(Entry::Bind { name, portal }) = self.pending.pop_front() {
            if self.portals.len() >= MAX_PORTALS {
                self.portals.clear();
            }
            // The statement may have turned out to be another one than when the client spoke (a Parse that failed).
            let same = match (&portal.prepared, self.memory.prepared(portal.statement)) {
                (Some(then), Some(now)) => Rc::ptr_eq(then, &now),
                _ => false,
            };
            let portal = if same {
                portal
            } else {
                Rc::new(Portal {
                    statement: portal.statement,
                    prepared: None,
                    params: SmallVec::new(),
                    print: None,
                    noted: Noted::default(),
                })
            };
            self.portals.insert(name, portal);
        }
        true
    }

    fn closed(&mut self) -> bool {
        match self.pending.pop_front() {
            Some(Entry::Close { portal: true, name }) => {
                self.portals.remove(&name);
            }
            Some(Entry::Close { portal: false, name }) => self.memory.deallocate(name),
            _ => {}
        }
        true
    }

    fn described(&mut self) -> bool {
        let fits = matches!(self.pending.front(), Some(Entry::Describe));
        if fits {
            self.pending.pop_front();
        }
        fits
    }

    fn complete(&mut self, body: &[u8], passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut rest = Reader::new(body);
        let tag = rest.cstr().ok_or(Lost::Body)?;
        let warned = std::mem::take(&mut self.warned);
        match self.pending.pop_front() {
            Some(Entry::Query { request, begun, plans, next, more, failed, marker }) => {
                let outcome = self.outcome(Outcome::Ok);
                let (rows, rolled_back) = (rows_of(tag), tag == b"ROLLBACK");
                let call = Call { request, begun, ended: out.at, outcome, rows, rolled_back, warned, marker };
                let said = match plans.get(next) {
                    Some(plan) if plan.template.tag.fits(Tag::of(tag)) => {
                        run(plan, &[], &call, &mut self.memory, out.sink);
                        true
                    }
                    None if more => {
                        self.unseen(&call, tag, out);
                        true
                    }
                    _ => false,
                };
                self.pending.push_front(Entry::Query { request, begun, plans, next: next + 1, more, failed, marker });
                if !said || failed {
                    return Err(Lost::UnexpectedReply);
                }
                self.after(tag);
                Ok(())
            }
            Some(Entry::Execute { request, begun, name, .. }) => {
                let (outcome, marker) = (self.outcome(Outcome::Ok), Claim::Neutral);
                let (rows, rolled_back) = (rows_of(tag), tag == b"ROLLBACK");
                let call = Call { request, begun, ended: out.at, outcome, rows, rolled_back, warned, marker };
                let fits = self.run_portal(name, &call, Some(tag), out);
                self.answer(request, passing.take(), out);
                if !fits {
                    return Err(Lost::UnexpectedReply);
                }
                self.after(tag);
                Ok(())
            }
            other => {
                if let Some(entry) = other {
                    self.pending.push_front(entry);
                }
                Err(Lost::UnexpectedReply)
            }
        }
    }

    /// What a command does to the session's portals.
    fn after(&mut self, tag: &[u8]) {
        if tag == b"DISCARD ALL" {
            self.portals.clear();
        }
    }

    /// Runs what a portal holds; `tag`: none where it gave rows and has more. Gives whether the tag can be its answer.
    fn run_portal(&mut self, name: u64, call: &Call, tag: Option<&[u8]>, out: &mut Out<'_>) -> bool {
        let portal = self.portals.get(&name).cloned();
        let plan = portal.as_ref().and_then(|p| p.prepared.as_ref()).and_then(|p| p.plan.as_ref());
        match (plan, &portal) {
            (Some(plan), Some(portal)) => {
                if let Some(tag) = tag.filter(|tag| !plan.template.tag.fits(Tag::of(tag))) {
                    self.unseen(call, tag, out);
                    return false;
                }
                let marker = portal.prepared.as_ref().map_or(Claim::Neutral, |p| p.noted.marker);
                run(plan, &portal.params, &Call { marker, ..*call }, &mut self.memory, out.sink);
            }
            _ => self.unseen(call, tag.unwrap_or(b"SELECT"), out),
        }
        true
    }

    /// A statement whose text was never seen: its tag tells what little there is to tell.
    pub(super) fn unseen(&mut self, call: &Call, tag: &[u8], out: &mut Out<'_>) {
        let words = tag.split(|b| b.is_ascii_digit()).next().unwrap_or_default();
        let verb = String::from_utf8_lossy(words.get(..words.len().min(32)).unwrap_or_default());
        let (kind, effect) = match Tag::of(tag) {
            Tag::Begin => (OpKind::Control, Effect::Begin),
            Tag::End if tag == b"COMMIT" => (OpKind::Control, Effect::Commit),
            Tag::Discard if tag == b"DISCARD ALL" => {
                self.memory.deallocate_all();
                (OpKind::Reset, Effect::Reset { what: ResetScope::Everything, scope: Scope::Session })
            }
            Tag::Set | Tag::Reset | Tag::End | Tag::Savepoint | Tag::Discard | Tag::Prepare => {
                (OpKind::Control, Effect::Unknown)
            }
            Tag::Rows | Tag::Other | Tag::Any => (OpKind::Data, Effect::Unknown),
        };
        if Tag::of(tag) == Tag::Prepare {
            self.memory.deallocate_all();
        }
        let verb = word_of(verb.trim(), COMMANDS, out.sink);
        out.sink.done(&Operation { kind, effect, ..call.control(verb) });
    }

    fn empty(&mut self, passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
        match self.pending.front() {
            Some(Entry::Query { request, begun, plans, .. }) if plans.is_empty() => {
                let (request, begun) = (*request, *begun);
                let verb = out.sink.word("EMPTY");
                out.sink.done(&Operation::control(request, begun, out.at, verb, Outcome::Ok));
                Ok(())
            }
            Some(Entry::Execute { request, begun, .. }) => {
                let (request, begun) = (*request, *begun);
                self.pending.pop_front();
                let verb = out.sink.word("EMPTY");
                out.sink.done(&Operation::control(request, begun, out.at, verb, Outcome::Ok));
                self.answer(request, passing.take(), out);
                Ok(())
            }
            _ => Err(Lost::UnexpectedReply),
        }
    }

    fn suspended(&mut self, passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
        match self.pending.front() {
            Some(Entry::Execute { request, begun, name, .. }) => {
                let (request, begun, name) = (*request, *begun, *name);
                self.pending.pop_front();
                let warned = std::mem::take(&mut self.warned);
                let call = Call {
                    request,
                    begun,
                    ended: out.at,
                    outcome: self.outcome(Outcome::Ok),
                    rows: Some(1),
                    rolled_back: false,
                    warned,
                    marker: Claim::Neutral,
                };
                self.run_portal(name, &call, None, out);
                self.answer(request, passing.take(), out);
                Ok(())
            }
            _ => Err(Lost::UnexpectedReply),
        }
    }

    pub(super) fn function_done(&mut self, request: u64, begun: Nanos, outcome: Outcome, out: &mut Out<'_>) {
        let verb = out.sink.word("FUNCTION");
        let outcome = self.outcome(outcome);
        // Which function is known to the server only, by number.
        let plain = Operation::control(request, begun, out.at, verb, outcome);
        out.sink.done(&Operation { kind: OpKind::Data, effect: Effect::Unknown, ..plain });
    }

    pub(super) fn answer(&mut self, request: u64, print: Option<u64>, out: &mut Out<'_>) {
        self.n_answered += 1;
        out.sink.answered(request, out.at, print.map(Fingerprint));
    }

    fn ready(&mut self, m: &Message<'_>, passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
        if m.cut {
            return Err(Lost::Gap);
        }
        let status = m.body.first().copied().and_then(tx_status).ok_or(Lost::Body)?;
        match self.pending.front() {
            Some(Entry::Query { plans, next, .. }) if *next < plans.len() => return Err(Lost::UnexpectedReply),
            Some(Entry::Startup(_) | Entry::Sync | Entry::Query { .. } | Entry::Function { done: true, .. }) => {}
            _ => return Err(Lost::UnexpectedReply),
        }
        match self.pending.pop_front() {
            Some(Entry::Query { request, .. } | Entry::Function { request, .. }) => {
                self.answer(request, passing.take(), out);
            }
            Some(Entry::Startup(session)) => {
                passing.take();
                session::begin(&session, self.salt, out);
            }
            _ => {
                passing.take();
            }
        }
        self.copying = false;
        self.warned = false;
        self.unsure &= !self.pending.is_empty();
        if status == TxStatus::Idle {
            self.portals.clear();
            self.memory.armed_cursor = false;
        }
        out.sink.status(out.at, status);
        Ok(())
    }
}

/// The number of rows in a tag, which is its last word.
fn rows_of(tag: &[u8]) -> Option<u64> {
    std::str::from_utf8(tag.rsplit(|b| *b == b' ').next()?).ok()?.parse().ok()
}
