//! Bounded interning: names become integers once, and stay integers on the hot path.
//!
//! Two kinds of names meet here: those of our own (of workloads, of services, words of protocols), and those heard on the
//! wire. [`Interner::name`] is what may be shown of either; what a wire's name is exactly, only the core may ask, to
//! compare it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::shown::Shown;
use super::words::{Part, Words};
use super::{ConnId, Protocol, TenantId};

/// An interned name (table, setting, workload …). Never a literal or a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(pub u32);

impl Sym {
    /// What every name becomes once the interner is full.
    pub const OTHER: Self = Self(0);
    /// The empty name.
    pub const EMPTY: Self = Self(1);
}

/// Names to [`Sym`] and back. Holds at most `limit` names; further ones become [`Sym::OTHER`] (`_other`).
#[derive(Debug)]
pub struct Interner {
    by_name: FxHashMap<Arc<str>, Sym>,
    /// Symbols are never given twice: one whose name was forgotten shows as [`Sym::OTHER`] does.
    names: FxHashMap<Sym, Name>,
    next: u32,
    /// Names that only those have who come and go, with how many of them.
    passing: FxHashMap<Sym, u32>,
    limit: usize,
    n_overflowed: u64,
    shown: Shown,
    /// Of the words when all names were last rendered.
    epoch: u32,
    /// Names that may still be rendered anew before the next [`Interner::refresh`].
    budget: u32,
}

#[derive(Debug)]
struct Name {
    exact: Arc<str>,
    /// `None`: it is our own, and shown as it is.
    heard: Option<Box<Heard>>,
}

/// What belongs to a name that was heard on the wire.
#[derive(Debug)]
struct Heard {
    on: Protocol,
    /// As it may be shown, as of `epoch`.
    shown: String,
    parts: SmallVec<[Part; 4]>,
    epoch: u32,
}

/// Longest name kept, in bytes; a longer one is cut at a character boundary.
pub const MAX_NAME: usize = 256;
/// Names that are rendered anew as they are used, between two times that all are looked at.
const BUDGET: u32 = 1_024;

impl Interner {
    /// An interner for at most `limit` names.
    pub fn new(limit: usize) -> Self {
        Self::showing(limit, Shown::default())
    }

    /// An interner for at most `limit` names, of which `shown` may be shown.
    pub fn showing(limit: usize, shown: Shown) -> Self {
        let mut this = Self {
            by_name: FxHashMap::default(),
            names: FxHashMap::default(),
            next: 0,
            passing: FxHashMap::default(),
            limit: limit.max(2),
            n_overflowed: 0,
            epoch: shown.words.epoch(),
            shown,
            budget: BUDGET,
        };
        for reserved in ["_other", ""] {
            this.intern(reserved);
        }
        this
    }

    /// The symbol of a name of our own, new or known, for as long as the interner lives: it is shown as it is.
    pub fn intern(&mut self, name: &str) -> Sym {
        let (sym, _) = self.find(name, |_| None);
        self.keep(sym);
        self.own(sym);
        sym
    }

    /// The symbol of a name of our own for somebody who comes and goes. It counts once he holds it ([`Self::hold`]), and is
    /// forgotten with the last who does ([`Self::release`]), unless it was interned for good.
    pub fn intern_passing(&mut self, name: &str) -> Sym {
        let (sym, new) = self.find(name, |_| None);
        self.own(sym);
        if new && sym != Sym::OTHER {
            self.passing.insert(sym, 0);
        }
        sym
    }

    /// The symbol of a name that was heard on the wire, new or known, for as long as the interner lives.
    pub fn hear(&mut self, name: &str, on: Protocol) -> Sym {
        let (sym, _) = self.find(name, |shown| {
            let (text, parts) = shown.render(cut(name, MAX_NAME), on);
            Some(Box::new(Heard { on, shown: text, parts, epoch: shown.words.epoch() }))
        });
        self.keep(sym);
        sym
    }

    /// The name is one of ours.
    fn own(&mut self, sym: Sym) {
        if let Some(known) = self.names.get_mut(&sym) {
            known.heard = None;
        }
    }

    /// One more holds a name that comes and goes.
    pub fn hold(&mut self, sym: Sym) {
        if let Some(n) = self.passing.get_mut(&sym) {
            *n = n.saturating_add(1);
        }
    }

    /// A name is needed for good.
    pub fn keep(&mut self, sym: Sym) {
        self.passing.remove(&sym);
    }

    /// One of those who hold a name has gone, or never came to hold it.
    pub fn release(&mut self, sym: Sym) {
        let Some(n) = self.passing.get_mut(&sym) else { return };
        *n = n.saturating_sub(1);
        if *n == 0 {
            self.passing.remove(&sym);
            if let Some(name) = self.names.remove(&sym) {
                self.by_name.remove(&name.exact);
            }
        }
    }

    /// The symbol of a name, and whether it is new.
    fn find(&mut self, name: &str, heard: impl FnOnce(&Shown) -> Option<Box<Heard>>) -> (Sym, bool) {
        let name = cut(name, MAX_NAME);
        if let Some(&sym) = self.by_name.get(name) {
            return (sym, false);
        }
        if self.names.len() >= self.limit || self.next == u32::MAX {
            self.n_overflowed += 1;
            return (Sym::OTHER, false);
        }
        let (sym, exact): (Sym, Arc<str>) = (Sym(self.next), name.into());
        self.next += 1;
        self.names.insert(sym, Name { exact: exact.clone(), heard: heard(&self.shown) });
        self.by_name.insert(exact, sym);
        (sym, true)
    }

    /// What may be shown of the name behind `sym`, as far as is known by now.
    pub fn name(&self, sym: Sym) -> &str {
        match self.names.get(&sym) {
            Some(Name { heard: Some(heard), .. }) => &heard.shown,
            Some(Name { exact, .. }) => exact,
            None => "_other",
        }
    }

    /// The name behind `sym` as it was heard: to be compared, never to be shown.
    pub(crate) fn exact(&self, sym: Sym) -> &str {
        self.names.get(&sym).map_or("_other", |n| &n.exact)
    }

    /// The name of a thing that an operator has asked for as such ([`Shown::listed`]).
    pub fn listed(&self, sym: Sym) -> String {
        match self.names.get(&sym) {
            Some(Name { heard: Some(_), exact }) => self.shown.listed(exact),
            _ => self.name(sym).to_owned(),
        }
    }

    /// An accepted request of `tenant` on `conn` carried the name. `tenants`: some tenants are known at all.
    pub fn used(&mut self, sym: Sym, tenant: Option<TenantId>, conn: ConnId, tenants: bool) {
        let Self { names, shown, budget, .. } = self;
        let Some(Name { heard: Some(heard), exact }) = names.get_mut(&sym) else { return };
        for part in &heard.parts {
            shown.words.note(part, tenant, u64::from(conn.0), tenants);
        }
        if heard.epoch != shown.words.epoch() && *budget > 0 {
            *budget -= 1;
            heard.render(exact, shown);
        }
    }

    /// Renders all names anew if more, or less, may be shown by now. To be called about once a second.
    pub fn refresh(&mut self) {
        self.budget = BUDGET;
        let epoch = self.shown.words.epoch();
        if self.epoch == epoch {
            return;
        }
        self.epoch = epoch;
        for name in self.names.values_mut() {
            if let Some(heard) = name.heard.as_mut().filter(|h| h.epoch != epoch) {
                heard.render(&name.exact, &self.shown);
            }
        }
    }

    /// Goes up whenever more, or less, may be shown of any name.
    pub fn epoch(&self) -> u32 {
        self.shown.words.epoch()
    }

    /// Words that are counted to see which are shared, and most that are.
    pub fn words(&self) -> (usize, usize) {
        (self.shown.words.len(), Words::limit())
    }

    /// Names held.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no names are held (never: two are reserved).
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Most names held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Names that found no room.
    pub fn n_overflowed(&self) -> u64 {
        self.n_overflowed
    }
}

impl Heard {
    fn render(&mut self, exact: &str, shown: &Shown) {
        (self.shown, self.parts) = shown.render(exact, self.on);
        self.epoch = shown.words.epoch();
    }
}

fn cut(name: &str, max: usize) -> &str {
    if name.len() <= max {
        return name;
    }
    let mut end = max;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_name_same_symbol_and_a_full_interner_says_other() {
        let mut names = Interner::new(3);
        let orders = names.intern("orders");
        assert_eq!(names.intern("orders"), orders);
        assert_eq!(names.name(orders), "orders");
        assert_eq!(names.intern("one too many"), Sym::OTHER);
        assert_eq!(names.n_overflowed(), 1);
    }

    #[test]
    fn names_of_those_who_go_are_forgotten_and_no_symbol_comes_twice() {
        let mut names = Interner::new(4);
        for n in 0..1000 {
            let pod = names.intern_passing(&format!("pod-{n}"));
            names.hold(pod);
            names.hold(pod);
            assert_eq!(names.intern_passing(&format!("pod-{n}")), pod);
            names.release(pod);
            assert_eq!(names.name(pod), format!("pod-{n}"), "another holds it");
            names.release(pod);
            assert_eq!(names.name(pod), "_other");
        }
        assert_eq!((names.len(), names.n_overflowed()), (2, 0));
        // A name that was interned in passing and is then interned for good stays, whatever is released.
        let orders = names.intern_passing("orders");
        names.hold(orders);
        assert_eq!(names.intern("orders"), orders);
        names.release(orders);
        assert_eq!(names.name(orders), "orders");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let mut names = Interner::new(8);
        let sym = names.intern(&"é".repeat(300));
        assert!(names.name(sym).len() <= MAX_NAME);
    }

    #[test]
    fn what_was_heard_is_shown_once_it_is_shared_and_stays_the_same_name() {
        let mut names = Interner::new(8);
        let orders = names.hear("orders", Protocol::Postgres);
        let secret = names.hear("alice@example.com", Protocol::Postgres);
        let before = names.name(orders).to_owned();
        assert!(before.starts_with("{id:") && names.name(secret).starts_with("{id:"), "{before}");
        for n in 0..20 {
            for sym in [orders, secret] {
                names.used(sym, Some(TenantId(n % 2)), ConnId(0), true);
            }
        }
        assert_eq!((names.name(orders), names.exact(orders)), ("orders", "orders"));
        assert!(names.name(secret).starts_with("{id:"));
        assert_eq!(names.exact(secret), "alice@example.com");
        assert_eq!(names.hear("orders", Protocol::Redis), orders);
        // What is ours is ours.
        let own = names.hear("GET", Protocol::Http);
        assert_ne!(names.name(own), "GET");
        assert_eq!((names.intern("GET"), names.name(own)), (own, "GET"));
        assert_eq!(names.hear("GET", Protocol::Http), own);
        assert_eq!(names.name(own), "GET");
    }
}
