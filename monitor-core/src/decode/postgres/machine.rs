//! Requests paired with replies. What a statement did is said when its reply has come, with the state of the session
//! as the server saw it then: statements and portals change when the server says so, in the server's order.
//!
//! Rules of the protocol that matter here: a reply answers the oldest request; after an error everything up to the
//! next Sync is skipped unanswered; a simple query ends with ReadyForQuery, so does every Sync; COPY FROM STDIN reads
//! past the Sync that a client sent before it knew (PostgreSQL manual, "Message Flow"; `CopyGetData`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::Hasher;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::bodies::{field, read_parameters};
use super::frame::{Message, Passing};
use super::noted::{MAX_MARKS, Noted};
use super::resync::tx_status;
use super::session;
use super::sql::plan::{Param, run};
use super::sql::shape::Tag;
use super::sql::{Call, Memory, Plan, Prepared, Shapes};
use super::startup::{Session, cstr};
use crate::decode::{Mark, Sink};
use crate::model::claim::Salt;
use crate::model::operation::ResetScope;
use crate::model::{Claim, Effect, Fingerprint, Nanos, OpKind, Operation, Outcome, Scope, Side, Sym, TxStatus};

/// Most messages awaiting a reply.
const MAX_PENDING: usize = 16_384;
/// Most portals remembered; beyond that all are forgotten, and what runs them is unknown.
const MAX_PORTALS: usize = 1024;

/// Longest parameter that is looked through for values, in bytes.
const MAX_NOTED: usize = 4096;

/// What cannot be: the pairing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// A reply that nothing asked for, or that its request cannot have.
    UnexpectedReply,
    /// A body that does not follow its type's format.
    Body,
    /// More requests in flight than are remembered.
    Overflow,
    /// Bytes of a message that decides how others are read are missing.
    Gap,
}

impl Lost {
    /// The name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UnexpectedReply => "unexpected_reply",
            Self::Body => "message_body",
            Self::Overflow => "requests_in_flight",
            Self::Gap => "gap",
        }
    }
}

/// A portal: a statement with parameters.
#[derive(Debug)]
struct Portal {
    statement: u64,
    prepared: Option<Rc<Prepared>>,
    params: SmallVec<[Param; 1]>,
    print: Option<u64>,
    /// What its parameters carry besides.
    noted: Noted,
}

impl Portal {
    /// Bytes held. What its parameters say is short, and only there where a statement binds it.
    fn memory(&self) -> usize {
        size_of::<Self>() + self.params.capacity() * size_of::<Param>() + self.noted.memory()
    }
}

/// A message that awaits its reply.
#[derive(Debug)]
enum Entry {
    Startup(Box<Session>),
    Parse {
        name: u64,
        statement: Rc<Prepared>,
    },
    Bind {
        name: u64,
        portal: Rc<Portal>,
    },
    Describe,
    Close {
        portal: bool,
        name: u64,
    },
    Execute {
        request: u64,
        begun: Nanos,
        name: u64,
        portal: Option<Rc<Portal>>,
    },
    Sync,
    Query {
        request: u64,
        begun: Nanos,
        plans: SmallVec<[Plan; 1]>,
        next: usize,
        more: bool,
        failed: bool,
        marker: Claim,
    },
    Function {
        request: u64,
        begun: Nanos,
        done: bool,
    },
}

/// Where results go and when.
pub(super) struct Out<'a> {
    pub(super) at: Nanos,
    pub(super) sink: &'a mut dyn Sink,
}

/// The pairing of one connection.
#[derive(Debug)]
pub(super) struct Machine {
    salt: Salt,
    shapes: Rc<RefCell<Shapes>>,
    memory: Memory,
    pending: VecDeque<Entry>,
    portals: FxHashMap<u64, Rc<Portal>>,
    /// Statements and portals as they will be once everything pending succeeds; `None`: closed.
    ahead: FxHashMap<u64, Option<Rc<Prepared>>>,
    ahead_portals: FxHashMap<u64, Rc<Portal>>,
    n_requests: u64,
    n_answered: u64,
    /// An error came; the client's messages are skipped until its next Sync.
    skipping: bool,
    /// The server reads COPY data.
    copying: bool,
    warned: bool,
    /// `standard_conforming_strings` is off: plain strings have backslash escapes. The server reports it; `None`: the
    /// report may have been missed.
    backslash: Option<bool>,
}

impl Machine {
    pub(super) fn new(salt: Salt, shapes: Rc<RefCell<Shapes>>) -> Self {
        Self {
            salt,
            shapes,
            memory: Memory::new(salt),
            pending: VecDeque::new(),
            portals: FxHashMap::default(),
            ahead: FxHashMap::default(),
            ahead_portals: FxHashMap::default(),
            n_requests: 0,
            n_answered: 0,
            skipping: false,
            copying: false,
            warned: false,
            backslash: Some(false),
        }
    }

    /// Requests answered so far.
    pub(super) fn n_answered(&self) -> u64 {
        self.n_answered
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        let waiting: usize = self
            .pending
            .iter()
            .map(|e| match e {
                Entry::Query { plans, .. } if plans.spilled() => plans.capacity() * size_of::<Plan>(),
                Entry::Bind { portal, .. } => portal.memory(),
                _ => 0,
            })
            .sum();
        let portals: usize = self.portals.values().chain(self.ahead_portals.values()).map(|p| p.memory()).sum();
        self.memory.memory()
            + waiting
            + portals
            + self.pending.capacity() * size_of::<Entry>()
            + (self.portals.capacity() + self.ahead_portals.capacity()) * 32
            + self.ahead.capacity() * 32
    }

    /// The client asked for a session.
    pub(super) fn startup(&mut self, session: Session) {
        self.memory.startup_role = session.settings.iter().any(|(name, _)| name == "role");
        self.pending.push_back(Entry::Startup(Box::new(session)));
    }

    /// Replies with ReadyForQuery that are still to come.
    pub(super) fn n_owed(&self) -> usize {
        let ends =
            |e: &&Entry| matches!(e, Entry::Startup(_) | Entry::Sync | Entry::Query { .. } | Entry::Function { .. });
        self.pending.iter().filter(ends).count()
    }

    /// The pairing is lost, or the connection has ended: nothing outstanding will be answered.
    pub(super) fn abandon(&mut self, out: &mut Out<'_>) {
        while let Some(entry) = self.pending.pop_front() {
            self.give_up(&entry, Outcome::Unknown, out);
        }
        self.portals = FxHashMap::default();
        self.ahead = FxHashMap::default();
        self.ahead_portals = FxHashMap::default();
        self.memory.forget();
        self.skipping = false;
        self.copying = false;
        self.warned = false;
        self.backslash = None;
    }

    /// A message from the client.
    pub(super) fn client(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        if self.pending.len() >= MAX_PENDING {
            return Err(Lost::Overflow);
        }
        if self.pending.is_empty() {
            self.ahead.clear();
            self.ahead_portals.clear();
        }
        match m.kind {
            b'Q' => self.query(m, out),
            b'P' if !self.skipping => self.parse(m, out),
            b'B' if !self.skipping => self.bind(m, out),
            b'E' => self.execute(m, out),
            b'D' if !self.skipping => {
                self.pending.push_back(Entry::Describe);
                Ok(())
            }
            b'C' if !self.skipping => self.close(m),
            b'S' if !self.copying => {
                self.skipping = false;
                self.pending.push_back(Entry::Sync);
                Ok(())
            }
            b'F' => {
                let request = self.begin(out, m.print);
                self.wait(Entry::Function { request, begun: out.at, done: false }, out);
                Ok(())
            }
            b'c' | b'f' => {
                self.copying = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, out: &mut Out<'_>, print: Option<u64>) -> u64 {
        self.n_requests += 1;
        out.sink.begun(self.n_requests, out.at, print.map(Fingerprint));
        self.n_requests
    }

    /// Remembers a request, or ends it at once if the server is skipping.
    fn wait(&mut self, entry: Entry, out: &mut Out<'_>) {
        if self.skipping {
            self.give_up(&entry, Outcome::Error, out);
        } else {
            self.pending.push_back(entry);
        }
    }

    fn query(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut text = m.body;
        if let Some(t) = cstr(&mut text) {
            text = t;
        } else if !m.cut {
            return Err(Lost::Body);
        }
        let request = self.begin(out, m.print);
        let mut plans = SmallVec::new();
        let (more, noted) = self.read(text, m.cut, out.sink, &mut |plan| plans.push(plan));
        noted.tell(request, &mut { MAX_MARKS }, out.sink);
        let marker = noted.marker;
        self.wait(Entry::Query { request, begun: out.at, plans, next: 0, more, failed: false, marker }, out);
        Ok(())
    }

    /// Reads the statements of a text. Where it is not known whether a backslash escapes, a text with one is read as far
    /// as that.
    fn read(&self, text: &[u8], cut: bool, sink: &mut dyn Sink, each: &mut dyn FnMut(Plan)) -> (bool, Noted) {
        let sure = if self.backslash.is_some() { None } else { memchr::memchr(b'\\', text) };
        let text = text.get(..sure.unwrap_or(text.len())).unwrap_or_default();
        let mut noted = Noted::default();
        noted.comments(self.salt, text, sink);
        let wanted = sink.wants_values(Side::Client);
        let literal = &mut |text: &[u8]| {
            if wanted {
                noted.text(self.salt, text);
            }
        };
        let backslash = self.backslash.unwrap_or(false);
        let more = self.shapes.borrow_mut().read(text, cut || sure.is_some(), backslash, literal, each);
        (more, noted)
    }

    fn parse(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut rest = m.body;
        let Some(name) = cstr(&mut rest) else { return if m.cut { Err(Lost::Gap) } else { Err(Lost::Body) } };
        let name = self.memory.key(name);
        let text = match cstr(&mut rest) {
            Some(text) => text,
            None if m.cut => rest,
            None => return Err(Lost::Body),
        };
        let mut first = None;
        let mut n = 0;
        let (more, noted) = self.read(text, m.cut, out.sink, &mut |plan| {
            n += 1;
            first.get_or_insert(plan);
        });
        // The server refuses several statements in one Parse; what is left of a cut one says so by itself.
        let plan = first.filter(|p| n == 1 && (!more || p.template.unknown));
        let statement = Rc::new(Prepared { plan, print: m.print, noted });
        self.ahead.insert(name, Some(statement.clone()));
        self.pending.push_back(Entry::Parse { name, statement });
        Ok(())
    }

    fn bind(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut rest = m.body;
        let short = if m.cut { Lost::Gap } else { Lost::Body };
        let name = self.memory.key(cstr(&mut rest).ok_or(short)?);
        let statement = self.memory.key(cstr(&mut rest).ok_or(short)?);
        let prepared = match self.ahead.get(&statement) {
            Some(changed) => changed.clone(),
            None => self.memory.prepared(statement),
        };
        let mut params = SmallVec::new();
        let mut noted = Noted::default();
        let wanted = out.sink.wants_values(Side::Client);
        let plan = prepared.as_ref().and_then(|p| p.plan.as_ref());
        if wanted || plan.is_some_and(|p| !p.template.params.is_empty()) {
            read_parameters(rest, plan, &mut params, &mut |binary, value| match binary {
                _ if !wanted || value.len() > MAX_NOTED => {}
                true => noted.binary(self.salt, value),
                false => noted.text(self.salt, value),
            });
        }
        let print = match (prepared.as_ref().and_then(|p| p.print), m.print) {
            (Some(text), Some(values)) => {
                let mut h = self.salt.hasher();
                h.write_u64(text);
                h.write_u64(values);
                Some(h.finish())
            }
            _ => None,
        };
        let portal = Rc::new(Portal { statement, prepared, params, print, noted });
        self.ahead_portals.insert(name, portal.clone());
        self.pending.push_back(Entry::Bind { name, portal });
        Ok(())
    }

    fn execute(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut rest = m.body;
        let name = cstr(&mut rest).ok_or(if m.cut { Lost::Gap } else { Lost::Body })?;
        let name = self.memory.key(name);
        let portal = self.ahead_portals.get(&name).or_else(|| self.portals.get(&name)).cloned();
        let request = self.begin(out, portal.as_ref().and_then(|p| p.print));
        if let Some(portal) = &portal {
            // The ids in its comments come first: of those there are few.
            let mut room = MAX_MARKS;
            if let Some(prepared) = &portal.prepared {
                prepared.noted.tell(request, &mut room, out.sink);
            }
            portal.noted.tell(request, &mut room, out.sink);
        }
        self.wait(Entry::Execute { request, begun: out.at, name, portal }, out);
        Ok(())
    }

    fn close(&mut self, m: &Message<'_>) -> Result<(), Lost> {
        let (portal, mut rest) = match m.body.split_first() {
            Some((b'P', rest)) => (true, rest),
            Some((b'S', rest)) => (false, rest),
            _ if m.cut => return Err(Lost::Gap),
            _ => return Err(Lost::Body),
        };
        let name = cstr(&mut rest).ok_or(if m.cut { Lost::Gap } else { Lost::Body })?;
        let name = self.memory.key(name);
        if !portal {
            self.ahead.insert(name, None);
        }
        self.pending.push_back(Entry::Close { portal, name });
        Ok(())
    }

    /// A message from the server. `passing` has hashed what it said.
    pub(super) fn server(&mut self, m: &Message<'_>, passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
        let front = self.pending.front();
        let in_statement = matches!(front, Some(Entry::Query { .. } | Entry::Execute { .. }));
        if m.kind == b'D'
            && let Some(Entry::Query { request, .. } | Entry::Execute { request, .. }) = front
        {
            let request = *request;
            passing.rows.take(&mut |value| out.sink.mark(request, Side::Server, Mark::Value(value)));
        }
        let fits = match m.kind {
            b'D' | b'd' | b'c' | b'H' => in_statement,
            b'G' | b'W' => {
                if in_statement {
                    self.begin_copy();
                }
                in_statement
            }
            b'C' if m.cut => return Err(Lost::Gap),
            b'C' => return self.complete(m.body, passing, out),
            b'I' => return self.empty(passing, out),
            b's' => return self.suspended(passing, out),
            b'E' => return self.error(m, passing, out),
            b'Z' => return self.ready(m, passing, out),
            b'V' => match self.pending.front_mut() {
                Some(Entry::Function { done, request, begun }) if !*done => {
                    *done = true;
                    let (request, begun) = (*request, *begun);
                    self.function_done(request, begun, Outcome::Ok, out);
                    true
                }
                _ => false,
            },
            b'1' => matches!(front, Some(Entry::Parse { .. })) && self.parsed(),
            b'2' => matches!(front, Some(Entry::Bind { .. })) && self.bound(),
            b'3' => matches!(front, Some(Entry::Close { .. })) && self.closed(),
            b't' => matches!(front, Some(Entry::Describe)),
            b'T' => matches!(front, Some(Entry::Query { .. })) || self.described(),
            b'n' => self.described(),
            b'N' => match field(m.body, b'C') {
                Some(code) => {
                    self.warned |= code == b"25P01";
                    true
                }
                // Whether it was the one that matters is not known.
                None if m.cut => return Err(Lost::Gap),
                None => true,
            },
            b'S' => {
                let mut rest = m.body;
                match cstr(&mut rest) {
                    Some(b"standard_conforming_strings") => {
                        self.backslash = cstr(&mut rest).map(|value| value == b"off");
                    }
                    None => self.backslash = None,
                    Some(_) => {}
                }
                true
            }
            b'R' => matches!(front, Some(Entry::Startup(_))),
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
        let mut rest = body;
        let tag = cstr(&mut rest).ok_or(Lost::Body)?;
        let warned = std::mem::take(&mut self.warned);
        match self.pending.pop_front() {
            Some(Entry::Query { request, begun, plans, next, more, failed, marker }) => {
                let outcome = Outcome::Ok;
                let call = Call { request, begun, ended: out.at, outcome, tag, suspended: false, warned, marker };
                let said = match plans.get(next) {
                    Some(plan) if plan.template.tag.fits(Tag::of(tag)) => {
                        run(plan, &[], &call, &mut self.memory, out.sink);
                        true
                    }
                    None if more => {
                        self.unseen(&call, out);
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
                let (outcome, marker) = (Outcome::Ok, Claim::Neutral);
                let call = Call { request, begun, ended: out.at, outcome, tag, suspended: false, warned, marker };
                let fits = self.run_portal(name, &call, out);
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

    /// Runs what a portal holds. Gives whether the tag can be its answer.
    fn run_portal(&mut self, name: u64, call: &Call<'_>, out: &mut Out<'_>) -> bool {
        let portal = self.portals.get(&name).cloned();
        let plan = portal.as_ref().and_then(|p| p.prepared.as_ref()).and_then(|p| p.plan.as_ref());
        match (plan, &portal) {
            (Some(plan), Some(portal)) => {
                if !call.suspended && !plan.template.tag.fits(Tag::of(call.tag)) {
                    self.unseen(call, out);
                    return false;
                }
                let marker = portal.prepared.as_ref().map_or(Claim::Neutral, |p| p.noted.marker);
                run(plan, &portal.params, &Call { marker, ..*call }, &mut self.memory, out.sink);
            }
            _ => self.unseen(call, out),
        }
        true
    }

    /// A statement whose text was never seen: its tag tells what little there is to tell.
    fn unseen(&mut self, call: &Call<'_>, out: &mut Out<'_>) {
        let tag = call.tag;
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
        let verb = out.sink.intern(verb.trim());
        self.control(call.request, call.begun, kind, verb, effect, call.outcome, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of an operation")]
    fn control(
        &self,
        request: u64,
        begun: Nanos,
        kind: OpKind,
        verb: Sym,
        effect: Effect,
        outcome: Outcome,
        out: &mut Out<'_>,
    ) {
        out.sink.done(&Operation {
            request,
            begun,
            ended: out.at,
            from: Side::Client,
            kind,
            verb,
            target: Sym::EMPTY,
            effect,
            outcome,
            warned_ineffective: false,
            marker: Claim::Neutral,
            credential: None,
            proved: None,
            key: None,
        });
    }

    fn empty(&mut self, passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
        match self.pending.front() {
            Some(Entry::Query { request, begun, plans, .. }) if plans.is_empty() => {
                let (request, begun) = (*request, *begun);
                let verb = out.sink.intern("EMPTY");
                self.control(request, begun, OpKind::Control, verb, Effect::None, Outcome::Ok, out);
                Ok(())
            }
            Some(Entry::Execute { request, begun, .. }) => {
                let (request, begun) = (*request, *begun);
                self.pending.pop_front();
                let verb = out.sink.intern("EMPTY");
                self.control(request, begun, OpKind::Control, verb, Effect::None, Outcome::Ok, out);
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
                    outcome: Outcome::Ok,
                    tag: b"SELECT",
                    suspended: true,
                    warned,
                    marker: Claim::Neutral,
                };
                self.run_portal(name, &call, out);
                self.answer(request, passing.take(), out);
                Ok(())
            }
            _ => Err(Lost::UnexpectedReply),
        }
    }

    fn error(&mut self, m: &Message<'_>, passing: &mut Passing, out: &mut Out<'_>) -> Result<(), Lost> {
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
                    let call = error_call(*request, *begun, out.at);
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
                let verb = out.sink.intern("SYNC");
                let begun = out.at;
                self.control(self.n_requests, begun, OpKind::Control, verb, Effect::Rollback, Outcome::Ok, out);
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
                    self.fail_portal(request, begun, portal.as_deref(), Outcome::Error, out);
                    self.answer(request, print.take(), out);
                }
                Some(entry) => {
                    self.give_up(&entry, Outcome::Error, out);
                    print = None;
                }
            }
        }
    }

    /// Ends a request that ran not at all, or whose reply will not be seen.
    fn give_up(&mut self, entry: &Entry, outcome: Outcome, out: &mut Out<'_>) {
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
            None => self.unseen(&call, out),
        }
    }

    fn function_done(&mut self, request: u64, begun: Nanos, outcome: Outcome, out: &mut Out<'_>) {
        let verb = out.sink.intern("FUNCTION");
        // Which function is known to the server only, by number.
        self.control(request, begun, OpKind::Data, verb, Effect::Unknown, outcome, out);
    }

    fn answer(&mut self, request: u64, print: Option<u64>, out: &mut Out<'_>) {
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
        if status == TxStatus::Idle {
            self.portals.clear();
            self.memory.armed_cursor = false;
        }
        out.sink.status(out.at, status);
        Ok(())
    }
}

fn error_call(request: u64, begun: Nanos, ended: Nanos) -> Call<'static> {
    let (outcome, marker) = (Outcome::Error, Claim::Neutral);
    Call { request, begun, ended, outcome, tag: b"", suspended: false, warned: false, marker }
}
