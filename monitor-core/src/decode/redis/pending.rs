//! What a command is to us, from its arguments: kind, keys, effect, and what its reply means.

use smallvec::SmallVec;

use super::Shared;
use super::command::Command;
use super::commands::{self, Keys, Known};
use super::keys::{self, Touch};
use super::queues::{Asked, Work};
use super::sending::Sent;
use crate::decode::shape;
use crate::decode::{Mark, Sink, chores, values};
use crate::model::claim::Salt;
use crate::model::operation::ResetScope;
use crate::model::shown::fingerprint;
use crate::model::{
    Claim, Effect, Fingerprint, Ids, MarkerPlace, Nanos, OpKind, Operation, Outcome, Scope, Side, Slot, Strength, Sym,
    TenantId,
};

/// Most keys of one command that are looked at.
const MAX_KEYS: usize = 64;
/// Longest command name that can be one.
const MAX_NAME: usize = 40;
/// Most marks of one command.
const MAX_MARKS: usize = 64;

/// What is special about a command's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// Nothing.
    None,
    /// `MULTI`.
    Multi,
    /// `EXEC`.
    Exec,
    /// `DISCARD`.
    Discard,
    /// `SUBSCRIBE` and its like: so many confirmations.
    Subscribe(u64),
    /// `UNSUBSCRIBE` without a name: as many as there are subscriptions.
    UnsubscribeAll,
    /// `SELECT` of this database.
    Select(u32),
    /// `RESET`.
    Reset,
    /// `CLIENT REPLY OFF`, `SKIP`, `ON`.
    ReplyOff,
    /// Not this command's, but the next one's reply is left out.
    ReplySkip,
    /// Replies come again.
    ReplyOn,
    /// What follows the reply is no longer commands and replies.
    Leaves(&'static str),
}

/// A command that awaits its reply.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: u64,
    pub(super) begun: Nanos,
    pub(super) verb: Sym,
    target: Sym,
    ids: Ids,
    pub(super) kind: OpKind,
    effect: Effect,
    marker: Claim,
    /// Tenants that its keys name, where they do not agree.
    named: [Option<TenantId>; 2],
    /// What it does with its keys.
    pub(super) touch: Option<Box<Touch>>,
    pub(super) special: Special,
    /// What it does to messages.
    pub(super) work: Option<Box<Work>>,
}

/// What is needed to understand a command.
pub(super) struct Reader<'a> {
    pub(super) salt: Salt,
    pub(super) shared: &'a Shared,
    /// The database selected as of this command.
    pub(super) db: u32,
}

impl Reader<'_> {
    /// A command, and the marks it carries.
    pub(super) fn read(
        &self,
        request: u64,
        at: Nanos,
        c: &Command,
        mut sent: Sent,
        sink: &mut dyn Sink,
    ) -> (Pending, SmallVec<[Mark; 4]>) {
        let arg = |i: usize| c.whole(i);
        let upper = |i: usize| {
            let text = std::str::from_utf8(arg(i)?).ok().filter(|t| t.len() <= MAX_NAME)?;
            Some(text.to_ascii_uppercase())
        };
        let mut name = upper(0).unwrap_or_default();
        if commands::is_container(&name)
            && let Some(sub) = upper(1)
            && commands::known(&format!("{name} {sub}")).is_some()
        {
            name = format!("{name} {sub}");
        }
        let known = commands::known(&name);
        // What a client sends as a command's name may be anything: only names of commands are kept.
        let verb = sink.word(known.map_or("unknown", |k| k.name));
        let mut p = Pending {
            request,
            begun: at,
            verb,
            target: Sym::EMPTY,
            ids: Ids::default(),
            kind: if known.is_none_or(|k| k.data) { OpKind::Data } else { OpKind::Control },
            effect: Effect::None,
            marker: Claim::Neutral,
            named: [None; 2],
            touch: None,
            special: special(&name, c, &upper),
            work: None,
        };
        if let Some(known) = known {
            self.keys(&known, c, &mut p, sink);
        }
        // What Dramatiq's script is told goes to a queue, whatever its key is.
        if sent.dramatiq.is_some() {
            p.touch = None;
        }
        if name == "ZADD" {
            sent.gives.extend(self.puts_jobs(c, at, sink));
        }
        let asked = Asked { salt: self.salt, db: self.db, name: &name, command: c, shared: self.shared };
        if asked.is_set() {
            p.touch = None;
        }
        if let Some((kind, work)) = asked.read(sent) {
            p.kind = kind;
            p.work = work;
        }
        match name.as_str() {
            "AUTH" => {
                let user = if c.n_args > 2 { arg(1) } else { Some(&b"default"[..]) };
                bind(&mut p, user, sink);
            }
            "HELLO" => {
                if let Some(at) = (2..c.n_kept()).find(|i| upper(*i).is_some_and(|a| a == "AUTH")) {
                    bind(&mut p, arg(at + 1), sink);
                }
            }
            "SELECT" => {
                let claim = match upper(1) {
                    Some(number) => sink.claim(Slot::Database, "", &number),
                    None => Claim::Unreadable,
                };
                if !matches!(claim, Claim::Chosen(_)) {
                    p.kind = OpKind::Bind;
                }
                p.effect = Effect::Bind { slot: Slot::Database, claim, scope: Scope::Session, strength: Strength::V2 };
            }
            "RESET" => {
                p.kind = OpKind::Reset;
                p.effect = Effect::Reset { what: ResetScope::Everything, scope: Scope::Session };
            }
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "PUBLISH" | "SPUBLISH" => {
                p.marker = arg(1).map_or(Claim::Neutral, |channel| self.named(channel, sink));
                if let Some(channel) = arg(1) {
                    (p.target, p.ids) = self.shape(channel, sink);
                }
            }
            _ => {}
        }
        let mut marks = SmallVec::new();
        // Credentials are no values that lead anywhere.
        if sink.wants_values(Side::Client) && p.kind != OpKind::Bind {
            for arg in (1..c.n_kept()).filter_map(arg) {
                values::values(self.salt, arg, &mut |v| {
                    if marks.len() < MAX_MARKS && !marks.contains(&Mark::Value(v)) {
                        marks.push(Mark::Value(v));
                    }
                });
            }
        }
        (p, marks)
    }

    fn keys(&self, known: &Known, c: &Command, p: &mut Pending, sink: &mut dyn Sink) {
        let n = usize::try_from(c.n_args).unwrap_or(usize::MAX);
        let number = |i: usize| -> Option<usize> { std::str::from_utf8(c.kept(i)?.0).ok()?.parse().ok() };
        let range = match known.keys {
            Keys::None => return,
            Keys::Range(first, last, step) => {
                let last = if last >= 0 {
                    first.saturating_add(usize::try_from(last).unwrap_or(0))
                } else {
                    n.saturating_sub(usize::try_from(-last).unwrap_or(0))
                };
                (first, last, step)
            }
            Keys::Counted(at) => {
                let count = number(at).unwrap_or(0);
                if count == 0 {
                    return;
                }
                (at + 1, at.saturating_add(count), 1)
            }
            Keys::CountedPairs(at) => {
                let count = number(at).unwrap_or(0);
                if count == 0 {
                    return;
                }
                (at + 1, at.saturating_add(count.saturating_mul(2)), 2)
            }
            Keys::AndCounted(at) => {
                let count = number(at + 1).unwrap_or(0);
                (at, (at + 1).saturating_add(count), 1)
            }
            Keys::Streams => {
                let is_word = |i: &usize| c.kept(*i).is_some_and(|(a, _)| a.eq_ignore_ascii_case(b"streams"));
                let Some(at) = (0..c.n_kept()).find(is_word) else { return };
                (at + 1, at + n.saturating_sub(at + 1) / 2, 1)
            }
        };
        let (first, last, step) = range;
        let is = |i: &usize, words: &[&str]| {
            c.whole(*i).is_some_and(|a| words.iter().any(|w| a.eq_ignore_ascii_case(w.as_bytes())))
        };
        // Where a copy goes of what was sorted or found, or which others are sent away.
        let mut options = 2..c.n_kept();
        let behind: std::ops::Range<usize> = match known.name {
            "SORT" => options.find(|i| is(i, &["STORE"])).map_or(0..0, |at| at + 1..at + 2),
            "GEORADIUS" | "GEORADIUSBYMEMBER" => {
                options.find(|i| is(i, &["STORE", "STOREDIST"])).map_or(0..0, |at| at + 1..at + 2)
            }
            "MIGRATE" => options.find(|i| is(i, &["KEYS"])).map_or(0..0, |at| at + 1..n),
            _ => 0..0,
        };
        // The number between a command's first key and the others is none.
        let is_key = |i: &usize| !matches!(known.keys, Keys::AndCounted(at) if *i == at + 1);
        let all = (first..=last.min(n)).step_by(step.max(1)).filter(is_key).chain(behind);
        // Instead of the one key that is sent away, there may be none, and several that come later.
        let is_there = |key: &(&[u8], bool)| known.name != "MIGRATE" || !key.0.is_empty();
        let keys = all.take(MAX_KEYS).filter_map(|i| c.kept(i)).filter(is_there);
        let mut named = None;
        let mut each: [Option<TenantId>; 2] = [None; 2];
        let mut touched = SmallVec::new();
        let mut pointers: SmallVec<[Fingerprint; 1]> = SmallVec::new();
        for (key, _) in keys {
            if touched.is_empty() {
                (p.target, p.ids) = self.shape(key, sink);
            }
            let marker = self.named(key, sink);
            // A library's own key needs no tenant's prefix, so it counts as one that is scoped.
            let book = std::str::from_utf8(key).is_ok_and(chores::is_book);
            let print = self.print(self.db, key);
            pointers.extend(self.shared.pointers.named_by(self.salt, print, key));
            touched.push((print, book || marker != Claim::Neutral));
            if let Claim::Tenant(tenant) = marker
                && !each.contains(&Some(tenant))
                && let Some(place) = each.iter_mut().find(|t| t.is_none())
            {
                *place = Some(tenant);
            }
            named = Some(match named {
                None => marker,
                Some(before) if before == marker => marker,
                // The keys name two tenants, or one of them names none, so no key names the operation's tenant.
                Some(Claim::Neutral) if marker == Claim::Neutral => Claim::Neutral,
                Some(_) => Claim::Unreadable,
            });
        }
        p.marker = named.unwrap_or(Claim::Neutral);
        if p.marker == Claim::Unreadable {
            p.named = each;
        }
        self.elsewhere(known.name, c, &mut touched);
        for ((key, scoped), value) in touched.iter().zip(Touch::values(known.name, touched.len())) {
            if !scoped && let Some(value) = c.whole(value) {
                self.shared.pointers.written(self.salt, *key, value);
            }
        }
        p.touch = keys::touch(self.salt, known, c, touched);
        if let Some(touch) = &mut p.touch {
            touch.pointers = pointers;
        }
    }

    fn named(&self, key: &[u8], sink: &mut dyn Sink) -> Claim {
        std::str::from_utf8(key).map_or(Claim::Neutral, |key| sink.marker(MarkerPlace::KeyPrefix, "", key))
    }

    fn shape(&self, key: &[u8], sink: &mut dyn Sink) -> (Sym, Ids) {
        let text = String::from_utf8_lossy(key.get(..key.len().min(128)).unwrap_or(key));
        let (mut out, mut ids) = (String::with_capacity(48), Ids::default());
        shape::shape(&text, &[':', '/', '|', '{', '}'], 4, &mut out, &mut |id| ids.push(fingerprint(self.salt, id)));
        (self.shared.shapes.intern(&out, sink), ids)
    }

    /// A key of another database, to which a command moves or copies what the first key holds.
    fn elsewhere(&self, name: &str, c: &Command, keys: &mut SmallVec<[(Fingerprint, bool); 1]>) {
        let number = |i: usize| c.whole(i).and_then(super::command::number).and_then(|n| u32::try_from(n).ok());
        let is_db = |i: &usize| c.whole(*i).is_some_and(|a| a.eq_ignore_ascii_case(b"DB"));
        match name {
            "MOVE" => {
                let to = number(2).zip(c.whole(1)).map(|(db, key)| self.print(db, key));
                let scoped = keys.first().is_some_and(|(_, scoped)| *scoped);
                keys.extend(to.map(|to| (to, scoped)));
            }
            "COPY" => {
                let db = (3..c.n_kept()).find(is_db).map(|at| number(at + 1));
                let to = db.map(|db| db.zip(c.whole(2)).map(|(db, key)| self.print(db, key)));
                match (to, keys.get_mut(1)) {
                    (Some(Some(to)), Some(second)) => second.0 = to,
                    // Somewhere.
                    (Some(None), _) => keys.truncate(1),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn print(&self, db: u32, key: &[u8]) -> Fingerprint {
        use std::hash::Hasher as _;
        let mut h = self.salt.hasher();
        h.write_u32(db);
        h.write(key);
        Fingerprint(h.finish())
    }
}

/// The connection authenticates as `user`, if the server accepts. It may do so again for every borrower, as with a session
/// user elsewhere.
fn bind(p: &mut Pending, user: Option<&[u8]>, sink: &mut dyn Sink) {
    let claim = match user.and_then(|u| std::str::from_utf8(u).ok()) {
        Some(user) => sink.claim(Slot::SessionUser, "", user),
        None => Claim::Unreadable,
    };
    p.kind = OpKind::Bind;
    p.effect = Effect::Bind { slot: Slot::User, claim, scope: Scope::Session, strength: Strength::V3 };
}

fn special(name: &str, c: &Command, upper: &dyn Fn(usize) -> Option<String>) -> Special {
    let names = c.n_args.saturating_sub(1);
    match name {
        "MULTI" => Special::Multi,
        "EXEC" => Special::Exec,
        "DISCARD" => Special::Discard,
        "RESET" => Special::Reset,
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" => Special::Subscribe(names),
        "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE" if names > 0 => Special::Subscribe(names),
        "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE" => Special::UnsubscribeAll,
        "SELECT" => upper(1).and_then(|n| n.parse().ok()).map_or(Special::None, Special::Select),
        "CLIENT REPLY" => match upper(2).as_deref() {
            Some("OFF") => Special::ReplyOff,
            Some("SKIP") => Special::ReplySkip,
            _ => Special::ReplyOn,
        },
        "MONITOR" => Special::Leaves("monitor"),
        "SYNC" | "PSYNC" => Special::Leaves("replication"),
        _ => Special::None,
    }
}

impl Pending {
    /// What became of it.
    pub(super) fn operation(&self, ended: Nanos, outcome: Outcome) -> Operation {
        Operation {
            kind: self.kind,
            target: self.target,
            effect: self.effect,
            marker: self.marker,
            named: self.named,
            ids: self.ids,
            ..Operation::control(self.request, self.begun, ended, self.verb, outcome)
        }
    }
}
