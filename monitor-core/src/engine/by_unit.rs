//! What waits until it is known for whom its unit of work was.

use std::collections::BTreeMap;

use crate::model::UnitNo;

/// Things that wait, by unit of work and in their order: what belongs to one unit is found without a look at the rest.
#[derive(Debug)]
pub(super) struct ByUnit<T> {
    units: BTreeMap<UnitNo, Vec<T>>,
    n: usize,
}

impl<T> Default for ByUnit<T> {
    fn default() -> Self {
        Self { units: BTreeMap::new(), n: 0 }
    }
}

impl<T> ByUnit<T> {
    /// One more, of unit `no`.
    pub(super) fn push(&mut self, no: UnitNo, thing: T) {
        self.units.entry(no).or_default().push(thing);
        self.n += 1;
    }

    /// Bytes held, about: a unit's entry in the tree, and room for what is of it.
    pub(super) fn memory(&self) -> usize {
        self.units.len() * 64 + self.n * size_of::<T>() * 3 / 2
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.n
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Takes those of unit `no`.
    pub(super) fn take(&mut self, no: UnitNo) -> Vec<T> {
        let taken = self.units.remove(&no).unwrap_or_default();
        self.n -= taken.len();
        taken
    }

    /// Takes all, in the order of their units; those of unit `but` stay.
    pub(super) fn take_all(&mut self, but: Option<UnitNo>) -> Vec<T> {
        let rest = but.and_then(|no| self.units.remove_entry(&no));
        let taken: Vec<T> = std::mem::take(&mut self.units).into_values().flatten().collect();
        self.n -= taken.len();
        self.units.extend(rest);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_taken_one_by_one_or_all_but_one_in_order() {
        let mut waiting = ByUnit::default();
        for (no, thing) in [(1, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (3, 'e')] {
            waiting.push(UnitNo(no), thing);
        }
        assert_eq!(waiting.take(UnitNo(2)), ['c']);
        assert!(waiting.take(UnitNo(2)).is_empty());
        assert_eq!(waiting.take_all(Some(UnitNo(3))), ['a', 'b']);
        assert_eq!((waiting.len(), waiting.take_all(None)), (2, vec!['d', 'e']));
        assert!(waiting.is_empty());
    }
}
