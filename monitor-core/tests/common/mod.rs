//! What the tests of every decoder share: recorded connections, and a sink that writes each call as one line.
//!
//! `golden/PROTOCOL/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment; `NAME.out` the decoder's
//! calls. `BLESS=1 cargo test` writes the latter anew.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod harm;
pub mod suite;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use monitor_core::decode::{Chunk, Decoder, Disturbance, Mark, SessionStart, Sink};
use monitor_core::model::claim::Salt;
use monitor_core::model::keys::{KeyChange, KeyUses};
use monitor_core::model::mcp::Exchange;
use monitor_core::model::operation::ResetScope;
use monitor_core::model::queue::{Message, QueueEvent};
use monitor_core::model::token::{Token, Verified};
use monitor_core::model::{
    BindPolicy, Claim, Effect, Fingerprint, Interner, MarkerPlace, Nanos, Operation, Outcome, Protocol, Side, Slot,
    Sym, TenantId, TenantTable, TxStatus,
};
use smallvec::SmallVec;

pub const SALT: Salt = Salt(17, 4);

/// Writes every call as one line, without times.
pub struct Recorder {
    pub lines: Vec<String>,
    /// Requests that began and are not yet answered.
    pub open: BTreeSet<u64>,
    /// Whether the decoder is asked for values.
    pub values: bool,
    names: Interner,
    tenants: TenantTable,
    policy: BindPolicy,
    arrived: u64,
    begun: u64,
}

impl Recorder {
    pub fn new() -> Self {
        let mut tenants = TenantTable::default();
        tenants.intern("acme");
        tenants.intern("globex");
        Self {
            lines: Vec::new(),
            open: BTreeSet::new(),
            values: false,
            names: Interner::new(1000),
            tenants,
            policy: BindPolicy::default(),
            arrived: 0,
            begun: 0,
        }
    }

    /// Goes on with another connection: what was open and counted there for what is here.
    pub fn switch(&mut self, other: &mut (BTreeSet<u64>, u64, u64)) {
        std::mem::swap(&mut self.open, &mut other.0);
        std::mem::swap(&mut self.arrived, &mut other.1);
        std::mem::swap(&mut self.begun, &mut other.2);
    }

    fn who(&self, claim: Claim) -> String {
        match claim {
            Claim::Tenant(id) => self.tenants.name(id).to_owned(),
            Claim::Opaque(_) => "opaque".to_owned(),
            Claim::Chosen(_) => "chosen".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn slot(&self, slot: Slot) -> String {
        match slot {
            Slot::Setting(name) => self.names.name(name).to_owned(),
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
                format!(" {} {}", kind.split('(').next().unwrap(), self.names.name(*n))
            }
            other => format!(" {other:?}"),
        }
    }
}

impl Recorder {
    fn message(&self, m: &Message) -> String {
        let mut line = format!("[{}] at {} {} bytes", self.names.name(m.queue), print(Some(m.place)), m.bytes);
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
        let name = |s: Sym| self.names.name(s).to_owned();
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
            write!(line, " canary {}", self.tenants.name(*t)).unwrap();
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

/// A fingerprint, short enough for a line.
pub fn print(p: Option<Fingerprint>) -> String {
    p.map_or_else(|| "-".to_owned(), |p| format!("{:04x}", p.0 & 0xffff))
}

fn prints(all: &[Fingerprint]) -> String {
    let all: Vec<String> = all.iter().map(|p| print(Some(*p))).collect();
    all.join(",")
}

impl Sink for Recorder {
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
    fn intern(&mut self, name: &str) -> Sym {
        self.names.intern(name)
    }
    fn started(&mut self, start: SessionStart) {
        self.lines.push(format!("started user {} database {}", print(Some(start.user)), print(Some(start.database))));
    }
    fn arrived(&mut self, request: u64, _: Nanos) {
        assert!(request > self.arrived, "requests arrive in order");
        self.arrived = request;
        self.lines.push(format!("arrived {request}"));
    }
    fn mark(&mut self, request: u64, from: Side, mark: Mark) {
        assert!(self.arrived.max(self.begun) >= request, "a mark is of a request that is known");
        let (kind, p) = match mark {
            Mark::Trace(p) => ("trace", p),
            Mark::Value(p) => ("value", p),
        };
        self.lines.push(format!("{kind} {request} {} {}", from.name(), print(Some(p))));
    }
    fn begun(&mut self, request: u64, _: Nanos, p: Option<Fingerprint>) {
        assert_eq!(request, self.begun + 1, "requests are numbered without holes");
        self.begun = request;
        self.open.insert(request);
        self.lines.push(format!("begun {request} {}", print(p)));
    }
    fn keys(&mut self, uses: KeyUses) {
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
    fn done(&mut self, op: &Operation) {
        assert!(op.begun <= op.ended);
        let mut line = format!("  {} {:?} {}", op.request, op.kind, self.names.name(op.verb));
        if op.target != Sym::EMPTY {
            write!(line, " [{}]", self.names.name(op.target)).unwrap();
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
        self.lines.push(line);
    }
    fn answered(&mut self, request: u64, _: Nanos, p: Option<Fingerprint>) {
        assert!(self.open.remove(&request), "{request} is answered once");
        self.lines.push(format!("answered {request} {}", print(p)));
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
    fn speaks(&mut self, protocol: Protocol) {
        self.lines.push(format!("speaks {}", protocol.name()));
    }
    fn mcp(&mut self, x: &Exchange) {
        assert!(x.begun <= x.ended);
        let line = self.exchange(x);
        self.lines.push(line);
    }
    fn queue(&mut self, event: QueueEvent) {
        self.lines.push(match event {
            QueueEvent::Published(m) => {
                assert!(m.request <= self.begun, "it was published by a request that is known");
                format!("published {} {}", m.request, self.message(&m))
            }
            QueueEvent::Delivered(d) => {
                let (ack, again) = (if d.awaits_ack { " awaits" } else { "" }, if d.again { " again" } else { "" });
                format!("delivered {} {:x}{ack}{again} {}", d.message.request, d.handle, self.message(&d.message))
            }
            QueueEvent::Settled(s) => format!("settled {:x} {:?}", s.handle, s.how),
            QueueEvent::Passed(p) => format!("passed {}", p.to.offset),
        });
    }
    fn unmatched_reply(&mut self, _: Nanos, why: &'static str) {
        self.lines.push(format!("unmatched {why}"));
    }
    fn status(&mut self, _: Nanos, status: TxStatus) {
        self.lines.push(format!("status {status:?}"));
    }
    fn disturbed(&mut self, _: Nanos, why: Disturbance) {
        self.lines.push(format!("disturbed {}", why.name()));
    }
    fn opaque(&mut self, _: Nanos, why: &'static str) {
        self.lines.push(format!("opaque {why}"));
    }
    fn decode_error(&mut self, kind: &'static str) {
        self.lines.push(format!("decode_error {kind}"));
    }
}

/// The segments of a connection, in wire order.
pub type Segments = Vec<(Side, Vec<u8>)>;

/// A step of a run: bytes with whether they end a segment, or a hole.
pub enum Step<'a> {
    Bytes(Side, &'a [u8], bool),
    Hole(Side, u64),
}

/// A decoder under test and its recordings.
pub struct Suite {
    /// The folder below `golden`.
    pub name: &'static str,
    /// A new decoder, for a connection seen from its start or from the middle.
    pub make: fn(mid_stream: bool) -> Box<dyn Decoder>,
    /// Whether it is asked for values.
    pub values: bool,
    /// Fewest recordings there must be.
    pub at_least: usize,
    /// Most bytes that a connection may hold, whatever it is fed.
    pub memory: usize,
}

impl Suite {
    /// Everything a decoder says about these steps.
    pub fn run_from<'a>(&self, mid_stream: bool, steps: impl Iterator<Item = Step<'a>>) -> Vec<String> {
        let mut decoder = (self.make)(mid_stream);
        let mut out = Recorder::new();
        out.values = self.values;
        let mut at = 0;
        for step in steps {
            at += 1;
            match step {
                Step::Bytes(from, bytes, ends_segment) => {
                    decoder.bytes(from, Chunk { at: Nanos(at), bytes, ends_segment }, &mut out);
                }
                Step::Hole(from, n) => decoder.missing(from, Nanos(at), n, &mut out),
            }
            assert!(decoder.memory() < self.memory, "{} bytes held", decoder.memory());
        }
        decoder.closed(Nanos(at), &mut out);
        assert!(out.open.is_empty(), "every request that begins is answered: {:?}", out.open);
        out.lines
    }

    pub fn run(&self, steps: impl IntoIterator<Item = Step<'static>>) -> Vec<String> {
        self.run_from(false, steps.into_iter())
    }

    pub fn whole(&self, segments: &Segments) -> Vec<String> {
        self.run_from(false, segments.iter().map(|(from, bytes)| Step::Bytes(*from, bytes, true)))
    }

    pub fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(self.name)
    }

    pub fn recordings(&self) -> Vec<(String, Segments)> {
        let mut all: Vec<_> = fs::read_dir(self.folder())
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "in"))
            .map(|p| (p.file_stem().unwrap().to_str().unwrap().to_owned(), read(&p)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(all.len() >= self.at_least, "the recordings are there");
        all
    }

    /// What is said about each recording is what was said before; `BLESS=1` accepts what is said now.
    pub fn golden(&self) {
        for (name, segments) in self.recordings() {
            let got = self.whole(&segments).join("\n") + "\n";
            let path = self.folder().join(format!("{name}.out"));
            if std::env::var_os("BLESS").is_some() {
                fs::write(&path, &got).unwrap();
            }
            let want = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(got, want, "{name}: BLESS=1 accepts the new output");
            assert!(!got.contains("decode_error"), "{name}: a real connection is never malformed");
        }
    }

    /// Byte by byte, and with each segment cut anywhere, the same is said. Segments longer than `long` are cut at every
    /// seventh place, to keep the test quick.
    pub fn every_split(&self, long: usize) {
        for (name, segments) in self.recordings() {
            let want = self.whole(&segments);
            let single = segments.iter().flat_map(|(from, bytes)| {
                bytes.chunks(1).enumerate().map(move |(i, b)| Step::Bytes(*from, b, i + 1 == bytes.len()))
            });
            assert_eq!(self.run_from(false, single), want, "{name} byte by byte");
            for (at, (from, bytes)) in segments.iter().enumerate() {
                let step = if bytes.len() > long { 7 } else { 1 };
                for cut in (1..bytes.len()).step_by(step) {
                    let (a, b) = bytes.split_at(cut);
                    let steps = segments.iter().enumerate().flat_map(|(i, (side, all))| {
                        if i == at {
                            vec![Step::Bytes(*from, a, false), Step::Bytes(*from, b, true)]
                        } else {
                            vec![Step::Bytes(*side, all, true)]
                        }
                    });
                    assert_eq!(self.run_from(false, steps), want, "{name}: segment {at} cut at {cut}");
                }
            }
        }
    }

    /// The recording as the fuzz targets read it: a first byte, then pieces with their side.
    pub fn fuzz_input(segments: &Segments) -> Vec<u8> {
        let mut data = vec![0];
        for (from, bytes) in segments {
            // A step holds 4 k + 1 bytes, of which the target reads k.
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let k = ((rest.len() - 1) / 4).min(31);
                let (piece, after) = rest.split_at(4 * k + 1);
                data.push(u8::try_from(k * 8).unwrap() | u8::from(*from == Side::Server));
                data.extend(piece);
                rest = after;
            }
        }
        data
    }
}

fn read(path: &Path) -> Segments {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let (side, hex) = line.split_once(' ').unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            (if side == "C" { Side::Client } else { Side::Server }, bytes)
        })
        .collect()
}

/// The lines that claim that something was bound or reset.
pub fn bindings(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter(|l| (l.contains(" binds ") || l.contains("esets ")) && !l.contains("->") && !l.contains("unreadable"))
        .map(|l| l.trim_start().split_once(' ').map_or("", |(_, rest)| rest))
        .collect()
}

pub fn is_subsequence(part: &[&str], all: &[&str]) -> bool {
    let mut rest = all.iter();
    part.iter().all(|p| rest.any(|a| a == p))
}
