//! What rules' tables hold, for the bound on memory. Each has a number of entries of its own as its limit; an agent that
//! may use little memory remembers less in each.

use std::collections::VecDeque;

use smallvec::SmallVec;

/// Bound on memory from which on each table has all its entries: that of an agent whose operator said nothing.
const FULL: usize = 256 << 20;
/// The least part of them: an agent that remembers next to nothing finds nothing either.
const LEAST: usize = 64;

/// A table of a rule's.
pub trait Table {
    /// Bytes that it holds. What its entries hold apart is left out where that is short.
    fn memory(&self) -> usize;

    /// All connections and what they share may hold `most` bytes: it takes its part of that.
    fn bound(&mut self, most: usize) {
        let _ = most;
    }
}

/// RuleTables of one rule.
pub type RuleTables<'r> = SmallVec<[&'r mut dyn Table; 4]>;

/// All tables of a rule.
pub(crate) fn of<const N: usize>(all: [&mut dyn Table; N]) -> RuleTables<'_> {
    all.into_iter().collect()
}

/// Of `n` entries those that an agent may have whose bound on memory is `most` bytes.
pub(crate) fn part(n: usize, most: usize) -> usize {
    let share = n / (FULL >> 20) * (most.min(FULL) >> 20);
    if most >= FULL { n } else { share.max(n / LEAST).max(1) }
}

/// Bytes of a hash table with room for so many entries of this size: seven of eight places may be used, and each has a
/// byte beside it.
pub(crate) fn hashed(capacity: usize, entry: usize) -> usize {
    capacity.div_ceil(7) * 8 * (entry + 1)
}

impl<K, V, S> Table for std::collections::HashMap<K, V, S> {
    fn memory(&self) -> usize {
        hashed(self.capacity(), size_of::<(K, V)>())
    }
}

impl<K, S> Table for std::collections::HashSet<K, S> {
    fn memory(&self) -> usize {
        hashed(self.capacity(), size_of::<K>())
    }
}

impl<T> Table for VecDeque<T> {
    fn memory(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl<T> Table for Vec<T> {
    fn memory(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_is_few_entries() {
        assert_eq!(part(65_536, 256 << 20), 65_536);
        assert_eq!(part(65_536, usize::MAX), 65_536);
        assert_eq!(part(65_536, 16 << 20), 4_096);
        assert_eq!(part(65_536, 0), 1_024);
        assert_eq!(part(32, 16 << 20), 1);
    }

    /// A rule that remembers says what it remembers by: else its tables are in no sum.
    #[test]
    fn every_rule_that_remembers_has_its_tables_counted() {
        for mut rule in crate::detect::all() {
            let (holds, id) = (size_of_val(&*rule) > 0, rule.info().id);
            assert_eq!(!rule.tables().is_empty(), holds, "{id}");
        }
    }
}
