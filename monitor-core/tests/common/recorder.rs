//! What a decoder tells, as values and as lines.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use monitor_core::decode::{Emitter, Lexicon, Mark, Sink, WireEvent};
use monitor_core::model::keys::{KeyChange, KeyUses};
use monitor_core::model::mcp::{Exchange, Sender};
use monitor_core::model::operation::ResetScope;
use monitor_core::model::queue::{Confirmation, Message, QueueEvent};
use monitor_core::model::token::{Token, Verified};
use monitor_core::model::{
    BindPolicy, Claim, Effect, Fingerprint, Interner, MarkerPlace, Operation, Outcome, Protocol, Side, Slot, Sym,
    TenantId, TenantTable,
};
use smallvec::SmallVec;

use super::SALT;

/// Knows the tenants `acme` and `globex`, and what binds where nothing is configured.
pub struct Words {
    /// Whether values are of use.
    pub values: bool,
    names: Interner,
    tenants: TenantTable,
    policy: BindPolicy,
}

impl Words {
    fn new() -> Self {
        let mut tenants = TenantTable::default();
        tenants.intern("acme");
        tenants.intern("globex");
        Self { values: false, names: Interner::new(1000), tenants, policy: BindPolicy::default() }
    }
}

impl Lexicon for Words {
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim {
        self.policy.claim(&self.tenants, SALT, slot, name, value)
    }
    fn setting_binds(&self, name: &str) -> bool {
        self.policy.setting_binds(name)
    }
    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim {
        self.policy.marker(&self.tenants, SALT, place, name, value)
    }
    fn wants_values(&self, _: Side) -> bool {
        self.values
    }
    fn wants_cached(&self) -> bool {
        false
    }
    fn intern(&mut self, name: &str) -> Sym {
        self.names.intern(name)
    }
    fn word(&mut self, word: &'static str) -> Sym {
        self.names.intern(word)
    }
    fn token(&mut self, scheme: &str, token: &str) -> Option<Token> {
        let print = SALT.fingerprint(format!("{scheme} {token}").as_bytes());
        Some(Token {
            print,
            readable: false,
            verified: Verified::NoKey,
            tenant: Claim::Neutral,
            audience: None,
            has_audience: false,
            lifetime: None,
            has_scope: false,
        })
    }
    fn canaries(&mut self, text: &str) -> SmallVec<[TenantId; 1]> {
        if text.contains("CANARY-GLOBEX") { SmallVec::from_elem(TenantId(1), 1) } else { SmallVec::new() }
    }
    fn sender(&self) -> Sender {
        Sender::default()
    }
    fn speaks(&mut self, _: Protocol) {}
}

/// Keeps what a decoder tells, and writes each event as one line, without times.
pub struct Recorder {
    pub events: Vec<WireEvent>,
    pub lines: Vec<String>,
    /// Requests that began and are not yet answered.
    pub open: BTreeSet<u64>,
    pub words: Words,
    arrived: u64,
    begun: u64,
    /// Requests may be whole in another order than that of their heads: those that are.
    concurrent: Option<BTreeSet<u64>>,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            events: Vec::new(),
            lines: Vec::new(),
            open: BTreeSet::new(),
            words: Words::new(),
            arrived: 0,
            begun: 0,
            concurrent: None,
        }
    }

    /// Hears what is told while `act` runs.
    pub fn hear(&mut self, act: impl FnOnce(&mut dyn Sink)) {
        let before = self.events.len();
        act(&mut Emitter { lexicon: &mut self.words, events: &mut self.events, before: 0 });
        let events = self.events.split_off(before);
        for event in &events {
            self.write(event);
        }
        self.events.extend(events);
    }

    /// A name as it was heard.
    pub fn name(&self, name: Sym) -> &str {
        self.words.names.name(name)
    }

    /// Goes on with another connection: what was open and counted there for what is here.
    pub fn switch(&mut self, other: &mut (BTreeSet<u64>, u64, u64)) {
        std::mem::swap(&mut self.open, &mut other.0);
        std::mem::swap(&mut self.arrived, &mut other.1);
        std::mem::swap(&mut self.begun, &mut other.2);
    }

    fn who(&self, claim: Claim) -> String {
        match claim {
            Claim::Tenant(id) => self.words.tenants.name(id).to_owned(),
            Claim::Opaque(_) => "opaque".to_owned(),
            Claim::Chosen(_) => "chosen".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn slot(&self, slot: Slot) -> String {
        match slot {
            Slot::Setting(name) => self.name(name).to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn effect(&self, effect: &Effect) -> String {
        match effect {
            Effect::None => String::new(),
            Effect::Bind { slot, claim, scope, strength } => {
                format!(" binds {}={} for {scope:?} {strength:?}", self.slot(*slot), self.who(*claim))
            }
            Effect::Reset { what: ResetScope::Slot(slot), scope } => {
                format!(" resets {} for {scope:?}", self.slot(*slot))
            }
            Effect::Savepoint(n) | Effect::RollbackTo(n) | Effect::Release(n) => {
                let kind = format!("{effect:?}");
                format!(" {} {}", kind.split('(').next().unwrap(), self.name(*n))
            }
            other => format!(" {other:?}"),
        }
    }
}

impl Recorder {
    fn message(&self, m: &Message) -> String {
        let mut line = format!("[{}] at {} {} bytes", self.name(m.queue), print(Some(m.address)), m.bytes);
        for id in &m.ids {
            write!(line, " id {}", print(Some(*id))).unwrap();
        }
        write!(line, " content {}", print(m.print)).unwrap();
        if m.marker != Claim::Neutral {
            write!(line, " of {}", self.who(m.marker)).unwrap();
        }
        for (is, what) in [(m.labelled, "labelled"), (m.signed, "signed"), (m.proved.is_some(), "proved")] {
            if is {
                write!(line, " {what}").unwrap();
            }
        }
        if m.idempotency.is_some() {
            write!(line, " key {}", print(m.idempotency)).unwrap();
        }
        for (what, all) in [("trace", m.traces.as_slice()), ("value", m.values.as_slice())] {
            for p in all {
                write!(line, " {what} {}", print(Some(*p))).unwrap();
            }
        }
        line
    }

    fn exchange(&self, x: &Exchange) -> String {
        let name = |s: Sym| self.name(s).to_owned();
        let mut line = format!("mcp {} {:?} {:?} {:?} {}", x.request, x.transport, x.revision, x.method, name(x.verb));
        if x.name != Sym::EMPTY {
            write!(line, " [{}]", name(x.name)).unwrap();
        }
        write!(line, " -> {:?}", x.answered).unwrap();
        if x.sender.is_some() {
            line.push_str(" (asked elsewhere)");
        }
        let token = x.token.map(|t| t.print);
        for (what, p) in [
            ("token", token),
            ("credential", x.credential),
            ("session", x.session),
            ("opens", x.opened),
            ("arguments", x.arguments),
            ("key", x.idempotency),
        ] {
            if p.is_some() {
                write!(line, " {what} {}", print(p)).unwrap();
            }
        }
        for (argument, claim) in &x.named {
            write!(line, " {}={}", name(*argument), self.who(*claim)).unwrap();
        }
        if x.continues {
            line.push_str(" continues");
        }
        if let Some(header) = x.mismatch {
            write!(line, " mismatch {}", name(header)).unwrap();
        }
        for (what, all) in [("uses", x.handles_used.as_slice()), ("gives", x.handles_given.as_slice())] {
            for p in all {
                write!(line, " {what} {}", print(Some(*p))).unwrap();
            }
        }
        if let Some((server, version)) = x.server {
            write!(line, " of {}/{}", name(server), name(version)).unwrap();
        }
        let c = &x.content;
        for p in &c.patterns {
            write!(line, " {p:?}").unwrap();
        }
        for t in &c.canaries {
            write!(line, " canary {}", self.words.tenants.name(*t)).unwrap();
        }
        for claim in &c.tenants {
            write!(line, " of {}", self.who(*claim)).unwrap();
        }
        if c.cut {
            line.push_str(" (cut)");
        }
        if let Some(page) = &x.tools {
            let (first, last) = (page.after.is_none(), page.next.is_none());
            write!(line, " page first {first} last {last} cut {} {:?}:", page.cut, page.scope).unwrap();
            for t in &page.tools {
                let hash = u16::from_be_bytes([t.hash.0[0], t.hash.0[1]]);
                write!(line, " {} {hash:04x} {} {} {:?}", name(t.name), t.read_only, t.idempotent, t.patterns).unwrap();
            }
        }
        line
    }
}

impl Recorder {
    fn write(&mut self, event: &WireEvent) {
        let line = match event {
            WireEvent::Started(start) => {
                format!("started user {} database {}", print(Some(start.user)), print(Some(start.database)))
            }
            WireEvent::Arrived { request, .. } => {
                assert!(*request > self.arrived, "requests arrive in order");
                self.arrived = *request;
                format!("arrived {request}")
            }
            WireEvent::Mark { request, from, mark } => {
                assert!(self.arrived.max(self.begun) >= *request, "a mark is of a request that is known");
                let (kind, p) = match mark {
                    Mark::Trace(p) => ("trace", *p),
                    Mark::Value(p) => ("value", *p),
                };
                format!("{kind} {request} {} {}", from.name(), print(Some(p)))
            }
            WireEvent::Begun { request, print: p, .. } => {
                match &mut self.concurrent {
                    Some(all) => assert!(*request <= self.arrived && all.insert(*request), "each begins once"),
                    None => assert_eq!(*request, self.begun + 1, "requests are numbered without holes"),
                }
                self.begun = self.begun.max(*request);
                self.open.insert(*request);
                format!("begun {request} {}", print(*p))
            }
            WireEvent::Keys(uses) => return self.write_keys(uses),
            WireEvent::Cached(_) | WireEvent::Cookies { .. } | WireEvent::Tunnel { .. } => return,
            WireEvent::Done(op) => self.operation(op),
            WireEvent::Answered { request, print: p, .. } => {
                assert!(self.open.remove(request), "{request} is answered once");
                format!("answered {request} {}", print(*p))
            }
            WireEvent::Speaks(protocol) => format!("speaks {}", protocol.name()),
            WireEvent::Mcp(x) => {
                assert!(x.begun <= x.ended);
                self.exchange(x)
            }
            WireEvent::Queue(event) => self.queue(event),
            WireEvent::Missed { .. } => "missed".to_owned(),
            WireEvent::Concurrent => {
                self.concurrent = Some(BTreeSet::new());
                "concurrent".to_owned()
            }
            WireEvent::UnmatchedReply { why, .. } => format!("unmatched {why}"),
            WireEvent::Status { status, .. } => format!("status {status:?}"),
            WireEvent::Disturbed { why, .. } => format!("disturbed {}", why.name()),
            WireEvent::Opaque { why, .. } => format!("opaque {why}"),
            WireEvent::DecodeError(error) => format!("decode_error {error}"),
        };
        self.lines.push(line);
    }

    fn write_keys(&mut self, uses: &KeyUses) {
        for u in uses {
            let mut line = format!("    key {}", print(Some(u.key)));
            if u.scoped {
                line.push_str(" scoped");
            }
            if !u.received.is_empty() {
                write!(line, " gives {}", prints(&u.received)).unwrap();
            }
            match &u.change {
                KeyChange::None => {}
                KeyChange::Holds(all) => write!(line, " holds {}", prints(all)).unwrap(),
                KeyChange::Adds(all) => write!(line, " adds {}", prints(all)).unwrap(),
                KeyChange::PerhapsNobodys(all) => write!(line, " may hold {}", prints(all)).unwrap(),
                KeyChange::Grows(whole) => write!(line, " grows to {}", print(Some(*whole))).unwrap(),
                KeyChange::Names => line.push_str(" is a name"),
                KeyChange::Nobodys => line.push_str(" nobody's"),
                KeyChange::From { keys, adds } => write!(line, " from {keys:?} {adds}").unwrap(),
                KeyChange::Unknown => line.push_str(" unknown"),
            }
            self.lines.push(line);
        }
    }

    fn operation(&self, op: &Operation) -> String {
        assert!(op.begun <= op.ended);
        let mut line = format!("  {} {:?} {}", op.request, op.kind, self.name(op.verb));
        if op.target != Sym::EMPTY {
            write!(line, " [{}]", self.name(op.target)).unwrap();
        }
        line.push_str(&self.effect(&op.effect));
        if op.marker != Claim::Neutral {
            write!(line, " of {}", self.who(op.marker)).unwrap();
        }
        if op.credential.is_some() {
            write!(line, " by {}", print(op.credential)).unwrap();
        }
        if op.outcome != Outcome::Ok {
            write!(line, " -> {}", op.outcome.name()).unwrap();
        }
        if op.warned_ineffective {
            line.push_str(" (ineffective)");
        }
        line
    }

    fn queue(&self, event: &QueueEvent) -> String {
        match event {
            QueueEvent::Published(m) => {
                assert!(m.request <= self.begun, "it was published by a request that is known");
                format!("published {} {}", m.request, self.message(m))
            }
            QueueEvent::Delivered(d) => {
                let confirmed = match d.confirmation {
                    Confirmation::None => "-".to_owned(),
                    Confirmation::Here(handle) | Confirmation::Anywhere(handle) => format!("{handle:x} awaits"),
                    Confirmation::Past(position) => format!("{} awaits", position.offset),
                };
                let again = if d.again { " again" } else { "" };
                format!("delivered {} {confirmed}{again} {}", d.message.request, self.message(&d.message))
            }
            QueueEvent::Settled(s) => format!("settled {:x} {:?}", s.handle, s.how),
            QueueEvent::Passed(p) => format!("passed {}", p.to.offset),
        }
    }
}

/// A fingerprint, short enough for a line.
pub fn print(p: Option<Fingerprint>) -> String {
    p.map_or_else(|| "-".to_owned(), |p| format!("{:04x}", p.0 & 0xffff))
}

fn prints(all: &[Fingerprint]) -> String {
    let all: Vec<String> = all.iter().map(|p| print(Some(*p))).collect();
    all.join(",")
}
