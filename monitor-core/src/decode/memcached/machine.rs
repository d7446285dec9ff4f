//! Commands paired with their answers, and what they did with keys.
//!
//! Answers come in the order of commands. One that asked for none is done when it is sent; one that is quiet (meta
//! commands) is answered only if something is to be said, so that an answer may be a later command's: then those before
//! it went as they do when nothing is said. Where it is not sure whose an answer is, what it holds is not told.

use std::collections::VecDeque;
use std::hash::Hasher;

use smallvec::SmallVec;

use super::frame::Block;
use super::reply::Reply;
use super::request::{Does, How, Request};
use crate::decode::shape::{Shapes, shape};
use crate::decode::weight::holds;
use crate::decode::{DecodeError, Mark, Sink, chores, values};
use crate::model::claim::Salt;
use crate::model::keys::{Elements, KeyChange, KeyUse, KeyUses};
use crate::model::operation::Ids;
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, OpKind, Operation, Outcome, Side, Sym, TenantId, TxStatus};

/// Most commands awaiting an answer.
const MAX_PENDING: usize = 4096;
/// Most values of one command.
const MAX_MARKS: usize = 64;

#[derive(Debug)]
struct Key {
    print: Fingerprint,
    /// Hash of the name alone, by which an answer's line is found.
    name: u64,
    scoped: bool,
    received: Elements,
}

/// A command that awaits its answer.
#[derive(Debug)]
struct Pending {
    request: u64,
    begun: Nanos,
    verb: &'static str,
    does: Does,
    quiet: bool,
    token: Option<u64>,
    target: Sym,
    ids: Ids,
    marker: Claim,
    named: [Option<TenantId>; 2],
    keys: SmallVec<[Key; 1]>,
    change: KeyChange,
}

/// Whose an answer is.
enum Whose {
    /// This one's, after as many that were quiet.
    At(usize),
    /// It may be several'.
    Several(usize),
}

/// The pairing of one connection.
#[derive(Debug)]
pub(super) struct Machine {
    salt: Salt,
    shapes: Shapes,
    pending: VecDeque<Pending>,
    /// A command whose block is on its way.
    open: Option<Request>,
    /// The key, by its place, of which a block is on its way.
    value_of: Option<usize>,
    n_requests: u64,
    pub(super) n_answered: u64,
    /// Something that was asked before may still be answered.
    pub(super) unsure: bool,
}

impl Machine {
    pub(super) fn new(salt: Salt, shapes: Shapes, mid_stream: bool) -> Self {
        Self {
            salt,
            shapes,
            pending: VecDeque::new(),
            open: None,
            value_of: None,
            n_requests: 0,
            n_answered: 0,
            unsure: mid_stream,
        }
    }

    pub(super) fn memory(&self) -> usize {
        let keys = |p: &Pending| {
            let spilled = if p.keys.spilled() { p.keys.capacity() * size_of::<Key>() } else { 0 };
            spilled + p.keys.iter().filter(|k| k.received.spilled()).map(|k| k.received.capacity() * 8).sum::<usize>()
        };
        self.pending.capacity() * size_of::<Pending>() + self.pending.iter().map(keys).sum::<usize>()
    }

    /// A command's line; its block comes next where it has one.
    pub(super) fn command(&mut self, request: Request, at: Nanos, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        if request.data.is_some() {
            self.open = Some(request);
            return Ok(());
        }
        self.begin(request, None, at, sink)
    }

    /// The block of the last command.
    pub(super) fn data(&mut self, block: &Block, at: Nanos, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        match self.open.take() {
            Some(request) => self.begin(request, Some(block), at, sink),
            None => Ok(()),
        }
    }

    fn begin(
        &mut self,
        request: Request,
        block: Option<&Block>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), DecodeError> {
        if request.does == Does::Ends {
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(DecodeError::TooManyRequests);
        }
        self.n_requests += 1;
        let number = self.n_requests;
        let print = block.is_none_or(|b| b.print.is_some()).then(|| {
            let mut h = self.salt.hasher();
            h.write(request.verb.as_bytes());
            for key in &request.keys {
                h.write_u64(key.len() as u64);
                h.write(key);
            }
            h.write_u64(block.and_then(|b| b.print).map_or(0, |p| p.0));
            Fingerprint(h.finish())
        });
        sink.begun(number, at, print);
        let pending = self.read(&request, block, number, at, sink);
        if request.noreply {
            // The client wants to know no more, and the server does it all the same.
            self.end(pending, Outcome::Ok, !matches!(request.does, Does::Store(How::Add)), at, sink);
        } else {
            self.pending.push_back(pending);
        }
        Ok(())
    }

    fn read(&self, r: &Request, block: Option<&Block>, request: u64, at: Nanos, sink: &mut dyn Sink) -> Pending {
        let mut p = Pending {
            request,
            begun: at,
            verb: r.verb,
            does: r.does,
            quiet: r.quiet,
            token: r.token,
            target: Sym::EMPTY,
            ids: Ids::default(),
            marker: Claim::Neutral,
            named: [None; 2],
            keys: SmallVec::new(),
            change: KeyChange::None,
        };
        let mut marker: Option<Claim> = None;
        let mut left = MAX_MARKS;
        for (i, key) in r.keys.iter().enumerate() {
            let text = String::from_utf8_lossy(key);
            if i == 0 {
                let mut out = String::with_capacity(48);
                let salt = self.salt;
                let on_id = &mut |id: &str| p.ids.push((salt.fingerprint(id.as_bytes()).0 & 0xff_ffff) as u32);
                shape(text.get(..128).unwrap_or(&text), &[':', '/', '|', '{', '}'], 4, &mut out, on_id);
                p.target = self.shapes.intern(&out, sink);
            }
            let of = sink.marker(MarkerPlace::KeyPrefix, "", &text);
            marker = Some(match marker {
                None => of,
                Some(before) if before == of => of,
                Some(_) => Claim::Unreadable,
            });
            if let Claim::Tenant(tenant) = of
                && !p.named.contains(&Some(tenant))
                && let Some(free) = p.named.iter_mut().find(|t| t.is_none())
            {
                *free = Some(tenant);
            }
            let scoped = of != Claim::Neutral || chores::is_book(&text);
            let mut h = self.salt.hasher();
            h.write_u32(0);
            h.write(key);
            p.keys.push(Key {
                print: Fingerprint(h.finish()),
                name: self.salt.fingerprint(key).0,
                scoped,
                received: Elements::new(),
            });
            if sink.wants_values(Side::Client) {
                values::values(self.salt, key, &mut |v| {
                    if left > 0 {
                        left -= 1;
                        sink.mark(request, Side::Client, Mark::Value(v));
                    }
                });
            }
        }
        for value in block.iter().flat_map(|b| &b.values).take(left) {
            sink.mark(request, Side::Client, Mark::Value(*value));
        }
        p.marker = marker.unwrap_or(Claim::Neutral);
        if p.marker != Claim::Unreadable {
            p.named = [None; 2];
        }
        let value = |only_if| match block.map(|b| (b.print, b.whole.as_deref())) {
            Some((Some(print), whole)) => holds(whole, print, r.lives, only_if),
            _ => KeyChange::Unknown,
        };
        p.change = match r.does {
            Does::Store(How::Set) | Does::MetaStore(How::Set) => value(false),
            Does::Store(How::Add) | Does::MetaStore(How::Add) => value(true),
            Does::Store(How::Grow) | Does::MetaStore(How::Grow) => KeyChange::Unknown,
            Does::Delete | Does::MetaDelete => KeyChange::Holds(Elements::new()),
            Does::Count | Does::MetaCount => KeyChange::Nobodys,
            _ => KeyChange::None,
        };
        p
    }

    /// A line of an answer. Gives how long the block is that follows.
    pub(super) fn answer(
        &mut self,
        reply: &Reply<'_>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<Option<u64>, DecodeError> {
        let (token, value) = match reply {
            Reply::Done(token) | Reply::MetaKept(token) => (*token, None),
            Reply::MetaValue(n, token) => (*token, Some(*n)),
            _ => (None, None),
        };
        let whose = self.whose(reply, token).ok_or(DecodeError::UnsolicitedReply)?;
        let (n, sure) = match whose {
            Whose::At(n) => (n, true),
            Whose::Several(n) => (n, false),
        };
        // Nothing was to be said of these: reads found nothing, writes were done.
        for _ in 0..n {
            let Some(quiet) = self.pending.pop_front() else { break };
            let said = if sure { Outcome::Ok } else { Outcome::Unknown };
            self.end(quiet, self.outcome(said), sure, at, sink);
        }
        let Some(front) = self.pending.front_mut() else { return Err(DecodeError::UnsolicitedReply) };
        match reply {
            Reply::Value(key, n) => {
                let name = self.salt.fingerprint(key).0;
                self.value_of = front.keys.iter().position(|k| k.name == name);
                return if self.value_of.is_some() { Ok(Some(*n)) } else { Err(DecodeError::UnexpectedReply) };
            }
            Reply::MetaValue(..) => {
                self.value_of = if sure { Some(0) } else { None };
                return Ok(value);
            }
            Reply::More => return Ok(None),
            _ => {}
        }
        let Some(front) = self.pending.pop_front() else { return Ok(None) };
        let (outcome, did) = match reply {
            Reply::Error => (Outcome::Error, false),
            Reply::Kept | Reply::MetaKept(_) | Reply::Miss => (Outcome::Ok, false),
            _ => (Outcome::Ok, true),
        };
        let outcome = if sure { outcome } else { Outcome::Unknown };
        self.end(front, self.outcome(outcome), did, at, sink);
        Ok(None)
    }

    /// The block of an answer.
    pub(super) fn value(&mut self, block: &Block, at: Nanos, sink: &mut dyn Sink) {
        let of = self.value_of.take();
        let Some(front) = self.pending.front_mut() else { return };
        if let (Some(key), Some(print)) = (of.and_then(|i| front.keys.get_mut(i)), block.print) {
            key.received.push(print);
        }
        for value in &block.values {
            sink.mark(front.request, Side::Server, Mark::Value(*value));
        }
        if matches!(front.does, Does::MetaGet | Does::MetaCount)
            && let Some(front) = self.pending.pop_front()
        {
            let said = if of.is_some() && block.print.is_some() { Outcome::Ok } else { Outcome::Unknown };
            self.end(front, self.outcome(said), true, at, sink);
        }
    }

    /// The earliest command that can have this answer, where those before it may have none.
    fn whose(&self, reply: &Reply<'_>, token: Option<u64>) -> Option<Whose> {
        let can = |p: &Pending| {
            fits(p, reply) && (token.is_none() || p.token == token) && (token.is_some() || p.token.is_none())
        };
        let mut found = None;
        for (i, p) in self.pending.iter().enumerate() {
            match (can(p), found) {
                (true, None) => found = Some(i),
                // Another may have it as well, if nothing was to be said of the first.
                (true, Some(first)) if token.is_none() => return Some(Whose::Several(first)),
                _ => {}
            }
            if !p.quiet {
                break;
            }
        }
        found.map(Whose::At)
    }

    fn outcome(&self, said: Outcome) -> Outcome {
        if self.unsure { Outcome::Unknown } else { said }
    }

    /// A command has ended. `did`: it wrote what it was to write.
    fn end(&mut self, p: Pending, outcome: Outcome, did: bool, at: Nanos, sink: &mut dyn Sink) {
        let verb = sink.word(p.verb);
        let plain = Operation::control(p.request, p.begun, at, verb, outcome);
        let data = !p.keys.is_empty();
        let mut uses = KeyUses::new();
        for (i, key) in p.keys.into_iter().enumerate() {
            let change = match outcome {
                _ if i > 0 => KeyChange::None,
                Outcome::Ok if did => p.change.clone(),
                Outcome::Unknown if p.change != KeyChange::None => KeyChange::Unknown,
                _ => KeyChange::None,
            };
            let received = if outcome == Outcome::Ok { key.received } else { Elements::new() };
            let one = KeyUse { key: key.print, scoped: key.scoped, received, change };
            if one.says() {
                uses.push(one);
            }
        }
        if !uses.is_empty() {
            sink.keys(uses);
        }
        let kind = if data { OpKind::Data } else { OpKind::Control };
        let (target, ids, marker, named) = (p.target, p.ids, p.marker, p.named);
        sink.done(&Operation { kind, target, ids, marker, named, ..plain });
        self.n_answered += 1;
        sink.answered(p.request, at, None);
        if self.pending.is_empty() {
            self.unsure = false;
            sink.status(at, TxStatus::Idle);
        }
    }

    /// Nobody who waits will be answered.
    pub(super) fn abandon(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.open = None;
        self.value_of = None;
        while let Some(p) = self.pending.pop_front() {
            self.end(p, Outcome::Unknown, false, at, sink);
        }
        self.unsure = true;
    }
}

/// Whether a command can be answered so.
fn fits(p: &Pending, reply: &Reply<'_>) -> bool {
    let quiet = p.quiet;
    match reply {
        Reply::Error => true,
        Reply::Value(..) => p.does == Does::Get,
        Reply::End => matches!(p.does, Does::Get | Does::Lines),
        Reply::Stored => matches!(p.does, Does::Store(_)),
        Reply::Kept => matches!(p.does, Does::Store(_) | Does::Delete | Does::Count | Does::Touch),
        Reply::Deleted => p.does == Does::Delete,
        Reply::Touched => p.does == Does::Touch,
        Reply::Number => p.does == Does::Count,
        Reply::Line => matches!(p.does, Does::Line | Does::Lines),
        Reply::More => p.does == Does::Lines,
        Reply::Done(_) => match p.does {
            Does::MetaGet => true,
            Does::MetaStore(_) | Does::MetaDelete | Does::MetaCount => !quiet,
            _ => false,
        },
        Reply::MetaValue(..) => matches!(p.does, Does::MetaGet | Does::MetaCount),
        Reply::Miss => p.does == Does::MetaGet && !quiet || p.does == Does::MetaDebug,
        Reply::MetaKept(_) => matches!(p.does, Does::MetaStore(_) | Does::MetaDelete | Does::MetaCount),
        Reply::Nothing => p.does == Does::MetaNothing,
        Reply::Debug => p.does == Does::MetaDebug,
    }
}
