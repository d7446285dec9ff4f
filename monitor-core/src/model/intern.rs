//! Bounded interning: names become integers once, and stay integers on the hot path.

use std::sync::Arc;

use rustc_hash::FxHashMap;

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
    names: FxHashMap<Sym, Arc<str>>,
    next: u32,
    /// Names that only those have who come and go, with how many of them.
    passing: FxHashMap<Sym, u32>,
    limit: usize,
    n_overflowed: u64,
}

/// Longest name kept, in bytes; a longer one is cut at a character boundary.
pub const MAX_NAME: usize = 256;

impl Interner {
    /// An interner for at most `limit` names.
    pub fn new(limit: usize) -> Self {
        let mut this = Self {
            by_name: FxHashMap::default(),
            names: FxHashMap::default(),
            next: 0,
            passing: FxHashMap::default(),
            limit: limit.max(2),
            n_overflowed: 0,
        };
        for reserved in ["_other", ""] {
            this.intern(reserved);
        }
        this
    }

    /// The symbol of `name`, new or known, for as long as the interner lives.
    pub fn intern(&mut self, name: &str) -> Sym {
        let (sym, _) = self.find(name);
        self.keep(sym);
        sym
    }

    /// The symbol of `name` for somebody who comes and goes. It counts once he holds it ([`Self::hold`]), and is
    /// forgotten with the last who does ([`Self::release`]), unless it was interned for good.
    pub fn intern_passing(&mut self, name: &str) -> Sym {
        let (sym, new) = self.find(name);
        if new && sym != Sym::OTHER {
            self.passing.insert(sym, 0);
        }
        sym
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
                self.by_name.remove(&name);
            }
        }
    }

    /// The symbol of a name, and whether it is new.
    fn find(&mut self, name: &str) -> (Sym, bool) {
        let name = cut(name, MAX_NAME);
        if let Some(&sym) = self.by_name.get(name) {
            return (sym, false);
        }
        if self.names.len() >= self.limit || self.next == u32::MAX {
            self.n_overflowed += 1;
            return (Sym::OTHER, false);
        }
        let (sym, name): (Sym, Arc<str>) = (Sym(self.next), name.into());
        self.next += 1;
        self.names.insert(sym, name.clone());
        self.by_name.insert(name, sym);
        (sym, true)
    }

    /// The name behind `sym`.
    pub fn name(&self, sym: Sym) -> &str {
        self.names.get(&sym).map_or("_other", |n| n)
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
        // What is needed for good stays, whoever had it first.
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
}
