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
    names: Vec<Arc<str>>,
    limit: usize,
    n_overflowed: u64,
}

/// Longest name kept, in bytes; a longer one is cut at a character boundary.
pub const MAX_NAME: usize = 256;

impl Interner {
    /// An interner for at most `limit` names.
    pub fn new(limit: usize) -> Self {
        let mut this = Self { by_name: FxHashMap::default(), names: Vec::new(), limit: limit.max(2), n_overflowed: 0 };
        for reserved in ["_other", ""] {
            this.intern(reserved);
        }
        this
    }

    /// The symbol of `name`, new or known.
    pub fn intern(&mut self, name: &str) -> Sym {
        let name = cut(name, MAX_NAME);
        if let Some(&sym) = self.by_name.get(name) {
            return sym;
        }
        if self.names.len() >= self.limit {
            self.n_overflowed += 1;
            return Sym::OTHER;
        }
        let Ok(index) = u32::try_from(self.names.len()) else { return Sym::OTHER };
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.by_name.insert(name, Sym(index));
        Sym(index)
    }

    /// The name behind `sym`.
    pub fn name(&self, sym: Sym) -> &str {
        self.names.get(sym.0 as usize).map_or("_other", |n| n)
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
    fn a_long_name_is_cut_between_characters() {
        let mut names = Interner::new(8);
        let sym = names.intern(&"é".repeat(300));
        assert!(names.name(sym).len() <= MAX_NAME);
    }
}
