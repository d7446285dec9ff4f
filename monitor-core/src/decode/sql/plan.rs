//! A statement with its values: what it did, said in operations.

use std::borrow::Cow;
use std::hash::Hasher;
use std::rc::Rc;

use smallvec::SmallVec;

use super::commands::COMMANDS;
use super::names;
use super::noted::{Noted, both};
use super::scan::Literal;
use super::shape::{Act, Generations, Lasting, Named, Predicate, Sure, Symbols, Template};
use super::value::{Read, Value, literal_text};
use crate::decode::{Sink, word_of};
use crate::model::claim::{Salt, is_custom_setting};
use crate::model::operation::ResetScope;
use crate::model::{Claim, Effect, MarkerPlace, Nanos, OpKind, Operation, Outcome, Scope, Slot, Strength, Sym, Tables};

/// A literal that a template needs; `None`: not readable. Never leaves the decoder.
#[derive(Clone, Debug)]
pub(crate) struct LiteralText(Option<Box<str>>);

impl LiteralText {
    pub(super) fn read(text: &[u8], literal: &Literal) -> Self {
        Self(literal_text(text, literal).map(Into::into))
    }
}

/// One statement: its template and the literals that its acts need.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) template: Rc<Template>,
    pub(crate) literals: SmallVec<[(u16, LiteralText); 0]>,
    /// See [`super::scan::Scan::differs`].
    pub(crate) differs: u8,
}

impl Plan {
    /// Bytes held beyond the struct itself; the template is shared.
    pub(crate) fn memory(&self) -> usize {
        self.literals.capacity() * size_of::<(u16, LiteralText)>()
            + self.literals.iter().map(|(_, l)| l.0.as_ref().map_or(0, |t| t.len())).sum::<usize>()
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What it does; `None` if that could not be read.
    pub(crate) plan: Option<Plan>,
    /// Hash of what Parse said, without the name; `None` if not seen whole.
    pub(crate) print: Option<u64>,
    /// What its text carries besides.
    pub(crate) noted: Noted,
}

impl Prepared {
    /// Bytes held beyond the struct itself.
    pub(crate) fn memory(&self) -> usize {
        self.plan.as_ref().map_or(0, Plan::memory) + self.noted.memory()
    }
}

/// Prepared statements remembered per connection: at most twice as many; the ones unused longest go first.
const PREPARED: usize = 2048;
/// Most bytes of literals and marks that prepared statements of one connection may hold.
const PREPARED_BYTES: usize = 1 << 20;

/// What a session remembers between statements.
#[derive(Debug)]
pub(crate) struct Memory {
    salt: Salt,
    prepared: Generations<Rc<Prepared>>,
    prepared_bytes: usize,
    /// A cursor was declared whose query binds when it is fetched from.
    pub(crate) armed_cursor: bool,
    /// The session began with a role, so that `SET ROLE NONE` is not the way back to the start.
    pub(crate) startup_role: bool,
}

impl Memory {
    pub(crate) fn new(salt: Salt) -> Self {
        Self { salt, prepared: Generations::new(PREPARED), prepared_bytes: 0, armed_cursor: false, startup_role: false }
    }

    /// Something was missed: nothing that was prepared or declared is sure any more.
    pub(crate) fn forget(&mut self) {
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.armed_cursor = true;
    }

    /// The key of a statement's or portal's name. Salted: names come from anybody.
    pub(crate) fn key(&self, name: &[u8]) -> u64 {
        let mut h = self.salt.hasher();
        h.write(name);
        h.finish()
    }

    pub(crate) fn prepared(&mut self, key: u64) -> Option<Rc<Prepared>> {
        self.prepared.get(key)
    }

    pub(crate) fn prepare(&mut self, key: u64, statement: Rc<Prepared>) {
        self.prepared_bytes += statement.memory();
        if self.prepared_bytes > PREPARED_BYTES {
            self.prepared.clear();
            self.prepared_bytes = statement.memory();
        }
        self.prepared.insert(key, statement);
    }

    pub(crate) fn deallocate(&mut self, key: u64) {
        self.prepared.remove(key);
    }

    pub(crate) fn deallocate_all(&mut self) {
        self.prepared.clear();
        self.prepared_bytes = 0;
    }

    pub(crate) fn memory(&self) -> usize {
        self.prepared.memory() + self.prepared.len() * size_of::<Prepared>() + self.prepared_bytes
    }
}

/// A parameter that a statement's acts need.
pub(crate) type Param = (u16, Read<'static>);

/// How a statement went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) request: u64,
    pub(crate) begun: Nanos,
    pub(crate) ended: Nanos,
    pub(crate) outcome: Outcome,
    /// Rows given or changed; `None` if not known.
    pub(crate) rows: Option<u64>,
    /// The server answered what should end a transaction by rolling it back.
    pub(crate) rolled_back: bool,
    /// The server said 25P01 while it ran.
    pub(crate) warned: bool,
    /// Whom the comments of its text name.
    pub(crate) marker: Claim,
}

impl Call {
    /// Its operation, as far as that is nothing but a request and its answer.
    pub(crate) fn control(&self, verb: Sym) -> Operation {
        Operation::control(self.request, self.begun, self.ended, verb, self.outcome)
    }
}

/// Says what a statement did, act by act, and then that it touched data if it did.
pub(crate) fn run(plan: &Plan, params: &[Param], call: &Call, memory: &mut Memory, sink: &mut dyn Sink) {
    let template = &plan.template;
    let Symbols { verb, .. } = symbols_of(template, sink);
    let mut run = Run { plan, params, call, verb, sink, n_said: 0, marker: call.marker, held: false };
    run.look_at_rows(template);
    let mut unknown = template.unknown;
    let mut inner: Option<Rc<Prepared>> = None;
    for act in &template.acts {
        match act {
            Act::Set { name, value, lasting, sure } => run.set(name, value, lasting, *sure, memory),
            Act::Reset { name, lasting } => run.reset_name(name, lasting),
            Act::ResetAll => run.reset(ResetScope::Settings, Scope::Session, Sym::EMPTY),
            Act::DiscardAll => {
                run.reset(ResetScope::Everything, Scope::Session, Sym::EMPTY);
                if call.outcome == Outcome::Ok {
                    memory.deallocate_all();
                }
            }
            Act::Begin => run.say(OpKind::Control, Sym::EMPTY, Effect::Begin),
            // A failed transaction answers COMMIT with ROLLBACK.
            Act::Commit if call.rolled_back && call.outcome == Outcome::Ok => run.undone(),
            Act::Commit => run.say(OpKind::Control, Sym::EMPTY, Effect::Commit),
            Act::Rollback
                if call.rolled_back && call.outcome == Outcome::Ok && &*template.verb == "PREPARE TRANSACTION" =>
            {
                run.undone();
            }
            Act::Rollback => run.say(OpKind::Control, Sym::EMPTY, Effect::Rollback),
            Act::Savepoint(name) => run.savepoint(name, Effect::Savepoint),
            Act::RollbackTo(name) => run.savepoint(name, Effect::RollbackTo),
            Act::Release(name) => run.savepoint(name, Effect::Release),
            Act::Prepare { name, inner } => {
                if call.outcome == Outcome::Ok {
                    let literals = plan.literals.iter().filter(|(i, _)| inner.literals.contains(i)).cloned().collect();
                    let statement = Plan { template: inner.clone(), literals, differs: plan.differs };
                    let key = memory.key(name.as_bytes());
                    memory.prepare(
                        key,
                        Rc::new(Prepared { plan: Some(statement), print: None, noted: Noted::default() }),
                    );
                }
            }
            Act::Deallocate(name) => {
                if call.outcome == Outcome::Ok {
                    match name {
                        Some(name) => memory.deallocate(memory.key(name.as_bytes())),
                        None => memory.deallocate_all(),
                    }
                }
            }
            Act::Execute { name, args } => {
                let known = memory.prepared(memory.key(name.as_bytes())).filter(|p| {
                    // An EXECUTE inside a prepared statement could go round in a circle.
                    p.plan.as_ref().is_some_and(|p| !p.template.acts.iter().any(|a| matches!(a, Act::Execute { .. })))
                });
                if let Some(Plan { template, literals, differs }) = known.as_ref().and_then(|p| p.plan.as_ref()) {
                    let params = template
                        .params
                        .iter()
                        .map(|(i, _)| {
                            let arg = usize::from(*i).checked_sub(1).and_then(|i| args.get(i));
                            (*i, arg.map_or(Read::Unreadable, |v| run.owned(v)))
                        })
                        .collect::<SmallVec<[Param; 2]>>();
                    let inner_plan = Plan { template: template.clone(), literals: literals.clone(), differs: *differs };
                    let mut nested = Run {
                        plan: &inner_plan,
                        params: &params,
                        call,
                        verb,
                        sink: run.sink,
                        n_said: 0,
                        marker: run.marker,
                        held: run.held,
                    };
                    nested.look_at_rows(template);
                    for act in &template.acts {
                        match act {
                            Act::Set { name, value, lasting, sure } => nested.set(name, value, lasting, *sure, memory),
                            _ => unknown = true,
                        }
                    }
                    let (n_said, marker, held) = (nested.n_said, nested.marker, nested.held);
                    run.n_said += n_said;
                    (run.marker, run.held) = (marker, held);
                    unknown |= template.unknown;
                    inner = known;
                } else {
                    unknown = true;
                }
            }
            Act::Code(i) => match run.literal(*i) {
                Read::Text(code) => unknown |= names::code_may_bind(&code),
                _ => unknown = true,
            },
            Act::ArmCursor => memory.armed_cursor |= call.outcome != Outcome::Error,
            Act::RunCursor => unknown |= memory.armed_cursor,
        }
    }
    let touched = inner.as_ref().and_then(|p| p.plan.as_ref()).map_or(template, |p| &p.template);
    let symbols = symbols_of(touched, run.sink);
    if touched.data || unknown || run.n_said == 0 {
        let tables = run.tables(touched, &symbols);
        let kind = if touched.data { OpKind::Data } else { OpKind::Control };
        run.tell(kind, symbols.target, if unknown { Effect::Unknown } else { Effect::None }, tables);
    }
}

/// A template's names, interned once.
fn symbols_of(template: &Template, sink: &mut dyn Sink) -> Symbols {
    template.symbols.get().unwrap_or_else(|| {
        let mut also = [Sym::EMPTY; 3];
        for (sym, name) in also.iter_mut().zip(template.tables.iter().flat_map(|t| &t.also)) {
            *sym = intern(sink, name);
        }
        let new = Symbols { verb: verb(&template.verb, sink), target: intern(sink, &template.target), also };
        template.symbols.set(Some(new));
        new
    })
}

/// What a statement begins with: a word of SQL, or whatever a peer has sent.
fn verb(text: &str, sink: &mut dyn Sink) -> Sym {
    if text.is_empty() { Sym::EMPTY } else { word_of(text, COMMANDS, sink) }
}

fn intern(sink: &mut dyn Sink, name: &str) -> Sym {
    if name.is_empty() { Sym::EMPTY } else { sink.intern(name) }
}

/// The slot of a setting (lower-case name), and whether an unreadable value in it matters.
pub(crate) fn slot_of(sink: &mut dyn Sink, name: &str) -> (Slot, bool) {
    match name {
        "role" => (Slot::Role, true),
        "session_authorization" => (Slot::SessionUser, true),
        // The database in use decides what MySQL takes a name without one for, as `search_path` does in PostgreSQL.
        "search_path" | DATABASE => (Slot::SearchPath, true),
        _ => {
            let binds = sink.setting_binds(name);
            (Slot::Setting(sink.intern(name)), binds)
        }
    }
}

/// What a template of MySQL calls the database in use, which is no setting.
pub(crate) const DATABASE: &str = "database";

/// Whether a setting's value can name a tenant at all: the server's own settings, which have neither a dot nor an at
/// sign, cannot.
pub(crate) fn can_name_tenant(name: &str, binds: bool) -> bool {
    binds || is_custom_setting(name)
}

fn literal(plan: &Plan, number: u16) -> Read<'_> {
    match plan.literals.iter().find(|(i, _)| *i == number) {
        Some((_, LiteralText(Some(text)))) => Read::Text(Cow::Borrowed(text)),
        _ => Read::Unreadable,
    }
}

/// What a value is in this statement with these parameters.
fn read<'v>(plan: &'v Plan, params: &'v [Param], value: &'v Value) -> Read<'v> {
    match value {
        Value::Fixed(text) => Read::Text(Cow::Borrowed(text)),
        Value::Literal(i) => literal(plan, *i),
        Value::Negative(i) => match literal(plan, *i) {
            Read::Text(t) => Read::Text(Cow::Owned(format!("-{t}"))),
            other => other,
        },
        Value::Param(n, _) => match params.iter().find(|(i, _)| i == n) {
            Some((_, Read::Text(t))) => Read::Text(Cow::Borrowed(t)),
            Some((_, Read::Null)) => Read::Null,
            _ => Read::Unreadable,
        },
        Value::Null => Read::Null,
        Value::List(parts) => {
            let mut joined = String::new();
            for part in parts {
                let Read::Text(text) = read(plan, params, part) else { return Read::Unreadable };
                if !joined.is_empty() {
                    joined.push_str(", ");
                }
                joined.push_str(&text);
            }
            Read::Text(Cow::Owned(joined))
        }
        Value::Computed => Read::Unreadable,
    }
}

struct Run<'a> {
    plan: &'a Plan,
    params: &'a [Param],
    call: &'a Call,
    verb: Sym,
    sink: &'a mut dyn Sink,
    n_said: usize,
    marker: Claim,
    /// A predicate holds its rows to whom the marker names.
    held: bool,
}

impl Run<'_> {
    /// What the rows have in common that a statement touches.
    fn look_at_rows(&mut self, template: &Template) {
        let mut all = Claim::Neutral;
        for predicate in &template.predicates {
            all = match (all, self.predicate(predicate)) {
                // A tenant's number beside its name (`tenant_id`, `tenant_name`): the name says whose it is.
                (name @ Claim::Tenant(_), Claim::Opaque(_)) | (Claim::Opaque(_), name @ Claim::Tenant(_)) => name,
                (one, other) => both(one, other),
            };
        }
        self.held |= all != Claim::Neutral;
        self.marker = both(self.marker, all);
    }

    /// The tables of a statement, and whom the schemas among their names speak of.
    fn tables(&mut self, template: &Template, symbols: &Symbols) -> Option<Tables> {
        let named = template.tables.as_ref().filter(|_| template.data)?;
        let mut schemas = [Claim::Neutral; 2];
        for (claim, schema) in schemas.iter_mut().zip(&named.schemas) {
            *claim = self.sink.claim(Slot::Schema, "", schema);
        }
        let Named { more, writes, unqualified, .. } = *named;
        Some(Tables { also: symbols.also, more, writes, unqualified, schemas, held: self.held })
    }

    /// Whom a predicate names; nobody if one of its values cannot be read.
    fn predicate(&mut self, predicate: &Predicate) -> Claim {
        if predicate.place.is_some_and(|i| self.plan.differs >> i & 1 == 1) {
            return Claim::Neutral;
        }
        let (plan, params) = (self.plan, self.params);
        let mut claim = Claim::Neutral;
        for value in &predicate.values {
            let Read::Text(text) = read(plan, params, value) else { return Claim::Neutral };
            claim = both(claim, self.sink.marker(MarkerPlace::Predicate, &predicate.column, &text));
        }
        claim
    }

    fn say(&mut self, kind: OpKind, target: Sym, effect: Effect) {
        self.tell(kind, target, effect, None);
    }

    fn tell(&mut self, kind: OpKind, target: Sym, effect: Effect, tables: Option<Tables>) {
        self.n_said += 1;
        let local = matches!(
            effect,
            Effect::Bind { scope: Scope::Transaction, .. } | Effect::Reset { scope: Scope::Transaction, .. }
        );
        self.sink.done(&Operation {
            kind,
            target,
            effect,
            warned_ineffective: local && self.call.warned,
            marker: if kind == OpKind::Data { self.marker } else { Claim::Neutral },
            tables,
            ..self.call.control(self.verb)
        });
    }

    /// The server has rolled back what was to be committed: the client did not get what it asked for. What it got is
    /// told as an operation of its own, so that the ledger follows.
    fn undone(&mut self) {
        self.n_said += 1;
        let told = Operation { outcome: Outcome::Error, ..self.call.control(self.verb) };
        self.sink.done(&told);
        let verb = self.sink.word("ROLLBACK");
        self.sink.done(&Operation { verb, effect: Effect::Rollback, outcome: Outcome::Ok, ..told });
    }

    fn savepoint(&mut self, name: &str, effect: fn(Sym) -> Effect) {
        let name = self.sink.intern(name);
        self.say(OpKind::Control, name, effect(name));
    }

    fn reset(&mut self, what: ResetScope, scope: Scope, target: Sym) {
        self.say(OpKind::Reset, target, Effect::Reset { what, scope });
    }

    fn literal(&self, number: u16) -> Read<'_> {
        literal(self.plan, number)
    }

    fn read<'v>(&'v self, value: &'v Value) -> Read<'v> {
        read(self.plan, self.params, value)
    }

    fn owned(&self, value: &Value) -> Read<'static> {
        match self.read(value) {
            Read::Text(t) => Read::Text(Cow::Owned(t.into_owned())),
            Read::Null => Read::Null,
            Read::Unreadable => Read::Unreadable,
        }
    }

    fn scope(&self, lasting: &Lasting) -> Option<Scope> {
        match lasting {
            Lasting::Session => Some(Scope::Session),
            Lasting::Transaction => Some(Scope::Transaction),
            Lasting::If(flag) => {
                self.read(flag).truth().map(|local| if local { Scope::Transaction } else { Scope::Session })
            }
        }
    }

    /// The setting that `name` says, in lower case; `None` after an answer was given for one that cannot be read.
    fn setting(&mut self, name: &Value) -> Option<String> {
        match self.read(name) {
            Read::Text(text) => return Some(text.to_lowercase()),
            // The server refuses it.
            Read::Null => self.say(OpKind::Control, Sym::EMPTY, Effect::None),
            Read::Unreadable => self.say(OpKind::Control, Sym::EMPTY, Effect::Unknown),
        }
        None
    }

    fn set(&mut self, name: &Value, value: &Value, lasting: &Lasting, sure: Sure, memory: &Memory) {
        let Some(name) = self.setting(name) else { return };
        let (slot, binds) = slot_of(self.sink, &name);
        let target = target_of(self.sink, slot, &name);
        let value = self.owned(value);
        let matters = binds || matches!(value, Read::Text(_) | Read::Null) && can_name_tenant(&name, binds);
        if !matters {
            self.say(OpKind::Control, target, Effect::None);
            return;
        }
        // A failed call has no rows to count; whether it ran does not matter.
        let ran = sure == Sure::Always || self.call.outcome == Outcome::Error || self.call.rows.is_some_and(|n| n > 0);
        let Some(scope) = self.scope(lasting).filter(|_| ran) else {
            self.say(OpKind::Control, target, Effect::Unknown);
            return;
        };
        let value = match value {
            // set_config with NULL takes the setting back to its default.
            Read::Null => {
                self.reset_slot(slot, scope, target);
                return;
            }
            Read::Text(text) => Some(text),
            Read::Unreadable => None,
        };
        // `none` is not a role, but the way back to the session user.
        if slot == Slot::Role && value.as_deref() == Some("none") {
            self.reset(ResetScope::Slot(slot), scope, target);
            if memory.startup_role {
                let effect = Effect::Bind { slot, claim: Claim::Cleared, scope, strength: Strength::V2 };
                self.say(OpKind::Control, target, effect);
            }
            return;
        }
        let claim = match value {
            Some(text) => self.sink.claim(slot, if matches!(slot, Slot::Setting(_)) { &name } else { "" }, &text),
            None => Claim::Unreadable,
        };
        let says = !matches!(claim, Claim::Neutral | Claim::Chosen(_));
        let kind = if says { OpKind::Bind } else { OpKind::Control };
        self.say(kind, target, Effect::Bind { slot, claim, scope, strength: Strength::V2 });
        self.role_follows(slot, scope);
    }

    fn reset_name(&mut self, name: &Value, lasting: &Lasting) {
        let Some(name) = self.setting(name) else { return };
        let (slot, binds) = slot_of(self.sink, &name);
        let target = target_of(self.sink, slot, &name);
        if !can_name_tenant(&name, binds) {
            self.say(OpKind::Control, target, Effect::None);
            return;
        }
        let Some(scope) = self.scope(lasting) else {
            self.say(OpKind::Control, target, Effect::Unknown);
            return;
        };
        self.reset_slot(slot, scope, target);
    }

    fn reset_slot(&mut self, slot: Slot, scope: Scope, target: Sym) {
        self.reset(ResetScope::Slot(slot), scope, target);
        self.role_follows(slot, scope);
    }

    /// A new session user implies `SET ROLE NONE` (`docs/domain.md#postgresql`).
    fn role_follows(&mut self, slot: Slot, scope: Scope) {
        if slot == Slot::SessionUser {
            let role = self.sink.word("role");
            self.reset(ResetScope::Slot(Slot::Role), scope, role);
        }
    }
}

pub(crate) fn target_of(sink: &mut dyn Sink, slot: Slot, name: &str) -> Sym {
    match slot {
        Slot::Setting(name) => name,
        Slot::Role => sink.word("role"),
        Slot::SessionUser => sink.word("session_authorization"),
        Slot::SearchPath => sink.word(if name == DATABASE { DATABASE } else { "search_path" }),
        Slot::User => sink.word("user"),
        Slot::Database => sink.word("database"),
        // None of these is a statement.
        Slot::ConnectionAuth | Slot::Credential | Slot::Marker | Slot::Schema => Sym::EMPTY,
    }
}
